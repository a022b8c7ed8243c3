"""An interrupted evaluation continues; another question begins anew."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from utils.files import Journal


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


def test_a_journal_survives_a_line_cut_off_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.add({"id": str(number), "value": number})
    whole = path.read_bytes()
    start_of_last = whole[:-1].rindex(b"\n")
    for length in range(start_of_last, len(whole) - 1):
        path.write_bytes(whole[:length])
        again = Journal(path)
        assert list(again.records) == ["0", "1"]
        again.add({"id": "3", "value": 3})
        assert list(Journal(path).records) == ["0", "1", "3"]


def test_the_last_record_of_an_id_is_the_valid_one(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add({"id": "a", "value": 1})
    journal.add({"id": "a", "value": 2})
    journal.add({"id": "b", "value": 3})
    journal.keep_only({"a"})
    assert Journal(journal.path).records == {"a": {"id": "a", "value": 2}}


def test_equal_records_are_written_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.add({"id": "a", "shape": (1, 2)})
    size = journal.path.stat().st_size
    journal.add({"id": "a", "shape": [1, 2]})
    assert journal.path.stat().st_size == size


def test_a_line_that_lost_its_checksum_is_made_again(tmp_path: Path) -> None:
    """Unless no line has one: journals from before there were checksums are believed."""
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for id in ("a", "b"):
        journal.add({"id": id, "value": 1})
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    del lines[0]["crc32"]
    lines[0]["value"] = 2
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(Journal(path).records) == ["b"]
    del lines[1]["crc32"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(Journal(path).records) == ["a", "b"]
