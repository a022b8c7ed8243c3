"""What a rendering is worth: spectral distances, word error.

Every function takes arrays of one item and returns plain numbers. Higher is not always better:
the docstring says which way is good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import librosa
import numpy as np

from utils.audio_functional import edit_distance

LINEAR_FLOOR = float(np.log(1e-2))  # of linear magnitudes: 88 dB under a full-scale sine's peak
COEFFICIENTS = 13  # of the mel cepstrum, c_1 … c_13; c_0, the level, is left out
MEL_FLOOR = float(np.log(1e-4))  # the same for a band of the area-normalised filterbank


def aligned_distance(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean absolute difference along the best monotonic alignment of two feature sequences.

    prediction (T1, M), target (T2, M), standardised: the unit is a standard deviation. Dynamic time
    warping with steps (1,1), (0,1), (1,0); the mean is over the path. Smaller is better.
    """
    cost, path = librosa.sequence.dtw(
        prediction.T.astype(np.float64), target.T.astype(np.float64), metric="cityblock"
    )
    return float(cost[-1, -1] / len(path) / prediction.shape[1])


def frame_difference_ratio(prediction: np.ndarray, target: np.ndarray) -> float:
    """Sharpness: mean |frame-to-frame change| of the prediction over that of the target.

    (T1, M), (T2, M). 1 = as lively as the truth, below = over-smoothed.
    """
    truth = np.abs(np.diff(target, axis=0)).mean()
    return float(np.abs(np.diff(prediction, axis=0)).mean() / max(truth, 1e-12))


def log_spectral_distance(prediction: np.ndarray, target: np.ndarray, floor: float) -> float:
    """Mean over frames of the RMS difference over bins, in dB (Gray & Markel 1976); 0 is best.

    prediction, target (T, F): natural logs of magnitude, frame by frame; both are cut at `floor`
    (a natural log), below which nothing is heard. Raises ValueError for unequal shapes.
    """
    difference = _floored_difference(prediction, target, floor)
    return float(np.sqrt(np.square(difference).mean(axis=1)).mean() * 20 / np.log(10))


def mel_distance(prediction: np.ndarray, target: np.ndarray, floor: float) -> float:
    """Mean |difference| of two log mel spectrograms in dB, frame by frame; smaller is better.

    prediction, target (T, M) and floor as in `log_spectral_distance`.
    """
    difference = _floored_difference(prediction, target, floor)
    return float(np.abs(difference).mean() * 20 / np.log(10))


def _floored_difference(prediction: np.ndarray, target: np.ndarray, floor: float) -> np.ndarray:
    if prediction.shape != target.shape or prediction.ndim != 2 or not prediction.size:
        raise ValueError(
            f"spectrograms of shapes {prediction.shape} and {target.shape}: expected equal (T, F)"
        )
    cut = [np.maximum(part.astype(np.float64), floor) for part in (prediction, target)]
    return cut[0] - cut[1]


def word_errors(hypothesis: Sequence[str], reference: Sequence[str]) -> tuple[int, int]:
    """Substitutions + insertions + deletions, and the number of reference words."""
    return edit_distance(list(reference), list(hypothesis)), len(reference)


def mel_cepstrum(mel: np.ndarray, coefficients: int = COEFFICIENTS) -> np.ndarray:
    """Return the cepstrum c_1 … c_C (T, C) of raw natural logs of magnitude (T, M).

    Scaled so that ln|S| = c_0 / 2 + Σ c_m cos(…): then the distortion below is the RMS difference
    of the two smoothed log spectra in dB. Raises ValueError for fewer bands than coefficients.
    """
    if mel.ndim != 2 or mel.shape[1] <= coefficients:
        raise ValueError(f"mel of shape {mel.shape}: expected (T, M) with M > {coefficients}")
    from scipy.fft import dct  # loaded when needed, and only in an evaluation

    bands = mel.shape[1]
    return dct(mel.astype(np.float64), type=2, axis=1)[:, 1 : coefficients + 1] / bands


def mel_cepstral_distortion(
    prediction: np.ndarray, target: np.ndarray, floor: float, warp: bool = False
) -> float:
    """Return the mel-cepstral distortion in dB (Kubichek 1993), 10 / ln 10 · √(2 Σ Δc_m²).

    prediction (T1, M), target (T2, M): raw natural logs of magnitude, both cut at `floor`. The mean
    over frames: warp False, over the common frames as they are; True, over the path of dynamic time
    warping with steps (1,1), (0,1), (1,0), which forgives timing; 0 is best. Raises ValueError for
    no frames.
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


def mel_level(mel: np.ndarray) -> float:
    """Return the mean power over frames of a raw natural-log mel (T, M) in dB.

    Only differences of such levels are meaningful. Raises ValueError for no frame.
    """
    if not len(mel):
        raise ValueError("mel_level needs at least one frame")
    return float(10 * np.log10(np.exp(2 * mel.astype(np.float64)).sum(1).mean()))


def frame_distance(prediction: np.ndarray, target: np.ndarray) -> float:
    """Return the mean |difference| of standardised features (T, M) over the common frames."""
    common = min(len(prediction), len(target))
    if not common:
        raise ValueError("frame_distance needs at least one common frame")
    return float(np.abs(prediction[:common] - target[:common]).mean())
