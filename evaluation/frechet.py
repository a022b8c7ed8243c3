"""Fréchet distance between two sets of recordings, on an embedding that ships in a package.

A small set is far from anything, itself included: the distance means nothing without the
embedding's name, the number of windows, and the distance between two halves of the true set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import frechet_distance

from evaluation import statistics as bootstrap
from evaluation.statistics import Estimate
from utils.audio import resample

RATE = 16000  # Hz, of the embedding's own mel
WINDOW, STEP = 76, 8  # mel frames of 10 ms per embedding, and from one to the next
WIDTH = 96  # numbers of one embedding
FEW = 10 * WIDTH  # windows: a covariance of 96 dimensions from fewer is hardly determined
INSTALL = "pip install -r requirements-evaluation.txt"


class SpeechEmbedding:
    """Google's speech embedding (Lin et al. 2020, 2002.01322) as packaged in openwakeword 0.4.0.

    96 numbers for every 0.76 s, one each 80 ms, of a network that was trained to tell words apart.
    """

    NAME = "speech_embedding of openwakeword 0.4.0 (96 dimensions, 0.76 s windows every 80 ms)"

    def __init__(self) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(f"the Fréchet distance needs onnxruntime: {INSTALL}") from error
        package = find_spec("openwakeword")
        if package is None or not package.submodule_search_locations:
            raise ImportError(f"the Fréchet distance needs openwakeword: {INSTALL}")
        folder = Path(package.submodule_search_locations[0]) / "resources" / "models"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.sessions = []
        for name in ("melspectrogram.onnx", "embedding_model.onnx"):
            if not (folder / name).is_file():  # later versions download it on first use
                raise ImportError(
                    f"the Fréchet distance needs {name}, which only openwakeword 0.4.0 brings: "
                    f"{INSTALL}"
                )
            self.sessions.append(
                onnxruntime.InferenceSession(
                    str(folder / name), options, providers=["CPUExecutionProvider"]
                )
            )

    def __call__(self, wav: Tensor, sample_rate: int) -> np.ndarray:
        """Embeddings (K, 96) of wav (S,); one shorter than a window has none."""
        samples = resample(wav.float().cpu(), sample_rate, RATE).clamp(-1, 1) * 32767
        least = RATE * (WINDOW + 3) // 100
        if len(samples) < least:
            return np.zeros((0, WIDTH), np.float32)
        mel_session, session = self.sessions
        mel = mel_session.run(None, {"input": samples.round()[None].numpy()})[0].squeeze()
        mel = mel / 10 + 2  # as the embedding was trained
        starts = range(0, len(mel) - WINDOW + 1, STEP)
        if not starts:
            return np.zeros((0, WIDTH), np.float32)
        windows = np.stack([mel[start : start + WINDOW] for start in starts])[..., None]
        return session.run(None, {"input_1": windows.astype(np.float32)})[0].reshape(-1, WIDTH)


@dataclass(frozen=True)
class Frechet:
    """A distance, the windows of both sets, and the floor: the true set's halves apart."""

    embedding: str
    value: float
    windows: int  # of the set that is judged
    reference_windows: int
    floor: float  # between halves of the reference, each of half its windows
    floor_windows: int

    def __str__(self) -> str:
        few = min(self.windows, self.reference_windows, self.floor_windows) < FEW
        return (
            f"Fréchet distance {self.value:.2f} ({self.windows} windows against "
            f"{self.reference_windows}), real against real {self.floor:.2f} "
            f"({self.floor_windows} windows{'; too few to rely on' if few else ''}); "
            f"{self.embedding}"
        )


def gaussian_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Fréchet distance of the Gaussians of two sets (K, D); NaN for fewer than two of either.

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 √(Σ₁Σ₂)) (Dowson & Landau 1982).
    """
    everything = np.ones(1)
    return _Sums([first]).distance(everything, _Sums([second]))


class _Sums:
    """Numbers, sums and products of the embeddings of recordings: moments of any set of them."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        """parts: (K, D) of each recording."""
        values = [torch.from_numpy(np.asarray(part, dtype=np.float64)) for part in parts]
        # The origin is the mean of all: products of what is far from it would lose digits.
        self.origin = torch.cat(values).mean(0)
        values = [part - self.origin for part in values]
        self.count = torch.tensor([len(part) for part in values], dtype=torch.float64)
        self.total = torch.stack([part.sum(0) for part in values])  # (R, D)
        self.product = torch.stack([part.T @ part for part in values])  # (R, D, D)

    def moments(self, weights: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean (D,) and covariance (D, D), recording i standing weights[i] times."""
        times = torch.from_numpy(np.asarray(weights, dtype=np.float64))
        count = times @ self.count
        mean = times @ self.total / count
        product = torch.tensordot(times, self.product, 1)
        covariance = (product - count * torch.outer(mean, mean)) / (count - 1)
        return self.origin + mean, covariance

    def distance(self, weights: np.ndarray, other: _Sums) -> float:
        """Fréchet distance to `other`, weighted alike; NaN for fewer than two embeddings."""
        times = torch.from_numpy(np.asarray(weights, dtype=np.float64))
        if min(times @ self.count, times @ other.count) < 2:
            return float("nan")
        moments = (*self.moments(weights), *other.moments(weights))
        return max(0.0, float(frechet_distance(*moments)))  # to itself rounding leaves −1e-4


def resampled_distances(
    judged: Sequence[np.ndarray], reference: Sequence[np.ndarray], groups: Sequence[object]
) -> np.ndarray:
    """`bootstrap.of_sets` of the Fréchet distance: of all recordings, then of each resampling.

    Embeddings (K, D) of the same recordings in both; groups: of each, drawn together.
    """
    sums, true = _Sums(judged), _Sums(reference)
    return bootstrap.of_sets(lambda weights: sums.distance(weights, true), groups)


def frechet_difference(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    reference: Sequence[np.ndarray],
    groups: Sequence[object],
) -> Estimate:
    """How much farther from the reference the first set is than the second, with its interval.

    Embeddings (K, D) of the same recordings in all three; groups: of each, drawn together.
    """
    pair = [resampled_distances(judged, reference, groups) for judged in (first, second)]
    return bootstrap.estimate(pair[0] - pair[1], len(groups))


def frechet(judged: Sequence[np.ndarray], reference: Sequence[np.ndarray], name: str) -> Frechet:
    """The distance of two sets of recordings, each the embeddings (K, D) of its recordings.

    The reference is halved by recordings, every second one: its halves share no recording.
    """
    everything, true = (np.concatenate(list(parts)) for parts in (judged, reference))
    halves = [list(reference[side::2]) for side in (0, 1)]
    count = [sum(len(part) for part in half) for half in halves]
    floor = float("nan")
    if min(count):
        floor = gaussian_distance(*(np.concatenate(half) for half in halves))
    return Frechet(
        name, gaussian_distance(everything, true), len(everything), len(true), floor, min(count)
    )


def stored(path: Path) -> list[np.ndarray]:
    """Embeddings that `store` kept; FileNotFoundError says how to make them again."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is gone, the records beside it are not: remove the .jsonl file there as well "
            "and run again"
        )
    with np.load(path) as parts:
        return list(parts.values())


def store(path: Path, parts: Sequence[np.ndarray]) -> None:
    """Keep the embeddings of one or several waveforms."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, *parts)
