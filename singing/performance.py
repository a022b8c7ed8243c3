"""How a score is performed: F0 with vibrato and glides, loudness, breaths.

Pitch goes into the F0 of a PostNet with a source and into the contour of a transformer that was
trained on one; loudness and breaths go on the waveform, for every voice.
Shapes: K notes, T frames, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from music.inputs import SHORT_REST, breaths
from music.score import VELOCITY, NoteStyle
from text.remarks import remark
from utils.audio import active_level
from utils.seeds import numpy_generator

if TYPE_CHECKING:
    from hyperparams import Audio, Synthesis
    from music.score import Score
    from utils.metrics import TimedNote

SWELL = 0.25  # s over which a vibrato grows
DRIFT_SECONDS = 0.3  # s, over which a drift is smoothed: slower than a vibrato
SHORTEST_GLIDE = 0.01  # s, of a step between two notes
GAIN_SECONDS = 0.06  # s over which the loudness changes from note to note
LARGEST_GAIN = 18.0  # dB either way
CONTROL = 64  # samples between two values of a gain
BREATH_GAP = 0.12  # s between a breath and the note behind it: its consonants
SHORTEST_BREATH = 0.08  # s; where a rest leaves less, none is heard
BREATH_BANDS = (  # Hz, width in octaves, dB: an inhaled breath through an open mouth
    (500.0, 1.0, -6.0),
    (1600.0, 1.0, 0.0),
    (3400.0, 1.0, -6.0),
)
PITCHED = ("vibrato", "glide")  # what a PostNet without a source takes from the mel as it is


@dataclass(frozen=True)
class Performance:
    """How the notes of a phrase are sung: (K,) each."""

    styles: tuple[NoteStyle | None, ...]
    gains: tuple[float, ...]  # dB of each note by its velocity, against the song's median


def performances(parts: Sequence[Score], whole: Score) -> list[Performance | None]:
    """Return the performance of each part of a score; None where no note says anything."""
    notes = whole.notes
    if not any(note.style for note in notes):
        return [None] * len(parts)
    velocities = [note.style.velocity if note.style else None for note in notes]
    gains = {note.onset: gain for note, gain in zip(notes, velocity_gains(velocities), strict=True)}
    return [
        Performance(
            tuple(note.style for note in part.notes),
            tuple(gains[note.onset] for note in part.notes),
        )
        for part in parts
    ]


def unsung_remarks(
    phrases: Sequence[Performance | None], changes: Sequence[str], follows_pitch: bool
) -> list[str]:
    """Return a remark on vibrato and glides that are asked for and that a voice does not sing.

    changes: SECTION.NAME=VALUE of the request; follows_pitch: whether the voice is told its F0.
    """
    if follows_pitch:
        return []
    knobs = [c for c in changes if c.startswith(tuple(f"synthesis.{name}" for name in PITCHED))]
    styles = [style for phrase in phrases if phrase for style in phrase.styles if style]
    count = sum(any(n.startswith(PITCHED) for n in style.as_dict()) for style in styles)
    asked = [f"of {count} notes"] * bool(count) + [f"by {knob}" for knob in knobs]
    if not asked:
        return []
    text = f"vibrato and glides asked for {' and '.join(asked)}: --postnet source sings them"
    return [remark("not sung", text)]


# ---------------------------------------------------------------------------- pitch


def f0_of_notes(
    notes: Sequence[TimedNote],
    num_frames: int,
    frame_rate: float,
    knobs: Synthesis,
    seed: int,
    styles: Sequence[NoteStyle | None] = (),
) -> Tensor:
    """Draw F0 (T,) in Hz: the notes, joined by glides, with a delayed vibrato and a drift.

    styles: how each note is sung, where any says it. A rest keeps the note before it, the time
    before the first note that one. Raises ValueError without a note.
    """
    if not notes:
        raise ValueError("F0 of no note is asked for")
    times = np.arange(num_frames) / frame_rate
    drift = knobs.drift_cents * pitch_drift(num_frames, frame_rate, seed)
    if any(styles):
        midi = sung_pitch(notes, styles, times, VoiceStyle.of(knobs))
        return torch.from_numpy(440.0 * 2 ** ((midi + drift / 100 - 69) / 12)).float()
    onsets, _, pitches = np.array(sorted(tuple(note) for note in notes), float).T
    current = np.clip(np.searchsorted(onsets, times, side="right") - 1, 0, len(onsets) - 1)
    half = max(1, round(0.5 * knobs.glide_seconds * frame_rate))
    kernel = np.hanning(2 * half + 3)[1:-1]
    midi = np.convolve(np.pad(pitches[current], half, mode="edge"), kernel / kernel.sum(), "valid")
    age = np.maximum(0.0, times - onsets[current])
    swell = np.clip((age - knobs.vibrato_delay) / SWELL, 0.0, 1.0)
    cents = knobs.vibrato_cents * swell * np.sin(2 * np.pi * knobs.vibrato_rate * age)
    cents += drift
    return torch.from_numpy(440.0 * 2 ** ((midi + cents / 100 - 69) / 12)).float()


def contour_of_pitch(
    f0: np.ndarray, notes: Sequence[TimedNote], frame_rate: float
) -> dict[str, Any]:
    """Return F0 (T,) in Hz against the notes, as music.inputs.collate_scores reads it."""
    times = np.arange(len(f0)) / frame_rate
    cents = np.zeros(len(f0))
    for onset, offset, pitch in notes:
        inside = (times >= onset) & (times < offset)
        cents[inside] = 1200 * np.log2(f0[inside] / 440.0) - 100 * (pitch - 69)
    return {"rate": frame_rate, "cents": cents.tolist()}


@dataclass(frozen=True)
class VoiceStyle:
    """How a voice sings notes that say nothing themselves."""

    vibrato_cents: float
    vibrato_rate: float
    vibrato_delay: float
    glide_seconds: float

    @classmethod
    def of(cls, knobs: Synthesis) -> VoiceStyle:
        """Return the style that the knobs ask for."""
        return cls(
            knobs.vibrato_cents, knobs.vibrato_rate, knobs.vibrato_delay, knobs.glide_seconds
        )

    def of_notes(self, styles: Sequence[NoteStyle | None]) -> dict[str, np.ndarray]:
        """Return depth, rate, delay and glide of each note, (K,) each."""
        names = [field.name for field in fields(self)]
        rows = {name: np.full(len(styles), getattr(self, name), float) for name in names}
        for place, style in enumerate(styles):
            for name, value in ({} if style is None else style.as_dict()).items():
                if name in rows:
                    rows[name][place] = value
                elif name == "vibrato_added":
                    rows["vibrato_cents"][place] += value
        return rows


def sung_pitch(
    notes: Sequence[Sequence[float]],
    styles: Sequence[NoteStyle | None],
    times: np.ndarray,
    voice: VoiceStyle,
) -> np.ndarray:
    """Return the pitch (T,) in MIDI numbers at `times` in s: notes, glides and vibrato.

    notes: (onset s, offset s, MIDI number) in order of time. A glide is centred on the onset that
    it leads to, the integral of a Hann window over `glide_seconds`; a rest keeps the note before.
    Raises ValueError without a note.
    """
    if not notes:
        raise ValueError("the pitch of no note is asked for")
    onsets, _, pitches = np.array([tuple(note) for note in notes], float).T
    rows = voice.of_notes(styles)
    current = np.clip(np.searchsorted(onsets, times, side="right") - 1, 0, len(onsets) - 1)
    glides = np.maximum(rows["glide_seconds"], SHORTEST_GLIDE)
    steps = np.diff(pitches, prepend=pitches[0])  # (K,)
    midi = np.full(len(times), pitches[0])
    for onset, step, glide in zip(onsets, steps, glides, strict=True):
        if step:
            midi += step * smooth_step((times - onset) / glide)
    age = np.maximum(0.0, times - onsets[current])
    swell = np.clip((age - rows["vibrato_delay"][current]) / SWELL, 0.0, 1.0)
    phase = 2 * np.pi * rows["vibrato_rate"][current] * age
    return midi + rows["vibrato_cents"][current] / 100 * swell * np.sin(phase)


def pitch_drift(num_frames: int, frame_rate: float, seed: int) -> np.ndarray:
    """Return slow noise (T,) of variance 1: no held note is a straight line."""
    window = np.hanning(2 * round(DRIFT_SECONDS * frame_rate) + 3)[1:-1]
    window /= np.sqrt(np.square(window).sum())
    noise = np.random.default_rng(seed).standard_normal(num_frames + len(window) - 1)
    return np.convolve(noise, window, "valid")


def smooth_step(u: np.ndarray) -> np.ndarray:
    """Return the integral of a Hann window over [-1/2, 1/2] up to u: from 0 to 1."""
    u = np.clip(u, -0.5, 0.5)
    return u + 0.5 + np.sin(2 * np.pi * u) / (2 * np.pi)


# ---------------------------------------------------------------------------- loudness, breaths


def with_loudness(
    wav: Tensor,
    notes: Sequence[TimedNote],
    performance: Performance | None,
    knobs: Synthesis,
    sample_rate: int,
) -> Tensor:
    """Give a phrase (S,) its loudness: by velocity, and a swell in every breath, as the knobs ask.

    Unchanged, sample by sample, where neither is asked for.
    """
    gains = () if performance is None else performance.gains
    by_velocity = knobs.dynamics != 0 and any(gains)
    if not notes or not (by_velocity or knobs.phrase_dynamics):
        return wav
    places = np.arange(0, len(wav) + CONTROL, CONTROL)
    times = places / sample_rate
    curve = np.zeros(len(times))
    if by_velocity:
        curve += gain_curve(notes, [knobs.dynamics * gain for gain in gains], times)
    if knobs.phrase_dynamics:
        for start, end in _breath_spans(notes):
            inside = (times >= start) & (times < end)
            curve[inside] += arch_curve(start, end, times[inside], knobs.phrase_dynamics)
    fine = np.interp(np.arange(len(wav)), places, 10 ** (curve / 20))
    return wav * torch.from_numpy(fine).to(wav)


def _breath_spans(notes: Sequence[TimedNote]) -> list[tuple[float, float]]:
    """Return the stretches that are sung without a rest; the time between belongs to the later."""
    edges = [0.0]
    for left, right in pairwise(notes):
        if right[0] - left[1] >= SHORT_REST:
            edges.append(left[1])
    return list(pairwise([*edges, notes[-1][1] + SHORT_REST]))


def with_breaths(wav: Tensor, score: Score, knobs: Synthesis, audio: Audio, seed: int) -> Tensor:
    """Add a breath before every phrase of a song (S,) whose rest has room, as the knobs ask.

    Unchanged, sample by sample, where none is asked for.
    """
    level = active_level(wav, audio.hop_length)
    if not knobs.breath_seconds or not np.isfinite(level):
        return wav
    phrases, wav, free = breaths(score), wav.clone(), 0.0
    for number, phrase in enumerate(phrases):
        onset = phrase.syllables[0].onset
        end = onset - BREATH_GAP
        seconds = min(knobs.breath_seconds, end - free)
        free = phrase.duration
        if seconds < SHORTEST_BREATH:
            continue
        sound = breath(seconds, audio.sample_rate, seed, number)
        gain = 10 ** ((level + knobs.breath_level) / 20)
        start = round((end - seconds) * audio.sample_rate)
        length = max(0, min(len(sound), len(wav) - start))
        wav[start : start + length] += gain * sound[:length]
    return wav


def breath(seconds: float, sample_rate: int, seed: int, number: int) -> Tensor:
    """Return a breath drawn in (S,), of RMS 1 at its loudest: noise in bands that swells."""
    size = round(seconds * sample_rate)
    noise = numpy_generator(seed, "breath", number).standard_normal(size)
    octave = np.log2(np.maximum(np.fft.rfftfreq(size, 1 / sample_rate), 1.0))
    shape = sum(
        10 ** (gain / 20) * np.exp(-0.5 * ((octave - np.log2(centre)) / width) ** 2)
        for centre, width, gain in BREATH_BANDS
    )
    sound = np.fft.irfft(np.fft.rfft(noise) * shape, size)
    place = np.linspace(0.0, 1.0, size)
    envelope = np.sin(np.pi * place**1.5) ** 2  # loudest behind the middle, then it stops
    return torch.from_numpy(sound / np.sqrt(np.square(sound).mean()) * envelope).float()


def velocity_gains(velocities: Sequence[int | None]) -> list[float]:
    """Return the dB of each note against the median velocity: 40 log10 of the ratio (GM 2)."""
    known = [velocity or VELOCITY for velocity in velocities]
    middle = float(np.median(known)) if known else VELOCITY
    return [40 * math.log10(velocity / middle) for velocity in known]


def gain_curve(
    notes: Sequence[Sequence[float]], gains: Sequence[float], times: np.ndarray
) -> np.ndarray:
    """Return the gain (T,) in dB at `times` in s: that of each note, changing smoothly between."""
    if not notes:
        return np.zeros(len(times))
    clipped = np.clip(gains, -LARGEST_GAIN, LARGEST_GAIN)
    curve = np.full(len(times), clipped[0])
    for note, step in zip(notes, np.diff(clipped, prepend=clipped[0]), strict=True):
        if step:
            curve += step * smooth_step((times - note[0]) / GAIN_SECONDS)
    return curve


def arch_curve(start: float, end: float, times: np.ndarray, amount: float) -> np.ndarray:
    """Return the gain (T,) in dB of a phrase that swells by `amount` to its middle; mean 0."""
    place = np.clip((times - start) / max(end - start, 1e-6), 0.0, 1.0)
    return amount * (np.sin(np.pi * place) - 2 / np.pi)
