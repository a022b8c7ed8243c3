"""Chord tones and beats on a harmony made by hand."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from composer.harmony import NO_CHORD
from evaluation.score_metrics import chord_tone_ratio, onset_to_beat

C_MAJOR, A_MINOR = 0, 12 + 9


def harmony(chords: list[int]) -> SimpleNamespace:
    return SimpleNamespace(beats=np.arange(len(chords)) * 0.5, chords=np.array(chords))


def test_chord_tones_on_beats() -> None:
    notes = [(0.0, 0.5, 60), (0.5, 1.0, 62), (1.0, 1.5, 69.3), (1.5, 2.0, 67)]
    assert chord_tone_ratio(notes, harmony([C_MAJOR, C_MAJOR, A_MINOR, A_MINOR])) == 0.5
    assert chord_tone_ratio(notes[:1], harmony([C_MAJOR, NO_CHORD])) == 1.0
    assert np.isnan(chord_tone_ratio([], harmony([C_MAJOR])))
    assert np.isnan(chord_tone_ratio(notes, harmony([NO_CHORD] * 4)))


def test_a_note_a_little_late_is_on_its_beat() -> None:
    assert chord_tone_ratio([(0.03, 0.4, 64)], harmony([C_MAJOR])) == 1.0


def test_onsets_to_half_beats() -> None:
    notes = [(0.02, 1, 60), (0.24, 1, 60), (0.5, 1, 60), (0.9, 1, 60), (7.0, 8, 60)]
    found = onset_to_beat(notes, harmony([C_MAJOR] * 4))
    assert found == pytest.approx([0.02, -0.01, 0.0, -0.1])
    assert onset_to_beat(notes, harmony([C_MAJOR])) == []
    assert onset_to_beat([], harmony([C_MAJOR] * 4)) == []


def test_onsets_on_no_beat_are_an_eighth_of_a_beat_away() -> None:
    random = np.random.default_rng(0)
    notes = [(onset, onset + 1, 60) for onset in random.uniform(0, 99, 4000)]
    found = np.median(np.abs(onset_to_beat(notes, harmony([C_MAJOR] * 200))))
    assert found == pytest.approx(0.5 / 8, rel=0.05)
