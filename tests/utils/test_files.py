"""Files appear as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from utils import files


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "index.json"
    files.write_json(path, {"a": 1})

    def refuse(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no space"):
        files.write_json(path, {"a": 2})
    assert [p.name for p in tmp_path.iterdir()] == ["index.json"]
    assert json.loads(path.read_text()) == {"a": 1}


def test_an_exception_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_line_ends_are_kept(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a", "one\r\ntwo\n")
    assert (tmp_path / "a").read_bytes() == b"one\r\ntwo\n"


def test_json_comes_back_and_nan_is_refused(tmp_path: Path) -> None:
    value = {"é": [1, None, 2.5]}
    files.write_json(tmp_path / "a.json", value, indent=2)
    assert files.read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "b.json", float("nan"))
    assert not (tmp_path / "b.json").exists()
    (tmp_path / "b.json").write_text("{ damaged")
    with pytest.raises(ValueError, match=r"b\.json: not readable as JSON"):
        files.read_json(tmp_path / "b.json")


def test_a_checksum_is_that_of_the_whole_file(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(files, "CHUNK", 3)
    content = bytes(range(100))
    (tmp_path / "a").write_bytes(content)
    assert files.sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()
