"""Folders of results that appear as a whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def staged(directory: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `directory`; what is in it at the end is moved there.

    Files of the same name are replaced, others stay. After an exception nothing has changed. Raises
    ValueError when `directory` is a file.
    """
    directory = Path(directory)
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file; expected a folder to write to, or a new name")
    stage = directory.absolute().parent / f".{directory.absolute().name}.{os.getpid()}.tmp"
    stage.mkdir(parents=True)
    try:
        yield stage
        directory.mkdir(parents=True, exist_ok=True)
        for path in sorted(stage.iterdir()):
            os.replace(path, directory / path.name)
    finally:
        shutil.rmtree(stage, ignore_errors=True)
