"""Pictures: attention, spectrograms, waveforms with marked parts.

Every function returns a matplotlib Figure on the Agg canvas, without pyplot and its global state:
any thread may draw, and nothing stays open. Axes carry seconds, Hz and phonemes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from utils.sound_files import mel_frequencies

if TYPE_CHECKING:
    from torch import Tensor

    from hyperparams import Audio

    Array = np.ndarray | Tensor
Region = tuple[float, float]  # start and end of a part, in s
DECIBELS = 20.0 / math.log(10.0)  # dB per unit of natural log magnitude
RANGE = 80.0  # dB shown below the loudest bin
PAGE = 8.3  # inch: a picture for a page 830 pixels wide, where 7 points are legible
LABEL_HEIGHT = 0.105  # inch that a phoneme's label needs
HERTZ = (250, 500, 1000, 2000, 4000, 8000, 16000)  # ticks of a mel axis
PREDICTED, TRUE, MASKED = "#c0392b", "#22577a", "#f4a261"  # curves; regions to be generated
ATTENTION_MAP, SPECTROGRAM_MAP, DIFFERENCE_MAP = "magma", "magma", "RdBu_r"
WAVEFORM_POINTS = 1 << 17  # samples drawn one by one; longer waveforms as an envelope
COLUMNS = 4096  # of an envelope or a spectrogram; more than a picture has pixels
GRID_TRACKS = 4  # this many tracks or more stand in two columns, as spectrograms alone
STAGGER = " " * 9  # moves every second label to the left of its neighbours


def attention_grid(
    layers: Sequence[Array],
    symbols: Sequence[str] | None = None,
    seconds_per_step: float | None = None,
    title: str = "",
) -> Figure:
    """Draw attention weights, one panel per layer with its heads side by side.

    layers: (H, T, N) each: queries T run to the right, keys N upwards. symbols: the N keys' labels
    (cross-attention). seconds_per_step: turns the axis of T into seconds; with symbols absent
    (self-attention) also the axis of N. Brightness is relative to each head's maximum, which stands
    above it.
    """
    weights = [as_numpy(layer) for layer in layers]
    if not weights or any(layer.ndim != 3 for layer in weights):
        shapes = [layer.shape for layer in weights]
        raise ValueError(f"attention of shapes {shapes}: expected (H, T, N) for at least one layer")
    rows, columns = len(weights), max(len(layer) for layer in weights)
    num_keys = weights[0].shape[2]
    # Axes placed by hand: constrained layout takes tenths of a second for this many labels.
    height = min(5.0, max(1.38, 0.5 * LABEL_HEIGHT * num_keys)) if symbols else 1.38
    left, right, bottom, top = 0.78, 0.08, 0.4, 0.45 if title else 0.25  # inch
    between = 0.4  # inch, of ticks and titles
    width = (PAGE - left - right) / 4 * columns + left + right
    total = height * rows + between * (rows - 1) + bottom + top
    figure = new_figure(width, total, constrained=False)
    figure.subplots_adjust(
        left / width, bottom / total, 1 - right / width, 1 - top / total, hspace=between / height
    )
    panels = figure.subplots(rows, 1, squeeze=False)[:, 0]
    for number, (axes, layer) in enumerate(zip(panels, weights, strict=True), start=1):
        _draw_heads(axes, layer, symbols, seconds_per_step, f"layer {number}")
        if symbols is not None:
            _label_symbols(axes, symbols, height)
        else:
            axes.set_ylabel("key (s)" if seconds_per_step else "key", fontsize=8)
    panels[-1].set_xlabel("time (s)" if seconds_per_step else "query", fontsize=8)
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
    first, second = as_numpy(predicted), as_numpy(true)
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise ValueError(
            f"spectrograms of shapes {first.shape} and {second.shape}: expected (T, M) and (T', M)"
        )
    first, second = first * DECIBELS, second * DECIBELS
    loudest = float(second.max()) if second.size else 0.0
    first, second = first - loudest, second - loudest
    seconds = max(len(first), len(second)) / audio.frame_rate
    figure = new_figure(min(16.0, max(7.0, 1.6 * seconds)), 5.7)
    panels = figure.subplots(3, 1, sharex=True, sharey=True)
    for axes, levels, name in zip(panels, (first, second), names, strict=False):
        image = draw_spectrogram(axes, levels, audio, SPECTROGRAM_MAP, -RANGE, 0.0)
        axes.set_title(f"{name}, {len(levels) / audio.frame_rate:.2f} s", fontsize=9)
    figure.colorbar(image, ax=panels[:2], label="dB", pad=0.01)
    frames = min(len(first), len(second))
    difference = first[:frames] - second[:frames]
    image = draw_spectrogram(panels[2], difference, audio, DIFFERENCE_MAP, -30.0, 30.0)
    mean = float(np.abs(difference).mean()) if frames else 0.0
    panels[2].set_title(f"{names[0]} − {names[1]}, mean |difference| {mean:.1f} dB", fontsize=9)
    figure.colorbar(image, ax=panels[2], label="dB", pad=0.01)
    panels[2].set_xlim(0, seconds)
    panels[2].set_xlabel("time (s)")
    return figure


def masked_waveform(
    wav: Array, audio: Audio, regions: Sequence[Region] = (), title: str = ""
) -> Figure:
    """Draw a waveform above its spectrogram, with the regions (start, end) in seconds marked.

    wav (S,) in [-1, 1]. The marked regions are those that are generated, not known.
    """
    return track_picture({title: wav}, audio, {title: regions})


def track_picture(
    tracks: Mapping[str, Array],
    audio: Audio,
    regions: Mapping[str, Sequence[Region]],
) -> Figure:
    """Draw tracks by name below each other, each a waveform above its spectrogram.

    tracks: (S,) in [-1, 1] each; from `GRID_TRACKS` on they stand in two columns, as spectrograms
    on one scale. regions: stretches (start, end) in seconds of a track that are generated, not
    known, and are marked.
    """
    signals = {name: waveform_of(name, wav) for name, wav in tracks.items()}
    if len(signals) >= GRID_TRACKS:
        return _track_grid(signals, audio, regions)
    seconds = max(len(samples) for samples in signals.values()) / audio.sample_rate
    width = min(16.0, max(7.0, 1.2 * seconds))
    figure = new_figure(width, 0.6 + 4.0 * len(signals))
    heights = (1, 2) * len(signals)
    rows = figure.subplots(len(heights), 1, sharex=True, height_ratios=heights)
    for number, (name, samples) in enumerate(signals.items()):
        upper, lower = rows[2 * number : 2 * number + 2]
        draw_track(upper, lower, samples, audio, regions.get(name, ()))
        if name:
            upper.set_title(name, fontsize=9)
    lower.set_xlim(0, seconds)
    lower.set_xlabel("time (s)")
    return figure


def waveform_of(name: str, wav: Array) -> np.ndarray:
    """Return a track as an array (S,); ValueError naming it for another shape."""
    samples = as_numpy(wav)
    if samples.ndim != 1:
        raise ValueError(f"a waveform {name!r} of shape {samples.shape}: expected (S,)")
    return samples


def save_figure(figure: Figure, path: Path, dpi: int = 120) -> Path:
    """Write a figure as PNG (or what the suffix says) and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=dpi)
    return path


def figure_to_image(figure: Figure) -> np.ndarray:
    """Return the picture as (3, height, width) uint8, as TensorBoard's add_image takes it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].transpose(2, 0, 1)  # (3, height, width)


def new_figure(width: float, height: float, constrained: bool = True) -> Figure:
    """Return an empty figure of so many inches on the Agg canvas.

    constrained: axes make room for their labels, which takes tenths of a second for many axes.
    """
    figure = Figure(
        figsize=(width, height), layout="constrained" if constrained else None, facecolor="white"
    )
    FigureCanvasAgg(figure)
    return figure


def _draw_heads(
    axes: Axes,
    weights: np.ndarray,
    symbols: Sequence[str] | None,
    seconds_per_step: float | None,
    name: str,
) -> None:
    """Draw the heads of (H, T, N) in one image, each with its own time axis and maximum."""
    heads, steps, keys = weights.shape
    scale = seconds_per_step or 1.0
    gap = max(1, steps // 25)  # columns of paper between heads
    stride = steps + gap
    image = np.full((keys, heads * stride - gap), np.nan, dtype=np.float32)
    locator = MaxNLocator(3, integer=seconds_per_step is None)
    ticks = np.asarray(locator.tick_values(0, steps * scale))
    ticks = ticks[(ticks >= 0) & (ticks <= steps * scale)]
    for head, part in enumerate(weights):
        first, largest = head * stride, float(part.max(initial=0.0))
        image[:, first : first + steps] = part.T / max(largest, 1e-9)
        axes.text(
            (first + steps / 2) * scale,
            1.02,
            f"{name}, head {head + 1} (max {largest:.2f})",
            transform=axes.get_xaxis_transform(),
            ha="center",
            va="bottom",
            fontsize=7,
        )
    axes.imshow(
        image,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=ATTENTION_MAP,
        vmin=0.0,
        vmax=1.0,
        extent=(0, image.shape[1] * scale, 0, keys if symbols is not None else keys * scale),
    )
    ends = [place + 0.5 for place, symbol in enumerate(symbols or ()) if symbol == " "]  # of words
    axes.hlines(ends, 0, image.shape[1] * scale, color="white", alpha=0.15, linewidth=0.5)
    places = [head * stride * scale + tick for head in range(heads) for tick in ticks]
    axes.set_xticks(places, [f"{tick:g}" for tick in ticks] * heads)
    axes.set_xlim(0, image.shape[1] * scale)
    axes.tick_params(labelsize=7)


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
    axes.set_yticks(np.array(places) + 0.5, shown, fontsize=6)
    axes.set_ylabel("symbol" if stride == 1 else f"symbol (one of {stride})", fontsize=8)


def draw_spectrogram(
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
        centres = mel_frequencies(bins + 2, audio.sample_rate / 2)[1:-1]
        ticks = [hertz for hertz in HERTZ if hertz <= audio.sample_rate / 2]
        axes.set_yticks(np.interp(ticks, centres, np.arange(bins) + 0.5), [str(t) for t in ticks])
    axes.set_ylabel("frequency (Hz)")
    axes.tick_params(labelsize=7)
    return image


def _track_grid(
    signals: Mapping[str, np.ndarray],
    audio: Audio,
    regions: Mapping[str, Sequence[Region]],
) -> Figure:
    """Draw the spectrograms of tracks in two columns, in dB below the loudest of all."""
    rows = math.ceil(len(signals) / 2)
    figure = new_figure(PAGE, 0.3 + 1.35 * rows)
    grid = figure.subplots(rows, 2, squeeze=False, sharex=True, sharey=True)
    levels = {name: _levels(samples, audio) for name, samples in signals.items()}
    loudest = max(float(level.max()) for level, _ in levels.values())
    for axes, (name, (level, size)) in zip(grid.ravel(), levels.items(), strict=False):
        frames = len(level) * size
        draw_spectrogram(axes, level - loudest, audio, SPECTROGRAM_MAP, -RANGE, 0.0, frames)
        _mark_generated(axes, regions.get(name, ()), len(signals[name]) / audio.sample_rate)
        axes.set_title(name.replace("_", " "), fontsize=8, pad=3)
    for axes in grid.ravel()[len(signals) :]:
        axes.set_visible(False)
    for axes in grid.ravel():
        axes.set_ylabel("Hz" if axes in grid[:, 0] else "", fontsize=8)
        axes.tick_params(labelsize=7)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)", fontsize=8)
    return figure


def _mark_generated(axes: Axes, regions: Sequence[Region], seconds: float) -> None:
    """Frame the generated parts of a spectrogram; hatch those that are not nearly all of it."""
    for start, end in regions:
        hatch = "//" if end - start < 0.9 * seconds else None
        axes.axvspan(start, end, facecolor="none", edgecolor=MASKED, linewidth=1.5, hatch=hatch)


def draw_track(
    upper: Axes,
    lower: Axes,
    samples: np.ndarray,
    audio: Audio,
    regions: Sequence[Region],
) -> None:
    """Draw (S,) as a waveform and as a spectrogram, regions in seconds marked on both."""
    levels, frames_per_column = _levels(samples, audio)
    if len(samples) <= WAVEFORM_POINTS:
        times = np.arange(len(samples)) / audio.sample_rate
        upper.plot(times, samples, color=TRUE, linewidth=0.4)
    else:  # the envelope: more points than the picture has pixels only cost time
        size = -(-len(samples) // COLUMNS)
        blocks = np.pad(samples, (0, -len(samples) % size)).reshape(-1, size)
        times = (np.arange(len(blocks)) + 0.5) * size / audio.sample_rate
        upper.fill_between(times, blocks.min(1), blocks.max(1), color=TRUE, linewidth=0.2)
    upper.set_ylabel("amplitude")
    upper.set_ylim(-1, 1)
    levels = levels - levels.max()
    draw_spectrogram(
        lower, levels, audio, SPECTROGRAM_MAP, -RANGE, 0.0, len(levels) * frames_per_column
    )
    for index, (start, end) in enumerate(regions):
        label = "generated" if index == 0 else None
        upper.axvspan(start, end, color=MASKED, alpha=0.35, linewidth=0, label=label)
    _mark_generated(lower, regions, len(samples) / audio.sample_rate)
    if regions:
        upper.legend(loc="upper right", fontsize=7)


def _levels(samples: np.ndarray, audio: Audio) -> tuple[np.ndarray, int]:
    """Return the spectrogram of (S,) in dB, (columns, F), and the frames that a column averages.

    At most COLUMNS of them, made piece by piece: a song needs no more memory than a phrase.
    """
    import torch  # late: a plan has no spectrogram

    from utils.audio import Features

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


def as_numpy(values: Array) -> np.ndarray:
    """Return a tensor or a sequence as an array on the CPU."""
    if not isinstance(values, np.ndarray) and hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    return np.asarray(values)
