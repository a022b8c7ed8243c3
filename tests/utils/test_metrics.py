"""Metrics on hand-made cases: perfect, shifted, smoothed."""

from __future__ import annotations

import numpy as np
import pytest

from utils.metrics import (
    aligned_distance,
    frame_difference_ratio,
    log_spectral_distance,
    mel_distance,
    word_errors,
)


def test_aligned_distance_forgives_tempo_and_nothing_else() -> None:
    rng = np.random.default_rng(0)
    mel = rng.standard_normal((30, 5))
    assert aligned_distance(mel, mel) == pytest.approx(0.0)
    assert aligned_distance(np.repeat(mel, 2, axis=0), mel) == pytest.approx(0.0)
    assert aligned_distance(mel + 1.0, mel) > 0.5


@pytest.mark.parametrize(("frames", "true_frames"), [(1, 1), (1, 7), (9, 1), (31, 44), (44, 31)])
def test_aligned_distance_equals_that_of_librosa(frames: int, true_frames: int) -> None:
    librosa = pytest.importorskip("librosa")
    rng = np.random.default_rng(frames)
    mel, true = rng.normal(size=(frames, 5)), rng.normal(size=(true_frames, 5))
    cost, path = librosa.sequence.dtw(mel.T, true.T, metric="cityblock")
    assert aligned_distance(mel, true) == pytest.approx(cost[-1, -1] / len(path) / 5, rel=1e-12)


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
