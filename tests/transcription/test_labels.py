"""Classes of symbols, and note targets against values computed by hand."""

from __future__ import annotations

import pytest
import torch

from text.symbols import PHONEMES, SYMBOLS
from transcription.labels import PHONEME_CLASSES, SILENCE, class_table, note_targets, phoneme_class

LAST = len(PHONEME_CLASSES) - 1


def test_every_phoneme_has_a_class_and_the_rest_is_silence() -> None:
    assert len(PHONEME_CLASSES) == len(set(PHONEME_CLASSES)) == 39
    assert PHONEME_CLASSES[LAST] == SILENCE
    table = class_table()
    for symbol, number in zip(SYMBOLS, table.tolist(), strict=True):
        assert (number == LAST) == (symbol not in PHONEMES), symbol
    assert phoneme_class("AH0") == phoneme_class("AH1") == PHONEME_CLASSES.index("AH")
    assert phoneme_class("ZH") == phoneme_class("SH") != phoneme_class("Z")
    assert set(table.tolist()) == set(range(39))


def test_targets_of_two_notes_by_hand() -> None:
    notes = [(0.10, 0.30, 60), (0.30, 0.355, 62)]
    targets = note_targets(notes, 0.0, 0.05, 9, width=0.1)  # at 0, 0.05, ... 0.4 s
    expected = torch.tensor(
        [  # onset, offset, activation
            [0.0, 0.0, 0.0],
            [0.5, 0.0, 0.0],
            [1.0, 0.0, 1.0],
            [0.5, 0.0, 1.0],
            [0.0, 0.0, 1.0],
            [0.5, 0.5, 1.0],
            [1.0, 1.0, 1.0],  # one ends, the next begins
            [0.5, 0.95, 1.0],
            [0.0, 0.55, 0.0],
        ]
    )
    torch.testing.assert_close(targets, expected, atol=1e-6, rtol=0)


def test_a_window_has_the_targets_of_the_song() -> None:
    """Cut anywhere, also where a note began before; faster playing packs them closer."""
    notes = [(k * 0.37, k * 0.37 + 0.3, 60) for k in range(40)]
    song = note_targets(notes, 0.0, 0.02, 700, 0.05)
    window = note_targets(notes, 200 * 0.02, 0.02, 100, 0.05)
    torch.testing.assert_close(window, song[200:300], atol=1e-5, rtol=0)
    fast = note_targets(notes, 4.0, 0.04, 50, 0.1)
    torch.testing.assert_close(fast[:, 2], song[200:300:2, 2])
    assert fast[:, 0].max() > 0.8


@pytest.mark.parametrize("notes", [[], [(100.0, 101.0, 60)]])
def test_nothing_sounds(notes: list[tuple[float, float, int]]) -> None:
    assert not note_targets(notes, 0.0, 0.02, 50, 0.05).any()


def test_a_very_long_note_is_active_throughout() -> None:
    targets = note_targets([(0.0, 3600.0, 60)], 1800.0, 0.02, 100, 0.05)
    assert targets[:, 2].all() and not targets[:, :2].any()
