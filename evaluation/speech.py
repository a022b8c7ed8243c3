"""How well is the voice understood? Word errors of recognisers on held-out sentences."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from evaluation import table
from evaluation.chain import describe_voice, free_running, open_chain, sound, teacher_forced
from evaluation.recognisers import RECOGNISERS, Recogniser, recognisers, spoken_words
from evaluation.report import write_result
from evaluation.table import Metric, counted
from singing.chain import attention_health
from text.symbols import word_spans
from utils.files import Journal
from utils.metrics import aligned_distance, frame_difference_ratio, word_errors

if TYPE_CHECKING:
    from preprocess import TextMelDataset
    from singing.voice import Voice

ROWS = {
    "ceiling": "true mel → PostNet → Griffin-Lim",
    "teacher_forced": "transformer fed with true history or, without one, true times",
    "free_running": "transformer fed with its own output",
    "floor": "free-running against another sentence's text",
}
METRICS = {
    **{
        f"{name}_errors": Metric(f"word error rate, {name}", "%", 100, is_pooled=True, needs=name)
        for name in RECOGNISERS
    },
    "distance": Metric("mel distance along the best path", "sd"),
    "sharpness": Metric("frame difference ratio"),
    "length_ratio": Metric("length, over the true one"),
    "focus": Metric("attention focus"),
    "diagonality": Metric("attention diagonality"),
    "coverage": Metric("words read", "%", 100),
}


def evaluate_speech(arguments: Namespace) -> None:
    """Judge sentences of a split; print the table, write evaluation.json."""
    found, missing = recognisers()
    for needed in missing.values():
        print(f"not measured: {needed}", file=sys.stderr)
    if not found:
        raise ImportError("no recogniser is installed: pip install -r requirements-evaluation.txt")
    voice, dataset = open_chain(arguments)
    judge = SpeechJudge(voice, dataset, arguments.seed, found)
    settings = {
        "data": arguments.data,
        "split": arguments.split,
        "judges": [recogniser.NAME for recogniser in found.values()],
        "seed": arguments.seed,
        "sentences": len(judge.numbers),  # the floor is another one
        **describe_voice(voice),
    }
    ids = list(judge.numbers)[: arguments.limit or None]
    records = Journal(arguments.out / "speech.jsonl", settings).complete(ids, judge.judge)
    print(f"{counted(len(records), 'sentence')} of {arguments.data}/{arguments.split}")
    for recogniser in found.values():
        print(f"judge: {recogniser.NAME}")
    metrics = table.print_rows(records, list(ROWS), "ceiling", METRICS, missing, "free_running")
    if not any("floor" in record["rows"] for record in records):
        print("floor not measured: the split has one sentence, and the floor needs another's words")
    result = {"metrics": metrics, "rows": ROWS, "items": records}
    write_result(arguments.out / "evaluation.json", settings | result)


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
        words, others = self.words(number), self.other_words(number)
        rows: dict[str, dict[str, Any]] = {row: {} for row in mels}
        if others is not None:
            rows["floor"] = {}
        for name, recogniser in self.recognisers.items():
            for row, wav in wavs.items():
                recognised = recogniser.words(wav, rate)
                rows[row][name] = " ".join(recognised)
                rows[row][f"{name}_errors"] = word_errors(recognised, words)
                if row == "free_running" and others is not None:
                    rows["floor"][f"{name}_errors"] = word_errors(recognised, others)
        spans = word_spans([str(symbol) for symbol in self.dataset.items[number]["symbols"]])
        assert free.alignment is not None
        health = attention_health(free.alignment.cpu().numpy(), spans)
        mel, true = free.mel.cpu().numpy(), batch.mel[0].cpu().numpy()
        rows["free_running"] |= {
            "distance": aligned_distance(mel, true),
            "sharpness": frame_difference_ratio(mel, true),
            "length_ratio": len(mel) / len(true),
            "focus": health.focus,
            "diagonality": health.diagonality,
            "coverage": health.coverage,
        }
        return {"song": id, "words": words, "rows": rows}
