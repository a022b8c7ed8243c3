"""Large tensors of one job on the disk: a song of an hour in the memory of a minute.

Inside `on(directory)`, tensors above SMALL bytes are memory maps of files without a name: they
vanish with the process, however it ends. `forget` gives their pages back to the system, which
keeps or writes them as it likes; whoever reads on gets them again. Outside of `on` everything here
is plain memory. Shapes: S samples.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SMALL = 8 << 20  # bytes of a tensor that stays in memory
HELD = 64 << 20  # bytes of kept tensors that stay in memory, all together
ARENA = 64 << 20  # bytes of a map that is shared by small kept tensors
BLOCK = 1 << 20  # samples at a time
ALIGNMENT = 64  # bytes


class Disk:
    """The maps of one job."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.maps: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()  # gone with the last tensor
        self.held = 0  # bytes of kept tensors in memory
        self.arena, self.used = torch.empty(0, dtype=torch.uint8), 0

    def tensor(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return `count` zeros as a map of a new file; OSError when there is no room."""
        size = max(1, count) * dtype.itemsize
        with tempfile.TemporaryFile(dir=self.directory) as file:
            _reserve(file.fileno(), size, self.directory)
            pages = mmap.mmap(file.fileno(), size)
        self.maps.add(pages)
        return torch.frombuffer(pages, dtype=dtype, count=count)

    def keep(self, tensor: Tensor) -> Tensor:
        """Return a copy that lies in a map, beside others."""
        size = -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        if size > len(self.arena) - self.used:
            self.arena, self.used = self.tensor(max(ARENA, size), torch.uint8), 0
        place = self.arena[self.used : self.used + tensor.nbytes]
        self.used += size
        kept = place.view(tensor.dtype).view(tensor.shape)
        kept.copy_(tensor)
        return kept

    def forget(self) -> None:
        """Give the memory of all maps back; their content stays."""
        for pages in self.maps:
            if hasattr(mmap, "MADV_DONTNEED"):
                pages.madvise(mmap.MADV_DONTNEED)


_disk: ContextVar[Disk | None] = ContextVar("scratch", default=None)


@contextmanager
def on(directory: Path) -> Iterator[None]:
    """Keep large tensors that are made in the `with` block on the disk of `directory`."""
    place = Path(directory).absolute()
    while not place.is_dir():
        place = place.parent
    token = _disk.set(Disk(place))
    try:
        yield
    finally:
        _disk.reset(token)


def zeros(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Return zeros, on the disk when they are many."""
    disk, count = _disk.get(), math.prod(shape)
    if disk is None or count * dtype.itemsize <= SMALL:
        return torch.zeros(tuple(shape), dtype=dtype)
    return disk.tensor(count, dtype).view(tuple(shape))


def zeros_array(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Return zeros as an array, on the disk when they are many."""
    return zeros(shape, torch.from_numpy(np.empty(0, dtype)).dtype).numpy()


def kept(tensor: Tensor) -> Tensor:
    """Return the tensor, or its copy on the disk once much was kept."""
    disk = _disk.get()
    if disk is None or tensor.device.type != "cpu":
        return tensor
    disk.held += tensor.nbytes
    return tensor if disk.held <= HELD else disk.keep(tensor)


def forget() -> None:
    """Give the memory of what lies on the disk back to the system."""
    disk = _disk.get()
    if disk is not None:
        disk.forget()


def blocks(length: int, block: int | None = None) -> Iterator[tuple[int, int]]:
    """Yield [start, stop) of the blocks of `length` samples; after each, memory is given back.

    block: samples of one (default: BLOCK).
    """
    block = BLOCK if block is None else block
    for start in range(0, length, block):
        yield start, min(start + block, length)
        forget()


def mapped(wav: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of single samples to (..., S), block by block."""
    result = zeros(wav.shape, wav.dtype)
    for start, stop in blocks(wav.shape[-1]):
        result[..., start:stop] = function(wav[..., start:stop])
    return result


def _reserve(descriptor: int, size: int, directory: Path) -> None:
    """Give a file its size, on the disk and not by name alone: later writes must not fail."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            for start in range(0, size, 1 << 20):
                os.write(descriptor, bytes(min(1 << 20, size - start)))
    except OSError as error:
        number = error.errno or errno.ENOSPC
        raise OSError(number, f"{size >> 20} MiB of scratch: {error}", str(directory)) from error
