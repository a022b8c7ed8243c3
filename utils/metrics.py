"""What a rendering is worth: spectral distances, word error, pitch.

Every function takes arrays of one item and returns plain numbers. Higher is not always better:
the docstring says which way is good.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from utils.audio_functional import edit_distance

LINEAR_FLOOR = float(np.log(1e-2))  # of linear magnitudes: 88 dB under a full-scale sine's peak
COEFFICIENTS = 13  # of the mel cepstrum, c_1 … c_13; c_0, the level, is left out
MEL_FLOOR = float(np.log(1e-4))  # the same for a band of the area-normalised filterbank


def aligned_distance(prediction: np.ndarray, target: np.ndarray) -> float:
    """Mean absolute difference along the best monotonic alignment of two feature sequences.

    prediction (T1, M), target (T2, M), standardised: the unit is a standard deviation. Dynamic time
    warping with steps (1,1), (0,1), (1,0); the mean is over the path. Smaller is better.
    """
    left, right = (torch.from_numpy(np.asarray(x, np.float64)) for x in (prediction, target))
    cost = torch.cdist(left, right, p=1.0).numpy()  # (T1, T2)
    total, count = _warped(cost)
    return total / count / prediction.shape[1]


def _warped(cost: np.ndarray) -> tuple[float, int]:
    """Return the least cost of a path through (T1, T2), corner to corner, and its length.

    Diagonal by diagonal, whose cells depend on the two before it alone.
    """
    rows, columns = cost.shape
    turned = cost[:, ::-1]
    # By row, one place further back: of the diagonal before (`last`) and of the one before that.
    last, earlier = (np.full((2, rows + 1), np.inf) for _ in range(2))  # cost, and path length
    earlier[:, 0] = 0.0
    for number in range(rows + columns - 1):
        first = max(0, number - columns + 1)
        own = slice(first + 1, min(number, rows - 1) + 2)
        before = slice(own.start - 1, own.stop - 1)
        steps = np.stack([earlier[:, before], last[:, own], last[:, before]])  # (3, 2, cells)
        best = steps[:, 0].argmin(0)
        made = np.full_like(last, np.inf)
        made[:, own] = np.take_along_axis(steps, best[None, None], 0)[0]
        made[0, own] += turned.diagonal(columns - 1 - number)
        made[1, own] += 1
        last, earlier = made, last
    return float(last[0, -1]), int(last[1, -1])


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
        import librosa  # late: its dtw loads numba and scipy, which a training does without

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


# ---------------------------------------------------------------------------- pitch
# Shapes: S samples, T frames, K lags. A frequency of 0 says: no pitch here.

TimedNote = Sequence[float]  # onset s, offset s, MIDI number with its fraction

LOWEST, HIGHEST = 65.0, 1200.0  # Hz, a little beyond the singing voices, C2 to D6
TYPICAL = 250.0  # Hz, for which a frame is centred exactly: two windows, one period apart
DIP = 0.15  # the first dip of the normalised difference this deep is the period (YIN's threshold)
VOICED = 0.4  # a frame whose deepest dip stays above has no pitch
QUIET = 45.0  # dB below the loudest frame: silence
WINDOW = 0.064  # s; 4 periods of the lowest voice
OVERSAMPLING = 4  # of the autocorrelation: a period of 16 samples is found to some cents


def f0_track(
    wav: Tensor,
    sample_rate: int,
    hop_length: int = 256,
    lowest: float = LOWEST,
    highest: float = HIGHEST,
    window: float = WINDOW,
) -> Tensor:
    """Fundamental frequency (T,) in Hz of wav (S,), 0 without pitch; T = 1 + S // hop_length.

    YIN (de Cheveigné & Kawahara 2002): frame t is centred on sample t * hop_length, as the
    spectrogram's is. The difference function comes from an autocorrelation by FFT, oversampled by
    zeros in the spectrum, and its dip is refined by a parabola. window: s that a frame is compared
    over; a short one follows vibrato, and misses more periods. Raises ValueError for a wav that is
    not (S,) or a range that the rate cannot hold.
    """
    if wav.dim() != 1:
        raise ValueError(f"f0_track takes (S,), found shape {tuple(wav.shape)}")
    if not 0 < lowest < highest < sample_rate / 4:
        raise ValueError(
            f"pitch range {lowest} to {highest} Hz at {sample_rate} Hz: expected 0 < lowest < "
            f"highest < {sample_rate / 4}"
        )
    length, longest = round(window * sample_rate), math.ceil(sample_rate / lowest) + 2
    num_frames = 1 + len(wav) // hop_length
    before = round(length + sample_rate / TYPICAL) // 2
    padded = torch.nn.functional.pad(wav.float(), (before, length + longest))
    block = max(1, (1 << 22) // (length + longest))  # frames at a time: flat memory
    frames = padded.unfold(0, length + longest, hop_length)[:num_frames]  # (T, W + K)
    shortest = math.floor(sample_rate / highest) - 1
    parts = [_periods(part, length, shortest, longest) for part in frames.split(block)]
    period, depth, energy = (torch.cat(column) for column in zip(*parts, strict=True))
    f0 = OVERSAMPLING * sample_rate / period.clamp_min(1e-9)
    is_voiced = (depth < VOICED) & (energy > energy.max() * 10 ** (-QUIET / 10)) & (energy > 1e-10)
    return torch.where(is_voiced & (f0 >= lowest) & (f0 <= highest), f0, 0.0)


def _periods(
    frames: Tensor, length: int, shortest: int, longest: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Period in oversampled lags, depth of its dip, mean square: (T,) each, of (T, W + K)."""
    size = 1 << (length + 2 * longest - 1).bit_length()
    head = torch.fft.rfft(frames[:, :length], size)
    cross = head.conj() * torch.fft.rfft(frames, size)
    product = torch.fft.irfft(cross, size * OVERSAMPLING)[:, : longest * OVERSAMPLING]
    product = product * OVERSAMPLING  # (T, K) Σ x_j x_{j+τ}
    squares = torch.nn.functional.pad(frames.double().square().cumsum(1), (1, 0))
    energies = squares[:, length : length + longest + 1] - squares[:, : longest + 1]
    energies = torch.nn.functional.interpolate(
        energies[:, None].float(), longest * OVERSAMPLING + 1, mode="linear", align_corners=True
    )[:, 0, : longest * OVERSAMPLING]  # (T, K) Σ x²_{j+τ}
    difference = (energies[:, :1] + energies - 2 * product).clamp_min(0)  # equation 7
    lag = torch.arange(1, difference.shape[1], device=frames.device)
    mean = difference[:, 1:].cumsum(1) / lag
    normalised = torch.ones_like(difference)
    normalised[:, 1:] = difference[:, 1:] / mean.clamp_min(1e-12)  # equation 8
    middle = normalised[:, 1:-1]
    is_dip = (middle < normalised[:, :-2]) & (middle <= normalised[:, 2:])
    is_dip[:, : shortest * OVERSAMPLING] = False
    depths = torch.where(is_dip, middle, torch.inf)
    deepest, place = depths.min(1)
    is_deep = is_dip & (depths < DIP)
    place = torch.where(is_deep.any(1), is_deep.float().argmax(1), place)
    left, centre, right = (normalised.gather(1, place[:, None] + k)[:, 0] for k in range(3))
    curvature = left - 2 * centre + right
    shift = torch.where(curvature > 1e-12, 0.5 * (left - right) / curvature.clamp_min(1e-12), 0.0)
    depth = torch.where(torch.isinf(deepest), deepest, centre)
    return place + 1 + shift.clamp(-0.5, 0.5), depth, energies[:, 0] / length


def midi_of(f0: np.ndarray) -> np.ndarray:
    """Fractional MIDI numbers of frequencies in Hz; NaN where there is no pitch."""
    f0 = np.asarray(f0, dtype=float)
    return np.where(f0 > 0, 69 + 12 * np.log2(np.where(f0 > 0, f0, 1.0) / 440.0), np.nan)


def raw_pitch_accuracy(
    f0: np.ndarray | Tensor,
    reference_midi: np.ndarray | Tensor,
    is_note: np.ndarray | Tensor,
    tolerance_cents: float = 50.0,
) -> float:
    """Share of the frames with a note whose pitch is within the tolerance; 1 is best.

    f0 (T,) in Hz, reference_midi (T,), is_note (T,) bool; a frame without pitch is a miss, an
    octave error too. NaN when no frame has a note. Raises ValueError for unequal lengths.
    """
    f0, reference_midi, is_note = (np.asarray(x) for x in (f0, reference_midi, is_note))
    if not len(f0) == len(reference_midi) == len(is_note):
        raise ValueError(
            f"{len(f0)} frames of pitch, {len(reference_midi)} of notes, {len(is_note)} of mask: "
            "expected equal lengths"
        )
    is_note = is_note.astype(bool)
    if not is_note.any():
        return float("nan")
    cents = 100 * np.abs(midi_of(f0) - reference_midi)[is_note]
    return float(np.mean(cents <= tolerance_cents))  # NaN, no pitch, compares as False


@dataclass(frozen=True)
class PitchScores:
    """How well a voice keeps to the notes.

    accuracy: raw pitch accuracy within 50 cents; chroma: the same, octaves forgiven; rmse: of the
    voiced frames with a note, in cents; voicing_recall: share of the frames with a note that have a
    pitch; voicing_false_alarm: share of the frames without note that have one (NaN: none such).
    """

    accuracy: float
    chroma: float
    rmse: float
    voicing_recall: float
    voicing_false_alarm: float


def pitch_scores(
    f0: np.ndarray | Tensor,
    reference_midi: np.ndarray | Tensor,
    is_note: np.ndarray | Tensor,
    is_rest: np.ndarray | Tensor | None = None,
    tolerance_cents: float = 50.0,
) -> PitchScores:
    """All pitch scores of one rendering; arguments as `raw_pitch_accuracy`.

    is_rest (T,): frames that must have no pitch, by default all that are not `is_note`.
    """
    accuracy = raw_pitch_accuracy(f0, reference_midi, is_note, tolerance_cents)
    f0, is_note = np.asarray(f0, dtype=float), np.asarray(is_note).astype(bool)
    is_rest = ~is_note if is_rest is None else np.asarray(is_rest).astype(bool)
    cents = 100 * (midi_of(f0) - np.asarray(reference_midi))[is_note]
    folded = np.abs((cents + 600) % 1200 - 600)
    voiced = cents[~np.isnan(cents)]
    return PitchScores(
        accuracy=accuracy,
        chroma=float(np.mean(folded <= tolerance_cents)) if is_note.any() else float("nan"),
        rmse=float(np.sqrt(np.mean(voiced**2))) if len(voiced) else float("nan"),
        voicing_recall=float(np.mean(f0[is_note] > 0)) if is_note.any() else float("nan"),
        voicing_false_alarm=float(np.mean(f0[is_rest] > 0)) if is_rest.any() else float("nan"),
    )
