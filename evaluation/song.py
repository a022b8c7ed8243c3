"""The sung transformer on held-out phrases: from lyrics and notes alone, against the truth.

Every rendering goes the same way: mel → PostNet → Griffin-Lim; so the true mel is the ceiling of
what the judges can find, and another phrase's rendering their floor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from corpora.records import song_of
from evaluation import statistics as bootstrap
from evaluation.chain import describe_voice, free_running, sound, teacher_forced
from evaluation.frechet import Frechet, frechet, frechet_difference, store, stored
from evaluation.report import Entry
from evaluation.score_metrics import frame_distance, mel_level, wrong_lyrics
from evaluation.statistics import Estimate, PairedTest
from evaluation.table import WRONG_LYRICS
from evaluation.voice import Judges, Reference, plain
from text.symbols import is_vowel, word_spans
from utils.metrics import attention_health, frame_difference_ratio

if TYPE_CHECKING:
    from evaluation.phrase_inpainter import LastStage
    from preprocess import TextMelBatch, TextMelDataset
    from singing.voice import Voice

ROWS = {
    "ceiling": "true mel → PostNet → Griffin-Lim",
    "teacher_forced": "transformer fed with true history, same path",
    "free_running": "transformer from lyrics and notes alone, same path",
    "floor": "free-running rendering of another song's phrase, judged as this one",
}
INPAINTED = "inpainted"
LAST_STAGE = {INPAINTED: "the free-running waveform sung anew by the inpainter, on its song"}
COMPARED = ("lsd", "phoneme_error_rate", "pitch_accuracy")  # paired, by both last stages
JUDGED = "free_running"
RECORDING = "recording"  # the true vocal itself


@dataclass(frozen=True)
class Rendering:
    """One phrase by one row."""

    mel: Tensor | None  # (T, M) standardised; None for what was made as a waveform
    wav: Tensor  # (S,)
    alignment: Tensor | None  # (steps, N), of the free-running one


class SongJudge:
    """Renders phrases of a dataset by every row of ROWS and measures them."""

    def __init__(
        self,
        voice: Voice,
        dataset: TextMelDataset,
        seed: int,
        judges: Judges,
        cache: Path,
        last_stage: LastStage | None = None,
    ) -> None:
        """cache: a folder for what is too large for a record, the embeddings; last_stage: gives a
        row more, and with it the true recordings to which the Fréchet distance is measured.

        Raises ValueError for phrases without notes, or symbols the network does not know.
        """
        if list(dataset.store.symbols) != list(voice.transformer.data["symbols"]):
            raise ValueError(
                f"{dataset.store.directory} has other symbols than {voice.transformer.path}: "
                "prepare the corpus again"
            )
        dataset.standardise = voice.transformer.standardiser("mel").cpu()
        self.voice, self.dataset, self.seed, self.judges = voice, dataset, seed, judges
        self.cache, self.last_stage = cache, last_stage
        self.rows = ROWS | (LAST_STAGE if last_stage else {})
        self.numbers = {
            item["id"]: number for number, item in enumerate(dataset.items) if item.get("score")
        }
        if not self.numbers:
            raise ValueError(
                f"{dataset.store.directory}: no phrase has notes; prepare one that has: "
                "python prepare_data.py songbook DIR --name NAME"
            )
        songs = {song_of(id) for id in self.numbers}
        if len(songs) < 2:
            raise ValueError(
                f"{dataset.store.directory}: the split holds one song, {songs.pop()}, and the "
                "floor needs another's phrases: prepare more songs or another split"
            )

    def item(self, id: str) -> dict[str, Any]:
        """What the index says of a phrase."""
        return self.dataset.items[self.numbers[id]]

    def batch(self, number: int) -> TextMelBatch:
        """One item on the chain's device."""
        return self.dataset.collate([self.dataset[number]]).to(self.voice.device)

    def other(self, number: int) -> int:
        """The phrase of another song that is nearest in length."""
        song, lengths = song_of(self.dataset.items[number]["id"]), self.dataset.lengths
        others = [other for id, other in self.numbers.items() if song_of(id) != song]
        return min(others, key=lambda other: (abs(lengths[other] - lengths[number]), other))

    def render(self, id: str) -> dict[str, Rendering]:
        """One phrase by each row."""
        number = self.numbers[id]
        batch, other, seed = self.batch(number), self.other(number), self.seed + number
        free = free_running(self.voice, batch, seed)
        mels = {
            "ceiling": batch.mel[0],
            "teacher_forced": teacher_forced(self.voice, batch, seed).mel,
            "free_running": free.mel,
            "floor": free_running(self.voice, self.batch(other), self.seed + other).mel,
        }
        alignment = {JUDGED: free.alignment}
        rendered = {
            row: Rendering(mel.cpu(), sound(self.voice, mel, seed), alignment.get(row))
            for row, mel in mels.items()
        }
        if self.last_stage is not None:
            sung = self.last_stage(id, rendered[JUDGED].wav)
            rendered[INPAINTED] = Rendering(None, sung, None)
        return rendered

    def reference(self, id: str, ceiling: Rendering) -> Reference:
        """What a phrase should have been; it is voiced where the ceiling is."""
        item = self.item(id)
        mel, linear = (
            np.asarray(self.dataset.store.array(kind, id), dtype=np.float32)
            for kind in ("mel", "linear")
        )
        return Reference(
            mel=mel,
            linear=linear,
            f0=self.judges.track(ceiling.wav, len(mel)),
            notes=item["score"]["notes"],
            symbols=tuple(item["symbols"]),
            text=item["text"],
            score=item["score"],
            wrong=wrong_lyrics(item, self.dataset.items, WRONG_LYRICS),
        )

    def judge(self, id: str) -> dict[str, Any]:
        """The record of one phrase: what METRICS names, for each row that has it."""
        rendered = self.render(id)
        reference = self.reference(id, rendered["ceiling"])
        true = rendered["ceiling"].mel
        inverse = self.voice.transformer.standardiser("mel").cpu().inverse
        rows = {}
        for row, rendering in rendered.items():
            result = self.judges.measure(rendering.wav, reference)
            if rendering.mel is not None:
                level = mel_level(inverse(rendering.mel).numpy()) - mel_level(reference.mel)
                result["level_difference"] = level
                result["sharpness"] = frame_difference_ratio(rendering.mel.numpy(), true.numpy())
                result["distance"] = frame_distance(rendering.mel.numpy(), true.numpy())
            if rendering.alignment is not None:
                weights = rendering.alignment.cpu().numpy()
                health = attention_health(weights, word_spans(reference.symbols))
                result["coverage"] = health.coverage
                result["repeated"] = float(len(health.repeated))
            rows[row] = {name: plain(value) for name, value in result.items()}
            self.embed(row, id, rendering.wav)
        if self.last_stage is not None:
            length = len(rendered["ceiling"].wav)
            self.embed(RECORDING, id, self.last_stage.recording(id, length))
        return {"song": song_of(id), "text": self.item(id)["text"], "rows": rows}

    def embed(self, row: str, id: str, wav: Tensor) -> None:
        """Keep the embeddings of a waveform (S,)."""
        if self.judges.embedding is not None:
            embedding = self.judges.embedding(wav, self.voice.hyperparams.audio.sample_rate)
            store(self.embedding_path(row, id), [embedding])

    def embedding_path(self, row: str, id: str) -> Path:
        """Where the embeddings of a rendering lie."""
        return self.cache / row / f"{id.replace('/', '_')}.npz"

    def frechet(self, ids: Sequence[str]) -> dict[str, Frechet]:
        """The Fréchet distance of each row to the ceiling, or to the recordings where these are
        known; empty when there is no embedding."""
        if self.judges.embedding is None:
            return {}
        target = "ceiling" if self.last_stage is None else RECORDING
        rows = dict.fromkeys([*self.rows, target])
        sets = {row: [stored(self.embedding_path(row, id))[0] for id in ids] for row in rows}
        return {
            row: frechet(sets[row], sets[target], self.judges.embedding.NAME)
            for row in self.rows
            if row != target
        }

    def frechet_change(self, records: Sequence[Mapping[str, Any]]) -> Estimate | None:
        """How much farther from the recordings the last stage is than what it is compared with."""
        if self.judges.embedding is None or self.last_stage is None:
            return None
        sets = [
            [stored(self.embedding_path(row, record["id"]))[0] for record in records]
            for row in (INPAINTED, JUDGED, RECORDING)
        ]
        return frechet_difference(*sets, [record["song"] for record in records])

    def compared(self, records: Sequence[Mapping[str, Any]]) -> dict[str, PairedTest]:
        """What the last stage changes: metric → paired test over songs of (inpainted − judged)."""
        if self.last_stage is None:
            return {}
        songs = [record["song"] for record in records]
        tests = {}
        for name in COMPARED:
            pair = [
                [float("nan") if (v := r["rows"][row].get(name)) is None else v for r in records]
                for row in (INPAINTED, JUDGED)
            ]
            tests[name] = bootstrap.paired_test(*pair, songs)
        return tests

    def entry(self, id: str, record: Mapping[str, Any]) -> Entry:
        """One phrase for the report; it is rendered once more, as it was."""
        rendered, item = self.render(id), self.item(id)
        audio, network = self.voice.hyperparams.audio, self.voice.transformer.network
        inverse = self.voice.transformer.standardiser("mel").cpu().inverse
        judged, frames = rendered[JUDGED], item["num_frames"]
        score, symbols = item["score"], item["symbols"]
        drawn = [(row, rendered[row].wav) for row in ("ceiling", JUDGED)]
        return Entry(
            id=id,
            text=item["text"],
            audio=audio,
            sounds={row: rendering.wav for row, rendering in rendered.items() if row != "floor"},
            mel=inverse(judged.mel).numpy(),
            true_mel=inverse(rendered["ceiling"].mel).numpy(),
            f0={row: self.judges.track(wav, frames) for row, wav in drawn},
            notes=score["notes"],
            syllables=[
                (onset, symbol.rstrip("012").lower())
                for onset, symbol in zip(score["onset"], symbols, strict=True)
                if is_vowel(symbol)
            ],
            alignment=None if judged.alignment is None else judged.alignment.cpu().numpy(),
            symbols=symbols,
            seconds_per_step=network.reduction_factor / audio.frame_rate,
            heard=None if self.judges.transcriber is None else self.judges.transcribe(judged.wav),
            record=record,
        )


def identity(voice: Voice, judges: Judges, asked: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the numbers: the question, the weights, the judges."""
    return {**asked, **describe_voice(voice), "judges": judges.names()}
