"""Sessions end: by their age, by their number; nothing else in the folder is touched."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from web.sessions import SessionStore, Upload
from web.settings import Settings


def old(path: Path) -> None:
    before = time.time() - 30 * 3600
    os.utime(path, (before, before))


def test_old_sessions_are_swept_those_of_earlier_servers_too(tmp_path: Path) -> None:
    settings = Settings(folder=tmp_path)
    store = SessionStore(settings)
    left, used, mine = store.create(), store.create(), tmp_path / "mine"
    mine.mkdir()
    (left.folder / "vocal.wav").write_bytes(b"x")
    for path in (left.folder, used.folder, mine):
        old(path)
    assert store.find(used.id) is used  # a visit keeps it
    left.used = time.time() - 30 * 3600
    assert store.sweep() == [left.folder]
    assert store.find(left.id) is None and store.find(used.id) is used
    old(used.folder)
    another = SessionStore(settings)
    assert not used.folder.exists() and mine.is_dir()
    assert another.find(used.id) is None


def test_the_session_unused_longest_goes_when_there_are_many(tmp_path: Path) -> None:
    store = SessionStore(replace(Settings(folder=tmp_path), most_sessions=3))
    sessions = [store.create() for _ in range(3)]
    sessions[0].used += 10
    store.create()
    assert [store.has(session.id) for session in sessions] == [True, False, True]
    assert not sessions[1].folder.exists() and len(list(tmp_path.iterdir())) == 3


def test_cookies_that_are_no_sessions_find_none(tmp_path: Path) -> None:
    store = SessionStore(Settings(folder=tmp_path))
    for id in (None, "", ".", "..", "../x", "x" * 5000):
        assert store.find(id) is None
    assert len({store.create().id for _ in range(20)}) == 20


def test_an_upload_replaces_the_one_before(tmp_path: Path) -> None:
    session = SessionStore(Settings(folder=tmp_path)).create()
    paths = [session.path(f"{number}.wav") for number in range(2)]
    for path in paths:
        path.write_bytes(b"x")
        session.put("accompaniment", Upload(path, "song.wav"))
    assert [path.exists() for path in paths] == [False, True]
    assert session.plain(f"{paths[1]}: no") == "song.wav: no"
    assert session.plain(f"{session.folder}/lyrics.txt: no") == "lyrics.txt: no"


@pytest.mark.parametrize("left", ("session-file", "session-link"))
def test_what_is_no_folder_is_not_swept(tmp_path: Path, left: str) -> None:
    path = tmp_path / left
    if left == "session-link":
        (tmp_path / "elsewhere").mkdir()
        path.symlink_to(tmp_path / "elsewhere")
    else:
        path.write_bytes(b"x")
    old(path)
    old(tmp_path)
    SessionStore(Settings(folder=tmp_path))
    assert path.exists()
