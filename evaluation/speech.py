"""The spoken chain on held-out sentences: what independent recognisers understand of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from corpora.aligner import RECOGNISERS, Recogniser, spoken_words
from evaluation import statistics as bootstrap
from evaluation.chain import free_running, sound, teacher_forced
from evaluation.statistics import Estimate
from text.symbols import word_spans
from utils.metrics import aligned_distance, attention_health, frame_difference_ratio, word_errors

if TYPE_CHECKING:
    from preprocess import TextMelDataset
    from singing.voice import Voice

ROWS = {
    "ceiling": "true mel → PostNet → Griffin-Lim",
    "teacher_forced": "transformer fed with true history",
    "free_running": "transformer fed with its own output",
    "floor": "free-running against another sentence's text",
}
MEANS = ("distance", "sharpness", "length_ratio")
ATTENTION_MEANS = ("focus", "diagonality", "coverage")


class SpeechJudge:
    """Renders sentences of a dataset by every row of ROWS and counts the word errors."""

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
        """What should be heard."""
        return spoken_words(self.dataset.items[number]["text"])

    def judge(self, id: str) -> dict[str, Any]:
        """The record of one sentence: word errors of every row, attention, distance to the truth.

        The floor is this sentence's rendering against the text of the sentence before it.
        """
        number = self.numbers[id]
        rate, seed = self.voice.hyperparams.audio.sample_rate, self.seed + number
        batch = self.dataset.collate([self.dataset[number]]).to(self.voice.device)
        sung = free_running(self.voice, batch, seed)
        mels = {
            "ceiling": batch.mel[0],
            "teacher_forced": teacher_forced(self.voice, batch, seed).mel,
            "free_running": sung.mel,
        }
        wavs = {row: sound(self.voice, mel, seed) for row, mel in mels.items()}
        heard = {
            name: {row: recogniser.words(wav, rate) for row, wav in wavs.items()}
            for name, recogniser in self.recognisers.items()
        }
        texts, errors = self.words(number), {}
        for name, found in heard.items():
            errors[name] = {row: word_errors(words, texts) for row, words in found.items()}
            errors[name]["floor"] = word_errors(found["free_running"], self.words(number - 1))
        names = [str(symbol) for symbol in self.dataset.items[number]["symbols"]]
        free, truth = sung.mel.cpu().numpy(), batch.mel[0].cpu().numpy()
        return {
            "words": texts,
            "heard": heard,
            "errors": errors,
            "attention": attention_health(
                sung.alignment.cpu().numpy(), word_spans(names)
            ).as_dict(),
            "distance": aligned_distance(free, truth),
            "sharpness": frame_difference_ratio(free, truth),
            "length_ratio": len(free) / len(truth),
        }


def word_error_rate(
    records: Sequence[dict[str, Any]], recogniser: str, row: str, seed: int = 0
) -> Estimate:
    """Errors per reference word over all items, and its interval over items."""
    errors, words = zip(*(record["errors"][recogniser][row] for record in records), strict=True)
    return bootstrap.ratio(errors, words, seed=seed)


def summary(records: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], list[str]]:
    """What the records say, for JSON and as lines of a table."""
    lines, rates = [], {}
    for name in records[0]["errors"]:
        lines.append(RECOGNISERS[name].NAME)
        rates[name] = {row: word_error_rate(records, name, row) for row in ROWS}
        lines += [
            f"{row:>15}  WER {100 * rate.value:5.1f} %  "
            f"[{100 * rate.low:.1f}, {100 * rate.high:.1f}]  {ROWS[row]}"
            for row, rate in rates[name].items()
        ]
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
        }
        for name, found in rates.items()
    }
    return {"word_error_rate": rows, "free_running": means}, lines
