"""Note scores against cases computed by hand and mir_eval's own evaluation."""

from __future__ import annotations

import mir_eval
import numpy as np
import pytest

from evaluation.score_metrics import NoteScores, note_scores

REFERENCE = [(0.0, 0.5, 60.0), (0.5, 1.0, 62.0), (1.5, 2.5, 64.0), (3.0, 4.0, 65.0)]


def moved(onset: float = 0.0, offset: float = 0.0, cents: float = 0.0) -> list:
    return [(a + onset, b + offset, pitch + cents / 100) for a, b, pitch in REFERENCE]


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (REFERENCE, (1, 1, 1)),
        (moved(onset=0.04, offset=0.04), (1, 1, 1)),
        (moved(onset=0.06, offset=0.06), (0, 0, 0)),
        (moved(cents=40), (1, 1, 1)),
        (moved(cents=60), (1, 0, 0)),
        (moved(cents=1200), (1, 0, 0)),
        (moved(offset=0.45), (1, 1, 0)),
        (REFERENCE[:2], (2 / 3, 2 / 3, 2 / 3)),  # precision 1, recall 1/2
        ([], (0, 0, 0)),
    ],
)
def test_by_hand(estimate: list, expected: tuple[float, float, float]) -> None:
    found = note_scores(REFERENCE, estimate)
    assert (found.onset, found.onset_pitch, found.onset_pitch_offset) == pytest.approx(expected)


def test_nothing_heard_in_nothing_is_right() -> None:
    assert note_scores([], []) == NoteScores(1.0, 1.0, 1.0)
    assert note_scores([], REFERENCE) == NoteScores(0.0, 0.0, 0.0)


def test_as_mir_eval_evaluates() -> None:
    random = np.random.default_rng(0)
    onsets = np.sort(random.uniform(0, 30, 60))
    reference = [(t, t + random.uniform(0.1, 1), random.uniform(50, 70)) for t in onsets]
    estimate = [
        (t + random.normal(0, 0.04), e + random.normal(0.1, 0.1), p + random.normal(0, 0.4))
        for t, e, p in reference[5:]
    ]
    estimate = [(max(t, 0), max(e, t + 0.1), p) for t, e, p in estimate]

    def columns(notes: list) -> tuple[np.ndarray, np.ndarray]:
        rows = np.array(notes)
        return rows[:, :2], mir_eval.util.midi_to_hz(rows[:, 2])

    theirs = mir_eval.transcription.evaluate(*columns(reference), *columns(estimate))
    ours = note_scores(reference, estimate)
    assert ours.onset == pytest.approx(theirs["Onset_F-measure"])
    assert ours.onset_pitch == pytest.approx(theirs["F-measure_no_offset"])
    assert ours.onset_pitch_offset == pytest.approx(theirs["F-measure"])
    assert 0 < ours.onset_pitch_offset < ours.onset_pitch < ours.onset < 1
