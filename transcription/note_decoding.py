"""Decode notes from onset, offset and activation of each frame.

Shapes: T frames. Frame t is centred on time t · hop.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

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
