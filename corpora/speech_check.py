"""Verification of a prepared speech corpus: files, checksums, shapes, symbols, statistics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from corpora.cache import Moments, merge_into, run_parallel, strays
from corpora.records import Split, read_index
from corpora.speech import DTYPES, EVERY_KIND, MEASURED, columns_of, moments_of, speech_arrays
from hyperparams import Audio
from utils.files import sha256_of


@dataclass(frozen=True)
class SpeechCheckTask:
    """One item of an index on its way to a worker."""

    directory: Path
    item: dict[str, Any]
    columns: dict[str, int]  # of each kind of array
    audio: Audio


def check_item(task: SpeechCheckTask) -> tuple[list[str], dict[str, Moments]]:
    """Compare the arrays of one item with its entry; returns the problems and the moments."""
    item, problems, arrays = task.item, [], {}
    if item["num_frames"] != 1 + item["num_samples"] // task.audio.hop_length:
        problems.append(f"{item['num_frames']} frames of {item['num_samples']} samples")
    for kind, num_bins in task.columns.items():
        path = task.directory / kind / f"{item['id']}.npy"
        name = f"{kind}/{path.name}"
        if not path.is_file():
            problems.append(f"{name} is missing")
            continue
        if sha256_of(path) != item["sha256"][kind]:
            problems.append(f"{name} has another checksum than when it was written")
            continue
        array = np.load(path)
        expected, dtype = (item["num_frames"], num_bins), np.dtype(DTYPES[kind])
        if array.shape != expected or array.dtype != dtype:
            problems.append(f"{name} is {array.dtype} {array.shape}, expected {dtype} {expected}")
        elif not np.isfinite(array).all():
            problems.append(f"{name} holds values that are not finite")
        else:
            arrays[kind] = array
    moments = {} if problems else moments_of(arrays, item["num_samples"], task.audio)
    return [f"{item['id']}: {problem}" for problem in problems], moments


def check_speech(directory: Path, workers: int) -> list[str]:
    """Verify files, checksums, shapes, symbols, splits and statistics; returns the problems."""
    index = read_index(directory)
    items, table, split = index["items"], set(index["symbols"]), Split(**index["split"])
    columns = {kind: columns_of(index, kind) for kind in speech_arrays(index)}
    audio, problems = Audio(**index["audio"]), []
    ids = [item["id"] for item in items]
    problems += [f"{id}: stands twice in the index" for id, n in Counter(ids).items() if n > 1]
    for item in items:
        unknown = sorted(set(item["symbols"]) - table)
        if unknown:
            problems.append(f"{item['id']}: symbols {unknown} are not in the symbol table")
        if item["split"] != split.of(item["id"]):
            problems.append(f"{item['id']}: {item['split']} is not the split its id belongs to")
    tasks = [SpeechCheckTask(directory, item, columns, audio) for item in items]
    moments = dict[str, Moments]()
    results = run_parallel(check_item, tasks, workers, f"checking {directory.name}")
    for item, (found, measured) in zip(items, results, strict=True):
        problems += found
        if item["split"] == "train":
            merge_into(moments, measured)
    if not problems:  # statistics of damaged arrays would only repeat the news
        problems += _statistics_problems(index["statistics"], moments)
    others = [kind for kind in EVERY_KIND if kind not in columns]
    for path in strays(directory, list(columns), set(ids)) + strays(directory, others, set()):
        problems.append(f"{path.parent.name}/{path.name} belongs to no item")
    return problems


def _statistics_problems(stored: dict[str, Any], measured: dict[str, Moments]) -> list[str]:
    problems = []
    for kind in MEASURED:
        fresh = measured[kind].statistics()
        for name in ("mean", "std"):
            if not np.allclose(stored[kind][name], fresh[name], rtol=1e-6, atol=1e-9):
                problems.append(f"statistics: {kind} {name} is not that of the train split")
    return problems
