"""An interrupted evaluation continues; another question begins anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from evaluation.journal import Journal


def test_it_continues_where_it_was_interrupted(tmp_path: Path) -> None:
    path, asked = tmp_path / "out" / "x.jsonl", []

    def judge(id: str) -> dict[str, str]:
        asked.append(id)
        if id == "c" and asked.count("c") == 1:
            raise KeyboardInterrupt
        return {"value": id.upper()}

    with pytest.raises(KeyboardInterrupt):
        Journal(path, {"seed": 1}).complete("abcd", judge)
    with path.open("a") as file:
        file.write('{"id": "c", "val')  # cut off in the middle of a line
    records = Journal(path, {"seed": 1}).complete("abcd", judge)
    assert records == [{"id": id, "value": id.upper()} for id in "abcd"]
    assert asked == ["a", "b", "c", "c", "d"]
    assert Journal(path, {"seed": 1}).complete("da", judge) == [records[3], records[0]]


def test_other_settings_begin_anew_and_equal_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    Journal(path, {"shape": (1, 2)}).add({"id": "a"})
    assert Journal(path, {"shape": (1, 2)}).records  # a tuple is a list in JSON
    assert not Journal(path, {"shape": (1, 3)}).records
    assert not Journal(path, {"shape": (1, 2)}).records


def test_a_foreign_file_is_not_taken_for_records(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("hello\n")
    assert Journal(path, {}).complete([], lambda id: {}) == []
