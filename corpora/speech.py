"""Utterances to feature/NAME: mel/ID.npy (T, M), linear/ID.npy (T, F) and index.json.

Arrays are float16 natural logs, not standardised: 0.01 neper of rounding at the floor, half the
disk. Statistics over the train split are exact: float64 moments of each item, merged in the order
of the index, whatever the number of workers.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corpora.cache import (
    INDEX_NAME,
    INDEX_VERSION,
    fingerprint,
    intact,
    open_cache,
    read_index,
    run_parallel,
    save_array,
    sha256_of,
    strays,
    write_json,
)
from corpora.quality import recording_fault
from corpora.records import Rejection, Utterance, split_of
from utils.audio import MIN_STANDARD_DEVIATION, Features, convert, read_audio

if TYPE_CHECKING:
    from hyperparams import Audio
    from text.frontend import Pronouncer

KIND = "speech"
ARRAYS = ("mel", "linear")


@dataclass(frozen=True)
class Split:
    """How items are assigned to train, validation and test."""

    seed: int = 0
    validation_share: float = 0.05
    test_share: float = 0.05

    def __post_init__(self) -> None:
        shares = (self.validation_share, self.test_share)
        if min(shares) < 0 or sum(shares) >= 1:
            raise ValueError(
                f"validation share {shares[0]} and test share {shares[1]} must be at least 0 and "
                "leave something to train on"
            )


@dataclass
class Moments:
    """Count, mean and sum of squared deviations per bin, in float64."""

    count: int
    mean: np.ndarray  # (C,)
    deviation: np.ndarray  # (C,)

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Measure (T, C)."""
        values = values.astype(np.float64)
        mean = values.mean(axis=0)
        return cls(len(values), mean, np.square(values - mean).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets together (Chan et al. 1979)."""
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = np.square(difference) * (self.count * other.count / count)
        return Moments(count, mean, self.deviation + other.deviation + between)

    def statistics(self) -> dict[str, list[float]]:
        """Return {mean, std} as plain lists."""
        std = np.sqrt(self.deviation / self.count)
        return {
            "mean": self.mean.tolist(),
            "std": np.maximum(std, MIN_STANDARD_DEVIATION).tolist(),
        }


@dataclass(frozen=True)
class ExtractionTask:
    """One utterance on its way to a worker."""

    id: str
    wav_path: Path
    num_symbols: int
    directory: Path
    audio: Audio
    record: dict[str, Any] | None  # of an earlier build


@dataclass(frozen=True)
class Extraction:
    """What a worker brings back: a record for the journal, or the reason of a rejection."""

    id: str
    record: dict[str, Any] | None
    fault: str | None
    kept: bool
    moments: dict[str, Moments]


@dataclass
class BuildReport:
    """What a build did, for the summary."""

    directory: Path
    index: dict[str, Any]
    rejections: list[Rejection]
    kept: int = 0
    removed: list[str] = field(default_factory=list)
    num_bytes: int = 0


def extract(task: ExtractionTask) -> Extraction:
    """Make the arrays of one utterance, or keep those that an earlier build left intact."""
    try:
        source = sha256_of(task.wav_path)
        mark = fingerprint(INDEX_VERSION, source, dataclasses.asdict(task.audio))
        record = task.record if task.record and task.record["fingerprint"] == mark else None
        if record and intact(task.directory, task.id, record["sha256"]):
            fault = _length_fault(record["num_frames"], task.num_symbols)
            return Extraction(task.id, record, fault, True, _stored_moments(task))
        wav, file_rate = read_audio(task.wav_path)
    except (OSError, ValueError) as error:
        return Extraction(task.id, None, str(error), False, {})
    features = Features(task.audio)
    num_samples = -(-wav.shape[1] * task.audio.sample_rate // file_rate)
    fault = recording_fault(wav, features.num_frames(num_samples))
    fault = fault or _length_fault(features.num_frames(num_samples), task.num_symbols)
    if fault:
        return Extraction(task.id, None, fault, False, {})
    mono, info = convert(wav, file_rate, task.audio.sample_rate)
    spectrograms = dict(zip(ARRAYS, features(mono[None]), strict=True))
    arrays = {kind: values[0].numpy().astype(np.float16) for kind, values in spectrograms.items()}
    checksums = {k: save_array(task.directory / k / f"{task.id}.npy", a) for k, a in arrays.items()}
    record = {
        "id": task.id,
        "fingerprint": mark,
        "num_samples": len(mono),
        "num_frames": len(arrays["mel"]),
        "sha256": checksums,
        "conversions": list(info.conversions),
    }
    moments = {kind: Moments.of(array) for kind, array in arrays.items()}
    return Extraction(task.id, record, None, False, moments)


def _stored_moments(task: ExtractionTask) -> dict[str, Moments]:
    return {kind: Moments.of(np.load(task.directory / kind / f"{task.id}.npy")) for kind in ARRAYS}


def _length_fault(num_frames: int, num_symbols: int) -> str | None:
    if num_frames >= num_symbols:
        return None
    return (
        f"{num_symbols} symbols of text in {num_frames} frames: nobody speaks as fast; the text "
        "belongs to another recording, or the recording is cut off"
    )


@dataclass(frozen=True)
class Entry:
    """An utterance with its pronunciation, and its score when it is sung."""

    utterance: Utterance
    symbols: tuple[str, ...]
    guessed: tuple[str, ...]  # words whose pronunciation is a guess
    score: dict[str, list[Any]] | None = None


def pronounce(
    utterances: Sequence[Utterance], pronouncer: Pronouncer
) -> tuple[list[Entry], list[Rejection]]:
    """Pronounce every utterance; those that cannot be pronounced are rejected with the reason."""
    entries, rejections = [], []
    for utterance in utterances:
        try:
            spoken = pronouncer.pronounce(utterance.normalised, utterance.row)
        except ValueError as error:
            rejections.append(Rejection(utterance.id, str(error)))
            continue
        guessed = tuple(word.text for word in spoken.words if word.guessed)
        entries.append(Entry(utterance, tuple(spoken.symbols), guessed))
    return entries, rejections


def build(
    entries: Sequence[Entry],
    directory: Path,
    corpus: str,
    audio: Audio,
    symbol_table: Sequence[str],
    split: Split,
    workers: int,
    rejections: Sequence[Rejection] = (),
    strict: bool = False,
) -> BuildReport:
    """Build or complete feature/NAME from pronounced utterances.

    Faulty items are left out and listed in the report and the index; with `strict` any rejection
    raises ValueError, and the index is not written. Raises ValueError too when nothing is left to
    train on.
    """
    rejections = list(rejections)
    if strict and rejections:
        raise ValueError(strict_message(rejections))
    journal = open_cache(directory, KIND, ARRAYS)
    tasks = [
        ExtractionTask(
            entry.utterance.id,
            entry.utterance.wav_path,
            len(entry.symbols),
            directory,
            audio,
            journal.records.get(entry.utterance.id),
        )
        for entry in entries
    ]
    items, moments, kept = [], dict[str, Moments](), 0
    results = run_parallel(extract, tasks, workers, f"features of {corpus}")
    for entry, result in zip(entries, results, strict=True):
        if result.record is not None:
            journal.append(result.record)
        if result.fault is not None:
            rejections.append(Rejection(result.id, result.fault))
            continue
        kept += result.kept
        item = _item(entry, result.record, split)
        items.append(item)
        if item["split"] == "train":
            for kind, new in result.moments.items():
                moments[kind] = moments[kind].merge(new) if kind in moments else new
    if strict and rejections:
        raise ValueError(strict_message(rejections))
    if not moments:
        raise ValueError(
            f"{corpus}: none of {len(entries)} utterances is usable for training"
            + "".join(f"\n  {r.id}: {r.reason}" for r in rejections[:20])
        )
    index = {
        "version": INDEX_VERSION,
        "kind": KIND,
        "corpus": corpus,
        "sample_rate": audio.sample_rate,
        "audio": dataclasses.asdict(audio),
        "symbols": list(symbol_table),
        "split": dataclasses.asdict(split),
        "statistics": {kind: moments[kind].statistics() for kind in ARRAYS},
        "items": items,
        "skipped": [dataclasses.asdict(rejection) for rejection in rejections],
    }
    write_json(directory / INDEX_NAME, index)
    ids = {item["id"] for item in items}
    journal.keep_only(ids)
    report = BuildReport(directory, index, rejections, kept)
    for path in strays(directory, ARRAYS, ids):
        path.unlink()
        report.removed.append(f"{path.parent.name}/{path.name}")
    paths = (directory / kind / f"{id}.npy" for kind in ARRAYS for id in ids)
    report.num_bytes = sum(path.stat().st_size for path in paths)
    return report


def strict_message(rejections: Sequence[Rejection]) -> str:
    """Word the end of a strict build."""
    lines = "".join(f"\n  {rejection.id}: {rejection.reason}" for rejection in rejections)
    return f"--strict: {len(rejections)} items are unusable{lines}"


def _item(entry: Entry, record: dict[str, Any], split: Split) -> dict[str, Any]:
    item = {
        "id": record["id"],
        "text": entry.utterance.text,
        "symbols": list(entry.symbols),
        "num_samples": record["num_samples"],
        "num_frames": record["num_frames"],
        "split": split_of(record["id"], **dataclasses.asdict(split)),
        "sha256": record["sha256"],
        "guessed": list(entry.guessed),
        "conversions": record["conversions"],
    }
    return item if entry.score is None else {**item, "score": entry.score}


@dataclass(frozen=True)
class CheckTask:
    """One item of an index on its way to a worker."""

    directory: Path
    item: dict[str, Any]
    num_bins: dict[str, int]  # of each kind of array
    hop_length: int


def check_item(task: CheckTask) -> tuple[list[str], dict[str, Moments]]:
    """Compare the arrays of one item with its entry; returns the problems and the moments."""
    item, problems, moments = task.item, [], {}
    if item["num_frames"] != 1 + item["num_samples"] // task.hop_length:
        problems.append(f"{item['num_frames']} frames of {item['num_samples']} samples")
    for kind, num_bins in task.num_bins.items():
        path = task.directory / kind / f"{item['id']}.npy"
        name = f"{kind}/{path.name}"
        if not path.is_file():
            problems.append(f"{name} is missing")
            continue
        if sha256_of(path) != item["sha256"][kind]:
            problems.append(f"{name} has another checksum than when it was written")
            continue
        array = np.load(path)
        expected = (item["num_frames"], num_bins)
        if array.shape != expected or array.dtype != np.float16:
            problems.append(f"{name} is {array.dtype} {array.shape}, expected float16 {expected}")
        elif not np.isfinite(array).all():
            problems.append(f"{name} holds values that are not finite")
        else:
            moments[kind] = Moments.of(array)
    return [f"{item['id']}: {problem}" for problem in problems], moments


def check(directory: Path, workers: int) -> list[str]:
    """Verify files, checksums, shapes, symbols, splits and statistics; returns the problems."""
    index = read_index(directory)
    items, table = index["items"], set(index["symbols"])
    num_bins = {"mel": index["audio"]["n_mels"], "linear": index["audio"]["n_fft"] // 2 + 1}
    problems = []
    ids = [item["id"] for item in items]
    problems += [f"{id}: stands twice in the index" for id, n in Counter(ids).items() if n > 1]
    for item in items:
        unknown = sorted(set(item["symbols"]) - table)
        if unknown:
            problems.append(f"{item['id']}: symbols {unknown} are not in the symbol table")
        if item["split"] != split_of(item["id"], **index["split"]):
            problems.append(f"{item['id']}: {item['split']} is not the split its id belongs to")
    tasks = [CheckTask(directory, i, num_bins, index["audio"]["hop_length"]) for i in items]
    moments = dict[str, Moments]()
    results = run_parallel(check_item, tasks, workers, f"checking {directory.name}")
    for item, (found, measured) in zip(items, results, strict=True):
        problems += found
        if item["split"] == "train":
            for kind, new in measured.items():
                moments[kind] = moments[kind].merge(new) if kind in moments else new
    if not problems:  # statistics of damaged arrays would only repeat the news
        problems += _statistics_problems(index["statistics"], moments)
    for path in strays(directory, ARRAYS, set(ids)):
        problems.append(f"{path.parent.name}/{path.name} belongs to no item")
    return problems


def _statistics_problems(stored: dict[str, Any], measured: dict[str, Moments]) -> list[str]:
    problems = []
    for kind in ARRAYS:
        fresh = measured[kind].statistics()
        for name in ("mean", "std"):
            if not np.allclose(stored[kind][name], fresh[name], rtol=1e-6, atol=1e-9):
                problems.append(f"statistics: {kind} {name} is not that of the train split")
    return problems
