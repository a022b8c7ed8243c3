"""A prepared speech corpus in few large files, read without loading its index.

    python prepare_data.py pack NAME     # feature/NAME → feature/NAME-packed

    packed.json           the index without its items; sizes and checksums of all files
    mel.00000.npy …       the arrays of many items, one behind the other, (frames, bins) float16
    items.jsonl           the items of the index, one a line, with their phoneme times
    items.npy             a row for each item: ROW

All but packed.json is mapped into memory: opening a million items reads a few kilobytes, and an
item costs the pages that it lies on. Two files an item and 1.6 kB of JSON in memory become some
hundred files for 10,000 hours.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from tqdm import tqdm

from corpora.records import SPLITS
from utils.files import reading, sha256_of

PACKED, ITEMS, ROWS = "packed.json", "items.jsonl", "items.npy"
PACK_VERSION = 1
ROW = np.dtype(
    [
        ("id_hash", "<u8"),  # first 8 bytes of the SHA-256 of the id
        ("line", "<i8"),  # byte of items.jsonl at which the item's line begins
        ("line_bytes", "<i4"),
        ("num_frames", "<i4"),
        ("split", "<u1"),  # number in SPLITS
        ("sung", "<u1"),  # has a score
        ("timed", "<u1"),  # has phoneme times
        ("file", "<u2"),  # number of the file of arrays, the same for all kinds
        ("first_frame", "<i8"),  # in that file
    ]
)


def id_hash(id: str) -> int:
    """Return the number that stands for an id."""
    return int.from_bytes(hashlib.sha256(id.encode()).digest()[:8], "little")


class PackedItems(Sequence[dict[str, Any]]):
    """The items of a packed corpus, or some of them, each read when it is asked for."""

    def __init__(self, directory: Path, numbers: np.ndarray | None = None) -> None:
        self.directory = Path(directory)
        with reading(self.directory / ROWS):
            self.rows = np.load(self.directory / ROWS, mmap_mode="r")
            self._lines = np.memmap(self.directory / ITEMS, dtype=np.uint8, mode="r")
        self.numbers = np.arange(len(self.rows)) if numbers is None else numbers
        self._by_hash: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.numbers)

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        """Read an item, or a list of them."""
        if isinstance(place, slice):
            return [self._read(number) for number in self.numbers[place].tolist()]
        return self._read(int(self.numbers[place]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read the items one by one."""
        return map(self._read, self.numbers.tolist())

    def _read(self, number: int) -> dict[str, Any]:
        row = self.rows[number]
        line = self._lines[row["line"] : row["line"] + row["line_bytes"]]
        with reading(self.directory / ITEMS):
            return json.loads(line.tobytes())

    def of_split(self, split: str) -> PackedItems:
        """Return the items of a split."""
        chosen = self.rows["split"][self.numbers] == SPLITS.index(split)
        return PackedItems(self.directory, self.numbers[np.flatnonzero(chosen)])

    def column(self, name: str) -> np.ndarray:
        """Return a field of ROW of all items, without reading one."""
        return self.rows[name][self.numbers]

    def number_of(self, id: str) -> int:
        """Return the number of an item; KeyError for an id that is not there."""
        if self._by_hash is None:
            hashes = np.asarray(self.rows["id_hash"])
            order = np.argsort(hashes, kind="stable")
            self._by_hash = hashes[order], order
        hashes, order = self._by_hash
        wanted = np.uint64(id_hash(id))
        place = int(np.searchsorted(hashes, wanted))
        while place < len(hashes) and hashes[place] == wanted:
            number = int(order[place])
            if self._read(number)["id"] == id:
                return number
            place += 1
        raise KeyError(id)


class PackedArrays:
    """The arrays of one kind of a packed corpus, (T, C) float16 by memory map."""

    def __init__(self, items: PackedItems, kind: str) -> None:
        self.items, self.kind = items, kind
        self._files: dict[int, np.ndarray] = {}

    def of(self, id: str) -> np.ndarray:
        """Return the array of an item."""
        row = self.items.rows[self.items.number_of(id)]
        number, first = int(row["file"]), int(row["first_frame"])
        if number not in self._files:
            path = self.items.directory / shard_name(self.kind, number)
            self._files[number] = np.load(path, mmap_mode="r")
        return self._files[number][first : first + int(row["num_frames"])]


class PackedEntries(Mapping[str, dict[str, Any]]):
    """The items of a packed corpus by id, each read when it is asked for."""

    def __init__(self, entries: PackedItems) -> None:
        self.entries = entries

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.entries.rows)

    def __iter__(self) -> Iterator[str]:
        """Yield the ids."""
        return (item["id"] for item in self.entries)

    def __getitem__(self, id: str) -> dict[str, Any]:
        """Return an item; KeyError for an id that is not there."""
        return self.entries._read(self.entries.number_of(id))


class PackedTimes(Mapping[str, dict[str, list[float]]]):
    """The phoneme times of a packed corpus, {id: {onset, offset}}, read when asked for."""

    def __init__(self, entries: PackedItems) -> None:
        self.entries = entries
        self.count = int(np.count_nonzero(entries.rows["timed"]))

    def __len__(self) -> int:
        """Return the number of items with times."""
        return self.count

    def __iter__(self) -> Iterator[str]:
        """Yield the ids of the items with times."""
        numbers = np.flatnonzero(np.asarray(self.entries.rows["timed"]))
        return (self.entries._read(int(number))["id"] for number in numbers)

    def __getitem__(self, id: str) -> dict[str, list[float]]:
        """Return the times of an item; KeyError where it has none."""
        return self.entries._read(self.entries.number_of(id))["phoneme_times"]


def shard_name(kind: str, number: int) -> str:
    """Return the name of a file of arrays."""
    return f"{kind}.{number:05d}.npy"


def read_packed(directory: Path) -> dict[str, Any]:
    """Return the index of a packed corpus; its `items` are read one by one when asked for."""
    path = Path(directory) / PACKED
    with reading(path):
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["pack_version"] != PACK_VERSION:
            raise ValueError(f"{path}: version {index['pack_version']}, expected {PACK_VERSION}")
        for name, entry in index["files"].items():
            size = (path.parent / name).stat().st_size
            if size != entry["bytes"]:
                raise ValueError(f"{path.parent / name}: {size} bytes, expected {entry['bytes']}")
    return {**index, "items": PackedItems(directory)}


def check_packed(directory: Path) -> list[str]:
    """Compare the checksums of all files with those of their making; returns the problems."""
    files = read_packed(directory)["files"].items()
    return [
        f"{name} has another checksum than when it was written"
        for name, entry in tqdm(files, desc=f"checking {directory.name}", unit="file")
        if sha256_of(directory / name) != entry["sha256"]
    ]
