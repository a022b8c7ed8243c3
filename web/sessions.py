"""Sessions: one folder each, bounded in number, in takes and in time."""

from __future__ import annotations

import os
import secrets
import shutil
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from web.plans import SessionPlan
from web.settings import Settings

PREFIX = "session-"  # of their folders; nothing else below the root is ever removed


@dataclass(frozen=True)
class Upload:
    """A file of a session, and the name that its owner knows it by."""

    path: Path
    name: str
    about: dict[str, Any] = field(default_factory=dict)  # what the page shows of it


@dataclass(frozen=True)
class SessionTake:
    """A rendering that is finished, and what it was made from."""

    number: int
    folder: Path
    names: tuple[str, ...]  # of the files written
    accompaniment: Upload | None
    plan: SessionPlan
    about: dict[str, Any]  # what the page shows of it


class Session:
    """What one visitor has sent, planned and had sung."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.used = time.time()
        self.lock = threading.RLock()  # a session's requests follow one another
        self.uploads: dict[str, Upload] = {}  # accompaniment, melody
        self.lexicon: dict[str, str] = {}  # word → ARPAbet
        self.plan: SessionPlan | None = None
        self.takes: list[SessionTake] = []
        self.harmonies: dict[Any, Any] = {}
        self._number = 0
        self._take = 0

    @property
    def id(self) -> str:
        """What its cookie says."""
        return self.folder.name.removeprefix(PREFIX)

    def next_number(self) -> int:
        """Return a number that no file of the session has."""
        with self.lock:
            self._number += 1
            return self._number

    def next_take(self) -> int:
        """Return the number of a further take; no number comes twice."""
        with self.lock:
            self._take += 1
            return self._take

    def path(self, name: str) -> Path:
        """Return a path of the session for a name that this program chose."""
        return self.folder / name

    def put(self, kind: str, upload: Upload) -> None:
        """Replace a file; the one before stays as long as a take was made from it."""
        with self.lock:
            before, self.uploads[kind] = self.uploads.get(kind), upload
            kept = {take.accompaniment.path for take in self.takes if take.accompaniment}
            if before and before.path not in kept:
                before.path.unlink(missing_ok=True)
            if kind == "accompaniment":
                self.harmonies.clear()

    def add_take(self, take: SessionTake, most: int) -> None:
        """Keep a take; the oldest goes when there are too many."""
        with self.lock:
            self.takes.append(take)
            while len(self.takes) > most:
                shutil.rmtree(self.takes.pop(0).folder, ignore_errors=True)

    def take(self, number: object) -> SessionTake:
        """Return a take by its number; ValueError without it."""
        for take in self.takes:
            if take.number == number:
                return take
        raise ValueError(f"there is no take {number}; the oldest go when there are many")

    def plain(self, message: str) -> str:
        """Return a message with the names that the visitor knows, without folders of the server."""
        uploads = [*self.uploads.values()]
        uploads += [take.accompaniment for take in self.takes if take.accompaniment]
        for upload in uploads:
            message = message.replace(str(upload.path), upload.name)
        for take in self.takes:
            message = message.replace(f"{take.folder}/", f"take {take.number}, ")
        for folder in (self.folder, self.folder.absolute()):
            message = message.replace(f"{folder}{os.sep}", "")
        return message


class SessionStore:
    """All sessions of a server. Folders that are left from before are swept by their age."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._sessions: dict[str, Session] = {}
        self._lock = threading.Lock()
        self.sweep()

    def find(self, id: str | None) -> Session | None:
        """Return the session of a cookie, None where it is over."""
        with self._lock:
            session = self._sessions.get(id or "")
        if session is not None:
            session.used = time.time()
            os.utime(session.folder)
        return session

    def has(self, id: str) -> bool:
        """Tell whether a session is still there."""
        with self._lock:
            return id in self._sessions

    def create(self) -> Session:
        """Begin a session; the ones unused longest go when there are too many."""
        folder = self.settings.folder / f"{PREFIX}{secrets.token_urlsafe(24)}"
        folder.mkdir(parents=True, mode=0o700)
        session = Session(folder)
        with self._lock:
            self._sessions[session.id] = session
            over = len(self._sessions) - self.settings.most_sessions
            oldest = sorted(self._sessions.values(), key=lambda other: other.used)
        for other in oldest[: max(over, 0)]:
            self.drop(other)
        return session

    def drop(self, session: Session) -> None:
        """End a session and remove its folder."""
        with self._lock:
            self._sessions.pop(session.id, None)
        shutil.rmtree(session.folder, ignore_errors=True)

    def sweep(self) -> list[Path]:
        """Remove what was not used for `session_hours`, of earlier servers too; return it."""
        before = time.time() - 3600 * self.settings.session_hours
        with self._lock:
            old = [session for session in self._sessions.values() if session.used < before]
        for session in old:
            self.drop(session)
        swept = [session.folder for session in old]
        for folder in self.settings.folder.glob(f"{PREFIX}*"):
            if folder.is_dir() and not folder.is_symlink() and folder.stat().st_mtime < before:
                shutil.rmtree(folder, ignore_errors=True)
                swept.append(folder)
        return swept
