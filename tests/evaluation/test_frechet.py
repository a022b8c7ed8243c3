"""The Fréchet distance against known Gaussians, and the embedding that ships in a package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from evaluation import frechet as embedding
from evaluation.frechet import (
    EmbeddingStore,
    Frechet,
    SpeechEmbedding,
    frechet,
    gaussian_distance,
)


def test_distance_of_known_gaussians() -> None:
    random = np.random.default_rng(0)
    a, b = random.normal(0, 1, (40000, 3)), random.normal(2, 3, (40000, 3))
    assert gaussian_distance(a, b) == pytest.approx(3 * (2**2 + (3 - 1) ** 2), rel=0.03)


def test_distance_agrees_with_the_matrix_square_root() -> None:
    random = np.random.default_rng(1)
    a = random.normal(size=(300, 6)) @ random.normal(size=(6, 6))
    b = random.normal(size=(200, 6)) @ random.normal(size=(6, 6)) + 1
    first, second = np.cov(a.T), np.cov(b.T)
    root = sqrtm(first @ second).real
    by_hand = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first + second - 2 * root)
    assert gaussian_distance(a, b) == pytest.approx(by_hand, rel=1e-6)
    assert gaussian_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert gaussian_distance(a, a + 2) == pytest.approx(6 * 4, rel=1e-6)


class Recorded:
    """An embedding that is the waveform itself, four numbers at a time."""

    NAME = "recorded"

    def __call__(self, wav: torch.Tensor, sample_rate: int) -> np.ndarray:
        return wav.view(-1, 4).numpy()


def stored(folder: Path, **rows: list[np.ndarray]) -> EmbeddingStore:
    """Keep sets of embeddings (K, 4) by row, one item for each."""
    found = EmbeddingStore(folder, Recorded())
    for row, parts in rows.items():
        for item, part in enumerate(parts):
            found.keep(row, f"song@{item}/take", [torch.from_numpy(part.ravel())], 16000)
    return found


def test_a_difference_of_distances_has_an_interval(tmp_path: Path) -> None:
    """A shift by d is d² per dimension away; the same noise in both leaves nothing to chance."""
    random = np.random.default_rng(3)
    reference = [random.normal(size=(20 + k, 4)) + random.normal(size=4) for k in range(12)]
    far, near = ([part + shift for part in reference] for shift in (2.0, 1.0))
    songs = [k // 2 for k in range(12)]
    items = [f"song@{k}/take" for k in range(12)]
    store = stored(tmp_path, true=reference, far=far, near=near)
    certain = store.differences([("far", "near")], "true", items, songs)["far - near"]
    assert (certain.value, certain.low, certain.high) == pytest.approx((12, 12, 12), rel=1e-5)
    noisy = [part + random.normal(scale=0.5, size=part.shape) for part in reference]
    other = [part + random.normal(scale=0.5, size=part.shape) for part in reference]
    store = stored(tmp_path, noisy=noisy, other=other)
    alike = store.differences([("noisy", "other")], "true", items, songs)["noisy - other"]
    assert alike.low < 0 < alike.high
    whole = [np.concatenate(parts) for parts in (noisy, other, reference)]
    by_hand = gaussian_distance(whole[0], whole[2]) - gaussian_distance(whole[1], whole[2])
    assert alike.value == pytest.approx(by_hand, abs=1e-6)


def test_too_few_have_no_distance_and_the_number_is_never_alone() -> None:
    one = np.zeros((1, 4))
    assert np.isnan(gaussian_distance(one, np.ones((9, 4))))
    random = np.random.default_rng(2)
    parts = [random.normal(size=(30, 4)) for _ in range(6)]
    found = frechet(parts[:3], parts, "named")
    assert isinstance(found, Frechet)
    assert (found.windows, found.reference_windows, found.floor_windows) == (90, 180, 90)
    shown = str(found)
    for part in ("named", "90 windows", "180", "real against real", "too few"):
        assert part in shown
    alone = frechet(parts, parts[:1], "named")
    assert np.isnan(alone.floor) and "nan" not in str(alone)
    assert "too few" in str(frechet([one], parts, "named"))


def test_embeddings_are_kept(tmp_path: Path) -> None:
    parts = [np.zeros((0, 96), np.float32), np.ones((3, 96), np.float32)]
    store = EmbeddingStore(tmp_path, lambda wav, rate: wav.numpy())
    store.keep("row", "song@0.001", [torch.from_numpy(part) for part in parts], 16000)
    found = store.parts("row", ["song@0.001"])
    assert all(np.array_equal(a, b) for a, b in zip(parts, found, strict=True))
    with pytest.raises(FileNotFoundError, match="run again"):
        store.parts("row", ["song@0.002"])
    nothing = EmbeddingStore(tmp_path / "none", None)
    nothing.keep("row", "a", [torch.zeros(4)], 16000)
    assert nothing.distances(["row"], "true", ["a"]) == {} and not nothing.folder.exists()


def test_a_judge_that_is_not_installed_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install -r requirements-evaluation\.txt"):
        SpeechEmbedding()


def test_the_embedding_hears_windows() -> None:
    pytest.importorskip("openwakeword")
    embed = SpeechEmbedding()
    noise = 0.1 * torch.randn(32000, generator=torch.Generator().manual_seed(0))
    found = embed(noise, 16000)
    assert found.shape == ((200 - 3 - 76) // 8 + 1, 96) and np.isfinite(found).all()
    np.testing.assert_array_equal(found, embed(noise, 16000))
    assert embed(noise[:4000], 16000).shape == (0, 96)
    assert embed(torch.zeros(0), 16000).shape == (0, 96)
    assert np.isfinite(embed(torch.zeros(20000), 16000)).all()
    assert embed(noise, 8000).shape[0] > found.shape[0]
