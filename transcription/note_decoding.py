"""Decode notes from onset, offset and activation of each frame, and find their pitch.

Shapes: T frames. Frame t is centred on time t · hop.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from utils.metrics import midi_of

if TYPE_CHECKING:
    from hyperparams import Transcriber


REACH = 2  # frames on each side that a peak stands above
LOWEST_PITCH, HIGHEST_PITCH = 1.0, 127.0  # MIDI numbers that a file can hold as a sung note


class TranscribedNote(NamedTuple):
    """A transcribed note."""

    onset: float  # s
    offset: float  # s, after the onset
    midi: float  # MIDI number with its fraction, 60 = middle C


def find_peaks(values: np.ndarray, threshold: float, reach: int = REACH) -> np.ndarray:
    """Return the frames whose value is at least `threshold` and the highest within `reach` frames.

    The first and the last frame can be peaks; of a plateau its first frame is.
    """
    if not len(values):
        return np.zeros(0, np.int64)
    padded = np.pad(values.astype(np.float64), reach, constant_values=-np.inf)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1)  # (T, 2 reach + 1)
    before, after = windows[:, :reach], windows[:, reach + 1 :]
    is_peak = (values >= threshold) & (values > before.max(1, initial=-np.inf))
    return np.flatnonzero(is_peak & (values >= after.max(1, initial=-np.inf)))


def note_spans(note: np.ndarray, knobs: Transcriber) -> list[tuple[int, int]]:
    """Return the frames [first, last) of notes, from probabilities (T, 3) of NOTE_TARGETS.

    A note begins at each peak of the onsets. It ends at the next one, at the first peak of the
    offsets behind it, where nothing is active for two frames, or at the end of the recording. A
    span that is never active is no note.
    """
    onset, offset, activation = note.T
    is_silent = activation < knobs.activation_threshold
    ends = np.flatnonzero(is_silent & np.append(is_silent[1:], True))
    offsets = find_peaks(offset, knobs.offset_threshold)
    spans = []
    for first, limit in pairwise([*find_peaks(onset, knobs.onset_threshold), len(note)]):
        # An offset beside the onset is the one of the note before.
        last = min(limit, *(_first_from(first + 1 + REACH, c, limit) for c in (offsets, ends)))
        if not is_silent[first:last].all():
            spans.append((int(first), int(last)))
    return spans


def decode_notes(
    note: np.ndarray, f0: np.ndarray, hop_seconds: float, knobs: Transcriber
) -> list[TranscribedNote]:
    """Decode the notes of `note_spans` with the pitch of an F0 track (T,) in Hz, 0 = none.

    A span without pitch is no note.
    """
    if len(note) != len(f0):
        raise ValueError(f"{len(note)} frames of notes, {len(f0)} of F0: expected equally many")
    midi, activation = midi_of(f0), note[:, 2]
    notes = []
    for first, last in note_spans(note, knobs):
        pitch = summarise_pitch(midi[first:last], activation[first:last], knobs.pitch_summary)
        if pitch is not None and LOWEST_PITCH <= pitch <= HIGHEST_PITCH:
            notes.append(TranscribedNote(first * hop_seconds, last * hop_seconds, pitch))
    return notes


def _first_from(start: int, frames: np.ndarray, otherwise: int) -> int:
    """Return the first of rising `frames` that is at least `start`."""
    place = np.searchsorted(frames, start)
    return frames[place] if place < len(frames) else otherwise


def summarise_pitch(midi: np.ndarray, activation: np.ndarray, summary: str) -> float | None:
    """Summarise the pitch of the frames (T,) of a note; None where no frame has any (NaN).

    Weights are the activation under a Hann window: notes glide at their edges.
    """
    weights = activation * np.hanning(len(midi) + 2)[1:-1]
    if summary == "median":
        weights = np.ones(len(midi))
    is_voiced = ~np.isnan(midi) & (weights > 0)
    values, weights = midi[is_voiced], weights[is_voiced]
    if not len(values):
        return None
    if summary == "weighted_mean":
        return float(np.average(values, weights=weights))
    order = np.argsort(values)
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, 0.5 * total[-1])])


# ---------------------------------------------------------------------------- pitch of notes
# Shapes: S samples, T frames of a note, F bins of its spectrum, P pitches; 0 Hz is no pitch. A
# track such as YIN's follows the strongest periodicity of each frame. The salience summed over the
# frames of a note finds the pitch where that fails; the track is kept where both agree, for it is
# exact.

LOWEST, HIGHEST = 36.0, 86.0  # MIDI numbers, C2 to D6
STEP = 0.1  # semitones between pitches
WINDOW = 0.128  # s, Hann: parts the harmonics of neighbouring voices
COMPRESSION = 0.7  # exponent of the magnitudes: one loud partial is no pitch
HARMONICS = (1, 2, 3, 5, 7)  # first and primes: those of a pitch an octave lower leave gaps
DECAY = 0.84  # of the weight from harmonic to harmonic (Hermes 1988)
BETWEEN = 0.5  # weight taken off for what lies midway between harmonics
HIGHEST_PARTIAL = 5000.0  # Hz
SLACK = 0.7  # semitones around a note's pitch in which its frames lie
QUIET = 1e-9  # mean square of a frame of silence (-90 dB)
BLOCK = 500  # frames of a note looked at together: a very long one needs no more memory


class NotePitch:
    """Find F0 in notes, by weights (F, P) from magnitudes to the salience of pitches.

    Salience is a sum over harmonics as in Hermes 1988, at prime multiples and with what lies
    between them taken off as in SWIPE' (Camacho & Harris 2008).
    """

    def __init__(self, sample_rate: int, hop_length: int) -> None:
        self.sample_rate, self.hop_length = sample_rate, hop_length
        self.length = round(WINDOW * sample_rate)
        self.window = torch.hann_window(self.length)
        self.midi = np.arange(LOWEST, HIGHEST, STEP)  # (P,)
        self.size = 1 << self.length.bit_length()  # of the transform, padded to twice the window
        self.weights = torch.from_numpy(self._weights())

    def _weights(self) -> np.ndarray:
        """Return (F, P), with linear interpolation between bins."""
        f0 = 440.0 * 2 ** ((self.midi - 69) / 12)  # (P,)
        weights = np.zeros((self.size // 2 + 1, len(f0)), np.float32)
        highest = min(HIGHEST_PARTIAL, 0.49 * self.sample_rate)
        for harmonic in HARMONICS:
            weight = DECAY ** (harmonic - 1)
            for place, share in ((0.0, 1.0), (-0.5, -BETWEEN / 2), (0.5, -BETWEEN / 2)):
                hertz = (harmonic + place) * f0
                pitch = np.flatnonzero(hertz < highest)
                bins = hertz[pitch] / self.sample_rate * self.size
                low = bins.astype(int)
                np.add.at(weights, (low, pitch), weight * share * (low + 1 - bins))
                np.add.at(weights, (low + 1, pitch), weight * share * (bins - low))
        return weights

    def track(self, wav: Tensor, f0: Tensor, first: int, last: int) -> Tensor:
        """Track F0 (last - first,) in Hz in frames [first, last) of wav (S,), which are one note.

        f0 (T,): a track of the whole recording, kept where it lies by the note's own pitch.
        """
        blocks = range(first, last, BLOCK)
        return torch.cat([self._track(wav, f0, b, min(b + BLOCK, last)) for b in blocks])

    def _track(self, wav: Tensor, f0: Tensor, first: int, last: int) -> Tensor:
        start, count = first * self.hop_length - self.length // 2, last - first
        end = start + (count - 1) * self.hop_length + self.length
        part = F.pad(wav[max(start, 0) : end], (max(-start, 0), 0))
        part = F.pad(part, (0, end - start - len(part)))
        frames = part.unfold(0, self.length, self.hop_length)  # (T, window)
        is_silent = frames.square().mean(1) < QUIET
        magnitude = torch.fft.rfft(frames * self.window, self.size).abs() ** COMPRESSION  # (T, F)
        salience = magnitude @ self.weights  # (T, P)
        # Notes glide at their edges: weigh the middle.
        total = (salience * torch.hann_window(count + 2)[1:-1, None]).sum(0)  # (P,)
        common = int(total.argmax())
        reach = round(SLACK / STEP)
        low = max(common - reach, 0)
        place = low + salience[:, low : common + reach + 1].argmax(1)  # (T,)
        own = 440.0 * 2 ** ((torch.from_numpy(self.midi)[place] - 69) / 12)
        given = f0[first:last]
        distance = 12 * (given.clamp_min(1e-3) / 440).log2() + 69 - self.midi[common]
        track = torch.where(distance.abs() <= SLACK, given, own.to(given))
        return torch.where(is_silent, 0.0, track)
