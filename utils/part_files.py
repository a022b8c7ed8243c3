"""Parts of large files, read without mapping them; arrays in .npy files, some rows at a time."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

MOST_OPEN = 64  # files; systems allow 256 to 1024 to a process


class _OpenFile:
    """A file that is closed when nobody reads it any more."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115, closed by __del__
        self._lock = threading.Lock()

    def read(self, position: int, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._file.fileno(), count, position)
        with self._lock:  # Windows
            self._file.seek(position)
            return self._file.read(count)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            self._file.close()


class OpenFiles:
    """Files of which parts are read, the latest MOST_OPEN of them kept open.

    For any thread; a copy in another process opens its own.
    """

    def __init__(self) -> None:
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[type[OpenFiles], tuple[()]]:
        """Go to another process without open files."""
        return OpenFiles, ()

    def read(self, path: Path, position: int, count: int) -> bytes:
        """Return `count` bytes from `position` on; ValueError where the file ends before."""
        with self._lock:
            file = self._open.pop(path, None) or _OpenFile(path)
            self._open[path] = file
            if len(self._open) > MOST_OPEN:
                self._open.popitem(last=False)
        parts = []
        while count and (part := file.read(position, count)):  # a read may bring less
            parts.append(part)
            position, count = position + len(part), count - len(part)
        if count:
            raise ValueError(f"{path} ends {count} bytes too early")
        return parts[0] if len(parts) == 1 else b"".join(parts)


class ArrayFile:
    """A .npy file, of which rows are read."""

    def __init__(self, files: OpenFiles, path: Path) -> None:
        """ValueError for a file that is no plain array of rows."""
        self.files, self.path = files, path
        with open(path, "rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                raise ValueError(f"{path}: not a .npy file of version 1.0")
            shape, is_fortran, self.dtype = np.lib.format.read_array_header_1_0(file)
            self._start = file.tell()
        if is_fortran or self.dtype.hasobject:
            raise ValueError(f"{path}: an array of {self.dtype} that has no rows")
        self.length, *self._columns = shape
        self._row_bytes = self.dtype.itemsize * int(np.prod(self._columns, dtype=np.int64))

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Return rows start … stop, a copy that cannot be written to."""
        position = self._start + start * self._row_bytes
        content = self.files.read(self.path, position, (stop - start) * self._row_bytes)
        return np.frombuffer(content, self.dtype).reshape(stop - start, *self._columns)
