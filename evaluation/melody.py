"""Does a composed melody belong to its accompaniment? Held-out songs, against the written melody
and against other songs' harmonies.

Every accompaniment is analysed as synthesis does (beats, key, a chord per beat). A melody fits when
its notes on the beats are tones of the chords there; the same notes under another song's harmony
are the control, and the melody that was written for the song says how much can be expected.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from corpora.records import song_of
from evaluation import statistics as bootstrap
from evaluation import table as evaluation_table
from evaluation.harmony_fit import chord_tone_ratio, onset_to_beat
from music.compose import compose
from music.harmony import Harmony, analyse
from utils.pitch import TimedNote

if TYPE_CHECKING:
    from hyperparams import Composer
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine

ROWS = {
    "composed": "melody composed for the accompaniment",
    "written": "melody that was written for the song",
}
METRICS = {
    "own": "notes on beats that are tones of the chord",
    "other": "the same under other songs' harmonies",
    "onset": "median distance of onsets from the nearest half beat (s)",
    "leap": "largest interval (semitones)",
    "span": "lowest to highest note (semitones)",
}
Estimates = dict[str, dict[str, bootstrap.Estimate]]


@dataclass(frozen=True)
class Accompanied:
    """An accompaniment (S,) and the notes that were written to be sung with it."""

    id: str
    wav: np.ndarray
    sample_rate: int
    notes: Sequence[TimedNote]


def evaluate_melodies(
    songs: Sequence[Callable[[], Accompanied]],
    lines: Sequence[LyricLine],
    pronouncer: Pronouncer,
    knobs: Composer,
    seed: int,
    progress: Callable = iter,
) -> list[dict[str, Any]]:
    """One record per song: {metric: value} for each of ROWS, or why it could not be composed for.

    songs: read one at a time. Raises ValueError for fewer than two: the control needs another.
    """
    if len(songs) < 2:
        raise ValueError("one song alone: the control needs another's harmony")
    records: list[dict[str, Any]] = []
    melodies: list[dict[str, list[TimedNote]]] = []
    harmonies: list[Harmony] = []
    for read in progress(songs):
        song = read()
        harmony = analyse(song.wav, song.sample_rate)
        record: dict[str, Any] = {"id": song.id}
        melody = {"written": list(song.notes)}
        try:
            score = compose(lines, harmony, pronouncer, knobs, seed).score
            melody["composed"] = [(n.onset, n.offset, n.pitch) for n in score.notes]
        except ValueError as error:
            record["fault"] = str(error)
        records.append(record)
        melodies.append(melody)
        harmonies.append(harmony)
    for number, (record, melody) in enumerate(zip(records, melodies, strict=True)):
        song = song_of(record["id"])
        others = [h for r, h in zip(records, harmonies, strict=True) if song_of(r["id"]) != song]
        for row, notes in melody.items():
            record[row] = measures(notes, harmonies[number], others)
    return records


def measures(
    notes: Sequence[TimedNote], harmony: Harmony, others: Sequence[Harmony]
) -> dict[str, float]:
    """METRICS of a melody on its harmony; NaN for what cannot be said of it."""
    pitches = np.array([pitch for _, _, pitch in notes], float)
    distances = np.abs(onset_to_beat(notes, harmony))
    control = [chord_tone_ratio(notes, other) for other in others]
    control = [value for value in control if not np.isnan(value)]
    return {
        "own": chord_tone_ratio(notes, harmony),
        "other": float(np.mean(control)) if control else float("nan"),
        "onset": float(np.median(distances)) if len(distances) else float("nan"),
        "leap": float(np.abs(np.diff(pitches)).max()) if len(pitches) > 1 else 0.0,
        "span": float(np.ptp(pitches)) if len(pitches) else float("nan"),
    }


def table(records: Sequence[dict[str, Any]]) -> Estimates:
    """Means over songs with their bootstrap intervals, by row and metric; takes of a song are
    drawn together."""
    found: Estimates = {}
    for row in ROWS:
        rows = [record for record in records if row in record]
        groups = [song_of(record["id"]) for record in rows]
        found[row] = {
            metric: bootstrap.mean([record[row][metric] for record in rows], groups)
            for metric in METRICS
        }
    return found


def shuffle_controls(records: Sequence[dict[str, Any]]) -> dict[str, bootstrap.PairedTest]:
    """Own minus other harmonies, of each row, as a paired test over songs."""
    found = {}
    for row in ROWS:
        rows = [record for record in records if row in record]
        own, other = ([record[row][name] for record in rows] for name in ("own", "other"))
        found[row] = bootstrap.paired_test(own, other, [song_of(r["id"]) for r in rows])
    return found


def layout(estimates: Estimates, controls: dict[str, bootstrap.PairedTest]) -> list[str]:
    """Lines of text: one per metric, then one per control."""
    rows = [["", *estimates]]
    for metric, text in METRICS.items():
        cells = [estimates[row][metric] for row in estimates]
        rows.append([text, *(f"{c.value:.3f} [{c.low:.3f}, {c.high:.3f}]" for c in cells)])
    lines = evaluation_table.layout(rows)
    for row, test in controls.items():
        change = test.difference
        lines.append(
            f"shuffle control, {row}: {change.value:+.3f} [{change.low:.3f}, {change.high:.3f}] "
            f"own - other, p = {test.p_value:.4f} ({change.count} songs)"
        )
    return lines
