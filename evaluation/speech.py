"""How well is the voice understood? Word errors of recognisers on held-out sentences."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corpora.aligner import RECOGNISERS, Recogniser, recognisers, spoken_words
from corpora.stores import open_features
from evaluation import statistics
from evaluation.chain import describe_voice, free_running, sound, teacher_forced
from evaluation.report import write_result
from evaluation.statistics import Estimate
from evaluation.table import Records, counted
from preprocess import TextMelDataset
from singing.voice import load_voice
from text.symbols import word_spans
from utils import distributed
from utils.checkpoint import resolve
from utils.journal import Journal
from utils.metrics import aligned_distance, attention_health, frame_difference_ratio, word_errors

if TYPE_CHECKING:
    from singing.voice import Voice

ROWS = {
    "ceiling": "true mel → PostNet → Griffin-Lim",
    "teacher_forced": "transformer fed with true history",
    "free_running": "transformer fed with its own output",
    "floor": "free-running against another sentence's text",
}
MEANS = ("distance", "sharpness", "length_ratio")
ATTENTION_MEANS = ("focus", "diagonality", "coverage")


def evaluate_speech(
    data: str,
    split: str,
    feature_dir: Path,
    checkpoint: Path,
    postnet: Path,
    limit: int,
    seed: int,
    out: Path,
    device: str,
) -> None:
    """Judge sentences of a split; print the table, write evaluation.json."""
    found, missing = recognisers()
    for needed in missing.values():
        print(f"not measured: {needed}", file=sys.stderr)
    if not found:
        raise ImportError("no recogniser is installed: pip install -r requirements-evaluation.txt")
    where = distributed.start(device).device
    voice = load_voice(resolve(checkpoint, "transformer"), resolve(postnet, "postnet"), where)
    store = open_features(feature_dir, data)
    store.check_audio(voice.hyperparams.audio)
    judge = SpeechJudge(voice, TextMelDataset(store, split), seed, found)
    settings = {
        "data": data,
        "split": split,
        "judges": [recogniser.NAME for recogniser in found.values()],
        "seed": seed,
        "sentences": len(judge.numbers),  # the floor is another one
        **describe_voice(voice),
    }
    ids = list(judge.numbers)[: limit or None]
    records = Journal(out / "speech.jsonl", settings).complete(ids, judge.judge)
    result, lines = summary(records)
    print(f"{counted(len(records), 'sentence')} of {data}/{split}")
    print("\n".join(lines))
    write_result(out / "evaluation.json", {**settings, **result, "items": records})


class SpeechJudge:
    """Render sentences of a dataset by every row of ROWS and count the word errors."""

    def __init__(
        self,
        voice: Voice,
        dataset: TextMelDataset,
        seed: int,
        recognisers: Mapping[str, Recogniser],
    ) -> None:
        dataset.standardise = voice.transformer.standardiser("mel").cpu()
        self.voice, self.dataset, self.seed, self.recognisers = voice, dataset, seed, recognisers
        self.numbers = {item["id"]: number for number, item in enumerate(dataset.items)}

    def words(self, number: int) -> list[str]:
        """Return the words of a sentence as they are spoken."""
        return spoken_words(self.dataset.items[number]["text"])

    def other_words(self, number: int) -> list[str] | None:
        """Return the words of the nearest sentence before it that has others; None without one."""
        own = self.words(number)
        before = (self.words(other) for other in range(number - 1, number - len(self.numbers), -1))
        return next((words for words in before if words != own), None)

    def judge(self, id: str) -> dict[str, Any]:
        """Measure a sentence: word errors of every row, attention, distance to the truth.

        The floor is its free-running rendering against the words of another sentence; there is none
        when the split has no other words.
        """
        number = self.numbers[id]
        rate, seed = self.voice.hyperparams.audio.sample_rate, self.seed + number
        batch = self.dataset.collate([self.dataset[number]]).to(self.voice.device)
        free = free_running(self.voice, batch, seed)
        mels = {
            "ceiling": batch.mel[0],
            "teacher_forced": teacher_forced(self.voice, batch, seed).mel,
            "free_running": free.mel,
        }
        wavs = {row: sound(self.voice, mel, seed) for row, mel in mels.items()}
        words, others, errors, recognised = self.words(number), self.other_words(number), {}, {}
        for name, recogniser in self.recognisers.items():
            found = {row: recogniser.words(wav, rate) for row, wav in wavs.items()}
            recognised[name] = found
            errors[name] = {row: word_errors(part, words) for row, part in found.items()}
            if others is not None:
                errors[name]["floor"] = word_errors(found["free_running"], others)
        spans = word_spans([str(symbol) for symbol in self.dataset.items[number]["symbols"]])
        assert free.alignment is not None
        mel, true = free.mel.cpu().numpy(), batch.mel[0].cpu().numpy()
        return {
            "words": words,
            "recognised": recognised,
            "errors": errors,
            "attention": attention_health(free.alignment.cpu().numpy(), spans).as_dict(),
            "distance": aligned_distance(mel, true),
            "sharpness": frame_difference_ratio(mel, true),
            "length_ratio": len(mel) / len(true),
        }


def word_error_rate(records: Records, recogniser: str, row: str) -> Estimate:
    """Estimate the errors per reference word over all items that have the row."""
    pairs = [record["errors"][recogniser].get(row, (np.nan, np.nan)) for record in records]
    errors, words = np.array(pairs, dtype=float).T
    return statistics.ratio(errors, words)


def summary(records: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """Summarise the records: numbers for JSON, and the lines of a table."""
    lines, rates = [], {}
    for name in records[0]["errors"]:
        lines.append(RECOGNISERS[name].NAME)
        rates[name] = {row: word_error_rate(records, name, row) for row in ROWS}
        for row, rate in rates[name].items():
            shown = (
                f"WER {100 * rate.value:5.1f} %  [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"
                if rate.count
                else "not measured: the split has one sentence, and the floor needs another's words"
            )
            lines.append(f"{row:>15}  {shown}  {ROWS[row]}")
    means = {name: float(np.mean([record[name] for record in records])) for name in MEANS}
    means |= {
        name: float(np.mean([record["attention"][name] for record in records]))
        for name in ATTENTION_MEANS
    }
    lines.append("free-running: " + ", ".join(f"{name} {v:.3f}" for name, v in means.items()))
    rows = {
        name: {
            row: {"value": rate.value, "interval": [rate.low, rate.high]}
            for row, rate in found.items()
            if rate.count
        }
        for name, found in rates.items()
    }
    return {"word_error_rate": rows, "free_running": means}, lines
