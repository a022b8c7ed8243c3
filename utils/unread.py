"""Read a checkpoint without its tensors and without torch: what it says of its network.

torch.save writes a zip archive: one pickle, and a record for the storage of each tensor. Here the
pickle alone is read, by an unpickler that knows plain values and how a tensor is announced.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

PICKLE = "/data.pkl"  # the end of its name in the archive


class Unread:
    """A tensor, or its storage, that stayed in the file."""


def _unread(*_: Any) -> Unread:
    return Unread()


class _Unpickler(pickle.Unpickler):
    """Make plain values and `Unread`s; anything else raises UnpicklingError, nothing is called."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a global of the pickle stands for."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _unread
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return Unread
        raise pickle.UnpicklingError(f"{module}.{name} in a checkpoint")

    def persistent_load(self, pid: Any) -> Unread:
        """Return a placeholder of a tensor's storage."""
        return Unread()


def read_without_tensors(path: Path) -> Any:
    """Return the state that `torch.save` wrote, an `Unread` for every tensor.

    Raises UnpicklingError for what is no plain value, and what zipfile and pickle raise for files
    that are damaged or no archive.
    """
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(PICKLE)]
        if len(names) != 1:
            raise pickle.UnpicklingError(f"{len(names)} records {PICKLE}, expected one")
        with archive.open(names[0]) as file:
            return _Unpickler(file).load()
