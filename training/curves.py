"""Learning curves of a run, drawn from its stats.jsonl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from training.runlog import read_stats
from utils.plotting import PAGE, PREDICTED, TRUE, new_figure

BY_LEVEL = "validation/sigma_"  # scalars of an inpainter's noise levels, the level behind it
SMOOTHED = 9  # logged values in a running mean
PANELS = 4  # of a picture of a run; TensorBoard has every scalar
FIRST = ("loss", "score", "mel", "linear", "phoneme", "sharpness")  # losses, in this order
COSTS = {  # scalars that are not losses, and their titles
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "frames_per_second": "frames per second",
    "windows_per_second": "windows per second",
    "seconds_per_step": "seconds per step",
    "memory_gib": "peak memory (GiB)",
}


def run_curves(run: Path, every_scalar: bool = False) -> Figure:
    """Draw `PANELS` losses of a run, an inpainter's by noise level; or every scalar."""
    stats = read_stats(run)
    if every_scalar:
        return learning_curves(stats, panels=0)
    by_level = any(key.startswith(BY_LEVEL) for line in stats for key in line)
    return noise_level_curves(stats) if by_level else learning_curves(stats)


def alpha_curves(stats: Path | Sequence[Mapping[str, Any]], prefix: str = "alpha/") -> Figure:
    """Draw the learned scales of the position codes over the steps of a run.

    stats: a stats.jsonl, its run folder, or its lines; curves are the scalars named prefix + NAME.
    """
    curves = _curves(stats)
    chosen = {k.removeprefix(prefix): c for k, c in curves.items() if k.startswith(prefix)}
    if not chosen:
        raise ValueError(f"no scalar begins with {prefix!r}; there are {', '.join(sorted(curves))}")
    figure = new_figure(6.4, 3.6)
    axes = figure.subplots()
    for name, (steps, values) in sorted(chosen.items()):
        axes.plot(steps, values, label=f"{name} ({values[-1]:.3f})")
    finish_curves(axes, "alpha of the position code")
    return figure


def learning_curves(
    runs: Path | Sequence[Mapping[str, Any]] | Mapping[str, Path | Sequence[Mapping[str, Any]]],
    panels: int = PANELS,
) -> Figure:
    """Draw a run's losses (training and validation together), learning rate, gradient and speed.

    runs: a stats.jsonl, its run folder or its lines; or several of them by name, to compare.
    panels: how many scalars at most, losses first, those of `FIRST` before others; 0: all of them.
    """
    named = runs if isinstance(runs, Mapping) else {"": runs}
    tables = {name: _curves(stats) for name, stats in named.items()}
    keys = {key for curves in tables.values() for key in curves}
    shown = list(_panels(keys).items())[: panels or None]
    if not shown:
        raise ValueError("nothing is logged yet: no scalar of train/ or validation/ in these stats")
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = new_figure(PAGE, 2.5 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, (title, sources) in zip(grid, shown, strict=False):
        for run, curves in tables.items():
            for key, style in sources.items():
                if key in curves:
                    split = key.split("/")[0]
                    color = {"train": TRUE, "validation": PREDICTED}[split] if not run else None
                    label = f"{run} {split}".strip()
                    axes.plot(
                        *curves[key], style, color=color, label=label, linewidth=1.3, markersize=3
                    )
        finish_curves(axes, title)
    for axes in grid[: len(shown) - columns]:  # the lowest of each column says the steps
        axes.set_xlabel("")
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
        grid[len(shown) - columns].tick_params(labelbottom=True)
    return figure


def noise_level_curves(stats: Path | Sequence[Mapping[str, Any]]) -> Figure:
    """Draw an inpainter's losses over the steps of a run, one curve per noise level.

    Training (a running mean of `SMOOTHED` logged values) beside validation, and what the loss from
    the accompaniment alone gains when the accompaniment is another song's. ValueError for a run
    that has no noise levels.
    """
    curves = _curves(stats)
    levels = [key.removeprefix(BY_LEVEL) for key in curves if key.startswith(BY_LEVEL)]
    if not levels:
        raise ValueError(f"no scalar begins with {BY_LEVEL!r}: not a run of an inpainter")
    levels.sort(key=float)
    figure = new_figure(PAGE, 5.0)
    (train, validation), (gap, names) = figure.subplots(2, 2)
    for place, level in zip(np.linspace(0.0, 0.85, len(levels)), levels, strict=True):
        look = {"color": colormaps["viridis"](place), "label": f"σ = {level}"}
        steps, losses = (
            np.asarray(column) for column in curves.get(f"train/sigma_{level}", ([], []))
        )
        window = min(SMOOTHED, len(losses))
        if window:
            mean = np.convolve(losses, np.full(window, 1 / window), "valid")
            train.plot(steps[window - 1 :], mean, **look, linewidth=1.3)
        validation.plot(*curves[BY_LEVEL + level], "o-", **look, linewidth=1.3, markersize=3)
    if "validation/shuffle_gap" in curves:
        gap.plot(*curves["validation/shuffle_gap"], "o-", color=TRUE, markersize=4)
    gap.axhline(0.0, color="black", linewidth=0.6)
    titles = ("training loss", "validation loss", "loss from another song's accompaniment − own")
    for axes, title in zip((train, validation, gap), titles, strict=True):
        finish_curves(axes, title, legend=False)
    names.legend(*validation.get_legend_handles_labels(), loc="center left", fontsize=9)
    names.axis("off")
    return figure


def draw_errors(curves: Mapping[str, Sequence[tuple[int, float]]], label: str) -> Figure:
    """Draw errors against network evaluations on logarithmic axes, one curve per method."""
    figure = new_figure(PAGE, 5.0)
    axes = figure.subplots()
    for title, points in curves.items():
        evaluations, errors = zip(*points, strict=True)
        axes.loglog(evaluations, errors, marker="o", markersize=4, linewidth=1.2, label=title)
    axes.set_xlabel("network evaluations")
    axes.set_ylabel(label)
    axes.grid(which="both", linewidth=0.3)
    axes.legend(fontsize=8)
    return figure


def _curves(
    stats: Path | Sequence[Mapping[str, Any]],
) -> dict[str, tuple[list[float], list[float]]]:
    """Return {name: (steps, values)} of a stats.jsonl."""
    lines = read_stats(Path(stats)) if isinstance(stats, (str, Path)) else stats
    curves: dict[str, tuple[list[float], list[float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name not in ("step", "time") and value is not None:
                steps, values = curves.setdefault(name, ([], []))
                steps.append(line["step"])
                values.append(value)
    return curves


def _panels(keys: set[str]) -> dict[str, dict[str, str]]:
    """Group scalars into panels {title: {key: line style}}, training beside validation."""
    names = {key.split("/", 1)[1] for key in keys if key.startswith(("train/", "validation/"))}
    order = {name: place for place, name in enumerate(FIRST)}
    losses = sorted(names - set(COSTS), key=lambda name: (order.get(name, len(order)), name))
    return {
        COSTS.get(name, name.replace("_", " ")): {
            f"train/{name}": "-",
            f"validation/{name}": "o--",
        }
        for name in [*losses, *(name for name in COSTS if name in names)]
    }


def finish_curves(axes: Axes, title: str, legend: bool = True) -> None:
    """Title and label the axes of curves over steps; a legend only where there are names."""
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 5))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if legend and axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)
