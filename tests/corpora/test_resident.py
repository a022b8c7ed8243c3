"""A corpus kept on the device gives the batches of one that is read, bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TINY, TINY_FLAGS

import prepare_data
import train_postnet
import train_transformer
from corpora import packing, stores
from corpora.stores import FeatureStore
from hyperparams import Training
from preprocess import MelLinearBatches, TextMelBatches
from training.batching import fed
from utils import checkpoint, config

torch.set_num_threads(1)
CPU = torch.device("cpu")
SCRIPTS = {"transformer": train_transformer, "postnet": train_postnet}


@pytest.fixture
def features(speech_corpus, tmp_path: Path) -> Path:
    corpus = speech_corpus(9, 16000)
    for name in ("stored", "on-the-fly"):
        shares = ["--validation-share", "0.3", "--test-share", "0.1", "--workers", "0"]
        where = ["--name", name, "--linear", name, "--feature-dir", str(tmp_path / "feature")]
        assert prepare_data.main(["ljspeech", str(corpus), *shares, *where]) == 0
    return tmp_path / "feature"


@pytest.mark.parametrize("name", ["stored", "on-the-fly", "packed"])
def test_batches_are_equal(features: Path, name: str) -> None:
    if name == "packed":
        packing.pack(FeatureStore(features / "stored"), features / name, shard_bytes=60_000)
    read, kept = FeatureStore(features / "stored"), FeatureStore(features / name)
    training = replace(TINY.transformer_training, batch_frames=200)
    batches = [TextMelBatches(s, "train", training, prefetch=0) for s in (read, kept)]
    batches[1].dataset.keep_on(CPU)
    streams = [iter(b((2, 1))) for b in batches]
    for _ in range(4):
        (a, after), (b, also_after) = map(next, streams)
        assert a.ids == b.ids and after == also_after and torch.equal(a.mel, b.mel)
    for frames in (0, 20):
        segments = replace(TINY.postnet_training, batch_size=3, segment_frames=frames)
        cut = [MelLinearBatches(s, "train", segments, prefetch=0) for s in (read, kept)]
        cut[1].dataset.keep_on(CPU)
        streams = [iter(b((1, 0))) for b in cut]
        for _ in range(4):
            (a, after), (b, also_after) = map(next, streams)
            assert a.ids == b.ids and after == also_after
            assert torch.equal(a.mel, b.mel) and torch.equal(a.linear, b.linear)


def test_nothing_of_a_spectrogram_is_on_the_host(features: Path) -> None:
    """On a device without data: what the batches hold of mels and linear ones lies there."""
    meta = torch.device("meta")
    store = FeatureStore(features / "stored")
    training = replace(TINY.postnet_training, batch_size=3, segment_frames=20)
    batches = MelLinearBatches(store, "train", training, prefetch=0)
    batches.dataset.keep_on(meta)
    batch = next(fed(batches((0, 0)), meta))
    assert batch.host.mel.device == batch.host.linear.device == meta
    assert batch.host.lengths.device == CPU and batch.host.num_frames == 60
    texts = TextMelBatches(store, "train", TINY.transformer_training, prefetch=0)
    texts.dataset.keep_on(meta)
    batch = next(fed(texts((0, 0)), meta))
    assert batch.host.mel.device == meta and batch.host.is_sung.device == CPU
    assert batch.device.is_sung.device == meta


@pytest.mark.parametrize("kind", SCRIPTS)
def test_the_weights_are_the_same(kind: str, features: Path, tmp_path: Path, monkeypatch) -> None:
    """Also when a run without it is continued with it."""
    for script in (train_transformer.TransformerExperiment, train_postnet.PostNetExperiment):
        monkeypatch.setattr(script, "preview", lambda *_: None)
    where = ["--feature-dir", str(features), "--data", "stored", "--run", "r", "--device", "cpu"]
    knobs = ["batch_size=2", "batch_frames=200", "validate_batches=1"]
    for save, steps, on_device in (("a", 3, False), ("b", 1, False), ("b", 3, True)):
        flags = ["--save-dir", str(tmp_path / save), "--steps", str(steps), *TINY_FLAGS, *where]
        for knob in [*knobs, f"corpus_on_device={str(on_device).lower()}"]:
            flags += ["--set", f"{kind}_training.{knob}"]
        assert SCRIPTS[kind].main(flags) == 0
    a, b = (checkpoint.load(tmp_path / s / kind / "r" / "last.pt", kind)["model"] for s in "ab")
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_what_cannot_be_is_refused(monkeypatch) -> None:
    with pytest.raises(ValueError, match="choose one of the two"):
        Training(corpus_on_device=True, batch_workers=2)
    for knob in ("inpainter_training", "transcriber_training"):
        with pytest.raises(ValueError, match="only transformer, PostNet"):
            config.build("base", None, [f"{knob}.corpus_on_device=true"], config.presets())
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (10_000_000_000, 0))
    cuda = torch.device("cuda")
    stores.refuse_too_large(5_000_000_000, cuda)
    with pytest.raises(ValueError, match=r"takes 7\.0 GB; cuda has 10\.0 GB free"):
        stores.refuse_too_large(7_000_000_000, cuda)
