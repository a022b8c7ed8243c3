"""The records that every adaptor yields, ids, the split by id, the index of a prepared corpus."""

from __future__ import annotations

import hashlib
import json
import math
import re
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

FULL_SCALE = 32768  # integer of a sample of 1.0
AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
LOUDNESS = -18.0  # LUFS of the mix: the RMS of both stems is then about diffusion.sigma_data, 0.1
MAX_ID_LENGTH = 200  # bytes; file systems allow 255 for a name, suffixes and temporaries included
SPLITS = ("train", "validation", "test")
TAKE_MARK = "@"  # SONG@TAKE: what stands before it decides on the split, of its phrases too

Piece = TypeVar("Piece")


@dataclass(frozen=True)
class SongbookSettings:
    """What a songbook's rendering depends on, apart from the song and the audio's rate."""

    takes: int = 1
    seconds: float = 120.0  # longest song
    seed: int = 0
    performance: bool = False  # every take sings its notes in its own way
    other_words: int = 0  # more takes of every training song, to other words

    def __post_init__(self) -> None:
        if self.other_words < 0:
            raise ValueError(f"--other-words {self.other_words}: expected 0 or more")
        if self.takes < 1 or self.seconds < 5:
            raise ValueError(
                f"{self.takes} takes of at most {self.seconds} s: expected at least one of 5 s"
            )


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
    """A song as two aligned recordings; an accompaniment in several parts is their sum."""

    id: str
    vocal_path: Path
    accompaniment_paths: tuple[Path, ...]


@dataclass(frozen=True)
class ArrayPair:
    """A song as two aligned arrays (S,), which may be mapped from a file."""

    id: str
    vocal: np.ndarray
    accompaniment: np.ndarray
    names: tuple[str, str]  # of the arrays, for messages
    sample_rate: int  # Hz


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


@dataclass(frozen=True)
class Split:
    """How items are assigned to train, validation and test: by a hash of (seed, id).

    The other items have no say, so a growing corpus never moves an item to another split. A corpus
    with a test split of its own marks it by the beginning of the ids.
    """

    seed: int = 0
    validation_share: float = 0.05
    test_share: float = 0.05
    test_prefix: str = ""  # ids that begin so are test whatever the hash; empty: none

    def __post_init__(self) -> None:
        shares = (self.validation_share, self.test_share)
        if min(shares) < 0 or sum(shares) >= 1:
            raise ValueError(
                f"validation share {shares[0]} and test share {shares[1]}: expected at least 0 "
                "each, and a sum below 1 that leaves something to train on"
            )

    def of(self, id: str) -> str:
        """Return the split of an item; all items of one song (see TAKE_MARK) have the same."""
        if self.test_prefix and id.startswith(self.test_prefix):
            return "test"
        digest = hashlib.sha256(f"{self.seed}:{id.split(TAKE_MARK)[0]}".encode()).digest()
        position = int.from_bytes(digest[:8], "big") / 2**64  # uniform in [0, 1)
        if position < self.test_share:
            return "test"
        return "validation" if position < self.test_share + self.validation_share else "train"


@dataclass(frozen=True)
class Shard:
    """One of `count` equal parts of a corpus: every count-th unit from the number-th on."""

    number: int  # from 1
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `3/16`; ValueError for anything else."""
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.count:
            raise ValueError(f"--shard {text}: expected NUMBER/COUNT, from 1/16 to 16/16 for 16")
        return shard

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.number}-of-{self.count}"

    def of(self, units: Sequence[Piece]) -> Sequence[Piece]:
        """Return the units of this shard."""
        return units[self.number - 1 :: self.count]


def strict_message(rejections: Sequence[Rejection]) -> str:
    """Word the end of a strict build."""
    lines = "".join(f"\n  {rejection.id}: {rejection.reason}" for rejection in rejections)
    return f"--strict: {len(rejections)} items are faulty{lines}"


def song_of(id: str) -> str:
    """The song of a phrase: songbook/lc1234@2.007, the seventh phrase of its take 2 → lc1234."""
    return id.rpartition("/")[2].partition("@")[0]


# ---------------------------------------------------------------------------- index of a corpus

INDEX_VERSION = 1  # raised when the meaning of an index or of its arrays changes
INDEX_NAME = "index.json"
MOST_DIGITS = 18  # of a whole number in an index
NEEDED = ("items", "id", "split", "num_frames")  # others may be missing
COMMON = {"corpus": str, "sample_rate": int, "audio": dict, "statistics": dict}
COMMON |= {"items": list}
ENTRIES: dict[str, dict[str, Any]] = {  # types of an index's entries, by kind
    "speech": {"symbols": list},
    "stems": {"loudness": int | float},
}
ITEM = {"id": str, "split": str, "num_samples": int, "sha256": dict}
ITEMS: dict[str, dict[str, Any]] = {
    "speech": {"text": str, "symbols": list, "num_frames": int, "voice": str},
    "stems": {"power": dict},
}


def read_index(directory: Path) -> dict[str, Any]:
    """Read feature/NAME/index.json; FileNotFoundError or ValueError names the next command."""
    path = Path(directory) / INDEX_NAME
    if not path.is_file():
        parent = Path(directory).parent
        there = sorted(found.parent.name for found in parent.glob(f"*/{INDEX_NAME}"))
        raise FileNotFoundError(
            f"{path}: no such index. Prepared under {parent}: {', '.join(there) or 'nothing'}. "
            f"Prepare it with: python prepare_data.py ljspeech DIR --name {Path(directory).name}"
        )
    try:
        text = path.read_text(encoding="utf-8")
        index = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        version, kind = index["version"], index["kind"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path}: not an index of prepared features ({error!r}); prepare the corpus again"
        ) from error
    if version != INDEX_VERSION:
        raise ValueError(
            f"{path}: {kind} index of version {version}, this program reads version "
            f"{INDEX_VERSION}; prepare the corpus again"
        )
    if faults := _index_faults(index):
        raise ValueError(
            f"{path}: {'; '.join(faults[:5])}. It was changed, or made by another program: "
            "prepare the corpus again"
        )
    return index


def _whole(digits: str) -> int:
    """Return a whole number of an index; ValueError for one that counts nothing there is."""
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    """Return a number of an index; ValueError for NaN, which is never written, and infinity."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number is {text[:MOST_DIGITS]}")
    return value


def _index_faults(index: dict[str, Any]) -> list[str]:
    """Name the entries of an index and of its items that are missing or of another type.

    An id names files: one that is a path would read and write elsewhere.
    """
    kind = str(index["kind"])
    faults = _wrong(index, COMMON | ENTRIES.get(kind, {}), "")
    if kind not in ENTRIES or faults:
        return faults or [f"a corpus of kind {reprlib.repr(index['kind'])}"]
    fields = ITEM | ITEMS[index["kind"]]
    for number, item in enumerate(index["items"]):
        if not isinstance(item, dict):
            faults.append(f"item {number} is {reprlib.repr(item)}")
            continue
        found = _wrong(item, fields, f"item {number}: ")
        if not found and (fault := id_fault(item["id"])):
            found = [f"item {number}: {fault}"]
        faults += found
    return faults


def _wrong(entry: dict[str, Any], fields: dict[str, Any], where: str) -> list[str]:
    return [
        f"{where}{name} is " + (reprlib.repr(entry[name]) if name in entry else "missing")
        for name, kind in fields.items()
        if name in NEEDED or name in entry
        if not isinstance(entry.get(name), kind) or isinstance(entry.get(name), bool)
    ]
