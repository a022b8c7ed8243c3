"""How well does the network sing? Held-out phrases, rendered from lyrics and notes alone.

Every row goes the same way, mel → PostNet → Griffin-Lim, so the true mel is the ceiling. The floor
is another song's phrase. With an inpainter there is a row of it behind the free-running one, and
with an inpainter on mels one of the mels that it restores.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from corpora.records import song_of
from evaluation import statistics
from evaluation.chain import describe_voice, free_running, open_chain, sound, teacher_forced
from evaluation.frechet import EmbeddingStore, Frechet
from evaluation.phrase_inpainter import PhraseInpainter, PhraseRestorer, open_mel_inpainter
from evaluation.report import ReportItem, write_outcome
from evaluation.score_metrics import wrong_lyrics
from evaluation.statistics import Estimate, PairedTest
from evaluation.table import WRONG_LYRICS, counted, print_table
from evaluation.voice import Judges, Reference, without_nan
from singing.chain import attention_health, sharpened, without_postfilter
from text.symbols import is_vowel, word_spans
from training.batching import evenly_spaced
from utils.checkpoint import resolve
from utils.files import Journal
from utils.loading import check_pair, describe_weights, load_network
from utils.metrics import frame_difference_ratio, frame_distance, mel_level

if TYPE_CHECKING:
    from preprocess import TextMelBatch, TextMelDataset
    from singing.voice import Voice

ROWS = {
    "ceiling": "true mel → PostNet → Griffin-Lim",
    "teacher_forced": "transformer fed with true history or, without one, true times; same path",
    "free_running": "transformer from lyrics and notes alone, same path",
    "floor": "free-running rendering of another song's phrase, judged as this one",
}
INPAINTED = "inpainted"
INPAINTED_NOTE = "the free-running waveform through the inpainter, with its song's accompaniment"
RESTORED = "restored"
RESTORED_NOTE = "the free-running mel through the inpainter on mels, same path"
COMPARED = (
    "lsd",
    "word_errors",
    "phoneme_error_rate",
    "pitch_accuracy",
)  # paired: with a stage − free-running
JUDGED = "free_running"
RECORDING = "recording"  # the true vocal itself


def evaluate_song(arguments: Namespace) -> None:
    """Judge phrases of a split; print the table, write evaluation.json and the report."""
    voice, dataset = open_chain(arguments)
    seed, out, stage = arguments.seed, arguments.out, None
    settings: dict[str, Any] = {"data": arguments.data, "split": arguments.split, "seed": seed}
    if arguments.inpainter is not None:
        network = load_network(resolve(arguments.inpainter, "inpainter"), "inpainter", voice.device)
        check_pair(voice.transformer, network)
        corpus = arguments.feature_dir / arguments.data
        stage = PhraseInpainter.of_corpus(network, corpus, dataset.items, seed)
        settings["inpainter"] = describe_weights(network)
        settings["inpainting"] = asdict(network.hyperparams.inpainting)
    restorer = None
    if arguments.mel_inpainter is not None:
        mels = open_mel_inpainter(arguments, voice.device)
        corpus = arguments.feature_dir / arguments.data
        parts = (mels, voice.transformer, corpus, dataset.items, seed)
        restorer = PhraseRestorer.of_corpus(*parts)
        settings["mel_inpainter"] = describe_weights(mels.loaded)
        settings["mel_inpainting"] = asdict(mels.config)
    judges = Judges.available(voice.hyperparams.audio, arguments.transcriber)
    judges.missing["accompaniment"] = (
        "phrases have none; evaluate.py folder reads NAME.accompaniment.wav"
    )
    judge = SongJudge(voice, dataset, seed, judges, out / "embeddings", stage, restorer)
    settings |= {**describe_voice(voice), "judges": judges.names()}
    settings["phrases"] = len(judge.numbers)  # the floor is another one
    ids = evenly_spaced(list(judge.numbers), arguments.limit or len(judge.numbers))
    records = Journal(out / "song.jsonl", settings).complete(ids, judge.judge, "phrase")
    songs = counted(len({record["song"] for record in records}), "song")
    title = f"{counted(len(records), 'phrase')} of {songs}, {arguments.data}/{arguments.split}"
    print(title)
    result = print_table(records, list(judge.rows), JUDGED, judges.missing, judge.frechet(ids))
    compared: dict[str, PairedTest | Estimate] = {
        **judge.compared(records),
        **judge.frechet_change(records),
    }
    for name, test in compared.items():
        print(f"{name}: {test}")
    result["rows"] = judge.rows
    result["compared"] = {name: test.as_dict() for name, test in compared.items()}
    write_outcome(out, title, settings, result, records, judge.entry, arguments.report)


@dataclass(frozen=True)
class PhraseRendering:
    """A phrase rendered by one row."""

    mel: Tensor | None  # (T, M) standardised; None for what was made as a waveform
    wav: Tensor  # (S,)
    alignment: Tensor | None  # (steps, N), of the free-running one


class SongJudge:
    """Render phrases of a dataset by every row and measure them."""

    def __init__(
        self,
        voice: Voice,
        dataset: TextMelDataset,
        seed: int,
        judges: Judges,
        cache: Path,
        phrase_inpainter: PhraseInpainter | None = None,
        restorer: PhraseRestorer | None = None,
    ) -> None:
        """Check the phrases: ValueError for other symbols, no notes, or one song alone.

        cache: folder of the embeddings; phrase_inpainter: adds the row INPAINTED; the Fréchet
        distance is then measured to the true recordings instead of the ceiling; restorer: adds the
        row RESTORED, which the inpainter of audio then takes as its draft.
        """
        if list(dataset.store.symbols) != list(voice.transformer.data["symbols"]):
            raise ValueError(
                f"{dataset.store.directory} has other symbols than {voice.transformer.path}: "
                "prepare the corpus again"
            )
        dataset.standardise = voice.transformer.standardiser("mel").cpu()
        self.voice, self.dataset, self.seed, self.judges = voice, dataset, seed, judges
        self.embeddings = EmbeddingStore(cache, judges.embedding)
        self.phrase_inpainter, self.restorer = phrase_inpainter, restorer
        plain = without_postfilter(voice.hyperparams.synthesis)
        self.plain = replace(voice, hyperparams=replace(voice.hyperparams, synthesis=plain))
        self.target = RECORDING if phrase_inpainter else "ceiling"  # of the Fréchet distance
        self.rows = dict(ROWS)
        if restorer:
            self.rows[RESTORED] = RESTORED_NOTE
        if phrase_inpainter:
            self.rows[INPAINTED] = INPAINTED_NOTE
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
        """Return the record of a phrase in the index."""
        return self.dataset.items[self.numbers[id]]

    def batch(self, number: int) -> TextMelBatch:
        """Collate one item on the device of the chain."""
        return self.dataset.collate([self.dataset[number]]).to(self.voice.device)

    def other(self, number: int) -> int:
        """Return the phrase of another song that is nearest in length."""
        song, lengths = song_of(self.dataset.items[number]["id"]), self.dataset.lengths
        others = [other for id, other in self.numbers.items() if song_of(id) != song]
        return min(others, key=lambda other: (abs(lengths[other] - lengths[number]), other))

    def render(self, id: str) -> dict[str, PhraseRendering]:
        """Render a phrase by each row."""
        number = self.numbers[id]
        batch, other, seed = self.batch(number), self.other(number), self.seed + number
        free = free_running(self.voice, batch, seed)
        mels = {
            "ceiling": batch.mel[0],
            "teacher_forced": teacher_forced(self.voice, batch, seed).mel,
            "free_running": free.mel,
            "floor": free_running(self.voice, self.batch(other), self.seed + other).mel,
        }
        if self.restorer is not None:
            mels[RESTORED] = self.restored(id, batch, seed)
        alignment = {JUDGED: free.alignment}
        notes = dict.fromkeys(mels, self.item(id)["score"]["notes"])
        notes["floor"] = self.dataset.items[other]["score"]["notes"]
        rendered = {
            row: PhraseRendering(
                mel.cpu(), sound(self.voice, mel, seed, notes[row]), alignment.get(row)
            )
            for row, mel in mels.items()
        }
        if self.phrase_inpainter is not None:
            draft = rendered[RESTORED if self.restorer else JUDGED]
            inpainted = self.phrase_inpainter(id, draft.wav)
            rendered[INPAINTED] = PhraseRendering(None, inpainted, None)
        return rendered

    def restored(self, id: str, batch: TextMelBatch, seed: int) -> Tensor:
        """Make the standardised mel (T, M) of a phrase by the transformer and the inpainter."""
        assert self.restorer is not None
        standard = self.voice.transformer.standardiser("mel")
        draft = standard.inverse(free_running(self.plain, batch, seed).mel)
        knobs = self.voice.hyperparams.synthesis
        made, lengths = standard(self.restorer(id, draft.cpu()).to(draft)), [len(draft)]
        amount, width = knobs.restored_sharpening, knobs.sharpening_frames
        return sharpened(made[None], torch.tensor(lengths), amount, width)[0]

    def reference(self, id: str, ceiling: PhraseRendering) -> Reference:
        """Return the truth of a phrase; it is voiced where the ceiling is."""
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
        """Measure a phrase: the metrics of evaluation.table that each row has."""
        rendered = self.render(id)
        reference = self.reference(id, rendered["ceiling"])
        rate, rows = self.voice.hyperparams.audio.sample_rate, {}
        for row, rendering in rendered.items():
            result = self.judges.measure(rendering.wav, reference)
            result |= self.measure_mel(rendering, rendered["ceiling"], reference)
            if rendering.alignment is not None:
                words = word_spans(self.item(id)["symbols"])
                health = attention_health(rendering.alignment.cpu().numpy(), words)
                result["coverage"] = health.coverage
                result["repeated"] = float(len(health.repeated))
            rows[row] = without_nan(result)
            self.embeddings.keep(row, id, [rendering.wav], rate)
        if self.phrase_inpainter is not None:
            length = len(rendered["ceiling"].wav)
            recording = self.phrase_inpainter.recording(id, length)
            self.embeddings.keep(RECORDING, id, [recording], rate)
        return {"song": song_of(id), "text": self.item(id)["text"], "rows": rows}

    def measure_mel(
        self, rendering: PhraseRendering, ceiling: PhraseRendering, reference: Reference
    ) -> dict[str, Any]:
        """Measure level, sharpness and distance of a mel; nothing for a mere waveform."""
        if rendering.mel is None or ceiling.mel is None:
            return {}
        inverse = self.voice.transformer.standardiser("mel").cpu().inverse
        mel, true = rendering.mel.numpy(), ceiling.mel.numpy()
        level = mel_level(inverse(rendering.mel).numpy()) - mel_level(reference.mel)
        return {
            "level_difference": level,
            "sharpness": frame_difference_ratio(mel, true),
            "distance": frame_distance(mel, true),
        }

    def frechet(self, ids: Sequence[str]) -> dict[str, Frechet]:
        """Measure the Fréchet distance of each row to the target; empty without an embedding."""
        return self.embeddings.distances(self.rows, self.target, ids)

    def frechet_change(self, records: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
        """Estimate by how much the inpainter moves away from the recordings."""
        if self.phrase_inpainter is None:
            return {}
        ids, songs = ([record[key] for record in records] for key in ("id", "song"))
        found = self.embeddings.differences([(INPAINTED, JUDGED)], RECORDING, ids, songs)
        return dict(
            zip([f"{INPAINTED} - {JUDGED}, Fréchet distance"], found.values(), strict=False)
        )

    def compared(self, records: Sequence[Mapping[str, Any]]) -> dict[str, PairedTest]:
        """Test what each stage changes: `row - free_running, metric` → paired test over songs."""
        songs = [record["song"] for record in records]
        tests = {}
        for row in (RESTORED, INPAINTED):
            for name in COMPARED if row in self.rows else ():
                values = (
                    [rate_of(record["rows"][which], name) for record in records]
                    for which in (row, JUDGED)
                )
                made, draft = (np.array(column, dtype=float) for column in values)
                if not np.isnan(made - draft).all():
                    tests[f"{row} - {JUDGED}, {name}"] = statistics.paired_test(made, draft, songs)
        return tests

    def entry(self, id: str, record: Mapping[str, Any]) -> ReportItem:
        """Render a phrase once more for the report."""
        rendered, item = self.render(id), self.item(id)
        audio, network = self.voice.hyperparams.audio, self.voice.transformer.network
        inverse = self.voice.transformer.standardiser("mel").cpu().inverse
        judged, ceiling = rendered[JUDGED], rendered["ceiling"]
        assert judged.mel is not None and ceiling.mel is not None
        score, symbols = item["score"], item["symbols"]
        return ReportItem(
            id=id,
            text=item["text"],
            audio=audio,
            sounds={row: rendering.wav for row, rendering in rendered.items() if row != "floor"},
            mel=inverse(judged.mel).numpy(),
            true_mel=inverse(ceiling.mel).numpy(),
            f0={
                row: self.judges.track(rendered[row].wav, item["num_frames"])
                for row in ("ceiling", JUDGED)
            },
            notes=score["notes"],
            syllables=[
                (onset, symbol.rstrip("012").lower())
                for onset, symbol in zip(score["onset"], symbols, strict=True)
                if is_vowel(symbol)
            ],
            alignment=None if judged.alignment is None else judged.alignment.cpu().numpy(),
            symbols=symbols,
            seconds_per_step=network.reduction_factor / audio.frame_rate,
            transcribed=self.judges.transcribe(judged.wav),
            record=record,
        )


def rate_of(row: Mapping[str, Any], name: str) -> float:
    """Return a metric of a row as one number, of errors their rate; NaN where it has none."""
    value = row.get(name)
    if isinstance(value, (list, tuple)):
        errors, count = value
        return errors / count if count else float("nan")
    return float("nan") if value is None else float(value)
