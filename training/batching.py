"""Epochs as pure functions of (seed, epoch), batches made ahead, and their way to the device.

A position (epoch, batch) names the batch that comes next; it is all that a checkpoint needs.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import multiprocessing
import os
import queue
import shutil
import signal
import sys
import threading
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar, overload

import numpy as np
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from utils.seeds import numpy_generator

if TYPE_CHECKING:
    from hyperparams import Training

logger = logging.getLogger(__name__)

Position = tuple[int, int]  # (epoch, batch)
Part = tuple[int, int]  # (k, n): every n-th batch from the k-th on
Value = TypeVar("Value")
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux
LENGTH_JITTER = 0.1  # share of its length by which an item may stray into a neighbouring bucket


class EpochPlan(Sequence[list[int]]):
    """Batches of item numbers, lists made when they are asked for: 8 bytes an item, 16 a batch.

    items (n,): the batches of an epoch, one behind the other; stops (b,): where each ends; order
    (b,): which of them comes when.
    """

    def __init__(self, items: np.ndarray, stops: np.ndarray, order: np.ndarray) -> None:
        self.items, self.stops, self.order = items, stops, order

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self.order)

    @overload
    def __getitem__(self, place: int) -> list[int]: ...
    @overload
    def __getitem__(self, place: slice) -> EpochPlan: ...
    def __getitem__(self, place: int | slice) -> list[int] | EpochPlan:
        """Return the batch at a place, or the batches of a slice."""
        if isinstance(place, slice):
            return EpochPlan(self.items, self.stops, self.order[place])
        number = self.order[place]
        start = self.stops[number - 1] if number else 0
        return self.items[start : self.stops[number]].tolist()


class Sampler(Protocol):
    """Plans an epoch: lists of item numbers, one for each batch, never an empty one."""

    def epoch(self, epoch: int) -> EpochPlan:
        """Return the batches of an epoch, a pure function of its number."""


class FrameBudgetSampler:
    """Batches of items of similar length under a budget of padded frames and of items.

    Items longer than the budget are left out with a warning, listed in `excluded`; ValueError when
    nothing remains.
    """

    def __init__(
        self, lengths: Sequence[int] | np.ndarray, batch_frames: int, batch_size: int, seed: int
    ) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_frames, self.batch_size, self.seed = batch_frames, batch_size, seed
        self.excluded = np.flatnonzero(self.lengths > batch_frames).tolist()
        self.usable = np.flatnonzero(self.lengths <= batch_frames)
        if not len(self.usable):
            raise ValueError(
                f"batch_frames = {batch_frames} is less than the shortest of {len(lengths)} items "
                f"({min(lengths, default=0)} frames)"
            )
        if self.excluded:
            logger.warning(
                "%d of %d items are longer than batch_frames = %d and are left out",
                len(self.excluded),
                len(lengths),
                batch_frames,
            )

    def epoch(self, epoch: int) -> EpochPlan:
        """Return the shuffled batches of an epoch, a pure function of (seed, epoch)."""
        random = numpy_generator(self.seed, epoch)
        jitter = 1 + LENGTH_JITTER * random.uniform(-1, 1, len(self.usable))
        items = self.usable[np.argsort(self.lengths[self.usable] * jitter)]
        stops = self._cut(items)
        return EpochPlan(items, stops, random.permutation(len(stops)))

    def in_order(self) -> EpochPlan:
        """Return the batches of a validation: by length, the same every time."""
        items = self.usable[np.argsort(self.lengths[self.usable], kind="stable")]
        stops = self._cut(items)
        return EpochPlan(items, stops, np.arange(len(stops)))

    def _cut(self, items: np.ndarray) -> np.ndarray:
        """Return where the batches of items in this order end."""
        stops, start, longest = array("q"), 0, 0
        lengths = self.lengths[items].astype(np.int64).data  # plain numbers, one at a time
        for place, length in enumerate(lengths):
            longest = max(longest, length)
            held = place - start
            if held and (longest * (held + 1) > self.batch_frames or held == self.batch_size):
                stops.append(place)
                start, longest = place, length
        stops.append(len(items))
        return np.frombuffer(stops, np.int64)


class SegmentSampler:
    """Batches of exactly `batch_size` items in random order, for crops of one length.

    The items left over at the end of an epoch are others in each epoch; a corpus smaller than a
    batch is repeated within it.
    """

    def __init__(self, num_items: int, batch_size: int, seed: int) -> None:
        self.num_items, self.batch_size, self.seed = num_items, batch_size, seed

    def epoch(self, epoch: int) -> EpochPlan:
        """Return the batches of an epoch, a pure function of (seed, epoch)."""
        random = numpy_generator(self.seed, epoch)
        repeats = -(-self.batch_size // self.num_items)
        items = np.concatenate([random.permutation(self.num_items) for _ in range(repeats)])
        number = np.arange(len(items) // self.batch_size)
        return EpochPlan(items, (number + 1) * self.batch_size, number)


def walk(
    sampler: Sampler, position: Position, rank: int = 0, world_size: int = 1
) -> Iterator[tuple[list[int], Position, Position]]:
    """Yield (items, position of the batch, position after the group) without end.

    A group is `world_size` consecutive batches, also across the end of an epoch; this rank takes
    the rank-th, so no rank ever has nothing. Starting at any position costs one epoch's plan.
    """
    epoch, batch = position
    plan = sampler.epoch(epoch)
    while True:
        for member in range(world_size):
            while batch >= len(plan):
                epoch, batch = epoch + 1, batch - len(plan)
                plan = sampler.epoch(epoch)
            if member == rank:
                mine = plan[batch], (epoch, batch)
            batch += 1
        following = (epoch, batch) if batch < len(plan) else (epoch + 1, 0)
        yield *mine, following


def evenly_spaced(values: Sequence[Any], count: int) -> list[Any]:
    """Choose `count` values evenly over a list; all of them when there are fewer."""
    count = min(count, len(values))
    return [values[int((place + 0.5) * len(values) / count)] for place in range(count)]


class _Parts(IterableDataset[Any]):
    """Every n-th batch of a stream, in each of n worker processes."""

    def __init__(self, stream: Callable[[Part], Iterator[Any]]) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Any]:
        """Yield the batches of this process, at last the error that ended them."""
        info = get_worker_info()
        assert info is not None  # not outside of a worker
        try:
            yield from self.stream((info.id, info.num_workers))
        except Exception as error:
            yield _Failed(error)


class _Failed(NamedTuple):
    """What a worker raised: torch would put its traceback into the message."""

    error: Exception


def _as_made(value: Any) -> Any:
    """Leave a batch as it is: it was collated where it was made."""
    return value


def made_ahead(
    stream: Callable[[Part], Iterator[Value]], workers: int, depth: int
) -> Iterator[Value]:
    """Yield a stream in its order, prepared ahead by a thread, or by processes for a fast GPU.

    stream((k, n)): every n-th of its values from the k-th on. depth: values prepared ahead, by each
    process where there are some.
    """
    if workers <= 0:
        yield from prefetched(stream((0, 1)), depth)
        return
    # In order: value i comes from worker i mod n, which makes those alone. A generator of its own:
    # the global one belongs to the training.
    loader = DataLoader(
        _Parts(stream),
        batch_size=None,
        num_workers=workers,
        prefetch_factor=max(depth, 1),
        collate_fn=_as_made,
        generator=torch.Generator(),
        worker_init_fn=_follow_parent,
        multiprocessing_context="fork" if sys.platform == "linux" else None,  # streams are closures
    )
    atexit.register(_end_workers)
    for value in loader:
        if isinstance(value, _Failed):
            raise value.error
        yield value


def _end_workers() -> None:
    """End the processes that an error left behind: they ignore what multiprocessing sends them."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # of torch, which would miss them
    for worker in multiprocessing.active_children():
        worker.kill()


AUTOMATIC_WORKERS = 4
SHARED_MEMORY = Path("/dev/shm")  # where batches pass from process to process
SHARED_BYTES = 2**30  # that it must have free: containers may have 64 MB, and crash


def workers_for(training: Training, device: torch.device) -> tuple[int, str]:
    """Return how many processes make batches, and a line that says so where nobody chose.

    A GPU waits for the thread that launches its work, and a thread that makes batches takes turns
    with it. Processes on Linux alone, where they begin as copies, and with a core each.
    """
    if training.batch_workers >= 0:
        return training.batch_workers, ""
    if device.type != "cuda" or training.corpus_on_device:
        return 0, ""
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    workers = min(AUTOMATIC_WORKERS, (os.cpu_count() or 1) // ranks - 1)
    if sys.platform != "linux" or workers < 1:
        return 0, "batches are made by a thread: there is no core for processes (batch_workers)"
    free = shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else 0
    if free < SHARED_BYTES:
        return 0, (
            f"batches are made by a thread: {SHARED_MEMORY} has {free / 2**20:.0f} MiB free, "
            f"processes need {SHARED_BYTES / 2**20:.0f} (docker run --shm-size; batch_workers)"
        )
    return workers, f"batches are made by {workers} processes (batch_workers)"


def _follow_parent(worker: int) -> None:
    """Leave the signals of the process group to the training, and end when that is gone.

    Locks that the training holds are held by its workers too.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(library := ctypes.CDLL(None), "prctl"):
        library.prctl(PARENT_DEATH_SIGNAL, int(signal.SIGKILL))


def prefetched(batches: Iterable[Value], depth: int) -> Iterator[Value]:
    """Yield the same values, prepared up to `depth` ahead by a thread; 0 = without a thread.

    An exception of the source is raised at its place; leaving the iteration ends the thread.
    """
    if depth == 0:
        yield from batches
        return
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    left = threading.Event()
    end = object()

    def unwanted() -> bool:
        # The thread is no daemon (one killed inside torch aborts the process at its exit), so it
        # has to notice by itself that the program has come to its end.
        return left.is_set() or not threading.main_thread().is_alive()

    def put(value: Any, error: BaseException | None = None) -> None:
        while not unwanted():
            try:
                return ready.put((value, error), timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for value in batches:
                if unwanted():
                    return
                put(value)
            put(end)
        except BaseException as error:
            put(end, error)

    threading.Thread(target=work, name="prefetch").start()
    try:
        while True:
            value, error = ready.get()
            if error is not None:
                raise error
            if value is end:
                return
            yield value
    finally:
        left.set()


class Fed(NamedTuple):
    """A batch as it was made, the same on the device, and the position after it."""

    host: Any
    device: Any
    position: Any


def fed(batches: Iterable[tuple[Any, Any]], device: torch.device) -> Iterator[Fed]:
    """Yield batches on `device`; on a CUDA device the next one travels while a step runs.

    A copy from pinned memory on another stream than the step's takes no time of it. What a batch
    says about itself (ids, frames, counts) is read from the copy on the host.
    """
    if device.type != "cuda":
        for batch, position in batches:
            yield Fed(batch, batch.to(device), position)
        return
    copies = torch.cuda.Stream(device)
    waiting: tuple[Fed, torch.cuda.Event] | None = None
    for batch, position in batches:
        pinned = batch.map(_pinned)
        with torch.cuda.stream(copies):
            on_device = pinned.map(lambda tensor: tensor.to(device, non_blocking=True))
            arrived = copies.record_event()
        if waiting is not None:
            yield _arrived(*waiting, device)
        waiting = Fed(pinned, on_device, position), arrived
    if waiting is not None:
        yield _arrived(*waiting, device)


def _pinned(tensor: torch.Tensor) -> torch.Tensor:
    """Pin a tensor of the host; what is on the device already (a resident corpus) stays."""
    return tensor.pin_memory() if tensor.device.type == "cpu" else tensor


def _arrived(batch: Fed, arrived: torch.cuda.Event, device: torch.device) -> Fed:
    """Let the step's stream wait for a copy, and keep its memory until that stream is done."""
    stream = torch.cuda.current_stream(device)
    stream.wait_event(arrived)

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.device.type == "cuda":  # some of a batch may stay on the host
            tensor.record_stream(stream)
        return tensor

    batch.device.map(keep)
    return batch
