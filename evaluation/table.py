"""What is measured of a voice, and the one table that says it.

A record holds {row: {metric: number}} of one item; rows are ways to make it, among them a ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation import statistics as bootstrap
from evaluation.statistics import Estimate

WRONG_LYRICS = 4  # lines that each item's own lyrics are compared with


@dataclass(frozen=True)
class Metric:
    """One number: how it is called, how it is averaged, and what it needs."""

    title: str
    unit: str = ""
    scale: float = 1.0  # from the record's unit to the shown one
    is_absolute: bool = False  # the sign is dropped: a mean of |x|
    is_median: bool = False  # of the values of all items, instead of the mean of the items
    is_pooled: bool = False  # a record holds (errors, words): Σ errors / Σ words over the items
    has_ratio: bool = False  # to the ceiling
    needs: str = ""  # judges of evaluation.voice, parts of the reference


METRICS = {
    "pitch_accuracy": Metric("raw pitch accuracy, 50 cents", "%", 100, has_ratio=True),
    "pitch_chroma": Metric("the same, octaves forgiven", "%", 100, has_ratio=True),
    "pitch_rmse": Metric("F0 RMSE", "cents"),
    "voicing_recall": Metric("voicing recall", "%", 100),
    "voicing_false_alarm": Metric("voicing false alarms", "%", 100),
    "note_onset": Metric("note F1: onset", "%", 100, has_ratio=True, needs="transcriber mir_eval"),
    "note_pitch": Metric(
        "note F1: onset, pitch", "%", 100, has_ratio=True, needs="transcriber mir_eval"
    ),
    "note_offset": Metric(
        "note F1: onset, pitch, offset", "%", 100, has_ratio=True, needs="transcriber mir_eval"
    ),
    "word_errors": Metric("word error rate", "%", 100, is_pooled=True, needs="whisper"),
    "phoneme_errors": Metric("phoneme error rate", "%", 100, is_pooled=True, needs="transcriber"),
    "phoneme_accuracy": Metric("phoneme entropy of a frame", "bits", needs="transcriber"),
    "phoneme_variety": Metric("phoneme variety", "bits", needs="transcriber"),
    "accepted": Metric("right lyrics accepted", "%", 100, has_ratio=True, needs="aligner"),
    "preferred": Metric(
        f"right lyrics before {WRONG_LYRICS} wrong", "%", 100, has_ratio=True, needs="aligner"
    ),
    "onset_deviation": Metric(
        "vowel onset deviation, median", "ms", 1000, True, is_median=True, needs="aligner"
    ),
    "coverage": Metric("words read", "%", 100, needs="network"),
    "repeated": Metric("words read again", "/phrase", needs="network"),
    "level_difference": Metric("level difference, mean |dB|", "dB", is_absolute=True),
    "sharpness": Metric("frame difference ratio"),
    "distance": Metric("mel distance frame by frame", "sd", needs="network"),
    "mcd": Metric("mel-cepstral distortion", "dB", has_ratio=True),
    "mcd_warped": Metric("the same, time-warped", "dB", has_ratio=True),
    "lsd": Metric("log-spectral distance", "dB", has_ratio=True),
    "chord_tones": Metric("chord tones on beats", "%", 100, needs="accompaniment transcriber"),
    "chord_tones_shuffled": Metric(
        "  on another's accompaniment", "%", 100, needs="accompaniment transcriber"
    ),
    "beat_deviation": Metric(
        "onset to half beat, median",
        "ms",
        1000,
        True,
        is_median=True,
        needs="accompaniment transcriber",
    ),
    "beat_deviation_shuffled": Metric(
        "  on another's accompaniment",
        "ms",
        1000,
        True,
        is_median=True,
        needs="accompaniment transcriber",
    ),
}
SHUFFLED = {
    "chord_tones": "chord_tones_shuffled",
    "beat_deviation": "beat_deviation_shuffled",
}

Estimates = dict[str, dict[str, dict[str, Estimate]]]  # metric → row → "value", "ratio"


def estimates(
    records: Sequence[Mapping[str, Any]], rows: Sequence[str], ceiling: str, seed: int = 0
) -> Estimates:
    """For each metric and row that has it: `value`, and `ratio` to the ceiling.

    Intervals are over the records' groups (`song`).
    """
    groups = [record["song"] for record in records]
    result: Estimates = {}
    for name, metric in METRICS.items():
        result[name] = {}
        for row in rows:
            if not any(name in record["rows"].get(row, {}) for record in records):
                continue
            values = _values(records, name, row)
            if metric.is_median:
                result[name][row] = {"value": _median(values, groups, metric, seed)}
                continue
            if metric.is_pooled:
                pairs = np.array([value or (np.nan, np.nan) for value in values], dtype=float).T
                scaled = pairs * [[metric.scale], [1.0]]
                result[name][row] = {"value": bootstrap.ratio(*scaled, groups, seed)}
                continue
            scaled = _scaled(values, metric)
            result[name][row] = {"value": bootstrap.mean(scaled, groups, seed)}
            if metric.has_ratio and row != ceiling:
                top = _scaled(_values(records, name, ceiling), metric)
                result[name][row]["ratio"] = bootstrap.ratio(scaled, top, groups, seed)
    return result


def _values(records: Sequence[Mapping[str, Any]], name: str, row: str) -> list[Any]:
    return [record["rows"].get(row, {}).get(name) for record in records]


def _scaled(values: Sequence[Any], metric: Metric) -> np.ndarray:
    scaled = np.array([np.nan if value is None else value for value in values], dtype=float)
    return (np.abs(scaled) if metric.is_absolute else scaled) * metric.scale


def _median(values: Sequence[Any], groups: Sequence[str], metric: Metric, seed: int) -> Estimate:
    """Of lists of values: all of them count alike, those of a group are drawn together."""
    lists = [value or [] for value in values]
    pooled = [part for value in lists for part in value]
    owners = [group for group, value in zip(groups, lists, strict=True) for _ in value]
    return bootstrap.median(_scaled(pooled, metric), owners, seed)


def plain(estimates: Estimates) -> dict[str, Any]:
    """Estimates for JSON."""
    return {
        name: {
            row: {kind: estimate.as_dict() for kind, estimate in kinds.items()}
            for row, kinds in rows.items()
        }
        for name, rows in estimates.items()
    }


def cells(
    estimates: Estimates, rows: Sequence[str], judged: str, missing: Mapping[str, str]
) -> list[list[str]]:
    """The table as text: a title row, then each metric with its rows and `judged` / ceiling.

    missing: what a judge that is not there needs, by the `needs` of the metrics.
    """
    lines = [["", *rows, f"{judged} / ceiling"]]
    for name, metric in METRICS.items():
        title = f"{metric.title} ({metric.unit})" if metric.unit else metric.title
        found = estimates.get(name, {})
        if found:
            shown = [cell(found.get(row, {}).get("value")) for row in rows]
            lines.append([title, *shown, cell(found.get(judged, {}).get("ratio"), 3)])
        else:
            reasons = [missing[name] for name in metric.needs.split() if name in missing]
            reason = reasons[0] if reasons else f"no item has the {metric.needs or 'sound'} for it"
            lines.append([title, f"not measured: {reason}"])
    return lines


def cell(estimate: Estimate | None, digits: int = 1) -> str:
    """A number and its interval."""
    if estimate is None or np.isnan(estimate.value):
        return "-"
    digits = 2 if digits == 1 and abs(estimate.value) < 10 else digits
    value, low, high = (f"{x:.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def layout(lines: Sequence[Sequence[str]]) -> list[str]:
    """Cells as aligned lines; one that has fewer than the first is no row of numbers."""
    full = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(len(line[column]) for line in full) for column in range(len(lines[0]))]
    widths[0] = max(len(line[0]) for line in lines)
    shown = []
    for line in lines:
        if len(line) < len(lines[0]):
            shown.append("  ".join([line[0].ljust(widths[0]), *line[1:]]))
            continue
        columns = [text.rjust(width) for text, width in zip(line[1:], widths[1:], strict=True)]
        shown.append("  ".join([line[0].ljust(widths[0]), *columns]))
    return shown


def shuffle_controls(records: Sequence[Mapping[str, Any]], row: str) -> dict[str, Any]:
    """Is the fit to the own accompaniment better than to another's? Paired, with its p-value."""
    groups = [record["song"] for record in records]
    result = {}
    for name, shuffled in SHUFFLED.items():
        own, other = ([_one(value) for value in _values(records, n, row)] for n in (name, shuffled))
        test = bootstrap.paired_test(own, other, groups)
        if test.difference.count:
            result[name] = test.as_dict()
    return result


def _one(value: Any) -> float:
    """A number of an item: the median of a list."""
    if isinstance(value, list):
        return float(np.median(np.abs(value))) if value else float("nan")
    return float("nan") if value is None else float(value)
