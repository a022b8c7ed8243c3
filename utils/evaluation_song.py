"""The sung transformer on held-out phrases: from lyrics and notes alone, against the truth.

Every rendering goes the same way: mel → PostNet → Griffin-Lim; so the true mel is the ceiling of
what the judges can find, and another phrase's rendering their floor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from text.symbols import word_spans
from utils import bootstrap
from utils.audio import Features
from utils.bootstrap import Estimate
from utils.cepstra import mel_cepstral_distortion
from utils.evaluation_chain import Chain, free_running, sound, teacher_forced
from utils.judges import ForcedAligner
from utils.metrics import attention_health, frame_difference_ratio
from utils.pitch import f0_track, pitch_scores
from utils.singing import (
    frame_distance,
    mel_level,
    note_track,
    onset_deviations,
    song_of,
    wrong_lyrics,
)

if TYPE_CHECKING:
    from preprocess import TextMelBatch, TextMelDataset

ROWS = {
    "ceiling": "true mel → PostNet → Griffin-Lim",
    "teacher_forced": "transformer fed with true history, same path",
    "free_running": "transformer from lyrics and notes alone, same path",
    "floor": "free-running rendering of another song's phrase, judged as this one",
}
WRONG_LYRICS = 4  # of other songs, that each phrase's own lyrics are compared with
MEL_FLOOR = float(np.log(1e-4))  # of the cepstra: below it nothing is heard


@dataclass(frozen=True)
class Metric:
    """A number of a record's rows: how it is called, and over what it is averaged."""

    title: str
    unit: str
    scale: float = 1.0  # from the record's unit
    larger_is_better: bool = True
    median: bool = False  # of all values of all items, instead of the mean of the items


METRICS = {
    "pitch_accuracy": Metric("raw pitch accuracy, 50 cents", "%", 100),
    "pitch_chroma": Metric("the same, octaves forgiven", "%", 100),
    "pitch_rmse": Metric("F0 RMSE against the score", "cents", larger_is_better=False),
    "voicing_recall": Metric("voicing recall", "%", 100),
    "voicing_false_alarm": Metric("voicing false alarms", "%", 100, False),
    "accepted": Metric("right lyrics accepted", "%", 100),
    "preferred": Metric(f"right lyrics before {WRONG_LYRICS} wrong ones", "%", 100),
    "onset_deviation": Metric("vowel onset deviation, median", "ms", 1000, False, True),
    "coverage": Metric("words read", "%", 100),
    "repeated": Metric("words read again", "per phrase", larger_is_better=False),
    "level_difference": Metric("level difference, mean of |dB|", "dB", larger_is_better=False),
    "sharpness": Metric("frame difference ratio", "", larger_is_better=True),
    "distance": Metric("mel distance frame by frame", "sd", larger_is_better=False),
    "mcd": Metric("mel-cepstral distortion", "dB", larger_is_better=False),
    "mcd_warped": Metric("the same after time warping", "dB", larger_is_better=False),
}


class SongJudge:
    """Renders phrases of a dataset by every row of ROWS and measures them."""

    def __init__(
        self, chain: Chain, dataset: TextMelDataset, seed: int, aligner: ForcedAligner | None
    ) -> None:
        """aligner None: the numbers that need it are left out.

        Raises ValueError for phrases without notes, or symbols the network does not know.
        """
        if list(dataset.store.symbols) != list(chain.transformer.data["symbols"]):
            raise ValueError(
                f"{dataset.store.directory} has other symbols than {chain.transformer.path}: "
                "prepare the corpus again"
            )
        dataset.standardise = chain.transformer.standardiser("mel").cpu()
        self.chain, self.dataset, self.seed, self.aligner = chain, dataset, seed, aligner
        self.numbers = {
            item["id"]: number for number, item in enumerate(dataset.items) if item.get("score")
        }
        if not self.numbers:
            raise ValueError(
                f"{dataset.store.directory}: no phrase has notes; prepare one that has: "
                "python prepare_data.py songbook DIR --name NAME"
            )
        self.features = Features(chain.hyperparams.audio)

    def batch(self, number: int) -> TextMelBatch:
        """One item on the chain's device."""
        return self.dataset.collate([self.dataset[number]]).to(self.chain.device)

    def other(self, number: int) -> int:
        """The phrase of another song that is nearest in length."""
        own = self.dataset.items[number]
        others = [
            other
            for other in self.numbers.values()
            if song_of(self.dataset.items[other]["id"]) != song_of(own["id"])
        ]
        if not others:
            raise ValueError(
                f"{self.dataset.store.directory}: the split holds one song, and the floor needs "
                "another's phrases"
            )
        lengths = self.dataset.lengths
        return min(others, key=lambda other: (abs(lengths[other] - lengths[number]), other))

    def render(self, id: str) -> dict[str, tuple[Tensor, Tensor, Tensor | None]]:
        """(standardised mel (T, M), waveform (S,), alignment or None) of each row."""
        number = self.numbers[id]
        batch, other = self.batch(number), self.other(number)
        seed = self.seed + number
        made = {
            "teacher_forced": teacher_forced(self.chain, batch, seed),
            "free_running": free_running(self.chain, batch, seed),
            "floor": free_running(self.chain, self.batch(other), self.seed + other),
        }
        mels = {"ceiling": (batch.mel[0], None)} | {
            row: (rendered.mel, rendered.alignment if row == "free_running" else None)
            for row, rendered in made.items()
        }
        return {
            row: (mels[row][0].cpu(), sound(self.chain, mels[row][0], seed), mels[row][1])
            for row in ROWS
        }

    def judge(self, id: str) -> dict[str, Any]:
        """The record of one phrase: what METRICS names, for each row that has it."""
        item = self.dataset.items[self.numbers[id]]
        audio = self.chain.hyperparams.audio
        rendered = self.render(id)
        pitch, is_note = note_track(
            item["score"]["notes"], item["num_frames"], 1 / audio.frame_rate
        )
        f0 = {
            row: self._cut(f0_track(wav, audio.sample_rate, audio.hop_length), len(pitch)).numpy()
            for row, (_, wav, _) in rendered.items()
        }
        sings = f0["ceiling"] > 0
        inverse = self.chain.transformer.standardiser("mel").cpu().inverse
        truth = rendered["ceiling"][0]
        names = [str(symbol) for symbol in item["symbols"]]
        rows = {}
        for row, (mel, wav, alignment) in rendered.items():
            scores = asdict(pitch_scores(f0[row], pitch, is_note & sings, ~sings))
            heard = self.features.mel(wav[None])[0].numpy()
            raw = inverse(truth).numpy()
            result: dict[str, Any] = {
                "pitch_accuracy": scores["accuracy"],
                "pitch_chroma": scores["chroma"],
                "pitch_rmse": scores["rmse"],
                "voicing_recall": scores["voicing_recall"],
                "voicing_false_alarm": scores["voicing_false_alarm"],
                "level_difference": mel_level(inverse(mel).numpy()) - mel_level(raw),
                "sharpness": frame_difference_ratio(mel.numpy(), truth.numpy()),
                "distance": frame_distance(mel.numpy(), truth.numpy()),
                "mcd": mel_cepstral_distortion(heard, raw, MEL_FLOOR),
                "mcd_warped": mel_cepstral_distortion(heard, raw, MEL_FLOOR, warp=True),
            }
            if alignment is not None:
                health = attention_health(alignment.cpu().numpy(), word_spans(names))
                result["coverage"] = health.coverage
                result["repeated"] = float(len(health.repeated))
            if self.aligner is not None:
                result |= self.lyrics(wav, item)
            rows[row] = {name: _plain(value) for name, value in result.items()}
        return {"song": song_of(id), "text": item["text"], "rows": rows}

    def lyrics(self, wav: Tensor, item: dict[str, Any]) -> dict[str, Any]:
        """Is the right text accepted, how many wrong ones fit worse, and where are the vowels?

        A wrong text fits worse when it is refused or its path scores less; when the right one is
        refused, none does.
        """
        rate = self.chain.hyperparams.audio.sample_rate
        found = self.aligner.align(wav, rate, item["symbols"])
        result: dict[str, Any] = {"accepted": float(found is not None), "preferred": 0.0}
        wrong = wrong_lyrics(item, self.dataset.items, WRONG_LYRICS)
        if found is not None:
            scores = [self.aligner.score(wav, rate, symbols) for symbols in wrong]
            worse = [score is None or score < found.score for score in scores]
            result["preferred"] = float(np.mean(worse)) if worse else float("nan")
            onsets = [span[0] if span else 0.0 for span in found.times]
            result["onset_deviation"] = onset_deviations(onsets, item["score"], item["symbols"])
        return result

    @staticmethod
    def _cut(track: Tensor, num_frames: int) -> Tensor:
        """A track of `num_frames` frames: cut, or without pitch behind its end."""
        missing = max(0, num_frames - len(track))
        return torch.nn.functional.pad(track, (0, missing))[:num_frames]


def _plain(value: Any) -> Any:
    """Without NaN, which JSON does not have."""
    return None if isinstance(value, float) and np.isnan(value) else value


def estimates(
    records: Sequence[dict[str, Any]], seed: int = 0
) -> dict[str, dict[str, dict[str, Estimate]]]:
    """For each metric and row: `value`, and `ratio` to the ceiling, with intervals over songs."""
    return {
        name: {
            row: _estimate(records, name, row, metric, seed)
            for row in ROWS
            if any(name in record["rows"][row] for record in records)
        }
        for name, metric in METRICS.items()
    }


def _values(records: Sequence[dict[str, Any]], name: str, row: str) -> list[Any]:
    found = [record["rows"][row].get(name) for record in records]
    return [float("nan") if value is None else value for value in found]


def _estimate(
    records: Sequence[dict[str, Any]], name: str, row: str, metric: Metric, seed: int
) -> dict[str, Estimate]:
    songs = [record["song"] for record in records]
    values = _values(records, name, row)
    if metric.median:
        lists = [value if isinstance(value, list) else [] for value in values]
        pooled = [abs(v) * metric.scale for value in lists for v in value]
        groups = [song for song, value in zip(songs, lists, strict=True) for _ in value]
        return {"value": bootstrap.median(pooled, groups, seed)}
    scaled = np.array(values, dtype=float) * metric.scale
    if name == "level_difference":
        scaled = np.abs(scaled)
    result = {"value": bootstrap.mean(scaled, songs, seed)}
    ceiling = np.array(_values(records, name, "ceiling"), dtype=float) * metric.scale
    if row != "ceiling" and name in RATIOS and not np.isnan(ceiling).all():
        result["ratio"] = bootstrap.ratio(scaled, ceiling, songs, seed)
    return result


RATIOS = ("pitch_accuracy", "pitch_chroma", "accepted", "preferred", "mcd", "mcd_warped")


def table(estimates: dict[str, dict[str, dict[str, Estimate]]]) -> list[str]:
    """One line per metric: its value in each row, and the free-running one's ratio to the ceiling.

    An interval follows in brackets; a metric that no judge measured says so.
    """
    lines = [" " * 46 + "".join(f"{row:>22}" for row in (*ROWS, "free / ceiling"))]
    for name, metric in METRICS.items():
        title = f"{metric.title} ({metric.unit})" if metric.unit else metric.title
        rows = estimates[name]
        if not rows:
            lines.append(f"{title:46}  not measured: its judge is not installed")
            continue
        cells = [_cell(rows.get(row, {}).get("value")) for row in ROWS]
        share = rows.get("free_running", {}).get("ratio")
        cells.append(_cell(share, 3))
        lines.append(f"{title:46}" + "".join(f"{cell:>22}" for cell in cells))
    return lines


def _cell(estimate: Estimate | None, digits: int = 1) -> str:
    if estimate is None or np.isnan(estimate.value):
        return "-"
    small = 2 if digits == 1 and abs(estimate.value) < 10 else digits
    value, low, high = (f"{x:.{small}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def plain_estimates(
    estimates: dict[str, dict[str, dict[str, Estimate]]],
) -> dict[str, Any]:
    """Estimates for JSON."""
    return {
        name: {
            row: {kind: estimate.as_dict() for kind, estimate in kinds.items()}
            for row, kinds in rows.items()
        }
        for name, rows in estimates.items()
    }
