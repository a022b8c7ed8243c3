"""A prepared speech corpus in few large files, read without loading its index.

    python prepare_data.py pack NAME     # feature/NAME → feature/NAME-packed

    packed.json           the index without its items; sizes and checksums of all files
    mel.00000.npy …       the arrays of many items, one behind the other, (frames, bins)
    items.jsonl           the items of the index, one a line, with their phoneme times
    items.npy             a row for each item: ROW

All but packed.json is read where it is wanted: opening a million items reads a few kilobytes, and
an item costs its row, its line and its frames. Two files an item and 1.6 kB of JSON in memory
become some hundred files for 10,000 hours.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
from tqdm import tqdm

from corpora.records import SPLITS
from utils.files import reading, sha256_of

PACKED, ITEMS, ROWS = "packed.json", "items.jsonl", "items.npy"
PACK_VERSION = 1
BLOCK = 1 << 15  # rows read at a time for a column
RECENT = 1 << 12  # items whose numbers are remembered
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


class PackedTable:
    """The rows and lines of a packed corpus, each read when it is asked for.

    Read, not mapped: what has been looked at stays in the system's cache and not in this process,
    whose memory does not grow with the corpus.
    """

    def __init__(self, directory: Path) -> None:
        self.directory, self.files = Path(directory), OpenFiles()
        with reading(self.directory / ROWS):
            self._rows = ArrayFile(self.files, self.directory / ROWS)
            if self._rows.dtype != ROW:
                raise ValueError(f"{self.directory / ROWS}: rows of {self._rows.dtype}")
        self._recent: dict[str, int] = {}  # id → number: an item is read before its arrays
        self._by_hash: tuple[np.ndarray, np.ndarray] | None = None

    def __len__(self) -> int:
        """Return the number of items."""
        return self._rows.length

    def row(self, number: int) -> np.void:
        """Read the row of an item."""
        return self._rows.read(number, number + 1)[0]

    def column(self, name: str) -> np.ndarray:
        """Read a field of ROW of all items."""
        found = np.empty(len(self), dtype=ROW[name])
        for start in range(0, len(self), BLOCK):
            rows = self._rows.read(start, min(start + BLOCK, len(self)))
            found[start : start + BLOCK] = rows[name]
        return found

    def item(self, number: int) -> dict[str, Any]:
        """Read an item."""
        row = self.row(number)
        path = self.directory / ITEMS
        with reading(path):
            line = self.files.read(path, int(row["line"]), int(row["line_bytes"]))
            item: dict[str, Any] = json.loads(line)
            if len(self._recent) >= RECENT:
                self._recent.clear()
            self._recent[item["id"]] = number
            return item

    def number_of(self, id: str) -> int:
        """Return the number of an item; KeyError for an id that is not there."""
        if (known := self._recent.get(id)) is not None:
            return known
        if self._by_hash is None:
            hashes = self.column("id_hash")
            order = np.argsort(hashes, kind="stable")
            self._by_hash = hashes[order], order
        hashes, order = self._by_hash
        wanted = np.uint64(id_hash(id))
        place = int(np.searchsorted(hashes, wanted))
        while place < len(hashes) and hashes[place] == wanted:
            number = int(order[place])
            if self.item(number)["id"] == id:
                return number
            place += 1
        raise KeyError(id)


class PackedItems(Sequence[dict[str, Any]]):
    """The items of a packed corpus, or some of them, each read when it is asked for."""

    def __init__(self, table: PackedTable, numbers: np.ndarray | None = None) -> None:
        self.table = table
        self.numbers = np.arange(len(table)) if numbers is None else numbers

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
            return [self.table.item(number) for number in self.numbers[place].tolist()]
        return self.table.item(int(self.numbers[place]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Read the items one by one."""
        return (self.table.item(int(number)) for number in self.numbers)

    def of_split(self, split: str) -> PackedItems:
        """Return the items of a split."""
        return PackedItems(
            self.table, self.numbers[np.flatnonzero(self.column("split") == SPLITS.index(split))]
        )

    def column(self, name: str) -> np.ndarray:
        """Return a field of ROW of all items, without reading one."""
        return self.table.column(name)[self.numbers]


class PackedArrays:
    """The arrays of one kind of a packed corpus, (T, C)."""

    def __init__(self, table: PackedTable, kind: str) -> None:
        self.table, self.kind = table, kind
        self._files: dict[int, ArrayFile] = {}

    def of(self, id: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read rows start … stop of the array of an item."""
        row = self.table.row(self.table.number_of(id))
        number, first, frames = int(row["file"]), int(row["first_frame"]), int(row["num_frames"])
        if number not in self._files:
            path = self.table.directory / shard_name(self.kind, number)
            self._files[number] = ArrayFile(self.table.files, path)
        stop = frames if stop is None else min(stop, frames)
        return self._files[number].read(first + start, first + max(start, stop))


class PackedEntries(Mapping[str, dict[str, Any]]):
    """The items of a packed corpus by id, each read when it is asked for."""

    def __init__(self, table: PackedTable) -> None:
        self.table = table

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.table)

    def __iter__(self) -> Iterator[str]:
        """Yield the ids."""
        return (item["id"] for item in PackedItems(self.table))

    def __getitem__(self, id: str) -> dict[str, Any]:
        """Return an item; KeyError for an id that is not there."""
        return self.table.item(self.table.number_of(id))


class PackedTimes(Mapping[str, dict[str, list[float]]]):
    """The phoneme times of a packed corpus, {id: {onset, offset}}, read when asked for."""

    def __init__(self, table: PackedTable) -> None:
        self.table = table
        self.count = int(np.count_nonzero(table.column("timed")))

    def __len__(self) -> int:
        """Return the number of items with times."""
        return self.count

    def __iter__(self) -> Iterator[str]:
        """Yield the ids of the items with times."""
        numbers = np.flatnonzero(self.table.column("timed"))
        return (self.table.item(int(number))["id"] for number in numbers)

    def __getitem__(self, id: str) -> dict[str, list[float]]:
        """Return the times of an item; KeyError where it has none."""
        return self.table.item(self.table.number_of(id))["phoneme_times"]


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
    return {**index, "items": PackedItems(PackedTable(directory))}


def check_packed(directory: Path) -> list[str]:
    """Compare the checksums of all files with those of their making; returns the problems."""
    files = read_packed(directory)["files"].items()
    return [
        f"{name} has another checksum than when it was written"
        for name, entry in tqdm(files, desc=f"checking {directory.name}", unit="file")
        if sha256_of(directory / name) != entry["sha256"]
    ]


# ---------------------------------------------------------------------------- parts of files
# Read without mapping the files: a corpus larger than the memory stays on the disk.

MOST_OPEN = 64  # files; systems allow 256 to 1024 to a process


class _OpenFile:
    """A file that is closed when nobody reads it any more."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115, closed by __del__
        self._lock = threading.Lock()

    def read(self, position: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), count, position)
        with self._lock:  # Windows
            self._file.seek(position)
            return self._file.read(count)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


class OpenFiles:
    """Files of which parts are read, the latest MOST_OPEN of them kept open.

    For any thread; a copy in another process opens its own.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[()]]:
        """Go to another process without open files."""
        return OpenFiles, ()

    def read(self, path: Path, position: int, count: int) -> bytes:
        """Return `count` bytes from `position` on; ValueError where the file ends before."""
        with self._lock:
            file = self._open.pop(path, None) or _OpenFile(path)
            self._open[path] = file
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        parts = []
        while count and (part := file.read(position, count)):  # a read may bring less
            parts.append(part)
            position, count = position + len(part), count - len(part)
        if count:
            raise ValueError(f"{path} ends {count} bytes too early")
        return parts[0] if len(parts) == 1 else b"".join(parts)


class ArrayFile:
    """A .npy file, of which rows are read."""

    def __init__(self, files: OpenFiles, path: Path) -> None:
        """ValueError for a file that is no plain array of rows."""
        self.files, self.path = files, path
        with open(path, "rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{path}: not a .npy file of version 1.0")
            shape, is_fortran, self.dtype = np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()
        if is_fortran or self.dtype.hasobject:
            raise ValueError(f"{path}: an array of {self.dtype} that has no rows")
        self.length, *self._columns = shape
        self._row_bytes = self.dtype.itemsize * int(np.prod(self._columns, dtype=np.int64))

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return rows start … stop, a copy that cannot be written to."""
        position = self._start + start * self._row_bytes
        content = self.files.read(self.path, position, (stop - start) * self._row_bytes)
        return np.frombuffer(content, self.dtype).reshape(stop - start, *self._columns)
