"""A performance of a phrase: what its notes say of how they are sung, on its sound.

Pitch (vibrato, glides) goes into the F0 of a PostNet with a source and into the contour of a
transformer that was trained on one; loudness and breaths go on the waveform, for every voice.
Shapes: K notes, T frames, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from music.inputs import SHORT_REST, breaths
from music.performance import NoteStyle, arch_curve, gain_curve, velocity_gains
from text.remarks import remark
from utils.audio import active_level
from utils.seeds import numpy_generator

if TYPE_CHECKING:
    from hyperparams import Audio, Synthesis
    from music.score import Score
    from utils.pitch import TimedNote

CONTROL = 64  # samples between two values of a gain
BREATH_GAP = 0.12  # s between a breath and the note behind it: its consonants
SHORTEST_BREATH = 0.08  # s; where a rest leaves less, none is heard
BREATH_BANDS = (  # Hz, width in octaves, dB: an inhaled breath through an open mouth
    (500.0, 1.0, -6.0),
    (1600.0, 1.0, 0.0),
    (3400.0, 1.0, -6.0),
)


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


PITCHED = ("vibrato", "glide")  # what a PostNet without a source takes from the mel as it is


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
