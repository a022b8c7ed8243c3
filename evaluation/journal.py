"""Records of a long evaluation as they are made: interrupted, it continues where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm


class Journal:
    """One record per item in a file of JSON lines, the first of which says what was asked."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Records made with the same settings are kept, others are begun anew."""
        self.path = Path(path)
        self.records: dict[str, dict[str, Any]] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        settings = json.loads(json.dumps(settings))
        lines = self._lines()
        if lines and lines[0] == {"settings": settings}:
            self.records = {line["id"]: line for line in lines[1:]}
        content = [{"settings": settings}, *self.records.values()]  # without a half-written line
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in content)
        self.path.write_text(text, encoding="utf-8")

    def _lines(self) -> list[dict[str, Any]]:
        """The whole lines of the file; an interruption may have cut the last."""
        if not self.path.is_file():
            return []
        lines = []
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                break
        return lines

    def add(self, record: dict[str, Any]) -> None:
        """Keep the record of an item, which has an `id`."""
        line = json.dumps(record, ensure_ascii=False)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self.records[record["id"]] = json.loads(line)

    def complete(
        self, ids: Iterable[str], judge: Callable[[str], dict[str, Any]], unit: str = "item"
    ) -> list[dict[str, Any]]:
        """The records of all ids in their order, judging those that are missing."""
        ids = list(ids)
        missing = [id for id in ids if id not in self.records]
        for id in tqdm(missing, desc="evaluate", unit=unit, disable=not missing):
            self.add({"id": id, **judge(id)})
        return [self.records[id] for id in ids]
