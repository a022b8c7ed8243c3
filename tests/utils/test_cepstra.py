"""Mel-cepstral distortion on spectra whose distance is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from utils.metrics import mel_cepstral_distortion, mel_cepstrum

M, FLOOR = 80, -20.0


def ripple(quefrency: int, height: float, frames: int = 5) -> np.ndarray:
    """ln|S| = height · cos(π m (k + ½) / M) in every frame, (T, M)."""
    return np.tile(height * np.cos(np.pi * quefrency * (np.arange(M) + 0.5) / M), (frames, 1))


def test_a_ripple_is_one_coefficient() -> None:
    cepstrum = mel_cepstrum(ripple(3, 0.7))
    assert cepstrum.shape == (5, 13)
    np.testing.assert_allclose(cepstrum[:, 2], 0.7)
    np.testing.assert_allclose(np.delete(cepstrum, 2, axis=1), 0, atol=1e-12)


def test_distortion_is_the_rms_of_the_log_spectra_in_decibels() -> None:
    a, b = ripple(3, 0.7) + ripple(9, 0.2), ripple(3, 0.1)
    rms = 20 / math.log(10) * np.sqrt(np.mean((a - b) ** 2))
    assert mel_cepstral_distortion(a, b, FLOOR) == pytest.approx(rms)
    by_hand = 10 / math.log(10) * math.sqrt(2 * (0.6**2 + 0.2**2))
    assert mel_cepstral_distortion(a, b, FLOOR) == pytest.approx(by_hand)


def test_level_does_not_count_and_identity_is_zero() -> None:
    mel = np.random.default_rng(0).normal(-5, 1, (20, M))
    assert mel_cepstral_distortion(mel, mel, FLOOR) == 0
    assert mel_cepstral_distortion(mel + 3, mel, FLOOR) == pytest.approx(0, abs=1e-9)
    assert mel_cepstral_distortion(mel, mel, FLOOR, warp=True) == pytest.approx(0, abs=1e-9)


def test_warping_forgives_timing_and_nothing_else() -> None:
    mel = np.random.default_rng(1).normal(-5, 1, (20, M))
    slow = np.repeat(mel, 2, axis=0)
    assert mel_cepstral_distortion(slow, mel, FLOOR, warp=True) == pytest.approx(0, abs=1e-9)
    assert mel_cepstral_distortion(slow, mel, FLOOR) > 3
    other = np.random.default_rng(2).normal(-5, 1, (20, M))
    assert mel_cepstral_distortion(other, mel, FLOOR, warp=True) > 3


def test_edges() -> None:
    one = ripple(1, 1.0, frames=1)
    assert mel_cepstral_distortion(one, ripple(1, 1.0, frames=9), FLOOR) == 0
    assert mel_cepstral_distortion(one - 100, one - 200, FLOOR) == 0  # both below the floor
    with pytest.raises(ValueError, match="0 and 5 frames"):
        mel_cepstral_distortion(np.zeros((0, M)), ripple(1, 1.0), FLOOR)
    with pytest.raises(ValueError, match="M > 13"):
        mel_cepstrum(np.zeros((4, 13)))
