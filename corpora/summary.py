"""What prepare_data.py says about a corpus that it has made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from corpora.cache import BuildReport
from corpora.records import SPLITS
from corpora.songbook import Rendering


def print_summary(report: BuildReport) -> None:
    """Say what was made, kept, converted, removed and skipped."""
    items = report.index["items"]
    hours = sum(item["num_samples"] for item in items) / report.index["sample_rate"] / 3600
    print(
        f"{report.directory}: {len(items)} items, {hours:.2f} h ({count_splits(items)}); "
        f"{len(items) - report.kept} made, {report.kept} kept"
    )
    print(
        f"disk: {report.num_bytes / 1e6:.1f} MB, {report.num_bytes / hours / 1e6:.0f} MB per hour "
        f"of audio"
    )
    warn_of_empty_splits(items)
    for conversion, count in Counter(c for i in items for c in i["conversions"]).items():
        print(f"converted: {count} recordings from {conversion}")
    if report.removed:
        print(f"removed: {len(report.removed)} arrays of items that are no longer in the corpus")
    print(f"skipped: {len(report.rejections)} items")
    for rejection in report.rejections:
        print(f"  {rejection.id or '(no id)'}: {rejection.reason}")
    folder = report.directory.parent
    flag = "" if folder == Path("feature") else f" --feature-dir {folder}"
    print(f"verify with: python prepare_data.py check {report.directory.name}{flag}")


def print_guesses(items: list[dict[str, Any]]) -> None:
    """Say which words the dictionary does not have: a lexicon can correct them."""
    guessed = Counter(word for item in items for word in item["guessed"])
    if guessed:
        words = ", ".join(f"{word} ({count})" for word, count in guessed.most_common(20))
        print(f"guessed pronunciations: {len(guessed)} words: {words}")


def count_splits(items: list[dict[str, Any]]) -> str:
    """Word the sizes of the splits."""
    counts = Counter(item["split"] for item in items)
    return ", ".join(f"{counts[name]} {name}" for name in SPLITS)


def warn_of_empty_splits(items: list[dict[str, Any]]) -> None:
    """Say that training will miss a split, while it is cheap to change."""
    missing = [name for name in SPLITS if name not in {item["split"] for item in items}]
    if missing:
        print(
            f"warning: no item in {' and '.join(missing)}; training needs train and validation. "
            "Run again with larger shares (--validation-share, --test-share) or another --seed: "
            "what is made is kept"
        )


def print_songs(report: BuildReport) -> None:
    """Say what came of a corpus of songs, their levels, and what is remarkable about them."""
    print_summary(report)
    rms = ", ".join(f"{name} {value:.3f}" for name, value in report.index["statistics"].items())
    loudness = report.index["loudness"]
    print(f"loudness: mixes at {loudness:g} LUFS; RMS of the train split: {rms}")
    for item in report.index["items"]:
        for remark in item["remarks"]:
            print(f"  {item['id']}: {remark}")


def print_recordings(renderings: Sequence[Rendering]) -> None:
    """Say of each recording what was found in it, and how far it is what it is said to be."""
    for rendering in renderings:
        record, report = rendering.made, rendering.made["report"]
        seconds = sum(phrase["end"] - phrase["start"] for phrase in record["phrases"])
        noise = report["over_noise"]
        rests = "no rest to hear noise in" if noise is None else f"{noise:.0f} dB over its rests"
        sources = ", ".join(f"{name} {source}" for name, source in report["sources"].items())
        print(
            f"{rendering.id}: {len(record['phrases'])} phrases, {seconds:.0f} of "
            f"{report['seconds']:.0f} s; pitch {report['pitch']:.0%} within 50 cents, words "
            f"{report['words']:.0%} recognised; {report['level']:.0f} dBFS, {rests}; {sources}"
        )
        for remark in record["remarks"]:
            print(f"  {rendering.id}: {remark}")
