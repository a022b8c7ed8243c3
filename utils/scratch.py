"""Large tensors of one job on the disk: a song of an hour in the memory of a minute.

Inside `on(directory)`, tensors above SMALL bytes are memory maps of files without a name: they
vanish with the process, however it ends. `forget` gives their pages back to the system, which
keeps or writes them as it likes; whoever reads on gets them again. Outside of `on` everything here
is plain memory. torch is imported where tensors are made: arrays need none. Shapes: S samples.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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
        self.arena: Tensor | None = None
        self.used = 0

    def pages(self, size: int) -> mmap.mmap:
        """Return `size` zero bytes as a map of a new file; OSError when there is no room."""
        with tempfile.TemporaryFile(dir=self.directory) as file:
            _reserve(file.fileno(), size, self.directory)
            pages = mmap.mmap(file.fileno(), size)
        self.maps.add(pages)
        return pages

    def tensor(self, count: int, dtype: torch.dtype) -> Tensor:
        """Return `count` zeros as such a map."""
        import torch

        return torch.frombuffer(
            self.pages(max(1, count) * dtype.itemsize), dtype=dtype, count=count
        )

    def keep(self, tensor: Tensor) -> Tensor:
        """Return a copy that lies in a map, beside others."""
        size = -(-tensor.nbytes // ALIGNMENT) * ALIGNMENT
        if self.arena is None or size > len(self.arena) - self.used:
            import torch

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


def zeros(shape: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """Return zeros (float32 unless asked otherwise), on the disk when they are many."""
    import torch

    dtype = dtype or torch.float32
    disk, count = _disk.get(), math.prod(shape)
    if count * dtype.itemsize <= SMALL:
        return torch.zeros(tuple(shape), dtype=dtype)
    if disk is None:  # numpy takes no memory for zeros before they are written to
        return torch.from_numpy(np.zeros(tuple(shape), torch.empty(0, dtype=dtype).numpy().dtype))
    return disk.tensor(count, dtype).view(tuple(shape))


def zeros_array(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
    """Return zeros as an array, on the disk when they are many."""
    disk, size = _disk.get(), math.prod(shape) * dtype.itemsize
    if disk is None or size <= SMALL:
        return np.zeros(tuple(shape), dtype)
    return np.frombuffer(disk.pages(size), dtype).reshape(tuple(shape))


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


def trim() -> None:
    """Give the system what malloc keeps between blocks in use, where it can (glibc).

    Objects in cycles are freed before: figures are such, and the arrays that they show.
    """
    gc.collect()
    release = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if release is not None:
        release(0)


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
