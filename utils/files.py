"""Files that appear as a whole or not at all, JSON, checksums, locks, and journals of long jobs."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import shutil
import signal
import threading
import tokenize
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from tqdm import tqdm

LAST = "report.json"  # of a staged folder: the mark that all others are there
CHUNK = 1 << 20  # bytes read at once for a checksum
UNREADABLE = (  # what parsers raise on input that nobody foresaw
    *(ArithmeticError, AttributeError, EOFError, LookupError, MemoryError),
    *(RuntimeError, StopIteration, SyntaxError, TypeError, tokenize.TokenError, zlib.error),
)

Record = dict[str, Any]
MARK = "crc32"  # of the other entries of a line: one that was changed since is made again


class Unreadable(ValueError):
    """A file that is damaged, or not what it is taken for; the message names it."""


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Turn whatever reading damaged input raises into an `Unreadable` that names the file.

    For the reading alone: a fault of the program around it keeps its traceback. An OSError and a
    ValueError pass, the latter with the file's name in front where it lacks it.
    """
    name = str(path)
    try:
        yield
    except ValueError as error:
        if name in str(error) or Path(name).name in str(error):
            raise
        raise Unreadable(f"{name}: {error}") from error
    except UNREADABLE as error:
        what = "larger than the memory" if isinstance(error, MemoryError) else str(error)
        first = (what.strip().splitlines() or [""])[0][:200]
        raise Unreadable(f"{name}: cannot be read ({type(error).__name__}: {first})") from error


@contextmanager
def atomic(path: Path | str, *, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename what was written there to `path`.

    A crash at any moment leaves the old file or the new one; after an exception the old one stays
    and the temporary file is removed. durable: wait until the content and the name are on the disk,
    so that a power cut does no harm either.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        if durable:
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    if durable:
        _sync_directory(path.parent)


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `directory`; move what is in it at the end to `directory`.

    Files of the same name are replaced, others stay; LAST is taken away before the first move and
    comes back with the last one, so that a folder that has it is of one making. After an exception
    nothing has changed. Stages of dead processes are swept. Raises ValueError when `directory` is a
    file, and when another process writes to it.
    """
    directory = Path(directory)
    check_folder(directory)
    target = directory.absolute()
    for left in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        pid = left.name.rpartition(".tmp")[0].rpartition(".")[2]
        if pid.isdecimal() and int(pid) != os.getpid() and _is_alive(int(pid)):
            raise ValueError(
                f"process {pid} is writing to {directory}: wait for it, or choose another folder"
            )
        shutil.rmtree(left, ignore_errors=True)
    stage = target.parent / f".{target.name}.{os.getpid()}.tmp"
    stage.mkdir(parents=True)
    try:
        yield stage
        directory.mkdir(parents=True, exist_ok=True)
        names = sorted((path.name for path in stage.iterdir()), key=lambda n: (n == LAST, n))
        with _uninterrupted():
            if LAST in names:
                (directory / LAST).unlink(missing_ok=True)
            for name in names:
                os.replace(stage / name, directory / name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Hold back SIGINT and SIGTERM until the `with` block is done, in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    stopping = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda n, frame: held.append(n)) for number in stopping}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if held:
            signal.raise_signal(held[0])


def check_folder(directory: Path) -> None:
    """Raise ValueError when `directory` is not a folder, or cannot be made, to write results to."""
    there = directory.absolute()
    while not there.exists() and there.parent != there:
        there = there.parent
    if not there.is_dir():
        what = (
            "is a file" if there == directory.absolute() else f"cannot be made: {there} is a file"
        )
        raise ValueError(f"{directory} {what}; expected a folder to write to, or a new name")
    for folder in {there, there if there != directory.absolute() else there.parent}:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ValueError(
                f"{directory}: nothing may be written in {folder} (permissions); expected a folder "
                "to write to, or a new name"
            )


def refuse_overwriting(directory: Path, names: Iterable[str], inputs: Iterable[Path]) -> None:
    """Raise ValueError when writing `names` into `directory` would replace a file that is read.

    Also when it cannot be written to at all, before hours of work.
    """
    check_folder(Path(directory))
    for source in inputs:
        for name in names:
            target = Path(directory) / name
            if target.exists() and Path(source).exists() and target.samefile(source):
                raise ValueError(
                    f"{source} would be replaced by the new {name}: write to another folder, such "
                    f"as --out {Path(directory) / 'new'}"
                )


def _is_alive(pid: int) -> bool:
    """Say whether a process runs; on systems that do not tell, no."""
    if os.name != "posix":
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def write_bytes(path: Path, content: bytes | memoryview, *, durable: bool = True) -> None:
    """Write a file atomically."""
    with atomic(path, durable=durable) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8, atomically, its line ends as they are in `text`."""
    write_bytes(path, text.encode())


def finite(value: Any) -> Any:
    """Replace numbers that JSON does not know (silence is -inf) by None, at any depth."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(
    path: Path, value: Any, *, indent: int | None = None, allow_nan: bool = False
) -> None:
    """Write a value as UTF-8 JSON, atomically; NaN raises ValueError unless allowed."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=allow_nan, indent=indent)
    write_text(path, text if indent is None else text + "\n")


def read_json(path: Path) -> Any:
    """Read a UTF-8 JSON file; ValueError naming the file when it is anything else."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from error


def sha256_of(path: Path) -> str:
    """Return the checksum of a file in hexadecimal digits; memory does not grow with the file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def sweep(directory: Path, pattern: str = ".*.tmp") -> None:
    """Delete the temporary files that killed processes left in `directory`.

    Only for a folder that this process has to itself (a lock): others' work would be lost.
    """
    for temporary in Path(directory).glob(pattern):
        if temporary.is_file() or temporary.is_symlink():
            temporary.unlink(missing_ok=True)


def sweep_abandoned(directory: Path) -> None:
    """Delete the temporary files of `atomic` in a folder whose processes are no more."""
    for temporary in Path(directory).glob(".*.tmp"):
        pid = temporary.name.removesuffix(".tmp").rpartition(".")[2]
        if pid.isdecimal() and int(pid) != os.getpid() and not _is_alive(int(pid)):
            temporary.unlink(missing_ok=True)


def _sync_directory(directory: Path) -> None:
    """Make a rename durable; systems that cannot open a directory do without."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------- locks


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


# ---------------------------------------------------------------------------- journals


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
        write_text(self.path, "".join(_marked(line) + "\n" for line in lines))


def _marked(line: Record) -> str:
    """Return a line with its checksum; the settings, which are compared as a whole, have none."""
    marked = {**line, MARK: _checksum(line)} if "id" in line else line
    return json.dumps(marked, ensure_ascii=False)


def _checksum(line: Record) -> int:
    return zlib.crc32(json.dumps(line, sort_keys=True).encode())
