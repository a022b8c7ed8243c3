"""What the page shows of a take that is finished: its scores, and that the rest was kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from singing.song import read_recording
from utils.files import read_json
from web.choices import Again


def take_report(
    folder: Path, again: Again | None, seed: int, title: str, command: str
) -> dict[str, Any]:
    """Describe a take that was written to `folder`, from its report.json and its samples."""
    report = read_json(folder / "report.json")
    lines = report["lines"]
    attention = [line["attention"] for line in lines]
    scores = {
        "words": sum(len(line["text"].split()) for line in lines),
        "skipped_words": [word for one in attention for word in one["skipped_words"]],
        "repeated_words": [word for one in attention for word in one["repeated_words"]],
        "worst_seam": report.get("worst_seam"),
        "clipped_samples": report.get("clipped_samples"),
    }
    if takes := report.get("takes"):
        scores["takes"] = len(takes["ranked"])
        scores["best"] = takes["ranked"][0]
    about: dict[str, Any] = {
        "title": title,
        "seed": seed,
        "seconds": report.get("song", {}).get("seconds") or report["seconds_of_audio"],
        "scores": scores,
        "generated": report.get("generated", []),
        "seconds_of_work": report["seconds_of_work"],
        "command": command,
    }
    if again is not None:
        about |= {"of_take": again.take, "regions": [list(region) for region in again.regions]}
        about["kept"] = kept_samples(again.vocal, folder / "vocal.wav", report["generated"])
    return about


def kept_samples(before: Path, after: Path, generated: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Compare two vocals outside of the parts (s) that were generated, bit by bit."""
    old, new = read_recording(before), read_recording(after)
    length = min(len(old.samples), len(new.samples))
    is_kept = np.ones(length, bool)
    for start, end in generated:
        is_kept[round(start * old.sample_rate) : round(end * old.sample_rate)] = False
    is_equal = bool((old.samples[:length][is_kept] == new.samples[:length][is_kept]).all())
    is_equal = is_equal and len(new.samples) >= len(old.samples)
    changed = bool((old.samples[:length] != new.samples[:length]).any())
    return {"samples": int(is_kept.sum()), "are_equal": is_equal, "differs_inside": changed}
