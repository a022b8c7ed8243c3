"""What a resumed run may change: how long and how fast it trains, not what it trains on what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from utils import config

# Knobs of a training section that decide which batch comes when.
FIXED_KNOBS = ("seed", "batch_frames", "batch_size", "segment_frames")


def compare(
    state: Mapping[str, Any],
    hyperparams: Any,
    data: Mapping[str, Any],
    structure: tuple[str, ...],
    section: str,
) -> tuple[list[str], list[str]]:
    """Return (what forbids to resume `state`, what has changed harmlessly), a line each.

    structure: the sections that must be equal. section: the training section of this run, of which
    only FIXED_KNOBS must be. Other sections do not concern the run.
    """
    stored = config.from_dict(state["hyperparams"], type(hyperparams))
    forbidden, harmless = [], []
    for key, (before, now) in config.changed(stored, hyperparams).items():
        home, _, name = key.partition(".")
        if home in structure or (home == section and name in FIXED_KNOBS):
            forbidden.append(f"{key}: {before} in the checkpoint, {now} now")
        elif home == section:
            harmless.append(f"{key}: {before} -> {now}")
    forbidden += [
        f"data.{name}: another corpus, or prepared anew"
        for name in data
        if not equal(data[name], state["data"].get(name))
    ]
    return forbidden, harmless


def equal(a: Any, b: Any) -> bool:
    """Compare plain values and tensors at any depth; a list equals a tuple of the same values."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return (
            isinstance(a, Tensor)
            and isinstance(b, Tensor)
            and a.shape == b.shape
            and bool((a.cpu() == b.cpu()).all())
        )
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
