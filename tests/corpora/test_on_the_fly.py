"""Linear spectrograms made of the cached waveform equal those that would have been stored."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import TINY, TINY_FLAGS

import prepare_data
import train_postnet
from corpora import packing
from corpora.stores import F0, FeatureStore, JointFeatureStore
from preprocess import MelLinearBatches, MelWavBatches
from utils import checkpoint
from utils.audio import Features, read_wav, write_wav

torch.set_num_threads(1)
SHARES = ("--validation-share", "0.3", "--test-share", "0.1")


@pytest.fixture
def stores(tmp_path: Path, speech_corpus, prepare) -> tuple[FeatureStore, FeatureStore]:
    """The same recordings of 16 bits at 16 kHz, stored and on the fly."""
    corpus = speech_corpus(11, 16000)
    for name in ("stored", "on-the-fly"):
        assert prepare("ljspeech", corpus, "--name", name, "--linear", name, *SHARES) == 0
    stored, made = (FeatureStore(tmp_path / "feature" / n) for n in ("stored", "on-the-fly"))
    return stored, made


def assert_same_batches(a: FeatureStore, b: FeatureStore, segment_frames: int) -> None:
    training = replace(TINY.postnet_training, batch_size=3, segment_frames=segment_frames)
    streams = [MelLinearBatches(s, "train", training, prefetch=0)((1, 0)) for s in (a, b)]
    for _ in range(4):
        (left, after), (right, also_after) = map(next, streams)
        assert left.ids == right.ids and after == also_after
        assert torch.equal(left.mel, right.mel) and torch.equal(left.linear, right.linear)


def test_everything_is_equal_bit_by_bit(stores, tmp_path: Path, prepare) -> None:
    stored, made = stores
    assert made.index["linear"] == "on-the-fly" and "linear" not in stored.index
    assert made.statistics == stored.statistics
    assert not (made.directory / "linear").exists() and not (stored.directory / "wav").exists()
    for item in made.index["items"][::4]:
        whole = stored.array("linear", item["id"])
        assert np.array_equal(made.array("linear", item["id"]), whole)
        for start in range(len(whole)):  # also where the window hangs over an end
            for length in (1, 2, 7):
                rows = made.rows("linear", item["id"], start, start + length)
                assert np.array_equal(rows, whole[start : start + length])
    for frames in (0, 1, 20):
        assert_same_batches(stored, made, frames)
    assert prepare("check", "on-the-fly") == 0
    packing.pack(made, tmp_path / "packed", shard_bytes=60_000)
    packed = FeatureStore(tmp_path / "packed")
    names = {path.name.split(".")[0] for path in (tmp_path / "packed").glob("*.npy")}
    assert names == {"items", "mel", "wav"}
    assert_same_batches(stored, packed, 20)
    both = JointFeatureStore([stored.directory, made.directory])
    id = made.index["items"][0]["id"]
    pair = [both.array("linear", f"{name}/{id}") for name in ("stored", "on-the-fly")]
    assert np.array_equal(*pair)


def test_other_recordings_are_those_of_16_bits(tmp_path: Path, speech_corpus, prepare) -> None:
    """22.05 kHz on the fly = the same resampled to files of 16 bits, stored."""
    corpus, rounded = speech_corpus(6), tmp_path / "rounded"
    (rounded / "wavs").mkdir(parents=True)
    (rounded / "metadata.csv").write_bytes((corpus / "metadata.csv").read_bytes())
    for path in (corpus / "wavs").glob("*.wav"):
        write_wav(rounded / "wavs" / path.name, read_wav(path, 16000)[0], 16000)
    made = ("--name", "made", "--linear", "on-the-fly", *SHARES)
    assert prepare("ljspeech", corpus, *made) == 0
    assert prepare("ljspeech", rounded, "--name", "stored", *SHARES) == 0
    a, b = (FeatureStore(tmp_path / "feature" / name) for name in ("stored", "made"))
    assert a.statistics == b.statistics
    assert_same_batches(a, b, 20)
    # In shards; and kept, with equal statistics, by a second build.
    index = (tmp_path / "feature" / "made" / "index.json").read_bytes()
    assert prepare("ljspeech", corpus, *made) == 0
    assert (tmp_path / "feature" / "made" / "index.json").read_bytes() == index
    for shard in ("1/2", "2/2"):
        flags = ("--name", "parts", "--linear", "on-the-fly", *SHARES, "--shard", shard)
        assert prepare("ljspeech", corpus, *flags) == 0
    assert prepare_data.main(["merge", "parts", "--feature-dir", str(tmp_path / "feature")]) == 0
    assert (tmp_path / "feature" / "parts" / "index.json").read_bytes() == index


def test_a_changed_mind_leaves_nothing_behind(
    tmp_path: Path, speech_corpus, prepare, capsys
) -> None:
    corpus, directory = speech_corpus(6), tmp_path / "feature" / "x"
    assert prepare("ljspeech", corpus, "--name", "x", *SHARES) == 0
    kept = {path: path.read_bytes() for path in directory.rglob("*.npy")}
    assert prepare("ljspeech", corpus, "--name", "x", "--linear", "on-the-fly", *SHARES) == 0
    assert "6 made, 0 kept" in capsys.readouterr().out
    assert not list((directory / "linear").glob("*")) and prepare("check", "x") == 0
    rows = np.load(next((directory / "wav").glob("*.npy")))
    assert rows.dtype == np.int16 and rows.shape[1] == 256
    damaged = next((directory / "wav").glob("*.npy"))
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x01")
    assert prepare("check", "x") == 1
    assert f"wav/{damaged.name} has another checksum" in capsys.readouterr().out
    assert prepare("ljspeech", corpus, "--name", "x", *SHARES) == 0
    assert {path: path.read_bytes() for path in directory.rglob("*.npy")} == kept


def test_a_postnet_learns_the_same_and_goes_on(stores, tmp_path: Path, monkeypatch) -> None:
    """Stored = on the fly = on the fly, stopped and resumed: the weights are identical."""
    monkeypatch.setattr(train_postnet.PostNetExperiment, "preview", lambda *_: None)
    where = ["--feature-dir", str(tmp_path / "feature"), "--device", "cpu", *TINY_FLAGS]
    where += ["--run", "r"]
    for knob in ("batch_size=2", "segment_frames=16", "validate_batches=1"):
        where += ["--set", f"postnet_training.{knob}"]
    for save, name, steps in (
        ("one", "stored", 3),
        ("two", "on-the-fly", 1),
        ("two", "on-the-fly", 3),
    ):
        flags = ["--data", name, "--save-dir", str(tmp_path / save), "--steps", str(steps)]
        assert train_postnet.main([*flags, *where]) == 0
    a, b = (checkpoint.load(tmp_path / s / "postnet/r/last.pt", "postnet") for s in ("one", "two"))
    assert a["step"] == b["step"] == 3
    assert all(torch.equal(a["model"][name], b["model"][name]) for name in a["model"])


def test_a_soundless_end_is_zeros(tmp_path: Path, speech_corpus, prepare) -> None:
    corpus = speech_corpus(6, 16000)
    wav, _ = soundfile.read(corpus / "wavs" / "item-002.wav")
    soundfile.write(corpus / "wavs" / "item-002.wav", wav[: 256 * 40], 16000)  # a whole hop
    assert prepare("ljspeech", corpus, "--name", "x", "--linear", "on-the-fly", *SHARES) == 0
    rows = np.load(tmp_path / "feature" / "x" / "wav" / "item-002.npy")
    items = json.loads((tmp_path / "feature" / "x" / "index.json").read_text())["items"]
    assert rows.shape == (41, 256) and not rows[40].any()
    assert next(i for i in items if i["id"] == "item-002")["num_samples"] == 256 * 40


def test_segments_of_waveforms_lie_under_their_mels(stores, tmp_path: Path) -> None:
    _, made = stores
    made.elsewhere[F0] = tmp_path / "f0"
    made.elsewhere[F0].mkdir()
    for item in made.items("train"):  # 1, 2, 3 ... Hz: the frame that a segment begins with
        frames = np.arange(1, item["num_frames"] + 1, dtype=np.float32)
        np.save(made.elsewhere[F0] / f"{item['id']}.npy", frames[:, None])
    training = replace(TINY.postnet_training, batch_size=3, segment_frames=20)
    batches = MelWavBatches(made, "train", training, prefetch=0)((1, 0))
    features, edge = Features(TINY.audio), 2  # frames whose window hangs over a cut
    for _ in range(4):
        batch, _ = next(batches)
        heard = features.mel(batch.wav)
        assert batch.mel.shape == heard.shape
        assert torch.allclose(heard[:, edge:-edge], batch.mel[:, edge:-edge], atol=0.02)
        assert (batch.f0.diff(dim=1) == 1).all()
