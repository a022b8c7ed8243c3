"""The records that every adaptor yields, the rule for ids, and the split by id."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
MAX_ID_LENGTH = 200  # bytes; file systems allow 255 for a name, suffixes and temporaries included
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Utterance:
    """A recording and what is said in it."""

    id: str
    wav_path: Path
    text: str
    normalised: str  # the text with numbers and abbreviations written out, as the corpus has it
    row: int  # line of the corpus' table, for messages


@dataclass(frozen=True)
class StemPair:
    """A song as two aligned recordings."""

    id: str
    vocal_path: Path
    accompaniment_path: Path


@dataclass(frozen=True)
class Rejection:
    """An item that was left out, and why."""

    id: str
    reason: str


def id_fault(id: str) -> str | None:
    """Say why an id cannot be a file's name in a cache, or None when it can."""
    if not id:
        return "the id is empty"
    if len(id.encode()) > MAX_ID_LENGTH:
        return f"the id is longer than {MAX_ID_LENGTH} bytes"
    if "/" in id or "\\" in id or id.startswith("."):
        return "the id is a path; expected a plain name"
    if not re.fullmatch(r"[\w .,;!+@~=#%&'()\[\]{}$-]+", id) or id != id.strip():
        return "the id holds characters that a file name should not"
    return None


def split_of(id: str, seed: int, validation_share: float, test_share: float) -> str:
    """Assign an item to train, validation or test by a hash of (seed, id).

    The other items have no say, so a growing corpus never moves an item to another split.
    """
    digest = hashlib.sha256(f"{seed}:{id}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
    if position < test_share:
        return "test"
    return "validation" if position < test_share + validation_share else "train"
