"""Preparing a corpus in shards, by as many processes on as many machines as there are.

    python prepare_data.py songbook DIR --name NAME --shard 3/16     # one of 16 jobs, any order
    python prepare_data.py merge NAME                                # after all of them

A shard takes every n-th unit of the corpus (an utterance, a pair of stems, a take, a recording),
makes its arrays in feature/NAME, and writes what the index needs to feature/NAME/shards/3-of-16:
part.jsonl, a line for each unit, and moments.npy, exact statistics of each item. `merge` reads
these, no audio and no array, in the order of the corpus: index, journal and statistics equal those
of one process byte by byte.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpora import songs, speech
from corpora.cache import BuildReport, Moments, Outcome, open_cache
from corpora.records import Rejection, Shard, Split, strict_message
from utils.files import FolderLock, Journal, atomic, reading, write_text

FOLDER = "shards"
PART, MOMENTS = "part.jsonl", "moments.npy"
PART_VERSION = 2
ARRAYS_OF = {speech.KIND: speech.speech_arrays, songs.KIND: songs.songs_arrays}
FINISH = {speech.KIND: speech.finish_speech, songs.KIND: songs.finish_songs}


@dataclass(frozen=True)
class Unit:
    """What one unit of a corpus has become before its arrays are made."""

    entries: int = 1  # arrays to be made of it, of each kind
    rejections: tuple[Rejection, ...] = ()
    rendering: str | None = None  # songs/ID/song.json says what was sung


@dataclass(frozen=True)
class Head:
    """What all shards of a corpus have in common."""

    layout: str  # subcommand of prepare_data.py
    index: Mapping[str, Any]  # its entries that are known before any item is
    units: int  # of the whole corpus
    corpus: str  # fingerprint of it
    rejections: Sequence[Rejection]  # those that are of no unit
    stems: bool = False  # of a sung corpus: its stems have shards too, in NAME-stems
    version: int = PART_VERSION


def build_shard(
    shard: Shard,
    directory: Path,
    head: Head,
    units: Sequence[Unit],
    make: Callable[[Journal], Iterator[Outcome]],
    strict: bool = False,
) -> str:
    """Make the arrays of one shard of feature/NAME, and its part; return a line about it.

    units: those of the shard; make: yields what became of all their entries, in order. An
    interrupted shard goes on where it stopped. With `strict` a rejection raises ValueError.
    """
    folder = directory / FOLDER / shard.name
    busy = f"{folder} is being prepared by another process: wait for it, or take another shard"
    with FolderLock(folder, busy):
        for name in ARRAYS_OF[head.index["kind"]](head.index):
            (directory / name).mkdir(parents=True, exist_ok=True)
        outcomes = list(make(Journal(folder / "journal.jsonl")))
        faults = [r for unit in units for r in unit.rejections]
        faults += [Rejection(o.id, o.fault or "") for o in outcomes if o.item is None]
        if strict:
            found = [*head.rejections, *faults, *(r for o in outcomes for r in o.remarks)]
            if found:
                raise ValueError(strict_message(found))
        _write_moments(folder, outcomes)
        _write_part(folder, head, units, outcomes)
    made = sum(outcome.item is not None for outcome in outcomes)
    return (
        f"{folder}: {made} items, {sum(o.kept for o in outcomes)} of them kept, {len(faults)} "
        f"faulty; after all {shard.count} shards: python prepare_data.py merge {directory.name}"
    )


def _write_moments(folder: Path, outcomes: Sequence[Outcome]) -> None:
    measured = [_as_array(o.moments) for o in outcomes if o.item is not None and o.moments]
    with atomic(folder / MOMENTS) as temporary, open(temporary, "wb") as file:
        np.save(file, np.stack(measured) if measured else np.zeros(0))


def _write_part(
    folder: Path, head: Head, units: Sequence[Unit], outcomes: Sequence[Outcome]
) -> None:
    lines = [json.dumps(asdict(head), ensure_ascii=False)]
    rest = iter(outcomes)
    for unit in units:
        made = [next(rest) for _ in range(unit.entries)]
        line = {
            "rejections": [asdict(rejection) for rejection in unit.rejections],
            "rendering": unit.rendering,
            "outcomes": [
                {"id": o.id, "item": o.item, "record": o.record, "fault": o.fault} for o in made
            ],
        }
        lines.append(json.dumps(line, ensure_ascii=False))
    write_text(folder / PART, "".join(line + "\n" for line in lines))


class Parts:
    """The parts of all shards of feature/NAME, read in the order of the corpus.

    Raises FileNotFoundError for a shard that is missing, ValueError for shards of different corpora
    or settings.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.folder = directory / FOLDER
        self.shards = _shards_of(self.folder)
        heads = [self._head(shard) for shard in self.shards]
        for shard, head in zip(self.shards, heads, strict=True):
            names = [key for key in head if head[key] != heads[0].get(key)]
            if names:
                raise ValueError(
                    f"{self.folder / shard.name}: another {', '.join(names)} than "
                    f"{self.shards[0].name}: prepare it again with the same flags and corpus"
                )
        self.head = Head(
            **{**heads[0], "rejections": [Rejection(**entry) for entry in heads[0]["rejections"]]}
        )
        self.kind: str = self.head.index["kind"]
        self.split = Split(**self.head.index["split"])

    def _head(self, shard: Shard) -> dict[str, Any]:
        path = self.folder / shard.name / PART
        with reading(path), open(path, encoding="utf-8") as file:
            head: dict[str, Any] = json.loads(file.readline())
            if head.get("version") != PART_VERSION:
                raise ValueError(
                    f"{path}: a part of version {head.get('version', 1)}, expected {PART_VERSION}: "
                    "prepare that shard again, its arrays are kept"
                )
            return head

    def units(self) -> Iterator[Unit]:
        """Yield what became of every unit before its arrays were made."""
        for line, _ in self._lines():
            rejections = tuple(Rejection(**entry) for entry in line["rejections"])
            yield Unit(len(line["outcomes"]), rejections, line["rendering"])

    def rejections(self) -> list[Rejection]:
        """List what was rejected before any array was made."""
        return [*self.head.rejections, *(r for unit in self.units() for r in unit.rejections)]

    def renderings(self) -> list[str]:
        """List the ids of songs/ID/song.json."""
        return [unit.rendering for unit in self.units() if unit.rendering is not None]

    def ids(self) -> list[str]:
        """List the ids of all entries, faulty ones included."""
        return [entry["id"] for line, _ in self._lines() for entry in line["outcomes"]]

    def outcomes(self, split: Split, journal: Journal) -> Iterator[Outcome]:
        """Yield what became of every entry; fill the journal, and put the items into `split`."""
        for line, moments in self._lines():
            for entry in line["outcomes"]:
                item, measured = entry["item"], dict[str, Moments]()
                if entry["record"] is not None:
                    journal.add(entry["record"])
                if item is not None:
                    item["split"] = split.of(item["id"])
                    if self.kind == speech.KIND:
                        measured = _from_array(next(moments), item["num_frames"], self._bins)
                yield Outcome(entry["id"], item, entry["record"], entry["fault"], False, measured)

    @property
    def _bins(self) -> tuple[int, int]:
        audio = self.head.index["audio"]
        return audio["n_mels"], audio["n_fft"] // 2 + 1

    def _lines(self) -> Iterator[tuple[dict[str, Any], Iterator[np.ndarray]]]:
        """Yield the lines of all units, with the moments of their shard, those not yet taken."""
        parts = [_part(self.folder / shard.name) for shard in self.shards]
        for position in range(self.head.units):
            yield next(parts[position % len(parts)])

    def remove(self) -> None:
        """Delete the parts, which an index has taken the place of."""
        shutil.rmtree(self.folder)


def _part(folder: Path) -> Iterator[tuple[dict[str, Any], Iterator[np.ndarray]]]:
    """Yield the lines of one shard, and its moments as one iterator."""
    moments = iter(np.load(folder / MOMENTS, mmap_mode="r"))
    with reading(folder / PART), open(folder / PART, encoding="utf-8") as file:
        file.readline()  # the head
        for line in file:
            yield json.loads(line), moments


def merge(
    parts: Parts,
    strict: bool = False,
    split: Split | None = None,
    rejections: Sequence[Rejection] | None = None,
) -> BuildReport:
    """Make the index of feature/NAME from its shards; see the `finish` of its kind for errors.

    split, rejections: where others than the shards' are wanted.
    """
    directory = parts.directory
    busy = f"{directory} is being prepared by another process: wait for it"
    with FolderLock(directory, busy):
        split = split or parts.split
        journal = open_cache(directory, parts.kind, ARRAYS_OF[parts.kind](parts.head.index))
        return FINISH[parts.kind](
            directory,
            {**parts.head.index, "split": dataclasses.asdict(split)},
            parts.outcomes(split, journal),
            journal,
            parts.head.units,
            parts.rejections() if rejections is None else rejections,
            strict,
        )


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
            "each with the command that makes the corpus, such as: python prepare_data.py ljspeech "
            f"DIR --name {folder.parent.name} --shard NUMBER/{count}"
        )
    return whole


def _as_array(moments: Mapping[str, Moments]) -> np.ndarray:
    """Return means, then deviations, of all kinds, (2, M + F) float64."""
    kinds = speech.MEASURED
    return np.stack(
        [
            np.concatenate([moments[kind].mean for kind in kinds]),
            np.concatenate([moments[kind].deviation for kind in kinds]),
        ]
    )


def _from_array(rows: np.ndarray, count: int, bins: tuple[int, int]) -> dict[str, Moments]:
    """Undo `_as_array` for an item of `count` frames."""
    parts = [np.split(np.asarray(row), [bins[0]]) for row in rows]
    return {k: Moments(count, parts[0][n], parts[1][n]) for n, k in enumerate(speech.MEASURED)}
