"""Records of a long job as they are made: interrupted, it continues where it stopped."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from utils import files

Record = dict[str, Any]
MARK = "crc32"  # of the other entries of a line: one that was changed since is made again


class Journal:
    """One JSON record per line, each with an `id`; the last record of an id is the valid one.

    settings: what the records depend on. It is the first line of the file; records that were made
    with other settings are discarded. None: the file has no such line, and each record says for
    itself what it depends on.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self.records: dict[str, Record] = {}
        self._header: list[Record] = []
        lines = self._whole_lines()
        if settings is not None:
            self._header = [json.loads(json.dumps({"settings": settings}))]
            if lines[:1] != self._header:  # other settings, or no file yet
                lines = []
                self._rewrite()
        self.records = {line["id"]: line for line in lines if "id" in line}

    def add(self, record: Mapping[str, Any]) -> None:
        """Append a finished item; the line is in the file when this returns."""
        plain = json.loads(json.dumps(record, ensure_ascii=False))
        line = _marked(plain)
        if self.records.get(record["id"]) == plain:
            return
        self.records[record["id"]] = plain
        with open(self.path, "ab+") as file:
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")  # closes a line that an interruption has cut off
            file.write(line.encode() + b"\n")

    def keep_only(self, ids: set[str]) -> None:
        """Rewrite the file with the records of `ids` alone."""
        self.records = {id: record for id, record in self.records.items() if id in ids}
        self._rewrite()

    def complete(
        self, ids: Iterable[str], judge: Callable[[str], Mapping[str, Any]], unit: str = "item"
    ) -> list[Record]:
        """Return the records of all ids in their order, making those that are missing."""
        ids = list(ids)
        missing = [id for id in ids if id not in self.records]
        for id in tqdm(missing, desc="evaluate", unit=unit, disable=not missing):
            self.add({"id": id, **judge(id)})
        return [self.records[id] for id in ids]

    def _whole_lines(self) -> list[Record]:
        """Read the lines that are JSON objects; one that a kill cut off is simply made again."""
        if not self.path.is_file():
            return []
        found = []
        for line in self.path.read_bytes().split(b"\n"):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) and isinstance(value.get("id", ""), str):
                found.append((value.pop(MARK, None), value))
        # Journals from before there were checksums have none at all.
        is_marked = any(mark is not None for mark, _ in found)
        return [
            value
            for mark, value in found
            if mark == _checksum(value) or (mark is None and not (is_marked and "id" in value))
        ]

    def _rewrite(self) -> None:
        lines = [*self._header, *self.records.values()]
        files.write_text(self.path, "".join(_marked(line) + "\n" for line in lines))


def _marked(line: Record) -> str:
    """Return a line with its checksum; the settings, which are compared as a whole, have none."""
    marked = {**line, MARK: _checksum(line)} if "id" in line else line
    return json.dumps(marked, ensure_ascii=False)


def _checksum(line: Record) -> int:
    return zlib.crc32(json.dumps(line, sort_keys=True).encode())
