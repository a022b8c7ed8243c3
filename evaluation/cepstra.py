"""Mel-cepstral distortion: how far two voices are apart in timbre, whatever their level.

Shapes: T frames, M mels, C cepstral coefficients.
"""

from __future__ import annotations

import math

import librosa
import numpy as np
from scipy.fft import dct

COEFFICIENTS = 13  # c_1 … c_13; c_0, the level, is left out


def mel_cepstrum(mel: np.ndarray, coefficients: int = COEFFICIENTS) -> np.ndarray:
    """Cepstrum c_1 … c_C (T, C) of raw natural logs of magnitude (T, M).

    Scaled so that ln|S| = c_0 / 2 + Σ c_m cos(…): then the distortion below is the RMS difference
    of the two smoothed log spectra in dB. Raises ValueError for fewer bands than coefficients.
    """
    if mel.ndim != 2 or mel.shape[1] <= coefficients:
        raise ValueError(f"mel of shape {mel.shape}: expected (T, M) with M > {coefficients}")
    bands = mel.shape[1]
    return dct(mel.astype(np.float64), type=2, axis=1)[:, 1 : coefficients + 1] / bands


def mel_cepstral_distortion(
    prediction: np.ndarray, target: np.ndarray, floor: float, warp: bool = False
) -> float:
    """Mel-cepstral distortion in dB (Kubichek 1993): 10 / ln 10 · √(2 Σ Δc_m²), 0 is best.

    prediction (T1, M), target (T2, M): raw natural logs of magnitude, both cut at `floor`. The mean
    over frames: warp False, over the common frames as they are; True, over the path of dynamic time
    warping with steps (1,1), (0,1), (1,0), which forgives timing. Raises ValueError for no frames.
    """
    if not len(prediction) or not len(target):
        raise ValueError(f"{len(prediction)} and {len(target)} frames: nothing to compare")
    a, b = (mel_cepstrum(np.maximum(mel, floor)) for mel in (prediction, target))
    factor = 10 / math.log(10) * math.sqrt(2)
    if warp:
        _, path = librosa.sequence.dtw(a.T, b.T, metric="euclidean")
        return float(factor * np.linalg.norm(a[path[:, 0]] - b[path[:, 1]], axis=1).mean())
    common = min(len(a), len(b))
    return float(factor * np.linalg.norm(a[:common] - b[:common], axis=1).mean())
