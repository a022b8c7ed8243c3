"""Utterances to feature/NAME: mel/ID.npy (T, M), linear/ID.npy (T, F) and index.json.

Spectrograms are float16 natural logs, not standardised: 0.01 neper of rounding at the floor, half
the disk. Instead of linear/ there may be wav/ID.npy (T, hop), the waveform rounded to 16 bits, that
linear spectrograms are made of when they are wanted; the mel is of that waveform too. Statistics
over the train split are exact: float64 moments of each item, merged in the order
of the index, whatever the number of workers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from corpora import on_the_fly
from corpora.cache import (
    BuildReport,
    Moments,
    Outcome,
    exclusive,
    fingerprint,
    kept_record,
    merge_into,
    open_cache,
    run_parallel,
    save_array,
    write_index,
)
from corpora.on_the_fly import ON_THE_FLY, STORED
from corpora.quality import recording_fault, truncation_fault
from corpora.records import INDEX_VERSION, Rejection, Split, Utterance, strict_message
from utils.audio import convert, cpu_features, read_audio
from utils.files import UNREADABLE, Journal, sha256_of

if TYPE_CHECKING:
    from hyperparams import Audio
    from text.frontend import Pronouncer

KIND = "speech"
KINDS = {STORED: ("mel", "linear"), ON_THE_FLY: ("mel", on_the_fly.KIND)}  # arrays of an item
DTYPES = {"mel": "<f2", "linear": "<f2", on_the_fly.KIND: "<i2"}
EVERY_KIND = ("mel", "linear", on_the_fly.KIND)
MEASURED = ("mel", "linear")  # statistics of the index


@dataclass(frozen=True)
class ExtractionTask:
    """One utterance on its way to a worker."""

    id: str
    wav_path: Path
    num_symbols: int
    directory: Path
    audio: Audio
    record: dict[str, Any] | None  # of an earlier build
    linear: str = STORED


def extract(task: ExtractionTask) -> Outcome:
    """Make the arrays of one utterance, or keep those that an earlier build left intact."""
    try:
        source = sha256_of(task.wav_path)
        kind = [] if task.linear == STORED else [task.linear]
        mark = fingerprint(INDEX_VERSION, source, dataclasses.asdict(task.audio), *kind)
        if record := kept_record(task.record, mark, task.directory, task.id):
            fault = _length_fault(record["num_frames"], task.num_symbols)
            return Outcome(task.id, None, record, fault, True, _stored_moments(task, record))
        mono, conversions = _read(task)
    except (OSError, ValueError) as error:
        return Outcome(task.id, None, None, str(error), False)
    except UNREADABLE as error:  # one bad file never ends a build
        return Outcome(task.id, None, None, f"{task.wav_path}: {error!r}", False)
    arrays = dict[str, np.ndarray]()
    if task.linear == ON_THE_FLY:
        arrays[on_the_fly.KIND] = on_the_fly.waveform_rows(mono, task.audio.hop_length)
        mono = torch.from_numpy(on_the_fly.samples_of(arrays[on_the_fly.KIND], len(mono)))
    spectrograms = dict(zip(MEASURED, cpu_features(task.audio)(mono[None]), strict=True))
    arrays |= {kind: values[0].numpy().astype(np.float16) for kind, values in spectrograms.items()}
    paths = {kind: task.directory / kind / f"{task.id}.npy" for kind in KINDS[task.linear]}
    checksums = {kind: save_array(path, arrays[kind]) for kind, path in paths.items()}
    record = {
        "id": task.id,
        "fingerprint": mark,
        "num_samples": len(mono),
        "num_frames": len(arrays["mel"]),
        "sha256": checksums,
        "conversions": list(conversions),
    }
    moments = {kind: Moments.of(arrays[kind]) for kind in MEASURED}
    return Outcome(task.id, None, record, None, False, moments)


def _read(task: ExtractionTask) -> tuple[Tensor, tuple[str, ...]]:
    """Read (S,) and the conversions made; ValueError for a recording that is not usable."""
    wav, file_rate = read_audio(task.wav_path)
    num_samples = -(-wav.shape[1] * task.audio.sample_rate // file_rate)
    num_frames = 1 + num_samples // task.audio.hop_length
    fault = (
        truncation_fault(task.wav_path, wav.shape[1])
        or recording_fault(wav, num_frames)
        or _length_fault(num_frames, task.num_symbols)
    )
    if fault:
        raise ValueError(fault)
    mono, info = convert(wav, file_rate, task.audio.sample_rate)
    return mono, info.conversions


def _stored_moments(task: ExtractionTask, record: dict[str, Any]) -> dict[str, Moments]:
    arrays = {k: np.load(task.directory / k / f"{task.id}.npy") for k in KINDS[task.linear]}
    return moments_of(arrays, record["num_samples"], task.audio)


def moments_of(arrays: dict[str, np.ndarray], num_samples: int, audio: Audio) -> dict[str, Moments]:
    """Measure the spectrograms of an item, from its stored arrays."""
    if on_the_fly.KIND in arrays:
        rows = arrays[on_the_fly.KIND]
        linear = on_the_fly.linear_frames(rows, 0, num_samples, 0, len(rows), audio)
        arrays = {**arrays, "linear": linear}
    return {kind: Moments.of(arrays[kind]) for kind in MEASURED}


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
    voice: str = ""  # who speaks or sings; empty: the voice that the network has anyway


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


@exclusive
def build_speech(
    entries: Sequence[Entry],
    directory: Path,
    corpus: str,
    audio: Audio,
    symbol_table: Sequence[str],
    split: Split,
    workers: int,
    rejections: Sequence[Rejection] = (),
    strict: bool = False,
    linear: str = STORED,
) -> BuildReport:
    """Build or complete feature/NAME from pronounced utterances.

    Faulty items are left out and listed in the report and the index; with `strict` any rejection
    raises ValueError, and the index is not written. Raises ValueError too when nothing is left to
    train on.
    """
    if strict and rejections:
        raise ValueError(strict_message(rejections))
    journal = open_cache(directory, KIND, KINDS[linear])
    outcomes = extract_all(entries, directory, corpus, audio, split, workers, journal, linear)
    head = speech_head(corpus, audio, symbol_table, split, linear)
    return finish_speech(directory, head, outcomes, journal, len(entries), rejections, strict)


def extract_all(
    entries: Sequence[Entry],
    directory: Path,
    corpus: str,
    audio: Audio,
    split: Split,
    workers: int,
    journal: Journal,
    linear: str = STORED,
) -> Iterator[Outcome]:
    """Make the arrays of all entries, in their order; the journal grows item by item."""
    tasks = [
        ExtractionTask(
            entry.utterance.id,
            entry.utterance.wav_path,
            len(entry.symbols),
            directory,
            audio,
            journal.records.get(entry.utterance.id),
            linear,
        )
        for entry in entries
    ]
    results = run_parallel(extract, tasks, workers, f"features of {corpus}")
    for entry, result in zip(entries, results, strict=True):
        if result.record is not None:
            journal.add(result.record)
        item = None
        if result.fault is None:
            assert result.record is not None  # one of the two: record or fault
            item = _item(entry, result.record, split)
        yield dataclasses.replace(result, item=item)


def speech_head(
    corpus: str, audio: Audio, symbol_table: Sequence[str], split: Split, linear: str = STORED
) -> dict[str, Any]:
    """Return the entries of an index that are known before any item is."""
    head = {
        "version": INDEX_VERSION,
        "kind": KIND,
        "corpus": corpus,
        "sample_rate": audio.sample_rate,
        "audio": dataclasses.asdict(audio),
        "symbols": list(symbol_table),
        "split": dataclasses.asdict(split),
    }
    return head if linear == STORED else {**head, "linear": linear}


def speech_arrays(index: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the kinds of arrays that the items of an index have."""
    return KINDS[index.get("linear", STORED)]


def columns_of(index: Mapping[str, Any], kind: str) -> int:
    """Return the columns of the arrays of a kind: M, F, or the samples of a hop."""
    audio = index["audio"]
    bins = {"mel": audio["n_mels"], "linear": audio["n_fft"] // 2 + 1}
    return {**bins, on_the_fly.KIND: audio["hop_length"]}[kind]


def finish_speech(
    directory: Path,
    head: dict[str, Any],
    outcomes: Iterable[Outcome],
    journal: Journal,
    num_entries: int,
    rejections: Sequence[Rejection],
    strict: bool,
) -> BuildReport:
    """Write the index of all outcomes, in their order; see `build_speech` for what it raises."""
    rejections = list(rejections)
    items, moments, kept = [], dict[str, Moments](), 0
    for outcome in outcomes:
        if outcome.item is None:
            rejections.append(Rejection(outcome.id, outcome.fault or ""))
            continue
        kept += outcome.kept
        items.append(outcome.item)
        if outcome.item["split"] == "train":
            merge_into(moments, outcome.moments)
    if strict and rejections:
        raise ValueError(strict_message(rejections))
    if not moments:
        raise ValueError(
            f"{head['corpus']}: none of {num_entries} utterances is usable for training"
            + "".join(f"\n  {r.id}: {r.reason}" for r in rejections[:20])
        )
    index = {
        **head,
        "statistics": {kind: moments[kind].statistics() for kind in MEASURED},
        "items": items,
        "skipped": [dataclasses.asdict(rejection) for rejection in rejections],
    }
    write_index(directory, index)
    journal.keep_only({item["id"] for item in items})
    return BuildReport.of(directory, index, speech_arrays(index), rejections, kept, EVERY_KIND)


def _item(entry: Entry, record: dict[str, Any], split: Split) -> dict[str, Any]:
    item = {
        "id": record["id"],
        "text": entry.utterance.text,
        "symbols": list(entry.symbols),
        "num_samples": record["num_samples"],
        "num_frames": record["num_frames"],
        "split": split.of(record["id"]),
        "sha256": record["sha256"],
        "guessed": list(entry.guessed),
        "conversions": record["conversions"],
    }
    if entry.voice:
        item["voice"] = entry.voice
    return item if entry.score is None else {**item, "score": entry.score}
