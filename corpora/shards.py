"""Preparing a corpus in shards, by as many processes on as many machines as there are.

    python prepare_data.py ljspeech DIR --name NAME --shard 3/16     # one of 16 jobs, any order
    python prepare_data.py merge NAME                                # after all of them

A shard makes the arrays of every n-th utterance in feature/NAME and writes what the index needs to
feature/NAME/shards/3-of-16: part.jsonl, a line for each utterance, and moments.npy, exact
statistics of each. `merge` reads these alone, no audio and no array, in the order of the corpus:
index, journal and statistics equal those of one process byte by byte.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corpora.cache import BuildReport, fingerprint, open_cache
from corpora.records import Rejection, Split, strict_message
from corpora.speech import ARRAYS, KIND, Entry, Outcome, extract_all, finish, index_head
from corpora.statistics import Moments
from utils.files import FolderLock, Journal, atomic, reading, write_text

if TYPE_CHECKING:
    from hyperparams import Audio

FOLDER = "shards"
PART, MOMENTS = "part.jsonl", "moments.npy"


@dataclass(frozen=True)
class Shard:
    """One of `count` equal parts of a corpus: every count-th utterance from the number-th on."""

    number: int  # from 1
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `3/16`; ValueError for anything else."""
        found = re.fullmatch(r"(\d+)/(\d+)", text)
        shard = cls(int(found[1]), int(found[2])) if found else cls(0, 0)
        if not 1 <= shard.number <= shard.count:
            raise ValueError(f"--shard {text}: expected NUMBER/COUNT, from 1/16 to 16/16 for 16")
        return shard

    @property
    def name(self) -> str:
        """The name of its folder."""
        return f"{self.number}-of-{self.count}"


def build_shard(
    shard: Shard,
    entries: Sequence[Entry],
    directory: Path,
    corpus: str,
    audio: Audio,
    symbol_table: Sequence[str],
    split: Split,
    workers: int,
    rejections: Sequence[Rejection] = (),
    strict: bool = False,
) -> str:
    """Make the arrays of one shard of feature/NAME, and its part; return a line about it.

    An interrupted shard goes on where it stopped. With `strict` a rejection raises ValueError.
    """
    folder = directory / FOLDER / shard.name
    busy = f"{folder} is being prepared by another process: wait for it, or take another shard"
    with FolderLock(folder, busy):
        for name in ARRAYS:
            (directory / name).mkdir(parents=True, exist_ok=True)
        mine = entries[shard.number - 1 :: shard.count]
        journal = Journal(folder / "journal.jsonl")
        outcomes = list(extract_all(mine, directory, corpus, audio, split, workers, journal))
        faults = [Rejection(o.id, o.fault or "") for o in outcomes if o.item is None]
        if strict and (found := [*rejections, *faults]):
            raise ValueError(strict_message(found))
        head = {
            "index": index_head(corpus, audio, symbol_table, split),
            "entries": len(entries),
            "corpus": fingerprint([(e.utterance.id, e.symbols, e.score) for e in entries]),
            "rejections": [asdict(rejection) for rejection in rejections],
        }
        measured = [_as_array(o.moments) for o in outcomes if o.item is not None]
        moments = np.stack(measured) if measured else np.zeros(0)
        with atomic(folder / MOMENTS) as temporary, open(temporary, "wb") as file:
            np.save(file, moments)
        lines = [
            {"id": o.id, "item": o.item, "record": o.record, "fault": o.fault} for o in outcomes
        ]
        write_text(
            folder / PART, "".join(json.dumps(x, ensure_ascii=False) + "\n" for x in [head, *lines])
        )
    kept = sum(outcome.kept for outcome in outcomes)
    return (
        f"{folder}: {len(outcomes) - len(faults)} items, {kept} of them kept, {len(faults)} "
        f"faulty; after all {shard.count} shards: python prepare_data.py merge {directory.name}"
    )


def merge(directory: Path, strict: bool = False) -> BuildReport:
    """Make the index of feature/NAME from its shards, and remove them.

    Raises FileNotFoundError for a shard that is missing, ValueError for shards of different
    corpora or settings, and what `build_speech` raises.
    """
    busy = f"{directory} is being prepared by another process: wait for it"
    with FolderLock(directory, busy):
        shards = _shards_of(directory / FOLDER)
        heads = []
        for shard in shards:
            path = directory / FOLDER / shard.name / PART
            with reading(path), open(path, encoding="utf-8") as file:
                heads.append(json.loads(file.readline()))
        for shard, head in zip(shards, heads, strict=True):
            if head != heads[0]:
                names = [key for key in head if head[key] != heads[0].get(key)]
                raise ValueError(
                    f"{directory / FOLDER / shard.name}: another {', '.join(names)} than "
                    f"{shards[0].name}: prepare it again with the same flags and corpus"
                )
        head = heads[0]
        rejections = [Rejection(**rejection) for rejection in head["rejections"]]
        journal = open_cache(directory, KIND, ARRAYS)
        outcomes = _outcomes(directory / FOLDER, shards, head, journal)
        report = finish(
            directory, head["index"], outcomes, journal, head["entries"], rejections, strict
        )
        shutil.rmtree(directory / FOLDER)
        return report


def _shards_of(folder: Path) -> list[Shard]:
    """List the shards below a folder; FileNotFoundError when one is missing or unfinished."""
    found = [re.fullmatch(r"(\d+)-of-(\d+)", path.name) for path in sorted(folder.glob("*-of-*"))]
    shards = {(int(f[1]), int(f[2])) for f in found if f}
    counts = {count for _, count in shards}
    if len(counts) > 1:
        raise ValueError(
            f"{folder} holds shards of {sorted(counts)}: remove those of the counts that are not "
            "meant"
        )
    count = max(counts, default=1)
    whole = [Shard(number, count) for number in range(1, count + 1)]
    if missing := [s.name for s in whole if not (folder / s.name / PART).is_file()]:
        shown = ", ".join(missing[:10]) + (" …" if len(missing) > 10 else "")
        raise FileNotFoundError(
            f"{folder}: {len(missing)} of {count} shards are missing or unfinished: {shown}. Make "
            "each with: python prepare_data.py ljspeech DIR --name "
            f"{folder.parent.name} --shard NUMBER/{count}"
        )
    return whole


def _outcomes(
    folder: Path, shards: Sequence[Shard], head: dict[str, Any], journal: Journal
) -> Iterator[Outcome]:
    """Yield what became of every utterance, in the order of the corpus; fill the journal."""
    bins = (head["index"]["audio"]["n_mels"], head["index"]["audio"]["n_fft"] // 2 + 1)
    parts = [_part(folder / shard.name, bins) for shard in shards]
    for position in range(head["entries"]):
        outcome = next(parts[position % len(parts)])
        if outcome.record is not None:
            journal.add(outcome.record)
        yield outcome


def _part(folder: Path, bins: tuple[int, int]) -> Iterator[Outcome]:
    """Yield the outcomes of one shard, in order."""
    moments = np.load(folder / MOMENTS, mmap_mode="r")
    row = 0
    with open(folder / PART, encoding="utf-8") as file:
        file.readline()  # the head
        for line in file:
            entry = json.loads(line)
            measured: dict[str, Moments] = {}
            if entry["item"] is not None:
                measured = _from_array(moments[row], entry["item"]["num_frames"], bins)
                row += 1
            yield Outcome(
                entry["id"], entry["item"], entry["record"], entry["fault"], False, measured
            )


def _as_array(moments: dict[str, Moments]) -> np.ndarray:
    """Return means, then deviations, of all kinds, (2, M + F) float64."""
    return np.stack(
        [
            np.concatenate([moments[kind].mean for kind in ARRAYS]),
            np.concatenate([moments[kind].deviation for kind in ARRAYS]),
        ]
    )


def _from_array(rows: np.ndarray, count: int, bins: tuple[int, int]) -> dict[str, Moments]:
    """Undo `_as_array` for an item of `count` frames."""
    parts = [np.split(np.asarray(row), [bins[0]]) for row in rows]
    return {kind: Moments(count, parts[0][k], parts[1][k]) for k, kind in enumerate(ARRAYS)}
