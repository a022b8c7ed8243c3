"""Pictures: attention, spectrograms, learning curves, masks over a waveform.

Every function returns a matplotlib Figure on the Agg canvas, without pyplot and its global state:
any thread may draw, and nothing stays open. Axes carry seconds, Hz and phonemes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import librosa
import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from utils.audio import Features
from utils.runlog import read_stats

if TYPE_CHECKING:
    from hyperparams import Audio
    from music.score import Score

Array = np.ndarray | Tensor
DECIBELS = 20.0 / math.log(10.0)  # dB per unit of natural log magnitude
RANGE = 80.0  # dB shown below the loudest bin
HERTZ = (250, 500, 1000, 2000, 4000, 8000, 16000)  # ticks of a mel axis
PREDICTED, TRUE, MASKED = "#c0392b", "#22577a", "#f4a261"  # curves; regions to be generated
ATTENTION_MAP, SPECTROGRAM_MAP, DIFFERENCE_MAP = "magma", "magma", "RdBu_r"
LABEL_HEIGHT = 0.085  # inch that a phoneme's label needs
WAVEFORM_POINTS = 1 << 17  # samples drawn one by one; longer waveforms as an envelope
COLUMNS = 4096  # of a spectrogram; more than a picture has pixels
BY_LEVEL = "validation/sigma_"  # scalars of an inpainter's noise levels, the level behind it
SMOOTHED = 9  # logged values in a running mean
STAGGER = " " * 7  # moves every second label to the left of its neighbours
COSTS = {  # scalars that are not losses, and their titles
    "learning_rate": "learning rate",
    "gradient_norm": "gradient norm",
    "frames_per_second": "frames per second",
    "seconds_per_step": "seconds per step",
    "memory_gib": "peak memory (GiB)",
}


def attention_grid(
    layers: Sequence[Array],
    symbols: Sequence[str] | None = None,
    seconds_per_step: float | None = None,
    title: str = "",
) -> Figure:
    """Draw attention weights, one row per layer and one column per head.

    layers: (H, T, N) each: queries T run to the right, keys N upwards. symbols: the N keys' labels
    (cross-attention). seconds_per_step: turns the axis of T into seconds; with symbols absent
    (self-attention) also the axis of N. Brightness is relative to each picture's maximum, which
    stands in its title.
    """
    weights = [_numpy(layer) for layer in layers]
    if not weights or any(layer.ndim != 3 for layer in weights):
        shapes = [layer.shape for layer in weights]
        raise ValueError(f"attention of shapes {shapes}: expected (H, T, N) for at least one layer")
    rows, columns = len(weights), max(len(layer) for layer in weights)
    num_keys = weights[0].shape[2]
    height = min(5.0, max(2.2, LABEL_HEIGHT * num_keys)) if symbols else 2.2
    figure = _figure(2.8 * columns + 0.8, height * rows + (0.5 if title else 0.2))
    grid = figure.subplots(rows, columns, squeeze=False, sharex="row", sharey="row")
    for row, layer in enumerate(weights):
        for column, axes in enumerate(grid[row]):
            if column >= len(layer):
                axes.set_visible(False)
                continue
            _draw_attention(axes, layer[column], symbols, seconds_per_step)
            axes.set_title(
                f"layer {row + 1}, head {column + 1} (max {layer[column].max():.2f})", fontsize=8
            )
            axes.tick_params(left=column == 0)
        if symbols is not None:
            _label_symbols(grid[row, 0], symbols, height)
        else:
            grid[row, 0].set_ylabel("key (s)" if seconds_per_step else "key")
    for axes in grid[-1]:
        axes.set_xlabel("time (s)" if seconds_per_step else "query")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def spectrogram_pair(
    predicted: Array, true: Array, audio: Audio, names: tuple[str, str] = ("predicted", "true")
) -> Figure:
    """Draw two log spectrograms on one scale, and their difference over the frames of both.

    predicted (T, M) or (T, F), true (T', M) or (T', F): natural logs of magnitude, not
    standardised. Levels are in dB below the loudest bin of the true one.
    """
    first, second = _numpy(predicted), _numpy(true)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"spectrograms of shapes {first.shape} and {second.shape}: expected (T, M) and (T', M)"
        )
    first, second = first * DECIBELS, second * DECIBELS
    loudest = float(second.max()) if second.size else 0.0
    first, second = first - loudest, second - loudest
    seconds = max(len(first), len(second)) / audio.frame_rate
    figure = _figure(min(16.0, max(7.0, 1.6 * seconds)), 7.2)
    panels = figure.subplots(3, 1, sharex=True, sharey=True)
    for axes, levels, name in zip(panels, (first, second), names, strict=False):
        image = _draw_spectrogram(axes, levels, audio, SPECTROGRAM_MAP, -RANGE, 0.0)
        axes.set_title(f"{name}, {len(levels) / audio.frame_rate:.2f} s", fontsize=9)
    figure.colorbar(image, ax=panels[:2], label="dB", pad=0.01)
    frames = min(len(first), len(second))
    difference = first[:frames] - second[:frames]
    image = _draw_spectrogram(panels[2], difference, audio, DIFFERENCE_MAP, -30.0, 30.0)
    mean = float(np.abs(difference).mean()) if frames else 0.0
    panels[2].set_title(f"{names[0]} − {names[1]}, mean |difference| {mean:.1f} dB", fontsize=9)
    figure.colorbar(image, ax=panels[2], label="dB", pad=0.01)
    panels[2].set_xlim(0, seconds)
    panels[2].set_xlabel("time (s)")
    return figure


def alpha_curves(stats: Path | Sequence[Mapping[str, Any]], prefix: str = "alpha/") -> Figure:
    """Draw the learned scales of the position codes over the steps of a run.

    stats: a stats.jsonl, its run folder, or its lines; curves are the scalars named prefix + NAME.
    """
    curves = _curves(stats)
    chosen = {k.removeprefix(prefix): c for k, c in curves.items() if k.startswith(prefix)}
    if not chosen:
        raise ValueError(f"no scalar begins with {prefix!r}; there are {', '.join(sorted(curves))}")
    figure = _figure(6.4, 3.6)
    axes = figure.subplots()
    for name, (steps, values) in sorted(chosen.items()):
        axes.plot(steps, values, label=f"{name} ({values[-1]:.3f})")
    _finish_curves(axes, "alpha of the position code")
    return figure


def learning_curves(
    runs: Path | Sequence[Mapping[str, Any]] | Mapping[str, Path | Sequence[Mapping[str, Any]]],
) -> Figure:
    """Draw a run's losses (training and validation together), learning rate, gradient and speed.

    runs: a stats.jsonl, its run folder or its lines; or several of them by name, to compare.
    """
    named = runs if isinstance(runs, Mapping) else {"": runs}
    tables = {name: _curves(stats) for name, stats in named.items()}
    keys = {key for curves in tables.values() for key in curves}
    panels = _panels(keys)
    if not panels:
        raise ValueError("nothing is logged yet: no scalar of train/ or validation/ in these stats")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = _figure(4.6 * columns, 3.0 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True).ravel()
    for axes, (title, sources) in zip(grid, panels.items(), strict=False):
        for run, curves in tables.items():
            for key, style in sources.items():
                if key in curves:
                    split = key.split("/")[0]
                    color = {"train": TRUE, "validation": PREDICTED}[split] if not run else None
                    label = f"{run} {split}".strip()
                    axes.plot(
                        *curves[key], style, color=color, label=label, linewidth=1.3, markersize=3
                    )
        _finish_curves(axes, title)
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
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
    figure = _figure(4.6 * 3, 3.2)
    train, validation, gap = figure.subplots(1, 3)
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
        gap.plot(*curves["validation/shuffle_gap"], "o-", color=TRUE, label="other − own")
    gap.axhline(0.0, color="black", linewidth=0.6)
    titles = ("training loss", "validation loss", "loss from another song's accompaniment − own")
    for axes, title in zip((train, validation, gap), titles, strict=True):
        _finish_curves(axes, title)
    return figure


def masked_waveform(
    wav: Array, audio: Audio, regions: Sequence[tuple[float, float]] = (), title: str = ""
) -> Figure:
    """Draw a waveform above its spectrogram, with the regions (start, end) in seconds marked.

    wav (S,) in [-1, 1]. The marked regions are those that are generated, not known.
    """
    return song_picture({title: wav}, audio, {title: regions})


def song_picture(
    tracks: Mapping[str, Array],
    audio: Audio,
    regions: Mapping[str, Sequence[tuple[float, float]]],
    score: Score | None = None,
) -> Figure:
    """Draw tracks by name below each other, each a waveform above its spectrogram.

    tracks: (S,) in [-1, 1] each; regions: stretches (start, end) in seconds of a track that are
    generated, not known, and are marked; score: drawn on top as a piano roll with its lyrics.
    """
    signals = {name: _numpy(wav) for name, wav in tracks.items()}
    for name, samples in signals.items():
        if samples.ndim != 1:
            raise ValueError(f"a waveform {name!r} of shape {samples.shape}: expected (S,)")
    seconds = max(len(samples) for samples in signals.values()) / audio.sample_rate
    roll = int(score is not None)
    width = min(24.0 if roll else 16.0, max(7.0, 1.2 * seconds))
    figure = _figure(width, 0.6 + 4.0 * len(signals) + 3.0 * roll)
    heights = (2.25,) * roll + (1, 2) * len(signals)
    top, *rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    if score is not None:
        _draw_roll(top, score, width / seconds)
    else:
        rows = [top, *rows]
    for number, (name, samples) in enumerate(signals.items()):
        upper, lower = rows[2 * number : 2 * number + 2]
        _draw_track(upper, lower, samples, audio, regions.get(name, ()))
        if name:
            upper.set_title(name, fontsize=9)
    lower.set_xlim(0, seconds)
    lower.set_xlabel("time (s)")
    return figure


def error_curves(curves: Mapping[str, Sequence[tuple[int, float]]], label: str) -> Figure:
    """Draw errors against network evaluations on logarithmic axes, one curve per method."""
    figure = _figure(8.0, 5.0)
    axes = figure.subplots()
    for title, points in curves.items():
        evaluations, errors = zip(*points, strict=True)
        axes.loglog(evaluations, errors, marker="o", markersize=4, linewidth=1.2, label=title)
    axes.set_xlabel("network evaluations")
    axes.set_ylabel(label)
    axes.grid(which="both", linewidth=0.3)
    axes.legend(fontsize=8)
    return figure


def save_figure(figure: Figure, path: Path, dpi: int = 120) -> Path:
    """Write a figure as PNG (or what the suffix says) and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path


def figure_to_image(figure: Figure) -> np.ndarray:
    """Return the picture as (3, height, width) uint8, as TensorBoard's add_image takes it."""
    canvas = figure.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].transpose(2, 0, 1)  # (3, height, width)


def _figure(width: float, height: float) -> Figure:
    """Return an empty figure of so many inches on the Agg canvas."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _draw_attention(
    axes: Axes,
    weights: np.ndarray,
    symbols: Sequence[str] | None,
    seconds_per_step: float | None,
) -> None:
    steps, keys = weights.shape
    scale = seconds_per_step or 1.0
    top = keys if symbols is not None else keys * scale
    axes.imshow(
        weights.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=ATTENTION_MAP,
        vmin=0.0,
        vmax=max(float(weights.max()), 1e-9),
        extent=(0, steps * scale, 0, top),
    )
    ends = [place + 0.5 for place, symbol in enumerate(symbols or ()) if symbol == " "]
    axes.hlines(ends, 0, steps * scale, color="white", alpha=0.15, linewidth=0.5)  # of words
    axes.tick_params(labelsize=7)


def _draw_roll(axes: Axes, score: Score, inches_per_second: float) -> None:
    """Draw notes as bars over time, the syllables under them where there is room for letters."""
    free = -math.inf  # s, where the label before ends
    for syllable in score.syllables:
        for note in syllable.notes:
            axes.barh(
                note.pitch,
                note.duration,
                left=note.onset,
                height=0.8,
                color=MASKED,
                edgecolor=TRUE,
                linewidth=0.6,
            )
        text = syllable.text + ("" if syllable.ends_word else "-")
        size = min(8.0, max(4.0, 9.0 * inches_per_second))
        is_low = syllable.onset < free
        axes.text(
            syllable.onset,
            syllable.notes[0].pitch - (2.1 if is_low else 1.3),
            text,
            fontsize=size,
            va="center",
        )
        free = (
            -math.inf if is_low else syllable.onset + 0.008 * size * len(text) / inches_per_second
        )
    pitches = [note.pitch for note in score.notes]
    low, high = min(pitches) - 4, max(pitches) + 2
    axes.set_ylim(low, high)
    ticks = [pitch for pitch in range(low, high + 1) if pitch % 12 in (0, 2, 4, 5, 7, 9, 11)]
    axes.set_yticks(ticks, [librosa.midi_to_note(pitch, unicode=False) for pitch in ticks])
    axes.tick_params(axis="y", labelsize=6)
    axes.grid(axis="y", linewidth=0.3)
    axes.set_title("topline", fontsize=9)


def _draw_track(
    upper: Axes,
    lower: Axes,
    samples: np.ndarray,
    audio: Audio,
    regions: Sequence[tuple[float, float]],
) -> None:
    """Draw (S,) as a waveform and as a spectrogram, regions in seconds marked on both."""
    levels, frames_per_column = _levels(samples, audio)
    if len(samples) <= WAVEFORM_POINTS:
        times = np.arange(len(samples)) / audio.sample_rate
        upper.plot(times, samples, color=TRUE, linewidth=0.4)
    else:  # the envelope: more points than the picture has pixels only cost time
        size = -(-len(samples) // WAVEFORM_POINTS)
        blocks = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
        times = (np.arange(len(blocks)) + 0.5) * size / audio.sample_rate
        upper.fill_between(times, blocks.min(1), blocks.max(1), color=TRUE, linewidth=0.2)
    upper.set_ylabel("amplitude")
    upper.set_ylim(-1, 1)
    levels = levels - levels.max()
    _draw_spectrogram(
        lower, levels, audio, SPECTROGRAM_MAP, -RANGE, 0.0, len(levels) * frames_per_column
    )
    for index, (start, end) in enumerate(regions):
        label = "generated" if index == 0 else None
        upper.axvspan(start, end, color=MASKED, alpha=0.35, linewidth=0, label=label)
        hatch = "//" if end - start < 0.9 * len(samples) / audio.sample_rate else None
        lower.axvspan(start, end, facecolor="none", edgecolor=MASKED, linewidth=1.5, hatch=hatch)
    if regions:
        upper.legend(loc="upper right", fontsize=7)


def _levels(samples: np.ndarray, audio: Audio) -> tuple[np.ndarray, int]:
    """Linear spectrogram of (S,) in dB, (columns, F), and how many frames a column is the mean of.

    At most COLUMNS of them, made piece by piece: a song needs no more memory than a phrase.
    """
    features, hop = Features(audio), audio.hop_length
    size = -(-features.num_frames(len(samples)) // COLUMNS)  # frames per column
    margin = -(-audio.n_fft // hop)  # frames around a piece that its own ones touch
    piece = size * 256  # frames
    wav = torch.from_numpy(samples).float()
    columns = []
    for first in range(0, features.num_frames(len(samples)), piece):
        before = min(first, margin)
        part = wav[(first - before) * hop : (first + piece + margin) * hop]
        levels = features.linear(part[None])[0, before : before + piece] * DECIBELS  # (T, F)
        if first + piece >= features.num_frames(len(samples)):  # the last column may be narrower
            levels = torch.cat([levels, levels[-1:].expand(-len(levels) % size, -1)])
        columns.append(levels.unflatten(0, (-1, size)).mean(1))
    return torch.cat(columns).numpy(), size


def _label_symbols(axes: Axes, symbols: Sequence[str], height: float) -> None:
    """Label keys with phonemes: in two columns when they are many, every k-th when too many."""
    spoken = [place for place, symbol in enumerate(symbols) if symbol != " "]
    columns = math.ceil(LABEL_HEIGHT * len(symbols) / height)
    stride = max(1, math.ceil(columns / 2))
    places = spoken[::stride]
    shown = [
        symbols[place] + STAGGER * (number % 2 if columns > 1 else 0)
        for number, place in enumerate(places)
    ]
    axes.set_yticks(np.array(places) + 0.5, shown, fontsize=5)
    axes.set_ylabel("symbol" if stride == 1 else f"symbol (one of {stride})")


def _draw_spectrogram(
    axes: Axes,
    levels: np.ndarray,
    audio: Audio,
    colors: str,
    lowest: float,
    highest: float,
    num_frames: int | None = None,
) -> Any:
    """Draw (T, bins) in dB; the axis says Hz, on the mel scale when the bins are mel bands.

    num_frames: that the picture spans, when it has fewer columns than frames.
    """
    frames, bins = num_frames or len(levels), levels.shape[1]
    is_mel = bins == audio.n_mels
    top = bins if is_mel else audio.sample_rate / 2
    image = axes.imshow(
        levels.T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=colors,
        vmin=lowest,
        vmax=highest,
        extent=(0, max(frames, 1) / audio.frame_rate, 0, top),
    )
    if is_mel:
        centres = librosa.mel_frequencies(bins, fmin=0.0, fmax=audio.sample_rate / 2)
        ticks = [hertz for hertz in HERTZ if hertz <= audio.sample_rate / 2]
        axes.set_yticks(np.interp(ticks, centres, np.arange(bins) + 0.5), [str(t) for t in ticks])
    axes.set_ylabel("frequency (Hz)")
    axes.tick_params(labelsize=7)
    return image


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
    losses = sorted(names - set(COSTS), key=lambda name: (name != "loss", name != "score", name))
    return {
        COSTS.get(name, name.replace("_", " ")): {
            f"train/{name}": "-",
            f"validation/{name}": "o--",
        }
        for name in [*losses, *(name for name in COSTS if name in names)]
    }


def _finish_curves(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=9)
    axes.set_xlabel("step", fontsize=8)
    axes.ticklabel_format(axis="y", useOffset=False, scilimits=(-3, 5))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, frameon=False)


def _numpy(values: Array) -> np.ndarray:
    if isinstance(values, Tensor):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values)
