"""How well a transcriber hears held-out songs: phonemes and notes, with ceilings and a floor.

Shapes: S samples, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from corpora.records import song_of
from evaluation import statistics as bootstrap
from evaluation.notes import note_scores
from transcription.labels import PHONEME_CLASSES, note_targets
from transcription.transcribe import Transcribed, assemble, transcribe
from utils.pitch import TimedNote, f0_track

if TYPE_CHECKING:
    from hyperparams import Transcriber
    from utils.loading import Loaded

Estimates = dict[str, dict[str, bootstrap.Estimate]]  # of each row and metric

METRICS = ("phoneme_accuracy", "onset_f1", "onset_pitch_f1", "onset_pitch_offset_f1")
ROWS = {
    "clean": "the vocal alone",
    "mix": "the vocal with its accompaniment, as balanced in the corpus",
    "ceiling": "true frames; pitch and notes decoded from the vocal",
    "ceiling_mix": "true frames; pitch and notes decoded from the mix",
    "floor": "what was heard in another song's vocal",
}


@dataclass(frozen=True)
class SungSong:
    """A song and what is sung in it."""

    id: str
    vocal: Tensor  # (S,)
    mix: Tensor  # (S,)
    notes: Sequence[TimedNote]
    classes: Tensor  # (T,) int64, the true class of each frame


def transcription_scores(
    heard: Transcribed, notes: Sequence[TimedNote], classes: Tensor
) -> dict[str, float]:
    """Share of frames whose likeliest phoneme is the true one, and F1 of notes: METRICS.

    Frames that only one of the two has are wrong.
    """
    frames = min(len(heard.phoneme), len(classes))
    right = (heard.phoneme[:frames].argmax(1) == classes[:frames]).sum().item()
    found = note_scores(notes, heard.notes)
    accuracy = right / max(len(heard.phoneme), len(classes), 1)
    return dict(
        zip(
            METRICS,
            (accuracy, found.onset, found.onset_pitch, found.onset_pitch_offset),
            strict=True,
        )
    )


def ceiling(
    wav: Tensor,
    notes: Sequence[TimedNote],
    classes: Tensor,
    knobs: Transcriber,
    sample_rate: int,
) -> Transcribed:
    """What a network that hears every frame rightly would transcribe of wav (S,)."""
    hop = knobs.hop_length
    note = note_targets(notes, 0.0, hop / sample_rate, len(classes), knobs.note_width)
    phoneme = F.one_hot(classes, len(PHONEME_CLASSES)).float()
    return assemble(phoneme, note, f0_track(wav, sample_rate, hop), wav, knobs, sample_rate)


def evaluate_transcriber(
    loaded: Loaded, songs: Sequence[Callable[[], SungSong]], progress: Callable = iter
) -> list[dict[str, Any]]:
    """One record per song: its id and {metric: value} for each of ROWS.

    songs: read one at a time. progress: wraps the songs, such as tqdm.
    """
    knobs, rate = loaded.hyperparams.transcriber, loaded.hyperparams.audio.sample_rate
    records: list[dict[str, Any]] = []
    truths: list[tuple[Sequence[TimedNote], Tensor]] = []
    vocals: list[Transcribed] = []
    for read in progress(songs):
        song = read()
        heard = {
            "clean": transcribe(loaded, song.vocal, rate),
            "mix": transcribe(loaded, song.mix, rate),
            "ceiling": ceiling(song.vocal, song.notes, song.classes, knobs, rate),
            "ceiling_mix": ceiling(song.mix, song.notes, song.classes, knobs, rate),
        }
        scores = {
            row: transcription_scores(one, song.notes, song.classes) for row, one in heard.items()
        }
        records.append({"id": song.id, **scores})
        truths.append((song.notes, song.classes))
        vocals.append(heard["clean"])
    songs_of = [song_of(record["id"]) for record in records]
    for number, record in enumerate(records):
        following = [*range(number + 1, len(records)), *range(number + 1)]  # itself last
        other = vocals[next((k for k in following if songs_of[k] != songs_of[number]), number)]
        record["floor"] = transcription_scores(_cut(other, truths[number][1]), *truths[number])
    return records


def _cut(heard: Transcribed, classes: Tensor) -> Transcribed:
    """The frames and notes of another song that fall into this one; silence where it is longer."""
    missing = max(0, len(classes) - len(heard.phoneme))
    silence = F.one_hot(torch.full((missing,), len(PHONEME_CLASSES) - 1), len(PHONEME_CLASSES))
    phoneme = torch.cat([heard.phoneme[: len(classes)], silence.to(heard.phoneme)])
    end = len(classes) * heard.hop_seconds
    return replace(heard, phoneme=phoneme, notes=[n for n in heard.notes if n.onset < end])


def table(
    records: Sequence[dict[str, dict[str, float]]],
) -> dict[str, dict[str, bootstrap.Estimate]]:
    """Mean over songs of every metric in every row, with its 95 % interval; takes of a song are
    drawn together."""
    groups = [song_of(record["id"]) for record in records]
    return {
        row: {
            metric: bootstrap.mean([record[row][metric] for record in records], groups)
            for metric in METRICS
        }
        for row in ROWS
    }


def layout(estimates: Estimates) -> list[str]:
    """The table as lines of text."""
    lines = [f"{'':>12}" + "".join(f"  {metric:>24}" for metric in METRICS)]
    for row, cells in estimates.items():
        shown = (f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}]" for cell in cells.values())
        lines.append(f"{row:>12}" + "".join(f"  {cell:>24}" for cell in shown) + f"  {ROWS[row]}")
    return lines
