"""The cache under feature/NAME: atomic files, a journal of finished items, parallel work.

A build may be killed at any moment: arrays and the index appear under their final names only when
complete, and each finished item is one line of the journal. The next build keeps an item when its
fingerprint (source bytes and settings) is the same and its arrays still have their checksums.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import wraps
from multiprocessing import forkserver
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from corpora.records import INDEX_NAME, Rejection
from utils.audio import MIN_STANDARD_DEVIATION
from utils.files import UNREADABLE, FolderLock, Journal, sha256_of, write_bytes, write_json

Task = TypeVar("Task")
Result = TypeVar("Result")


def fingerprint(*parts: Any) -> str:
    """Return one checksum of plain values: source checksums, settings, versions."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def save_array(path: Path, array: np.ndarray) -> str:
    """Write an array as .npy, atomically, and return its checksum.

    Not waited for: after a power cut the checksum tells which arrays are to be made again.
    """
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    write_bytes(path, buffer.getbuffer(), durable=False)
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def intact(directory: Path, id: str, checksums: dict[str, str]) -> bool:
    """Say whether DIR/KIND/ID.npy exists with its checksum for every kind."""
    paths = {kind: directory / kind / f"{id}.npy" for kind in checksums}
    return all(path.is_file() and sha256_of(path) == checksums[k] for k, path in paths.items())


def write_index(directory: Path, index: dict[str, Any]) -> None:
    """Write feature/NAME/index.json with a checksum of its content, which `check` compares."""
    write_json(directory / INDEX_NAME, {**index, "checksum": fingerprint(_content(index))})


def index_changes(index: dict[str, Any]) -> list[str]:
    """Say whether an index is another than when it was written."""
    if "checksum" not in index or index["checksum"] == fingerprint(_content(index)):
        return []
    return [f"{INDEX_NAME} has another checksum than when it was written"]


def _content(index: dict[str, Any]) -> dict[str, Any]:
    return json.loads(json.dumps({k: v for k, v in index.items() if k != "checksum"}))


def kept_record(record: Any, mark: str, directory: Path, id: str) -> dict[str, Any] | None:
    """Return the record of an earlier build when it is of the same origin and its arrays intact."""
    try:
        same = record["id"] == id and record["fingerprint"] == mark
        return record if same and intact(directory, id, record["sha256"]) else None
    except (*UNREADABLE, OSError):
        return None  # no record, or one that was changed: made again


def exclusive(build: Callable[..., Result]) -> Callable[..., Result]:
    """Let one process at a time run a build(items, directory, ...) of a folder."""

    @wraps(build)
    def alone(items: Any, directory: Path, *arguments: Any, **named: Any) -> Result:
        busy = (
            f"{directory} is being prepared by another process: wait for it, or choose another "
            "--name"
        )
        with FolderLock(directory, busy):
            return build(items, directory, *arguments, **named)

    return alone


def open_cache(directory: Path, kind: str, arrays: Sequence[str]) -> Journal:
    """Create feature/NAME with a folder for each array, sweep up temporaries, open the journal.

    Raises ValueError when the name holds a corpus of another kind.
    """
    found = _kind_of(directory / INDEX_NAME)
    if found not in (None, kind):
        raise ValueError(
            f"{directory} holds a corpus of kind {found!r}, this one is {kind!r}: choose another "
            "--name, or delete that folder"
        )
    for name in arrays:
        (directory / name).mkdir(parents=True, exist_ok=True)
    for temporary in directory.rglob(".*.tmp"):
        temporary.unlink(missing_ok=True)
    return Journal(directory / "journal.jsonl")


def _kind_of(index: Path) -> str | None:
    """Return the kind of a corpus; None when there is no index, or only a damaged one."""
    try:
        kind = json.loads(index.read_text(encoding="utf-8"))["kind"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return kind if isinstance(kind, str) else None


def strays(directory: Path, arrays: Sequence[str], ids: set[str]) -> list[Path]:
    """List the array files that belong to no item of `ids`."""
    return [
        path
        for name in arrays
        for path in sorted((directory / name).glob("*.npy"))
        if path.stem not in ids
    ]


@dataclass(frozen=True)
class Outcome:
    """What became of an entry: a record and of it an item, or the fault it is left out for."""

    id: str
    item: dict[str, Any] | None
    record: dict[str, Any] | None  # for the journal
    fault: str | None
    kept: bool
    moments: dict[str, Moments] = field(default_factory=dict)  # of spectrograms

    @property
    def remarks(self) -> list[Rejection]:
        """What is remarkable about the item; with --strict it counts as a fault."""
        found = [] if self.item is None else self.item.get("remarks", [])
        return [Rejection(self.id, remark) for remark in found]


@dataclass(frozen=True)
class BuildReport:
    """What a build did, for the summary."""

    directory: Path
    index: dict[str, Any]
    rejections: list[Rejection]
    kept: int  # items that an earlier build had made
    removed: list[str]  # arrays of items that have left the corpus
    num_bytes: int  # of all arrays

    @classmethod
    def of(
        cls,
        directory: Path,
        index: dict[str, Any],
        arrays: Sequence[str],
        rejections: Sequence[Rejection],
        kept: int,
        others: Sequence[str] = (),
    ) -> BuildReport:
        """Finish a build: remove the arrays of no item, count the bytes of the others.

        others: kinds of arrays that another build may have left.
        """
        ids = {item["id"] for item in index["items"]}
        removed = strays(directory, arrays, ids)
        removed += strays(directory, [kind for kind in others if kind not in arrays], set())
        for path in removed:
            path.unlink()
        paths = (directory / name / f"{id}.npy" for name in arrays for id in ids)
        return cls(
            directory,
            index,
            list(rejections),
            kept,
            [f"{path.parent.name}/{path.name}" for path in removed],
            sum(path.stat().st_size for path in paths),
        )


def worker_context(module: str) -> BaseContext:
    """Return how workers are started that run a function of `module`.

    They are forked from one process that has imported the module and the script, and nothing else:
    a worker begins at once, where a spawned one would import torch for itself, for seconds. That
    process is started here, in the background.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():  # Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    script = getattr(sys.modules["__main__"], "__file__", None)
    context.set_forkserver_preload([module, *([Path(script).stem] if script else [])])
    forkserver.ensure_running()
    return context


def _start_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)  # the pool is the parallelism


def _end_with_parent() -> None:
    """End this worker when its parent was killed: it would wait for tasks for ever."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)


def run_parallel(
    function: Callable[[Task], Result],
    tasks: Sequence[Task],
    workers: int,
    description: str,
    chunk: int = 4,
) -> Iterator[Result]:
    """Yield function(task) in the order of the tasks, over `workers` processes, with a bar.

    0 workers run in this process. `function` must be importable by name: a worker is a new process.
    It is handed `chunk` tasks at once, which are ended before Ctrl-C is: 1 where a task takes
    seconds.
    """
    progress = tqdm(total=len(tasks), desc=description, unit="item", dynamic_ncols=True)
    if workers == 0 or len(tasks) < 2:
        with progress:
            for task in tasks:
                yield function(task)
                progress.update()
        return
    pool = ProcessPoolExecutor(
        min(workers, len(tasks)), worker_context(function.__module__), _start_worker
    )
    try:
        with progress:
            for result in pool.map(function, tasks, chunksize=chunk):
                yield result
                progress.update()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"{description}: a worker process died, perhaps for lack of memory; run the same "
            "command again to go on from here, with fewer --workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


# ---------------------------------------------------------------------------- statistics
# Per bin, exact and independent of the order of the work.


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations per bin, in float64."""

    count: int
    mean: np.ndarray  # (C,)
    deviation: np.ndarray  # (C,)

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Measure (T, C)."""
        values = values.astype(np.float64)
        mean = values.mean(axis=0)
        return cls(len(values), mean, np.square(values - mean).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets together (Chan et al. 1979)."""
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = np.square(difference) * (self.count * other.count / count)
        return Moments(count, mean, self.deviation + other.deviation + between)

    def statistics(self) -> dict[str, list[float]]:
        """Return {mean, std} as plain lists; no std is below MIN_STANDARD_DEVIATION."""
        std = np.sqrt(self.deviation / self.count)
        return {
            "mean": self.mean.tolist(),
            "std": np.maximum(std, MIN_STANDARD_DEVIATION).tolist(),
        }


def merge_into(total: dict[str, Moments], new: dict[str, Moments]) -> None:
    """Add the moments of one item to those of all, kind by kind."""
    for kind, moments in new.items():
        total[kind] = total[kind].merge(moments) if kind in total else moments
