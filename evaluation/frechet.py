"""Fréchet distance between two sets of recordings, on an embedding that ships in a package.

The distance of small sets is biased upwards: it is never reported without the embedding's name, the
number of windows, and the distance between two halves of the true set.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from evaluation import statistics
from evaluation.statistics import Estimate
from utils.audio import resample
from utils.audio_functional import frechet_distance

RATE = 16000  # Hz, of the embedding's own mel
WINDOW, STEP = 76, 8  # mel frames of 10 ms per embedding, and from one to the next
WIDTH = 96  # numbers of one embedding
FEW = 10 * WIDTH  # windows: a covariance of 96 dimensions from fewer is hardly determined
INSTALL = "pip install -r requirements-evaluation.txt"


class SpeechEmbedding:
    """Google's speech embedding (Lin et al. 2020, 2002.01322) as packaged in openwakeword 0.4.0.

    96 dimensions per window of 0.76 s, one each 80 ms, of a network trained to tell words apart.
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
        """Embed wav (S,): (K, 96), K = 0 for one shorter than a window."""
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
    """A distance, the windows of both sets, and the floor: one half of the truth to the other."""

    embedding: str
    value: float
    windows: int  # of the set that is judged
    reference_windows: int
    floor: float  # between halves of the reference, each of half its windows
    floor_windows: int

    def __str__(self) -> str:
        if math.isnan(self.value):
            return (
                f"Fréchet distance not measured: {self.windows} windows against "
                f"{self.reference_windows} are too few"
            )
        few = min(self.windows, self.reference_windows, self.floor_windows) < FEW
        floor = "unknown" if math.isnan(self.floor) else f"{self.floor:.2f}"
        return (
            f"Fréchet distance {self.value:.2f} ({self.windows} windows against "
            f"{self.reference_windows}), real against real {floor} "
            f"({self.floor_windows} windows{'; too few to rely on' if few else ''}); "
            f"{self.embedding}"
        )


def gaussian_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Measure the distance of Gaussians fitted to two sets (K, D); NaN for fewer than two vectors.

    |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 √(Σ₁Σ₂)) (Dowson & Landau 1982).
    """
    everything = np.ones(1)
    return _Sums([first]).distance(everything, _Sums([second]))


class _Sums:
    """Counts, sums and products of the embeddings of recordings: moments of any subset."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        """Sum over parts: (K, D) of each recording."""
        values = [torch.from_numpy(np.asarray(part, dtype=np.float64)) for part in parts]
        # The origin is the mean of all: products of what is far from it would lose digits.
        self.origin = torch.cat(values).mean(0)
        values = [part - self.origin for part in values]
        self.count = torch.tensor([len(part) for part in values], dtype=torch.float64)
        self.total = torch.stack([part.sum(0) for part in values])  # (R, D)
        self.product = torch.stack([part.T @ part for part in values])  # (R, D, D)

    def moments(self, weights: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return mean (D,) and covariance (D, D), recording i counted weights[i] times."""
        times = torch.from_numpy(np.asarray(weights, dtype=np.float64))
        count = times @ self.count
        mean = times @ self.total / count
        product = torch.tensordot(times, self.product, 1)
        covariance = (product - count * torch.outer(mean, mean)) / (count - 1)
        return self.origin + mean, covariance

    def distance(self, weights: np.ndarray, other: _Sums) -> float:
        """Measure the distance to `other`, weighted alike; NaN for fewer than two embeddings."""
        times = torch.from_numpy(np.asarray(weights, dtype=np.float64))
        if min(times @ self.count, times @ other.count) < 2:
            return float("nan")
        moments = (*self.moments(weights), *other.moments(weights))
        return max(0.0, float(frechet_distance(*moments)))  # to itself rounding leaves −1e-4


def resampled_distances(judged: _Sums, reference: _Sums, groups: Sequence[object]) -> np.ndarray:
    """Measure the distance of the same recordings in two sets, then of each resampling of them.

    groups: of each recording, drawn together. Returns (1 + RESAMPLINGS,), see `of_sets`.
    """
    return statistics.of_sets(lambda weights: judged.distance(weights, reference), groups)


def frechet(judged: Sequence[np.ndarray], reference: Sequence[np.ndarray], name: str) -> Frechet:
    """Measure the distance of two sets of recordings, each the embeddings (K, D) of its recordings.

    The reference is halved by recordings, every second one: its halves share no recording.
    """
    everything, true = (np.concatenate(list(parts)) for parts in (judged, reference))
    halves = [list(reference[side::2]) for side in (0, 1)]
    count = [sum(len(part) for part in half) for half in halves]
    floor = float("nan")
    if min(count):
        first, second = (np.concatenate(half) for half in halves)
        floor = gaussian_distance(first, second)
    return Frechet(
        name, gaussian_distance(everything, true), len(everything), len(true), floor, min(count)
    )


class EmbeddingStore:
    """Embeddings of rendered items below a folder, ROW/ITEM.npz, and distances between rows.

    They are too large for the records of an evaluation, which they belong to. Without an embedding
    nothing is kept and there are no distances.
    """

    def __init__(self, folder: Path, embedding: SpeechEmbedding | None) -> None:
        self.folder, self.embedding = folder, embedding

    def keep(self, row: str, item: str, wavs: Sequence[Tensor], sample_rate: int) -> None:
        """Embed the waveforms (S,) of an item."""
        if self.embedding is not None:
            path = self._path(row, item)
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(path, *(self.embedding(wav, sample_rate) for wav in wavs))

    def parts(self, row: str, items: Sequence[str]) -> list[np.ndarray]:
        """Return the embeddings (K, D) of each waveform; FileNotFoundError if they were removed."""
        found: list[np.ndarray] = []
        for path in (self._path(row, item) for item in items):
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is gone, the records beside its folder are not: remove the .jsonl "
                    "file there as well and run again"
                )
            with np.load(path) as arrays:
                found += arrays.values()
        return found

    def distances(
        self, rows: Iterable[str], target: str, items: Sequence[str]
    ) -> dict[str, Frechet]:
        """Measure the distance of each row to the target row."""
        if self.embedding is None:
            return {}
        true, name = self.parts(target, items), self.embedding.NAME
        return {row: frechet(self.parts(row, items), true, name) for row in rows if row != target}

    def differences(
        self,
        pairs: Sequence[tuple[str, str]],
        target: str,
        items: Sequence[str],
        groups: Sequence[object],
    ) -> dict[str, Estimate]:
        """Estimate `first - second`: how much farther the first row of a pair is from the target.

        groups: of each waveform, resampled together.
        """
        if self.embedding is None:
            return {}
        true = _Sums(self.parts(target, items))
        distances = {  # a row may be in several pairs, and takes seconds
            row: resampled_distances(_Sums(self.parts(row, items)), true, groups)
            for row in {row for pair in pairs for row in pair}
        }
        return {
            f"{first} - {second}": statistics.estimate(
                distances[first] - distances[second], len(groups)
            )
            for first, second in pairs
        }

    def _path(self, row: str, item: str) -> Path:
        return self.folder / row / f"{item.replace('/', '_')}.npz"
