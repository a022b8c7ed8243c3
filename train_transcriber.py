"""Train the transcriber: singing to phonemes and notes, on songs whose scores are known.

    python prepare_data.py songbook DIR --name songbook
    python train_transcriber.py --data songbook-stems --preset small --run songs

with a speaking voice beside the songs, for their phonemes (prepare_data.py ljspeech, then align):

    python train_transcriber.py --data songbook-stems --speech ljspeech=LJSpeech-1.1 ...

The same command resumes. Windows of vocals are augmented (pitch and tempo, reverberation,
accompaniment, noise); the targets of a frame are its phoneme and the onset, offset and activity of
a note. Validation transcribes whole songs: `score`, 1 − the mean of phoneme accuracy, onset F1 and
onset + pitch F1 on clean vocals, decides `best.pt`.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from utils.config import answer_early


def add_flags(parser: ArgumentParser) -> None:
    """Add --speech."""
    parser.add_argument(
        "--speech", metavar="NAME=DIR", help="a prepared, aligned corpus and its recordings"
    )


if __name__ == "__main__":  # --help and a wrong flag do not wait for torch
    answer_early(__doc__, add_flags)

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.tensorboard import SummaryWriter

from corpora.spoken_windows import SpokenWindows
from corpora.stores import FeatureStore
from evaluation.transcriber import METRICS, transcription_scores
from hyperparams import Hyperparams
from inpainter.diffusion import ACCOMPANIMENT, VOCAL
from music.inputs import with_sung_times
from preprocess import ScoreTracks, StemBatch, StemBatches, StemStore
from text.symbols import SYMBOL_TO_ID
from training.augmentation import augment, source_samples
from training.batching import Position, evenly_spaced
from training.experiment import Experiment, StepContext, Term
from training.trainer import train
from transcription.labels import NOTE_TARGETS, PHONEME_CLASSES, class_table, note_targets
from transcription.network import TranscriberNet
from transcription.pictures import transcription_picture
from transcription.transcribe import Transcribed, build_transcriber, transcribe_at_rate
from utils import plotting
from utils.distributed import World
from utils.seeds import numpy_generator

SCORED = METRICS[:3]  # offsets are a matter of taste
PREVIEW_SECONDS = 12.0  # of a song, from its first note


class Targets(NamedTuple):
    """Targets of the frames of a batch."""

    phoneme: Tensor  # (B, T) int64, a class of PHONEME_CLASSES
    note: Tensor  # (B, T, 3), see note_targets


class TranscriberExperiment(Experiment[TranscriberNet, StemBatch]):
    """Singing → phonemes and notes; judged by transcriptions of whole songs."""

    kind = "transcriber"
    structure = ("audio", "transcriber")
    unit = "windows"
    descriptions: ClassVar = {
        "train/phoneme": "cross-entropy of the phoneme, per frame",
        "train/onset": "binary cross-entropy of note onsets, per frame of song",
        "train/offset": "binary cross-entropy of note offsets, per frame of song",
        "train/activation": "binary cross-entropy of sounding notes, per frame of song",
    }

    def __init__(
        self,
        hyperparams: Hyperparams,
        store: StemStore,
        device: torch.device,
        speech: SpokenWindows | None = None,
    ) -> None:
        self.hyperparams = self.hp = hp = hyperparams
        self.store, self.device, self.speech = store, device, speech
        self.model = build_transcriber(hp)
        corpora = {"phonemes": list(PHONEME_CLASSES), "speech": speech.name if speech else ""}
        self.data = store.for_checkpoint() | corpora
        training, knobs = hp.transcriber_training, hp.transcriber
        items = store.index["items"]
        if not all("score" in item for item in items):
            raise ValueError(
                f"{store.directory}: songs without a score; a transcriber learns from songs with "
                "notes and lyrics: python prepare_data.py songbook DIR --name songbook"
            )
        if knobs.num_phonemes != len(PHONEME_CLASSES):
            raise ValueError(
                f"transcriber.num_phonemes = {knobs.num_phonemes}, but scores are read as "
                f"{len(PHONEME_CLASSES)} classes"
            )
        spoken = speech.scored() if speech is not None else []
        sung = with_sung_times(items, store.phoneme_times())
        self.tracks = ScoreTracks([*sung, *spoken], SYMBOL_TO_ID)
        self.notes = {item["id"]: item["score"]["notes"] for item in items}
        self.classes = class_table()
        self.samples = training.segment_frames * knobs.hop_length
        self.hop_seconds = knobs.hop_length / hp.audio.sample_rate
        self.window = source_samples(self.samples, knobs)
        self.frames = 1 + training.segment_frames
        self.songs_only = StemBatches(store, "train", training, self.window)
        self.songs = evenly_spaced(store.items("validation"), training.validate_batches)

    add_arguments = staticmethod(add_flags)

    @classmethod
    def from_arguments(
        cls, arguments: Namespace, hyperparams: Hyperparams, directory: Path, world: World
    ) -> TranscriberExperiment:
        """Open the songs of --data and the speech of --speech."""
        if find_spec("mir_eval") is None:
            raise ValueError(
                "validation needs mir_eval: pip install -r requirements-evaluation.txt"
            )
        store = StemStore(arguments.feature_dir / arguments.data)
        store.check_audio(hyperparams.audio)
        speech = None
        if arguments.speech:
            speech = open_speech(arguments.speech, arguments.feature_dir, hyperparams)
        return cls(hyperparams, store, world.device, speech)

    def batches(
        self, position: Position = (0, 0), rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[StemBatch, Position]]:
        """Yield windows as `StemBatches`; with --speech, a share of the vocals is speech."""
        for batch, following in self.songs_only(position, rank, world_size):
            number = following[1] - world_size + rank
            yield self.with_speech(batch, (following[0], number)), following

    def with_speech(self, batch: StemBatch, position: Position) -> StemBatch:
        """Replace the last vocals of a batch with speech; their accompaniments stay."""
        count = round(self.hp.transcriber.speech_share * len(batch.ids))
        if self.speech is None or not count:
            return batch
        random = numpy_generator(self.hp.transcriber_training.seed, *position, "speech")
        numbers = random.integers(len(self.speech.items), size=count).tolist()
        places = random.random(count).tolist()
        windows = [
            self.speech.window(number, place, self.window)
            for number, place in zip(numbers, places, strict=True)
        ]
        ids, starts, vocals = zip(*windows, strict=True)
        wav = batch.wav.clone()
        wav[-count:, VOCAL] = torch.stack(vocals)
        all_starts = torch.cat([batch.starts[:-count], torch.tensor(starts)])
        return replace(batch, ids=[*batch.ids[:-count], *ids], starts=all_starts, wav=wav)

    def targets(self, id: str, start: float, rate: float, num_frames: int) -> Targets:
        """Return classes (T,) and notes (T, 3) of a song from `start` s, `rate` times as fast."""
        step = self.hop_seconds * rate  # s of the song per frame
        symbols, _ = self.tracks.window(id, start, step, num_frames)
        width = self.hp.transcriber.note_width * rate
        notes = note_targets(self.notes.get(id, ()), start, step, num_frames, width)
        return Targets(self.classes[symbols], notes)

    def batch_targets(self, batch: StemBatch, rate: Tensor) -> Targets:
        """Return the targets of a batch whose windows are played at `rate` (B,), on its device."""
        starts = (batch.starts.double() / self.hp.audio.sample_rate).tolist()
        rows = [
            self.targets(id, start, speed, self.frames)
            for id, start, speed in zip(batch.ids, starts, rate.tolist(), strict=True)
        ]
        columns = (torch.stack(part) for part in zip(*rows, strict=True))
        return Targets(*(part.to(self.device, non_blocking=True) for part in columns))

    def loss(self, model: nn.Module, batch: StemBatch, context: StepContext) -> dict[str, Term]:
        """Return cross-entropies of phonemes and binary ones of notes, each per frame.

        Speech has phonemes but no notes: it does not count for the notes.
        """
        knobs = self.hp.transcriber
        augmented = augment(
            batch.wav[:, VOCAL],
            batch.wav[:, ACCOMPANIMENT],
            self.samples,
            self.hp.audio.sample_rate,
            knobs,
            context.generator,
        )
        targets = self.batch_targets(batch, augmented.rate)
        out = model(augmented.wav)
        logits = out.phoneme.float().flatten(0, 1)  # (B · T, 39)
        phoneme = F.cross_entropy(logits, targets.phoneme.flatten(), reduction="sum")
        weight = torch.tensor([knobs.note_pos_weight, knobs.note_pos_weight, 1.0])
        weight = weight.to(logits, non_blocking=True)
        songs = torch.tensor([row for row, id in enumerate(batch.ids) if id in self.notes])
        songs = songs.long().to(self.device, non_blocking=True)
        note = F.binary_cross_entropy_with_logits(
            out.note.float(), targets.note, pos_weight=weight, reduction="none"
        )[songs].sum((0, 1))  # (3,)
        counts = self.counts(batch)
        terms = {"phoneme": Term(phoneme, counts["phoneme"])}
        return terms | {
            name: Term(total, counts[name], knobs.note_weight)
            for name, total in zip(NOTE_TARGETS, note, strict=True)
        }

    def counts(self, batch: StemBatch) -> Mapping[str, float]:
        """Return the counts of `loss`: frames, and frames of songs for the notes."""
        songs = sum(id in self.notes for id in batch.ids)
        counts = dict.fromkeys(NOTE_TARGETS, songs * self.frames)
        return {"phoneme": len(batch.ids) * self.frames} | counts

    def song(self, item: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """Read a whole vocal and its mix with the accompaniment, (S,) each."""
        stems = self.store.window(item["id"], 0, item["num_samples"])
        return stems[VOCAL], stems.sum(0)

    def transcribed(self, network: TranscriberNet, wav: Tensor) -> Transcribed:
        """Transcribe wav (S,)."""
        return transcribe_at_rate(network, self.hp.transcriber, wav, self.hp.audio.sample_rate)

    def validate(self, network: TranscriberNet) -> dict[str, float]:
        """Score transcriptions of whole songs, clean and as mixes: phoneme accuracy and note F1s.

        `score` is 1 − the mean of phoneme accuracy, onset F1 and onset + pitch F1, clean.
        """
        rows: dict[str, list[dict[str, float]]] = {"": [], "mix_": []}
        for item in self.songs:
            for kind, wav in zip(rows, self.song(item), strict=True):
                found = self.transcribed(network, wav)
                truth = self.targets(item["id"], 0.0, 1.0, len(found.phoneme)).phoneme
                notes = self.notes[item["id"]]
                rows[kind].append(transcription_scores(found, notes, truth))
        means = {
            kind + metric: float(np.mean([row[metric] for row in values]))
            for kind, values in rows.items()
            for metric in METRICS
        }
        return {"score": 1 - float(np.mean([means[metric] for metric in SCORED]))} | means

    def preview(self, network: TranscriberNet, writer: SummaryWriter, step: int) -> None:
        """Write posteriorgram and piano roll of the beginning of a song, as vocal and as mix."""
        item = self.songs[0]
        rate, notes = self.hp.audio.sample_rate, self.notes[item["id"]]
        first = int(notes[0][0] * rate)
        here = slice(first, first + int(PREVIEW_SECONDS * rate))
        moved = [(on - first / rate, off - first / rate, pitch) for on, off, pitch in notes]
        moved = [note for note in moved if note[0] < PREVIEW_SECONDS]
        for kind, wav in zip(("vocal", "mix"), self.song(item), strict=True):
            found = self.transcribed(network, wav[here])
            truth = self.targets(item["id"], first / rate, 1.0, len(found.phoneme)).phoneme
            title = f"{item['id']}, {kind}, step {step}"
            figure = transcription_picture(found, truth.numpy(), moved, title)
            writer.add_image(kind, plotting.figure_to_image(figure), step)
            writer.add_audio(kind, wav[here].clamp(-1, 1), step, rate)


def open_speech(argument: str, feature_dir: Path, hp: Hyperparams) -> SpokenWindows:
    """Open the training split of a prepared and aligned corpus, given as NAME=DIR."""
    name, _, directory = argument.partition("=")
    if not name or not directory:
        raise ValueError(
            f"--speech {argument}: expected NAME=DIR, a corpus below --feature-dir and the folder "
            "it was prepared from"
        )
    store = FeatureStore(feature_dir / name)
    store.check_audio(hp.audio)
    return SpokenWindows(store, Path(directory), "train")


def main(argv: Sequence[str] | None = None) -> int:
    """Train from the shell; return the exit code."""
    return train(TranscriberExperiment, __doc__ or "", argv)


if __name__ == "__main__":
    sys.exit(main())
