"""Hear a take: its notes and sounds, where and how fast it is sung, which parts are made anew.

Shapes: S samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from composer.compose import NARROWEST
from composer.harmony import Harmony
from singing.song import SongAudio

if TYPE_CHECKING:
    from hyperparams import Composer
    from utils.metrics import TimedNote

Range = tuple[int, int]  # samples [start, stop)
HEARD = "heard"  # a melody's source: what the take has there
AROUND = 5.0  # s of a take heard on either side of a part
BEFORE = 20.0  # s of a take before its end that a continuation goes by
FEWEST_NOTES = 4  # of a take that say where and how fast it is sung
SHORTEST_NOTE = 0.05  # s of a note within a part that is sung again


@dataclass(frozen=True)
class TakeTranscript:
    """What a recording sings: notes, and the symbol of each frame."""

    notes: tuple[TimedNote, ...]  # onset s, offset s, MIDI number
    symbols: tuple[str, ...]  # "" = silence
    hop_seconds: float


Hear = Callable[[Tensor, int], TakeTranscript]  # waveform (S,), its rate in Hz


def like_the_take(
    song: SongAudio,
    stop: int,
    harmony: Harmony,
    knobs: Composer,
    hear: Hear | None,
    sample_rate: int,
) -> tuple[Composer, tuple[str, ...]]:
    """Fit a composed melody that follows sample `stop` to range and pace of the take before it."""
    start = max(0, stop - round(BEFORE * sample_rate))
    if hear is None or stop - start < sample_rate:
        return knobs, ()
    notes = hear(song.vocal[start:stop], sample_rate).notes
    if len(notes) < FEWEST_NOTES:
        return knobs, ()
    pitches = np.array([pitch for _, _, pitch in notes])
    low, high = (round(float(edge)) for edge in np.quantile(pitches, [0.05, 0.95]))
    while high - low < NARROWEST:
        low, high = low - 1, high + 1
    beats = (notes[-1][1] - notes[0][0]) * harmony.tempo / 60.0
    density = min(4.0, max(0.25, len(notes) / max(beats, 1.0)))
    text = (
        f"the take is sung on MIDI {low} to {high}, {density:.2f} notes a beat: so is what "
        "follows it"
    )
    return replace(knobs, low=low, high=high, density=density), (text,)


def heard_notes(
    song: SongAudio, ranges: Sequence[Range], hear: Hear, sample_rate: int
) -> list[TimedNote]:
    """Hear the notes (s of the song) that a take has in ranges of samples."""
    notes: list[TimedNote] = []
    for start, stop in ranges:
        begin = max(0, start - round(AROUND * sample_rate))
        heard = hear(song.vocal[begin : stop + round(AROUND * sample_rate)], sample_rate)
        moved = [(a + begin / sample_rate, b + begin / sample_rate, m) for a, b, m in heard.notes]
        # Of a note that reaches into the part only what is sung there.
        notes += [
            (max(a, start / sample_rate), min(b, stop / sample_rate), m)
            for a, b, m in moved
            if min(b, stop / sample_rate) - max(a, start / sample_rate) > SHORTEST_NOTE
        ]
    return notes


def parts_of(song: SongAudio, sample_rate: int) -> tuple[list[Range], list[Range]]:
    """Return the ranges of samples in which a take sings, and those behind its end."""
    if song.recording is None:
        return [], []
    end = song.recording.seconds
    inside, behind = [], []
    for start, stop in song.regions:  # s; one may reach over the take's end
        if start < end:
            inside.append(
                (math.floor(start * sample_rate), math.ceil(min(stop, end) * sample_rate))
            )
        if stop > end:
            behind.append(
                (math.floor(max(start, end) * sample_rate), math.ceil(stop * sample_rate))
            )
    return inside, behind
