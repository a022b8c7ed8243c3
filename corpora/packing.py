"""Writing a packed corpus: see corpora/packed.py for what is in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from corpora.packed import ITEMS, PACK_VERSION, PACKED, ROW, ROWS, id_hash, shard_name
from corpora.records import SPLITS
from corpora.speech import DTYPES, columns_of, speech_arrays
from corpora.stores import FeatureStore
from utils.files import sha256_of, write_json

SHARD_BYTES = 1 << 31  # of a file of arrays
HEADER_BYTES = 128  # of a .npy file of version 1.0: room for any number of frames


def pack(store: FeatureStore, directory: Path, shard_bytes: int = SHARD_BYTES) -> PackWriter:
    """Pack a prepared speech corpus into `directory`, in the order of its index."""
    bins = {kind: columns_of(store.index, kind) for kind in speech_arrays(store.index)}
    writer = PackWriter(directory, bins, shard_bytes)
    times = store.phoneme_times()
    for item in tqdm(store.index["items"], desc=f"packing {store.directory.name}", unit="item"):
        found = times.get(item["id"])
        entry = item if found is None else {**item, "phoneme_times": found}
        writer.add(entry, {kind: store.array(kind, item["id"]) for kind in bins})
    known = {"pitch_range": store.pitch_range(), "pitch_ranges": store.pitch_ranges()}
    writer.close({**store.index, **known, "voices": store.voices()})
    return writer


class PackWriter:
    """Write a packed corpus item by item; `close` writes packed.json, without which it is none."""

    def __init__(self, directory: Path, bins: Mapping[str, int], shard_bytes: int = SHARD_BYTES):
        """bins: columns of each kind of array. Raises ValueError for a folder that holds a pack."""
        self.directory, self.bins = Path(directory), dict(bins)
        if (self.directory / PACKED).exists():
            raise ValueError(f"{directory} holds a packed corpus: delete that folder first")
        self.directory.mkdir(parents=True, exist_ok=True)
        self.frames_per_file = shard_bytes // (2 * max(self.bins.values()))
        self.rows: list[tuple[Any, ...]] = []
        self.position, self.file, self.frame = 0, -1, 0
        self.files: dict[str, dict[str, Any]] = {}  # sizes and checksums, once it is closed
        self._lines = open(self.directory / ITEMS, "wb")  # noqa: SIM115, closed by close()
        self._arrays: dict[str, Any] = {}

    def add(self, item: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> None:
        """Append an item and its arrays (T, C)."""
        frames = item["num_frames"]
        if self.file < 0 or self.frame + frames > self.frames_per_file:
            self._next_file()
        for kind, file in self._arrays.items():
            array = np.ascontiguousarray(arrays[kind], dtype=DTYPES[kind])
            if array.shape != (frames, self.bins[kind]):
                raise ValueError(f"{item['id']}: {kind} is {array.shape}, not of {frames} frames")
            file.write(array.data)
        line = json.dumps(item, ensure_ascii=False).encode() + b"\n"
        self._lines.write(line)
        flags = (bool(item.get("score")), "phoneme_times" in item)
        numbers = (self.position, len(line), frames, SPLITS.index(item["split"]))
        self.rows.append((id_hash(item["id"]), *numbers, *flags, self.file, self.frame))
        self.position += len(line)
        self.frame += frames

    def _next_file(self) -> None:
        self._end_file()
        self.file, self.frame = self.file + 1, 0
        for kind in self.bins:
            path = self.directory / shard_name(kind, self.file)
            self._arrays[kind] = open(path, "wb")  # noqa: SIM115, closed by _end_file
            self._arrays[kind].write(self._header(kind, 0))

    def _end_file(self) -> None:
        for kind, file in self._arrays.items():
            file.seek(0)
            file.write(self._header(kind, self.frame))
            file.close()
        self._arrays = {}

    def _header(self, kind: str, frames: int) -> bytes:
        """Return the .npy header of (frames, bins), of the same length for any frames."""
        shape = (frames, self.bins[kind])
        fields = f"{{'descr': '{DTYPES[kind]}', 'fortran_order': False, 'shape': {shape}, }}"
        length = HEADER_BYTES - 10  # behind magic, version and these two bytes
        text = fields.ljust(length - 1).encode() + b"\n"
        return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + text

    def close(self, index: Mapping[str, Any]) -> None:
        """Write the rows and packed.json; index: that of the corpus, whose items were added."""
        self._end_file()
        self._lines.close()
        np.save(self.directory / ROWS, np.array(self.rows, dtype=ROW))
        names = [ITEMS, ROWS, *(shard_name(k, n) for k in self.bins for n in range(self.file + 1))]
        self.files = {
            name: {
                "bytes": (self.directory / name).stat().st_size,
                "sha256": sha256_of(self.directory / name),
            }
            for name in names
        }
        head = {name: value for name, value in index.items() if name not in ("items", "checksum")}
        write_json(
            self.directory / PACKED, {**head, "pack_version": PACK_VERSION, "files": self.files}
        )
