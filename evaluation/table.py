"""The table of an evaluation: what is measured, over which items, with which interval.

A record holds {"id", "song", "rows": {row: {metric: number}}} of one item. Rows are ways to render
the item, among them a ceiling and a floor. Intervals are over songs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evaluation import statistics
from evaluation.frechet import Frechet
from evaluation.statistics import Estimate

WRONG_LYRICS = 4  # lines of other songs that an item's own lyrics are compared with


@dataclass(frozen=True)
class Metric:
    """A metric: its title, how items are averaged, what it needs."""

    title: str
    unit: str = ""
    scale: float = 1.0  # from the record's unit to the printed one
    is_absolute: bool = False  # average |x|
    is_median: bool = False  # median over the values of all items instead of the mean over items
    is_pooled: bool = False  # a record holds (errors, words): Σ errors / Σ words over the items
    has_ratio: bool = False  # to the ceiling
    needs: str = ""  # fields of evaluation.voice.Judges, or parts of the reference


_NOTES = "transcriber mir_eval notes"
_WORDS = "aligner lyrics"
_BACKING = "accompaniment transcriber"
METRICS = {
    "pitch_accuracy": Metric("raw pitch accuracy, 50 cents", "%", 100, has_ratio=True),
    "pitch_chroma": Metric("the same, octaves forgiven", "%", 100, has_ratio=True),
    "pitch_rmse": Metric("F0 RMSE", "cents"),
    "voicing_recall": Metric("voicing recall", "%", 100),
    "voicing_false_alarm": Metric("voicing false alarms", "%", 100),
    "note_onset": Metric("note F1: onset", "%", 100, has_ratio=True, needs=_NOTES),
    "note_pitch": Metric("note F1: onset, pitch", "%", 100, has_ratio=True, needs=_NOTES),
    "note_offset": Metric("note F1: onset, pitch, offset", "%", 100, has_ratio=True, needs=_NOTES),
    "word_errors": Metric("word error rate", "%", 100, is_pooled=True, needs="whisper lyrics"),
    "phoneme_errors": Metric(
        "phoneme error rate", "%", 100, is_pooled=True, needs="transcriber lyrics"
    ),
    "phoneme_entropy": Metric("phoneme entropy of a frame", "bits", needs="transcriber"),
    "phoneme_variety": Metric("phoneme variety", "bits", needs="transcriber"),
    "accepted": Metric("right lyrics accepted", "%", 100, has_ratio=True, needs=_WORDS),
    "preferred": Metric(
        f"right lyrics before {WRONG_LYRICS} wrong",
        "%",
        100,
        has_ratio=True,
        needs=_WORDS,
    ),
    "onset_deviation": Metric(
        "vowel onset deviation, median", "ms", 1000, True, is_median=True, needs=_WORDS
    ),
    "coverage": Metric("words read", "%", 100, needs="network"),
    "repeated": Metric("words read again", "/phrase", needs="network"),
    "level_difference": Metric("level difference, mean |dB|", "dB", is_absolute=True),
    "sharpness": Metric("frame difference ratio"),
    "distance": Metric("mel distance frame by frame", "sd", needs="network"),
    "mcd": Metric("mel-cepstral distortion", "dB", has_ratio=True),
    "mcd_warped": Metric("the same, time-warped", "dB", has_ratio=True),
    "lsd": Metric("log-spectral distance", "dB", has_ratio=True),
    "chord_tones": Metric("chord tones on beats", "%", 100, needs=_BACKING),
    "chord_tones_shuffled": Metric("  on another's accompaniment", "%", 100, needs=_BACKING),
    "beat_deviation": Metric(
        "onset to half beat, median", "ms", 1000, True, is_median=True, needs=_BACKING
    ),
    "beat_deviation_shuffled": Metric(
        "  on another's accompaniment", "ms", 1000, True, is_median=True, needs=_BACKING
    ),
}
SHUFFLED = {
    "chord_tones": "chord_tones_shuffled",
    "beat_deviation": "beat_deviation_shuffled",
}

Estimates = dict[str, dict[str, dict[str, Estimate]]]  # metric → row → "value", "ratio"
Records = Sequence[Mapping[str, Any]]


def counted(number: int, noun: str) -> str:
    """Return `1 phrase` or `3 phrases`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def estimates(
    records: Records,
    rows: Sequence[str],
    ceiling: str,
    seed: int = 0,
    metrics: Mapping[str, Metric] = METRICS,
) -> Estimates:
    """Estimate every metric of every row that has it: `value`, and `ratio` to the ceiling."""
    groups = [record["song"] for record in records]
    result: Estimates = {}
    for name, metric in metrics.items():
        top = _scaled(_values(records, name, ceiling), metric) if metric.has_ratio else None
        result[name] = {}
        for row in rows:
            if not any(name in record["rows"].get(row, {}) for record in records):
                continue
            values = _values(records, name, row)
            result[name][row] = {"value": _estimate(values, groups, metric, seed)}
            if top is not None and row != ceiling:
                ratio = statistics.ratio(_scaled(values, metric), top, groups, seed)
                result[name][row]["ratio"] = ratio
    return result


def _values(records: Records, name: str, row: str) -> list[Any]:
    return [record["rows"].get(row, {}).get(name) for record in records]


def _scaled(values: Sequence[Any], metric: Metric) -> np.ndarray:
    scaled = np.array([np.nan if value is None else value for value in values], dtype=float)
    return (np.abs(scaled) if metric.is_absolute else scaled) * metric.scale


def _estimate(values: Sequence[Any], groups: Sequence[str], metric: Metric, seed: int) -> Estimate:
    if metric.is_median:  # a record holds a list; all values count alike, groups are drawn whole
        lists = [value or [] for value in values]
        pooled = [part for value in lists for part in value]
        owners = [group for group, value in zip(groups, lists, strict=True) for _ in value]
        return statistics.median(_scaled(pooled, metric), owners, seed)
    if metric.is_pooled:
        errors, words = np.array([value or (np.nan, np.nan) for value in values], dtype=float).T
        return statistics.ratio(errors * metric.scale, words, groups, seed)
    return statistics.mean(_scaled(values, metric), groups, seed)


def plain(estimates: Estimates) -> dict[str, Any]:
    """Convert estimates to plain values for JSON."""
    return {
        name: {
            row: {kind: estimate.as_dict() for kind, estimate in kinds.items()}
            for row, kinds in rows.items()
        }
        for name, rows in estimates.items()
    }


def cells(
    estimates: Estimates,
    rows: Sequence[str],
    judged: str,
    missing: Mapping[str, str],
    metrics: Mapping[str, Metric] = METRICS,
) -> list[list[str]]:
    """Lay out a title line, then one line per metric: its rows, and `judged` / ceiling.

    missing: what an absent judge needs, by the names in `Metric.needs`. A metric without a number
    is a line of two cells: its title and the reason.
    """
    has_ratio = any(metric.has_ratio for metric in metrics.values())
    lines = [["", *rows, *([f"{judged} / ceiling"] if has_ratio else [])]]
    for name, metric in metrics.items():
        title = f"{metric.title} ({metric.unit})" if metric.unit else metric.title
        found = estimates.get(name, {})
        if any(not np.isnan(kinds["value"].value) for kinds in found.values()):
            shown = [cell(found.get(row, {}).get("value")) for row in rows]
            ratio = [cell(found.get(judged, {}).get("ratio"), 3)] if has_ratio else []
            lines.append([title, *shown, *ratio])
        else:
            reasons = [missing[need] for need in metric.needs.split() if need in missing]
            reason = reasons[0] if reasons else "no item has it"
            lines.append([title, f"not measured: {reason}"])
    return lines


def cell(estimate: Estimate | None, digits: int = 1) -> str:
    """Format a number and its interval."""
    if estimate is None or np.isnan(estimate.value):
        return "-"
    digits = 2 if digits == 1 and abs(estimate.value) < 10 else digits
    value, low, high = (f"{x:.{digits}f}" for x in (estimate.value, estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def layout(lines: Sequence[Sequence[str]]) -> list[str]:
    """Align cells in columns; a line with fewer cells than the first is not aligned."""
    full = [line for line in lines if len(line) == len(lines[0])]
    widths = [max(len(line[column]) for line in full) for column in range(len(lines[0]))]
    widths[0] = max(len(line[0]) for line in lines)
    shown = []
    for line in lines:
        columns = list(line[1:])
        if len(line) == len(lines[0]):
            columns = [text.rjust(w) for text, w in zip(columns, widths[1:], strict=True)]
        shown.append("  ".join([line[0].ljust(widths[0]), *columns]))
    return shown


def print_rows(
    records: Records,
    rows: Sequence[str],
    truth: str,
    metrics: Mapping[str, Metric],
    missing: Mapping[str, str] | None = None,
    judged: str = "",
) -> dict[str, Any]:
    """Print the table of rows, one of them the truth; return its numbers as plain values.

    missing: why what a metric needs is not there. judged: the row that has a ratio to the truth.
    """
    found = estimates(records, rows, truth, metrics=metrics)
    print("\n".join(layout(cells(found, rows, judged, missing or {}, metrics))))
    return plain(found)


def print_tests(tests: Mapping[str, statistics.PairedTest]) -> dict[str, Any]:
    """Print tests, a line each; return them as plain values."""
    for name, test in tests.items():
        print(f"{name}: {test}")
    return {name: test.as_dict() for name, test in tests.items()}


def shuffle_controls(records: Records, row: str) -> dict[str, statistics.PairedTest]:
    """Test the fit to the own accompaniment against the fit to another's, paired over songs."""
    groups = [record["song"] for record in records]
    result = {}
    for name, shuffled in SHUFFLED.items():
        own, other = ([_one(value) for value in _values(records, n, row)] for n in (name, shuffled))
        test = statistics.paired_test(own, other, groups)
        if test.difference.count:
            result[name] = test
    return result


def _one(value: Any) -> float:
    """Reduce the value of an item to a number: a list to its median |x|."""
    if isinstance(value, list):
        return float(np.median(np.abs(value))) if value else float("nan")
    return float("nan") if value is None else float(value)


def print_table(
    records: Records,
    rows: Sequence[str],
    judged: str,
    missing: Mapping[str, str],
    distances: Mapping[str, Frechet],
) -> dict[str, Any]:
    """Print the table of `song` and `folder`; return its numbers for evaluation.json."""
    found = estimates(records, rows, "ceiling")
    lines = cells(found, rows, judged, missing)
    print("\n".join(layout(lines)))
    for row, distance in distances.items():
        print(f"{row}: {distance}")
    if "embedding" in missing:
        print(f"Fréchet distance not measured: {missing['embedding']}")
    controls = shuffle_controls(records, judged)
    for name, control in controls.items():
        print(f"shuffle control, {name}: {control} own - other")
    return {
        "metrics": plain(found),
        "frechet_distance": {row: asdict(distance) for row, distance in distances.items()},
        "shuffle_control": {name: control.as_dict() for name, control in controls.items()},
        "missing": dict(missing),
        "table": lines,
    }
