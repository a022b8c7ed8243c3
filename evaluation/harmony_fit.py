"""Does a melody fit its backing: chord tones on the beats, and onsets near them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from music.harmony import NO_CHORD, chord_tones
from utils.pitch import TimedNote

if TYPE_CHECKING:
    from music.harmony import Harmony

MIDDLE = 0.05  # s behind a beat: a singer a little late is on it


def chord_tone_ratio(notes: Sequence[TimedNote], harmony: Harmony) -> float:
    """Share of the beats with a note and a chord whose note is of the chord; NaN without such.

    The note of a beat is the one that sounds 50 ms behind it, its pitch the nearest semitone.
    """
    hits = []
    for beat, chord in zip(harmony.beats, harmony.chords, strict=True):
        sounding = [note for note in notes if note[0] <= beat + MIDDLE < note[1]]
        if sounding and chord != NO_CHORD:
            hits.append(round(sounding[-1][2]) % 12 in chord_tones(int(chord)))
    return float(np.mean(hits)) if hits else float("nan")


def onset_to_beat(notes: Sequence[TimedNote], harmony: Harmony) -> list[float]:
    """Seconds from each onset to the nearest half beat, early < 0, of the notes inside the beats.

    On no beat at all they are spread evenly: the median |deviation| is then an eighth of a beat.
    """
    beats = np.asarray(harmony.beats, dtype=float)
    if len(beats) < 2:
        return []
    grid = np.sort(np.concatenate([beats, (beats[:-1] + beats[1:]) / 2]))
    onsets = np.array([note[0] for note in notes if grid[0] <= note[0] <= grid[-1]])
    if not len(onsets):
        return []
    right = np.clip(np.searchsorted(grid, onsets), 1, len(grid) - 1)
    before, after = onsets - grid[right - 1], onsets - grid[right]
    return np.where(before < -after, before, after).tolist()
