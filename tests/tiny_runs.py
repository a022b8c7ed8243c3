"""Runs of training scripts that are interrupted, beside those that are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from utils import checkpoint


def resumed_equals_whole(
    main: Callable[[list[str]], int],
    flags: Callable[..., list[str]],
    feature_dir: Path,
    folder: Path,
    steps: int,
    more: Sequence[str] = (),
) -> tuple[Path, Path]:
    """Train `steps` steps at once, and again with a stop behind the first: the weights are equal.

    flags: (feature folder, folder of runs, further flags) → a command of an inpainter's run `r`.
    Returns the folders of both runs.
    """
    whole, parts = folder / "whole", folder / "parts"
    for save, stops in ((whole, (steps,)), (parts, (1, steps))):
        for stop in stops:
            assert main(flags(feature_dir, save, "--steps", str(stop), *more)) == 0
    states = [
        checkpoint.load(save / "inpainter" / "r" / "last.pt", "inpainter")
        for save in (whole, parts)
    ]
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name]), name
    return whole, parts
