"""Several prepared corpora as one: items, arrays, pooled statistics, refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from corpora.stores import FeatureStore, JointFeatureStore, open_features
from hyperparams import Audio, Training
from preprocess import TextMelBatches
from utils import config

SYMBOLS = ["_", "~", "AA1", "B"]
BINS = {"mel": 80, "linear": 513}


def prepared(directory: Path, lengths: list[int], scale: float, sung: bool, **changes) -> Path:
    """A corpus with honest statistics; the last item is validation."""
    random = np.random.default_rng(len(lengths))
    arrays: dict[str, list[np.ndarray]] = {kind: [] for kind in BINS}
    items = []
    for number, frames in enumerate(lengths):
        for kind, bins in BINS.items():
            (directory / kind).mkdir(parents=True, exist_ok=True)
            array = (scale * random.standard_normal((frames, bins)) + scale).astype(np.float16)
            np.save(directory / kind / f"i{number}.npy", array)
            arrays[kind].append(array)
        score = {
            **{"pitch": [60, 62, 0], "onset": [0.0, 0.1, 0.2], "offset": [0.1, 0.2, 0.3]},
            **{"position": [1, 1, 0], "slur": [0, 0, 0]},
            "notes": [[0.0, 0.1, 60], [0.1, 0.3, 62]],
        }
        split = "validation" if number + 1 == len(lengths) else "train"
        item = {"id": f"i{number}", "symbols": ["AA1", "B", "~"], "num_frames": frames}
        items.append(item | {"split": split, **({"score": score} if sung else {})})
    statistics = {}
    for kind, parts in arrays.items():
        frames = np.concatenate(parts[:-1]).astype(np.float64)
        statistics[kind] = {"mean": frames.mean(0).tolist(), "std": frames.std(0).tolist()}
    index = {
        "version": 1,
        "kind": "speech",
        "corpus": directory.name,
        "sample_rate": 16000,
        "audio": config.to_dict(Audio()),
        "symbols": SYMBOLS,
        "statistics": statistics,
        "items": items,
        **changes,
    }
    (directory / "index.json").write_text(json.dumps(index))
    return directory


def test_joint_statistics_are_those_of_all_frames(tmp_path: Path) -> None:
    prepared(tmp_path / "a", [30, 50, 20], 1.0, sung=True)
    prepared(tmp_path / "b", [90, 25], 3.0, sung=False)
    joint = open_features(tmp_path, "a,b")
    assert isinstance(joint, JointFeatureStore)
    frames = np.concatenate(
        [joint.array("mel", item["id"]) for item in joint.items("train")]
    ).astype(np.float64)
    assert len(frames) == 30 + 50 + 90
    np.testing.assert_allclose(joint.statistics["mel"]["mean"], frames.mean(0), atol=1e-6)
    np.testing.assert_allclose(joint.statistics["mel"]["std"], frames.std(0), atol=1e-6)
    ids = [item["id"] for item in joint.index["items"]]
    assert ids == ["a/i0", "a/i1", "a/i2", "b/i0", "b/i1"]
    alone = FeatureStore(tmp_path / "b").array("linear", "i1")
    assert np.array_equal(joint.array("linear", "b/i1"), alone)
    assert joint.pitch_range() == [60, 62]
    assert FeatureStore(tmp_path / "b").for_checkpoint()["pitch_range"] is None
    assert joint.for_checkpoint()["corpus"] == "a + b"


def test_a_batch_may_mix_song_and_speech(tmp_path: Path) -> None:
    prepared(tmp_path / "a", [30, 31, 20], 1.0, sung=True)
    prepared(tmp_path / "b", [30, 32, 25], 3.0, sung=False)
    joint = open_features(tmp_path, "a,b")
    training = Training(batch_frames=1000, batch_size=8)
    (batch,) = TextMelBatches(joint, "train", training, prefetch=0).head(1)
    sung = torch.tensor([id.startswith("a/") for id in batch.ids])
    assert sung.any() and not sung.all()
    assert torch.equal(batch.score.interval.amax(dim=(1, 2)) > 0, sung)
    assert (batch.score.frame_pitch[~sung] == 0).all()


def test_corpora_that_do_not_match_are_refused(tmp_path: Path) -> None:
    prepared(tmp_path / "a", [30, 20], 1.0, sung=True)
    prepared(tmp_path / "b", [30, 20], 1.0, sung=False, symbols=[*SYMBOLS, "IY1"])
    with pytest.raises(ValueError, match="differ in symbols"):
        open_features(tmp_path, "a,b")
    for names in ("a,a", ","):
        with pytest.raises(ValueError, match="expected one name"):
            open_features(tmp_path, names)
    with pytest.raises(FileNotFoundError):
        open_features(tmp_path, "a,nowhere")
