"""How well does a transcriber hear? Phonemes and notes of held-out songs, alone and in the mix.

Shapes: S samples, T frames.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from corpora.records import song_of
from evaluation import table
from evaluation.report import write_result
from evaluation.score_metrics import note_scores
from evaluation.table import Metric, counted
from inpainter.diffusion import VOCAL
from music.inputs import ScoreTracks, with_sung_times
from preprocess import StemStore
from text.symbols import SYMBOL_TO_ID
from transcription.labels import PHONEME_CLASSES, class_table, note_targets
from transcription.transcribe import Transcribed, assemble, load_transcriber, transcribe
from utils.checkpoint import resolve
from utils.flags import start_on
from utils.metrics import TimedNote, f0_track

if TYPE_CHECKING:
    from hyperparams import Transcriber
    from utils.loading import Loaded

METRIC_TITLES = {
    "phoneme_accuracy": Metric("phonemes, share of frames", "%", 100),
    "onset_f1": Metric("note F1: onset", "%", 100),
    "onset_pitch_f1": Metric("note F1: onset, pitch", "%", 100),
    "onset_pitch_offset_f1": Metric("note F1: onset, pitch, offset", "%", 100),
}
METRICS = tuple(METRIC_TITLES)
ROWS = {
    "clean": "the vocal alone",
    "mix": "the vocal with its accompaniment, as balanced in the corpus",
    "ceiling": "true frames; pitch and notes decoded from the vocal",
    "ceiling_mix": "true frames; pitch and notes decoded from the mix",
    "floor": "the transcription of another song's vocal",
}


@dataclass(frozen=True)
class SungSong:
    """A song with its true notes and phoneme classes."""

    id: str
    vocal: Tensor  # (S,)
    mix: Tensor  # (S,)
    notes: Sequence[TimedNote]
    classes: Tensor  # (T,) int64, the true class of each frame


def evaluate_transcriber(arguments: Namespace) -> None:
    """Judge a transcriber on the songs of a split; print the table, write transcriber.json."""
    path = resolve(arguments.transcriber, "transcriber")
    loaded = load_transcriber(path, start_on(arguments.device))
    store = StemStore(arguments.feature_dir / arguments.data)
    store.check_audio(loaded.hyperparams.audio)
    songs = open_songs(store, arguments.split, loaded)
    records = judge_transcriber(loaded, songs, partial(tqdm, desc="transcribe", unit="song"))
    judged = f"{counted(len(records), 'song')} of {arguments.data}/{arguments.split}"
    print(f"{path} (step {loaded.step}), {judged}")
    metrics = table.print_rows(records, list(ROWS), "ceiling", METRIC_TITLES, judged="clean")
    if not any("floor" in record["rows"] for record in records):
        print("floor not measured: the split holds one song, and the floor needs another")
    result = {
        "data": arguments.data,
        "split": arguments.split,
        "transcriber": {"path": str(path), "step": loaded.step},
        "metrics": metrics,
        "rows": ROWS,
        "songs": records,
    }
    write_result(arguments.out / "transcriber.json", result)


def open_songs(store: StemStore, split: str, loaded: Loaded) -> list[Callable[[], SungSong]]:
    """Prepare to read the songs of a split that have a score; ValueError when none has."""
    hop = loaded.hyperparams.transcriber.hop_length
    seconds = hop / loaded.hyperparams.audio.sample_rate  # of a frame
    items = [item for item in store.items(split) if "score" in item]
    if not items:
        raise ValueError(f"{store.directory}: no song of the {split} split has a score")
    tracks = ScoreTracks(with_sung_times(items, store.phoneme_times()), SYMBOL_TO_ID)
    classes = class_table()

    def read(item: dict[str, Any]) -> SungSong:
        stems = store.window(item["id"], 0, item["num_samples"])
        symbols, _ = tracks.window(item["id"], 0.0, seconds, 1 + stems.shape[1] // hop)
        notes = item["score"]["notes"]
        return SungSong(item["id"], stems[VOCAL], stems.sum(0), notes, classes[symbols])

    return [partial(read, item) for item in items]


def transcription_scores(
    transcribed: Transcribed, notes: Sequence[TimedNote], classes: Tensor
) -> dict[str, float]:
    """Measure METRICS: the share of frames whose likeliest phoneme is the true one, F1 of notes.

    Frames that only one of the two has are wrong.
    """
    frames = min(len(transcribed.phoneme), len(classes))
    right = (transcribed.phoneme[:frames].argmax(1) == classes[:frames]).sum().item()
    found = note_scores(notes, transcribed.notes)
    accuracy = right / max(len(transcribed.phoneme), len(classes), 1)
    values = (accuracy, found.onset, found.onset_pitch, found.onset_pitch_offset)
    return dict(zip(METRICS, values, strict=True))


def perfect_frames(
    wav: Tensor,
    notes: Sequence[TimedNote],
    classes: Tensor,
    knobs: Transcriber,
    sample_rate: int,
) -> Transcribed:
    """Decode wav (S,) with the true frames in place of a network's: the ceiling."""
    hop = knobs.hop_length
    note = note_targets(notes, 0.0, hop / sample_rate, len(classes), knobs.note_width)
    phoneme = F.one_hot(classes, len(PHONEME_CLASSES)).float()
    return assemble(phoneme, note, f0_track(wav, sample_rate, hop), wav, knobs, sample_rate)


def judge_transcriber(
    loaded: Loaded, songs: Sequence[Callable[[], SungSong]], progress: Callable = iter
) -> list[dict[str, Any]]:
    """Measure every row of each song; there is no floor when all are takes of one song.

    songs: read one at a time. progress: wraps the songs, such as tqdm.
    """
    knobs, rate = loaded.hyperparams.transcriber, loaded.hyperparams.audio.sample_rate
    records: list[dict[str, Any]] = []
    truths: list[tuple[Sequence[TimedNote], Tensor]] = []
    vocals: list[Transcribed] = []
    for read in progress(songs):
        song = read()
        rows = {
            "clean": transcribe(loaded, song.vocal, rate),
            "mix": transcribe(loaded, song.mix, rate),
            "ceiling": perfect_frames(song.vocal, song.notes, song.classes, knobs, rate),
            "ceiling_mix": perfect_frames(song.mix, song.notes, song.classes, knobs, rate),
        }
        scores = {row: transcription_scores(t, song.notes, song.classes) for row, t in rows.items()}
        records.append({"id": song.id, "song": song_of(song.id), "rows": scores})
        truths.append((song.notes, song.classes))
        vocals.append(rows["clean"])
    for number, (record, (notes, classes)) in enumerate(zip(records, truths, strict=True)):
        following = [*range(number + 1, len(records)), *range(number)]
        other = next((k for k in following if records[k]["song"] != record["song"]), None)
        if other is not None:
            cut = cut_to(vocals[other], len(classes))
            record["rows"]["floor"] = transcription_scores(cut, notes, classes)
    return records


def cut_to(transcribed: Transcribed, frames: int) -> Transcribed:
    """Cut a transcription to `frames`, or pad it with silence."""
    missing = max(0, frames - len(transcribed.phoneme))
    silence = F.one_hot(torch.full((missing,), len(PHONEME_CLASSES) - 1), len(PHONEME_CLASSES))
    phoneme = torch.cat([transcribed.phoneme[:frames], silence.to(transcribed.phoneme)])
    notes = [n for n in transcribed.notes if n.onset < frames * transcribed.hop_seconds]
    return replace(transcribed, phoneme=phoneme, notes=notes)
