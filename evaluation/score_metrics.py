"""Does a voice sing its score, and fit its backing? Notes, levels, onsets, lyrics, chords, beats.

Shapes: N symbols, T frames, M mels.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from composer.harmony import Harmony, chord_tone_ratio
from corpora.records import song_of
from evaluation.table import SHUFFLED
from text.symbols import is_vowel, word_spans
from utils.metrics import TimedNote

ONSET_TOLERANCE = 0.05  # s
PITCH_TOLERANCE = 50.0  # cents
OFFSET_RATIO = 0.2  # of the reference note's length, but at least
OFFSET_TOLERANCE = 0.05  # s


def note_track(
    notes: Sequence[Sequence[float]], num_frames: int, seconds_per_frame: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the MIDI number (T,) of the note at each frame, and where there is one, (T,) bool.

    notes: (onset, offset, pitch) in s, as a score record holds them; frame t is at t *
    seconds_per_frame.
    """
    times = np.arange(num_frames) * seconds_per_frame
    pitch = np.zeros(num_frames)
    for onset, offset, midi in notes:
        pitch[(times >= onset) & (times < offset)] = midi
    return pitch, pitch > 0


def onset_deviations(
    aligned: Sequence[float], score: Mapping[str, Sequence[float]], symbols: Sequence[str]
) -> list[float]:
    """Return the seconds by which each sung vowel is later (early < 0) than its note.

    aligned (N,): onset of each symbol in s, as a forced alignment gives it; score: onset, pitch and
    slur of each symbol. A vowel that goes on over another note has one onset.
    """
    return [
        float(aligned[place] - score["onset"][place])
        for place, symbol in enumerate(symbols)
        if is_vowel(symbol) and score["pitch"][place] > 0
    ]


def sound_of(symbols: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a line as phonemes without stress and punctuation."""
    return tuple(
        " ".join(symbol.rstrip("012") for symbol in symbols[first : last + 1])
        for first, last in word_spans(symbols)
    )


def wrong_lyrics(
    item: Mapping[str, Any], items: Sequence[Mapping[str, Any]], count: int
) -> list[tuple[str, ...]]:
    """Choose the symbols of `count` phrases of other songs with the nearest number of phonemes.

    items: of an index, with id and symbols. Phrases that sound the same are left out; fewer when
    there are no more. Ties go by id.
    """

    def size(other: Mapping[str, Any]) -> int:
        return sum(last - first + 1 for first, last in word_spans(other["symbols"]))

    own, sound = size(item), sound_of(item["symbols"])
    found: dict[tuple[str, ...], tuple[str, ...]] = {}
    others = [other for other in items if song_of(other["id"]) != song_of(item["id"])]
    for other in sorted(others, key=lambda other: (abs(size(other) - own), other["id"])):
        line = sound_of(other["symbols"])
        if line and line != sound and len(found) < count:
            found.setdefault(line, tuple(other["symbols"]))
    return list(found.values())


@dataclass(frozen=True)
class NoteScores:
    """F1 of notes by onset; also by pitch; also by offset. 1 where both have no note."""

    onset: float
    onset_pitch: float
    onset_pitch_offset: float


def note_scores(reference: Sequence[TimedNote], estimated: Sequence[TimedNote]) -> NoteScores:
    """Score notes (onset, offset, MIDI number) against those of a reference (Raffel et al. 2014).

    Within 50 ms, 50 cents, and 20 % of the reference's length or 50 ms. Raises ImportError naming
    the command when mir_eval is not installed.
    """
    if not len(reference) or not len(estimated):
        value = float(len(reference) == len(estimated))
        return NoteScores(value, value, value)
    true, found = _columns(reference), _columns(estimated)
    judge = _mir_eval()
    onset = judge.onset_precision_recall_f1(true[0], found[0], onset_tolerance=ONSET_TOLERANCE)[2]
    with_pitch, with_offset = (
        judge.precision_recall_f1_overlap(
            *true,
            *found,
            onset_tolerance=ONSET_TOLERANCE,
            pitch_tolerance=PITCH_TOLERANCE,
            offset_ratio=ratio,
            offset_min_tolerance=OFFSET_TOLERANCE,
        )[2]
        for ratio in (None, OFFSET_RATIO)
    )
    return NoteScores(float(onset), float(with_pitch), float(with_offset))


def _mir_eval() -> ModuleType:
    """Import the note metrics of mir_eval, an optional package."""
    try:
        return importlib.import_module("mir_eval.transcription")
    except ImportError as error:
        raise ImportError(
            f"note scores need mir_eval ({error}): pip install -r requirements-evaluation.txt"
        ) from error


def _columns(notes: Sequence[TimedNote]) -> tuple[np.ndarray, np.ndarray]:
    """Return intervals (K, 2) in s and frequencies (K,) in Hz."""
    rows = np.array([tuple(note) for note in notes], np.float64)
    return rows[:, :2], 440.0 * 2 ** ((rows[:, 2] - 69) / 12)


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
