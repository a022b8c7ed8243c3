"""Fit of a melody to its backing: chord tones on the beats, onsets near the beats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evaluation.table import SHUFFLED
from music.harmony import NO_CHORD, Harmony, chord_tones
from utils.pitch import TimedNote

MIDDLE = 0.05  # s behind a beat: a singer a little late is on it


def chord_tone_ratio(notes: Sequence[TimedNote], harmony: Harmony) -> float:
    """Return the share of the beats with a note and a chord whose note is of the chord.

    The note of a beat is the one that sounds 50 ms behind it, its pitch the nearest semitone. NaN
    without such a beat.
    """
    hits = []
    for beat, chord in zip(harmony.beats, harmony.chords, strict=True):
        sounding = [note for note in notes if note[0] <= beat + MIDDLE < note[1]]
        if sounding and chord != NO_CHORD:
            hits.append(round(sounding[-1][2]) % 12 in chord_tones(int(chord)))
    return float(np.mean(hits)) if hits else float("nan")


def onset_to_beat(notes: Sequence[TimedNote], harmony: Harmony) -> list[float]:
    """Return seconds from each onset to the nearest half beat, early < 0, inside the beats.

    Onsets without any relation to the beats have a median |deviation| of an eighth of a beat.
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


def harmony_fit(
    notes: Sequence[TimedNote], harmony: Harmony, others: Sequence[Harmony]
) -> dict[str, float | list[float]]:
    """Measure chord tones and beat deviations on the own harmony, and on others (SHUFFLED).

    NaN for what has no beat to be measured on; without others there is no shuffled number.
    """
    result: dict[str, float | list[float]] = {
        "chord_tones": chord_tone_ratio(notes, harmony),
        "beat_deviation": onset_to_beat(notes, harmony),
    }
    if others:
        ratios = [chord_tone_ratio(notes, other) for other in others]
        known = [ratio for ratio in ratios if not np.isnan(ratio)]
        result[SHUFFLED["chord_tones"]] = float(np.mean(known)) if known else float("nan")
        result[SHUFFLED["beat_deviation"]] = [
            deviation for other in others for deviation in onset_to_beat(notes, other)
        ]
    return result
