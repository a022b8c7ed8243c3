"""Files appear as a whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils import files
from utils.files import refuse_overwriting, staged


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


def test_the_stage_of_a_dead_process_is_swept_and_a_living_one_refuses(tmp_path: Path) -> None:
    dead = tmp_path / ".out.999999999.tmp"
    dead.mkdir()
    (dead / "a.wav").write_text("half")
    with staged(tmp_path / "out") as stage:
        (stage / "a.txt").write_text("new")
    assert not dead.exists() and (tmp_path / "out" / "a.txt").read_text() == "new"
    if os.name == "posix":
        (tmp_path / f".out.{os.getppid()}.tmp").mkdir()
        with pytest.raises(ValueError, match="is writing to"), staged(tmp_path / "out"):
            pass


@pytest.mark.parametrize("moved", range(3))
def test_a_folder_with_a_report_is_of_one_making(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: int
) -> None:
    """Killed before any of the moves: the report is missing, or all files are of one kind."""
    names = ("a.wav", "report.json", "z.mid")
    out = tmp_path / "out"
    with staged(out) as stage:
        for name in names:
            (stage / name).write_text("old")
    replace, count = os.replace, 0

    def killed(source: Path, target: Path) -> None:
        nonlocal count
        if count == moved:
            raise KeyboardInterrupt
        count += 1
        replace(source, target)

    monkeypatch.setattr("utils.files.os.replace", killed)
    with pytest.raises(KeyboardInterrupt), staged(out) as stage:
        for name in names:
            (stage / name).write_text("new")
    assert not (out / "report.json").exists()
    assert count == moved


def test_an_output_never_replaces_an_input(tmp_path: Path) -> None:
    (tmp_path / "vocal.wav").write_text("the only take")
    (tmp_path / "link.wav").symlink_to(tmp_path / "vocal.wav")
    for source in ("vocal.wav", "link.wav"):
        with pytest.raises(ValueError, match=r"would be replaced by the new vocal\.wav"):
            refuse_overwriting(tmp_path, ["vocal.wav"], [tmp_path / source])
    refuse_overwriting(tmp_path / "new", ["vocal.wav"], [tmp_path / "vocal.wav"])


def test_a_signal_between_two_moves_waits_for_the_last(tmp_path: Path, monkeypatch) -> None:
    """SIGTERM while a folder is replaced leaves it whole: of the new making."""
    out = tmp_path / "out"
    replace, moved = os.replace, []

    def move(source: Path, target: Path) -> None:
        if not moved:
            os.kill(os.getpid(), signal.SIGTERM)
        replace(source, target)
        moved.append(Path(target).name)

    class Stopped(Exception):
        pass

    def stop(number: int, frame: object) -> None:
        raise Stopped

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(Stopped), staged(out) as stage:
            for name in ("a.wav", "b.wav", "report.json"):
                (stage / name).write_text("new")
            monkeypatch.setattr(os, "replace", move)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert moved == ["a.wav", "b.wav", "report.json"]
    assert sorted(path.name for path in out.iterdir()) == moved
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_temporaries_of_processes_that_are_no_more_are_swept(tmp_path: Path) -> None:
    """Those of living processes, and files that only look alike, stay."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    names = [f".a.json.{gone.pid}.tmp", f".a.json.{os.getpid()}.tmp", ".a.json.tmp", "a.json"]
    for name in names:
        (tmp_path / name).write_text("x")
    files.sweep_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(names[1:])


@pytest.mark.parametrize("out", ["file", "file/below", "file/a/b", "locked", "locked/new"])
def test_a_folder_that_cannot_be_written_to_is_named_first(
    tmp_path: Path, out: str, monkeypatch
) -> None:
    (tmp_path / "file").write_text("x")
    locked = tmp_path / "locked"
    locked.mkdir()
    allowed = os.access  # root may write anywhere
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and allowed(path, mode))
    with pytest.raises(ValueError, match="expected a folder to write to") as error:
        refuse_overwriting(tmp_path / out, (), ())
    assert str(tmp_path / out) in str(error.value)
    with pytest.raises(ValueError, match="expected a folder to write to"), staged(tmp_path / out):
        pass
