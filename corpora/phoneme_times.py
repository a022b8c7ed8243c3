"""When each symbol of a recording is said: forced alignment of a prepared speech corpus.

The acoustic model of pocketsphinx is given the very phonemes of the index, word by word, and says
where each begins and ends. feature/NAME/phoneme_times.json holds the times. Training uses them as
the target of the guided heads ("pre-alignment guided attention", Zhu et al. 2019); synthesis does
not need them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from corpora.aligner import ForcedAligner
from corpora.cache import run_parallel
from corpora.records import Rejection, Shard, Utterance, read_index
from corpora.stores import PHONEME_TIMES, PHONEME_TIMES_VERSION, read_phoneme_times
from text.symbols import word_spans
from utils.audio import read_wav
from utils.files import sweep_abandoned, write_json

RATE = 16000  # Hz, of the acoustic model
SHARD = "phoneme_times."  # then 3-of-16.json: the times that a shard has found
SAVE_EVERY = 100  # items; what an interruption may cost


@dataclass(frozen=True)
class AlignmentTask:
    """One recording and its symbols."""

    id: str
    wav_path: Path
    symbols: tuple[str, ...]


def align(task: AlignmentTask) -> tuple[str, dict[str, list[float]] | str]:
    """(id, {onset, offset}: seconds for every symbol), or (id, the reason why there are none).

    Symbols that are not phonemes fill what lies between their neighbours.
    """
    try:
        aligner = ForcedAligner(all_states=False)
    except ImportError as error:
        raise RuntimeError(str(error)) from error
    if not word_spans(task.symbols):
        return task.id, "its text has no word"
    try:
        wav, _ = read_wav(task.wav_path, RATE)
    except (ValueError, OSError) as error:
        return task.id, str(error)
    alignment = aligner.align(wav, RATE, task.symbols)
    if alignment is None:
        return task.id, "the recording does not fit its text"
    if alignment.times is None:
        return task.id, "the phonemes of its words could not be placed"
    return task.id, _filled(list(alignment.times), len(wav) / RATE)


def _filled(times: list[tuple[float, float] | None], duration: float) -> dict[str, list[float]]:
    """Give the symbols between two phonemes the time between them, in equal parts."""
    onset, offset = [0.0] * len(times), [0.0] * len(times)
    position = 0
    while position < len(times):
        if (known := times[position]) is not None:
            onset[position], offset[position] = known
            position += 1
            continue
        end = position
        while end < len(times) and times[end] is None:
            end += 1
        low = offset[position - 1] if position else 0.0
        following = times[end] if end < len(times) else None
        high = duration if following is None else following[0]
        step = max(high - low, 0.0) / (end - position)
        for k in range(position, end):
            onset[k], offset[k] = low + (k - position) * step, low + (k - position + 1) * step
        position = end
    return {
        "onset": [round(value, 4) for value in onset],
        "offset": [round(value, 4) for value in offset],
    }


def write_phoneme_times(
    directory: Path, known: Mapping[str, Mapping[str, Sequence[float]]]
) -> None:
    """Store {id: {onset, offset}} beside the index of feature/NAME."""
    _write(directory / PHONEME_TIMES, known, known)


def _write(
    path: Path, known: Mapping[str, Mapping[str, Sequence[float]]], order: Iterable[str]
) -> None:
    """Store times in the order of the corpus, however they were come by."""
    items = {id: known[id] for id in order if id in known}
    write_json(path, {"version": PHONEME_TIMES_VERSION, "items": items})


def build_phoneme_times(
    directory: Path, utterances: Sequence[Utterance], workers: int, shard: Shard | None = None
) -> tuple[int, list[Rejection]]:
    """Align the items of feature/NAME that are not yet aligned, or whose symbols have changed.

    Returns how many are aligned now, and the items that could not be. Restartable. A shard writes
    its times to a file of its own; the build without one takes over what the shards have found.
    """
    wavs = {utterance.id: utterance.wav_path for utterance in utterances}
    items = [item for item in read_index(directory)["items"] if item["id"] in wavs]
    if not items:
        raise ValueError(
            f"no item of {directory} is among the recordings: give the folder that the corpus was "
            "prepared from"
        )
    items = items if shard is None else list(shard.of(items))
    sweep_abandoned(directory)
    lengths = {item["id"]: len(item["symbols"]) for item in items}
    target = directory / (PHONEME_TIMES if shard is None else f"{SHARD}{shard.name}.json")
    parts = [path for path in sorted(directory.glob(f"{SHARD}*-of-*.json")) if path != target]
    known = dict[str, dict[str, list[float]]]()
    for path in [directory / PHONEME_TIMES, *(parts if shard is None else [target])]:
        found = read_phoneme_times(directory, path.name).items()
        known |= {id: times for id, times in found if len(times["onset"]) == lengths.get(id)}
    tasks = [
        AlignmentTask(item["id"], wavs[item["id"]], tuple(item["symbols"]))
        for item in items
        if item["id"] not in known
    ]
    rejections = []
    if not tasks:
        _write(target, known, lengths)
    for count, (id, result) in enumerate(run_parallel(align, tasks, workers, "align"), start=1):
        if isinstance(result, str):
            rejections.append(Rejection(id, result))
        else:
            known[id] = result
        if count % SAVE_EVERY == 0 or count == len(tasks):
            _write(target, known, lengths)
    for path in parts if shard is None else []:
        path.unlink()
    return len(known), rejections
