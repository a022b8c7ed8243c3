"""How well a transcription finds the notes of a reference, by mir_eval."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from utils.pitch import TimedNote

ONSET_TOLERANCE = 0.05  # s
PITCH_TOLERANCE = 50.0  # cents
OFFSET_RATIO = 0.2  # of the reference note's length, but at least
OFFSET_TOLERANCE = 0.05  # s


@dataclass(frozen=True)
class NoteScores:
    """F1 of notes: right onset; and right pitch; and right offset. 1 where both have no note."""

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
    (times, pitches), (heard_times, heard_pitches) = map(_columns, (reference, estimated))
    judge = _judge()
    onset = judge.onset_precision_recall_f1(times, heard_times, onset_tolerance=ONSET_TOLERANCE)[2]
    with_pitch, with_offset = (
        judge.precision_recall_f1_overlap(
            times,
            pitches,
            heard_times,
            heard_pitches,
            onset_tolerance=ONSET_TOLERANCE,
            pitch_tolerance=PITCH_TOLERANCE,
            offset_ratio=ratio,
            offset_min_tolerance=OFFSET_TOLERANCE,
        )[2]
        for ratio in (None, OFFSET_RATIO)
    )
    return NoteScores(float(onset), float(with_pitch), float(with_offset))


def _judge() -> ModuleType:
    """mir_eval's note metrics, an optional package."""
    try:
        return importlib.import_module("mir_eval.transcription")
    except ImportError as error:
        raise ImportError(
            f"note scores need mir_eval ({error}): pip install -r requirements-evaluation.txt"
        ) from error


def _columns(notes: Sequence[TimedNote]) -> tuple[np.ndarray, np.ndarray]:
    """Intervals (K, 2) in s and frequencies (K,) in Hz."""
    rows = np.array([tuple(note) for note in notes], np.float64)
    return rows[:, :2], 440.0 * 2 ** ((rows[:, 2] - 69) / 12)
