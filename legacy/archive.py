"""Files of torch.save from elsewhere: opened without running code, refused with a reason.

A file may be a web page, half a download, a hole in the middle, or made to do harm; each is told
from a sound archive before any tensor is looked at, and the tensors are mapped, not allocated.
"""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

MAX_PICKLE = 64 * 2**20  # bytes of a file's structure without its tensors; 0.2 MiB are usual


def read_archive(path: Path, content: str) -> Any:
    """Read a file of torch.save without running code, its tensors mapped rather than allocated.

    content: what the file should hold, for messages. FileNotFoundError when it is missing,
    ValueError when it is anything else than a whole and sound archive of plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"no file at {path}, where {content} is expected: the legacy project's README links "
            "the download; put it there under this name"
        )
    _check_archive(path, content)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{path} holds more than tensors and plain values, so it is not {content} and is not "
            f"opened ({str(error).splitlines()[0][:200]})"
        ) from error
    except (RuntimeError, EOFError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path} ({size_of(path)}) cannot be read as {content}: {str(error)[:200]}"
        ) from error


def _check_archive(path: Path, content: str) -> None:
    """Raise ValueError unless the file is a whole zip of stored records whose checksums hold."""
    again = f"expected {content}; download it again to {path}"
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError(f"{path} is empty: {again}")
    if not start.startswith(b"PK"):
        looks = "a web page" if start.lstrip()[:1] == b"<" else f"a file that begins {start[:8]!r}"
        raise ValueError(f"{path} ({size_of(path)}) is {looks}, not an archive of PyTorch: {again}")
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            foreign = [
                record.filename
                for record in records
                if record.compress_type != zipfile.ZIP_STORED
                or (record.filename.endswith(".pkl") and record.file_size > MAX_PICKLE)
            ]
            pickles = [r.filename for r in records if r.filename.endswith("data.pkl")]
            if foreign or len(pickles) != 1:
                raise ValueError(
                    f"{path} is a zip of {len(records)} files, but none that PyTorch wrote "
                    f"({(foreign or [r.filename for r in records])[:3]}): {again}"
                )
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError) as error:
        raise ValueError(
            f"{path} ({size_of(path)}) is cut off or half-downloaded ({error}): {again}"
        ) from error
    if damaged is not None:
        raise ValueError(
            f"{path} ({size_of(path)}) is damaged: {damaged} fails its checksum: {again}"
        )


def size_of(path: Path) -> str:
    """Return the size of a file in words."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


def describe(value: Any) -> str:
    """Describe an unexpected value in a few words."""
    if isinstance(value, dict):
        return f"a dict of {', '.join(map(str, list(value)[:6])) or 'nothing'}"
    if isinstance(value, Tensor):
        return f"a {value.dtype} tensor {tuple(value.shape)}"
    return f"{type(value).__name__} {str(value)[:40]}"
