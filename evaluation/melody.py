"""Does a composed melody belong to its accompaniment? Held-out songs, beside the written melody.

Every accompaniment is analysed as synthesis does (beats, key, a chord per beat). The control is the
same melody under other songs' harmonies; the written melody says how much can be expected.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from composer.compose import compose
from composer.harmony import Harmony, analyse
from corpora.records import song_of
from evaluation import table
from evaluation.report import write_result
from evaluation.score_metrics import harmony_fit
from evaluation.table import Metric, Records, counted
from evaluation.voice import without_nan
from hyperparams import Hyperparams
from inpainter.diffusion import ACCOMPANIMENT
from preprocess import StemStore
from text.frontend import Pronouncer
from text.lyrics import read_lyrics
from utils.metrics import TimedNote

if TYPE_CHECKING:
    from hyperparams import Composer
    from text.lyrics import LyricLine

ROWS = {
    "composed": "melody composed for the accompaniment",
    "written": "melody that was written for the song",
}
METRICS = {
    "chord_tones": Metric("notes on beats that are tones of the chord", "%", 100),
    "chord_tones_shuffled": Metric("  under other songs' harmonies", "%", 100),
    "beat_deviation": Metric("onset to half beat, median", "ms", 1000, True, is_median=True),
    "leap": Metric("largest interval", "semitones"),
    "span": Metric("lowest to highest note", "semitones"),
}


@dataclass(frozen=True)
class Accompanied:
    """An accompaniment (S,) and the notes that were written to be sung with it."""

    id: str
    wav: np.ndarray
    sample_rate: int
    notes: Sequence[TimedNote]


def evaluate_melody(arguments: Namespace) -> None:
    """Compose for the accompaniments of a split; print the table, write melody.json."""
    store = StemStore(arguments.feature_dir / arguments.data)
    rate = store.index["sample_rate"]
    items = [item for item in store.items(arguments.split) if "score" in item]

    def read(item: dict[str, Any]) -> Accompanied:
        wav = store.window(item["id"], 0, item["num_samples"])[ACCOMPANIMENT]
        return Accompanied(item["id"], wav.numpy(), rate, item["score"]["notes"])

    records = judge_melodies(
        [partial(read, item) for item in items],
        read_lyrics(arguments.lyrics),
        Pronouncer(),
        Hyperparams().composer,
        arguments.seed,
        partial(tqdm, desc="melody", unit="song"),
    )
    for record in records:
        if "fault" in record:
            print(f"nothing composed for {record['id']}: {record['fault']}")
    print(f"{counted(len(records), 'accompaniment')} of {arguments.data}/{arguments.split}")
    settings = {name: str(getattr(arguments, name)) for name in ("data", "split", "lyrics", "seed")}
    result = print_melodies(records) | {"songs": records}
    write_result(arguments.out / "melody.json", settings | result)


def judge_melodies(
    songs: Sequence[Callable[[], Accompanied]],
    lines: Sequence[LyricLine],
    pronouncer: Pronouncer,
    knobs: Composer,
    seed: int,
    progress: Callable = iter,
) -> list[dict[str, Any]]:
    """Measure both melodies of each song; `fault` says why nothing could be composed.

    songs: read one at a time. Raises ValueError for fewer than two: the control needs another.
    """
    if len(songs) < 2:
        raise ValueError("one song alone: the control needs another's harmony")
    melodies: list[dict[str, Sequence[TimedNote]]] = []
    records: list[dict[str, Any]] = []
    harmonies: list[Harmony] = []
    for read in progress(songs):
        song = read()
        harmony = analyse(song.wav, song.sample_rate)
        records.append({"id": song.id, "song": song_of(song.id), "rows": {}})
        melodies.append({"written": song.notes})
        harmonies.append(harmony)
        try:
            score = compose(lines, harmony, pronouncer, knobs, seed).score
            melodies[-1]["composed"] = [(n.onset, n.offset, n.pitch) for n in score.notes]
        except ValueError as error:
            records[-1]["fault"] = str(error)
    for record, melody, harmony in zip(records, melodies, harmonies, strict=True):
        pairs = zip(records, harmonies, strict=True)
        others = [h for other, h in pairs if other["song"] != record["song"]]
        record["rows"] = {
            row: without_nan(measure_melody(melody[row], harmony, others))
            for row in ROWS
            if row in melody
        }
    return records


def measure_melody(
    notes: Sequence[TimedNote], harmony: Harmony, others: Sequence[Harmony]
) -> dict[str, Any]:
    """Measure METRICS of a melody on its harmony; NaN for what it does not have."""
    pitches = np.array([pitch for _, _, pitch in notes], float)
    return harmony_fit(notes, harmony, others) | {
        "leap": float(np.abs(np.diff(pitches)).max()) if len(pitches) > 1 else 0.0,
        "span": float(np.ptp(pitches)) if len(pitches) else float("nan"),
    }


def print_melodies(records: Records) -> dict[str, Any]:
    """Print the table and the shuffle controls; return their numbers for melody.json."""
    metrics = table.print_rows(records, list(ROWS), "written", METRICS, judged="composed")
    controls = {row: table.shuffle_controls(records, row).get("chord_tones") for row in ROWS}
    tests = {row: test for row, test in controls.items() if test is not None}
    for row, test in tests.items():
        songs = counted(test.difference.count, "song")
        print(f"shuffle control, {row}: {test} own - other ({songs})")
    return {
        "metrics": metrics,
        "shuffle_control": {row: test.as_dict() for row, test in tests.items()},
    }
