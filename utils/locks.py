"""One process at a time in a folder."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import IO


class FolderLock:
    """Holds a folder for this process; the system lets go of it even after kill -9.

    busy: what is said (ValueError) when another process holds it.
    """

    def __init__(self, directory: Path, busy: str) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._file = open(directory / ".lock", "a", encoding="utf-8")  # noqa: SIM115
        try:
            _lock(self._file)
        except OSError:
            self._file.close()
            raise ValueError(busy) from None

    def release(self) -> None:
        """Let another process have the folder."""
        self._file.close()

    def __enter__(self) -> FolderLock:
        """Hold the folder in a `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let go of it."""
        self.release()


def _lock(file: IO[str]) -> None:
    """Lock a file for this process until it is closed; OSError when another one has it."""
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
