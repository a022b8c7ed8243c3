"""Is a text read once, in order, to its end? Hand-made alignments."""

from __future__ import annotations

import numpy as np
import pytest

from singing.chain import attention_health

WORDS = [(0, 1), (3, 4), (6, 7)]  # symbols 2 and 5 are word boundaries


def one_hot(path: list[int], symbols: int = 8) -> np.ndarray:
    return np.eye(symbols)[path]


def test_a_straight_reading_is_healthy() -> None:
    health = attention_health(one_hot([0, 0, 1, 1, 2, 3, 3, 4, 5, 6, 7, 7]), WORDS)
    assert health.coverage == 1.0 and health.focus == 1.0
    assert health.skipped == () and health.repeated == ()
    assert health.diagonality > 0.9


def test_a_skipped_word_is_named() -> None:
    health = attention_health(one_hot([0, 0, 1, 1, 6, 6, 7, 7]), WORDS)
    assert health.skipped == (1,) and health.coverage == pytest.approx(2 / 3)


def test_a_repeated_word_is_named() -> None:
    health = attention_health(one_hot([0, 1, 3, 4, 0, 1, 1, 3, 4, 6, 7]), WORDS)
    assert health.repeated == (0,) and health.skipped == ()


def test_a_wobble_of_one_step_is_no_repetition() -> None:
    assert attention_health(one_hot([0, 1, 3, 1, 3, 4, 6, 7]), WORDS).repeated == ()


def test_lost_attention_is_not_focused() -> None:
    health = attention_health(np.full((12, 8), 1 / 8), WORDS)
    assert health.focus == pytest.approx(1 / 8)
    assert health.coverage < 1


def test_nothing_to_judge_is_an_error() -> None:
    with pytest.raises(ValueError, match="0 steps"):
        attention_health(np.zeros((0, 4)), [])
