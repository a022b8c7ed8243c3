"""Metrics on hand-made cases: perfect, skipping, repeating, shifted, smoothed."""

from __future__ import annotations

import numpy as np
import pytest

from utils.metrics import (
    aligned_distance,
    attention_health,
    frame_difference_ratio,
    log_spectral_distance,
    mel_distance,
    word_errors,
)

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


def test_aligned_distance_forgives_tempo_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    mel = rng.standard_normal((30, 5))
    assert aligned_distance(mel, mel) == pytest.approx(0.0)
    assert aligned_distance(np.repeat(mel, 2, axis=0), mel) == pytest.approx(0.0)
    assert aligned_distance(mel + 1.0, mel) > 0.5


def test_frame_difference_ratio_falls_with_smoothing() -> None:
    mel = np.random.default_rng(0).standard_normal((100, 5))
    smooth = (mel[1:] + mel[:-1]) / 2
    assert frame_difference_ratio(mel, mel) == pytest.approx(1.0)
    assert frame_difference_ratio(smooth, mel) < 0.9


def test_word_errors_by_hand() -> None:
    reference = ["in", "being", "comparatively", "modern"]
    assert word_errors(reference, reference) == (0, 4)
    assert word_errors(["in", "comparatively", "a", "modern"], reference) == (2, 4)
    assert word_errors([], reference) == (4, 4)


def test_spectral_distances_are_decibels_above_the_floor() -> None:
    """A gain of 6 dB is a distance of 6 dB; below the floor nothing counts; noise is far."""
    random = np.random.default_rng(0)
    floor = np.log(1e-2)
    target = random.uniform(-3, 3, (40, 33))
    louder = target + 6 / 20 * np.log(10)
    silent = np.full_like(target, floor - 1)
    for distance in (log_spectral_distance, mel_distance):
        assert distance(target, target, floor) == 0.0
        assert distance(louder, target, floor) == pytest.approx(6.0)
        assert distance(target, louder, floor) == pytest.approx(6.0)
        assert distance(silent, silent - 4, floor) == 0.0
        assert distance(silent, target, floor) > distance(louder, target, floor)
        with pytest.raises(ValueError, match="shapes"):
            distance(target[:-1], target, floor)
    one_frame_wrong = target.copy()
    one_frame_wrong[3] += 4.0
    expected = 4.0 * 20 / np.log(10) / len(target)
    assert log_spectral_distance(one_frame_wrong, target, floor) == pytest.approx(expected)
