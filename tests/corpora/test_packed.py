"""A packed corpus gives the batches of the corpus it was made from, without loading its index."""

from __future__ import annotations

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY

import prepare_data
from corpora import packed, packing
from corpora.phoneme_times import write_phoneme_times
from corpora.stores import FeatureStore
from preprocess import MelLinearBatches, TextMelBatches, TextMelDataset


@pytest.fixture
def store(speech_corpus, tmp_path: Path) -> FeatureStore:
    shares = ["--validation-share", "0.3", "--test-share", "0.1", "--workers", "0"]
    where = ["--feature-dir", str(tmp_path / "feature")]
    corpus = str(speech_corpus(11))
    assert prepare_data.main(["ljspeech", corpus, "--name", "x", *shares, *where]) == 0
    made = FeatureStore(tmp_path / "feature" / "x")
    items = made.index["items"][::2]
    times = {
        item["id"]: {
            "onset": [0.1 * k for k in range(n)],
            "offset": [0.1 * k for k in range(1, n + 1)],
        }
        for item in items
        if (n := len(item["symbols"]))
    }
    write_phoneme_times(made.directory, times)
    return made


def test_batches_are_equal_from_any_position(store: FeatureStore, tmp_path: Path) -> None:
    writer = packing.pack(store, tmp_path / "packed", shard_bytes=120_000)
    assert writer.file > 1  # arrays in several files
    other = FeatureStore(tmp_path / "packed")
    assert list(other.index["items"]) == [
        {**item, **({"phoneme_times": t} if (t := store.phoneme_times().get(item["id"])) else {})}
        for item in store.index["items"]
    ]
    assert other.for_checkpoint() == store.for_checkpoint()
    training = replace(TINY.transformer_training, batch_frames=200)
    kinds = [TextMelDataset(s, "train").timed_kinds() for s in (store, other)]
    assert kinds[0] == kinds[1] == {False}
    for position in ((0, 0), (3, 1)):
        streams = [
            TextMelBatches(s, "train", training, prefetch=0)(position) for s in (store, other)
        ]
        for _ in range(6):
            (a, after), (b, also_after) = map(next, streams)
            assert a.ids == b.ids and after == also_after
            for name in ("symbols", "mel", "mel_lengths", "phoneme_times"):
                assert torch.equal(getattr(a, name), getattr(b, name)), name
    segments = replace(TINY.postnet_training, batch_size=3, segment_frames=20)
    streams = [MelLinearBatches(s, "train", segments, prefetch=0)((1, 0)) for s in (store, other)]
    for _ in range(3):
        (a, _), (b, _) = map(next, streams)
        assert torch.equal(a.mel, b.mel) and torch.equal(a.linear, b.linear)


def test_files_are_plain_arrays_and_few(store: FeatureStore, tmp_path: Path, capsys) -> None:
    where = ["--feature-dir", str(tmp_path / "feature")]
    assert prepare_data.main(["pack", "x", *where]) == 0
    assert "train with --data x-packed" in capsys.readouterr().out
    folder = tmp_path / "feature" / "x-packed"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["items.jsonl", "items.npy", "linear.00000.npy", "mel.00000.npy", "packed.json"]
    whole = np.load(folder / "mel.00000.npy")
    assert whole.shape == (sum(i["num_frames"] for i in store.index["items"]), 80)
    assert prepare_data.main(["check", "x-packed", *where]) == 0
    assert prepare_data.main(["pack", "x", *where]) == 1  # never over another
    assert "delete that folder first" in capsys.readouterr().err


def test_damage_is_found_and_named(store: FeatureStore, tmp_path: Path, capsys) -> None:
    folder = tmp_path / "feature" / "p"
    packing.pack(store, folder)
    where = ["--feature-dir", str(tmp_path / "feature")]
    content = bytearray((folder / "mel.00000.npy").read_bytes())
    content[5000] ^= 1
    (folder / "mel.00000.npy").write_bytes(content)
    assert prepare_data.main(["check", "p", *where]) == 1
    assert "mel.00000.npy has another checksum" in capsys.readouterr().out
    with open(folder / "linear.00000.npy", "ab") as file:
        file.truncate(3000)
    with pytest.raises(ValueError, match=r"linear\.00000\.npy: 3000 bytes, expected"):
        FeatureStore(folder)
    (folder / "packed.json").write_text(json.dumps({"kind": "speech"}))
    with pytest.raises(ValueError, match=r"packed\.json"):
        FeatureStore(folder)


def test_an_item_is_read_when_it_is_asked_for(
    store: FeatureStore, tmp_path: Path, monkeypatch
) -> None:
    packing.pack(store, tmp_path / "packed")
    read: list[int] = []
    one = packed.PackedTable.item

    def counted(self, number: int):
        read.append(number)
        return one(self, number)

    monkeypatch.setattr(packed.PackedTable, "item", counted)
    other = FeatureStore(tmp_path / "packed")
    training = replace(TINY.transformer_training, batch_frames=100, batch_size=1)
    batches = TextMelBatches(other, "train", training, prefetch=0)
    assert not read
    next(batches((0, 0)))
    assert 1 <= len(set(read)) <= 1
    with pytest.raises(KeyError):
        other.index["items"].table.number_of("nobody")


def test_nothing_is_mapped_and_few_files_are_open(
    store: FeatureStore, tmp_path: Path, monkeypatch
) -> None:
    """The memory of a process does not grow with what it has read of a corpus."""
    monkeypatch.setattr(packed, "MOST_OPEN", 3)
    writer = packing.pack(store, tmp_path / "packed", shard_bytes=60_000)
    assert writer.file > 4
    other = FeatureStore(tmp_path / "packed")
    training = replace(TINY.transformer_training, batch_frames=200)
    stream = TextMelBatches(other, "train", training, prefetch=0)((0, 0))
    for _ in range(8):
        next(stream)
    items = other.index["items"]
    assert isinstance(items, packed.PackedItems)
    assert len(items.table.files._open) == 3
    assert items.table._by_hash is None  # an item's number is known when its arrays are read
    maps = Path("/proc/self/maps")
    if maps.is_file():
        assert str(tmp_path / "packed") not in maps.read_text()
    # Another process opens its own.
    copy = pickle.loads(pickle.dumps(other))
    assert not copy.index["items"].table.files._open
    id = items[0]["id"]
    assert np.array_equal(copy.array("mel", id), store.array("mel", id))


def test_parts_of_files_are_read_by_threads(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(packed, "MOST_OPEN", 1)
    arrays = [np.arange(600).reshape(100, 6) + 1000 * k for k in range(4)]
    for number, array in enumerate(arrays):
        np.save(tmp_path / f"{number}.npy", array)
    files = packed.OpenFiles()
    opened = [packed.ArrayFile(files, tmp_path / f"{number}.npy") for number in range(4)]

    def read(place: int) -> bool:
        number, start = place % 4, place % 90
        return bool(
            (opened[number].read(start, start + 7) == arrays[number][start : start + 7]).all()
        )

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(read, range(400)))
    assert opened[0].read(5, 5).shape == (0, 6)
    with pytest.raises(ValueError, match=r"0\.npy ends"):
        opened[0].read(99, 101)
    monkeypatch.delattr(packed.os, "pread")
    assert all(map(read, range(40)))


def test_voices_are_known_without_reading_the_items(
    speech_corpus, tmp_path: Path, monkeypatch
) -> None:
    shares = ["--validation-share", "0.3", "--test-share", "0.1", "--workers", "0"]
    where = ["--feature-dir", str(tmp_path / "feature")]
    command = ["ljspeech", str(speech_corpus(6)), "--name", "x", *shares, *where]
    assert prepare_data.main(command) == 0
    made = FeatureStore(tmp_path / "feature" / "x")
    for number, item in enumerate(made.index["items"]):
        item["voice"] = ("ann", "bob")[number % 2]
    packing.pack(made, tmp_path / "packed")
    other = FeatureStore(tmp_path / "packed")
    monkeypatch.setattr(packed.PackedTable, "item", None)
    assert other.voices() == made.voices() == ["ann", "bob"]
