"""Pictures of songs: tracks as spectrograms, marked regions, the melody as a piano roll."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from utils.audio import Features
from utils.plotting import (
    DECIBELS,
    MASKED,
    RANGE,
    SPECTROGRAM_MAP,
    TRUE,
    Array,
    as_numpy,
    draw_spectrogram,
    new_figure,
)

if TYPE_CHECKING:
    from hyperparams import Audio
    from music.score import Score

WAVEFORM_POINTS = 1 << 17  # samples drawn one by one; longer waveforms as an envelope
NOTES = "C D EF G A B"  # of a piano's white keys
COLUMNS = 4096  # of a spectrogram; more than a picture has pixels


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
    signals = {name: as_numpy(wav) for name, wav in tracks.items()}
    for name, samples in signals.items():
        if samples.ndim != 1:
            raise ValueError(f"a waveform {name!r} of shape {samples.shape}: expected (S,)")
    seconds = max(len(samples) for samples in signals.values()) / audio.sample_rate
    roll = int(score is not None)
    width = min(24.0 if roll else 16.0, max(7.0, 1.2 * seconds))
    figure = new_figure(width, 0.6 + 4.0 * len(signals) + 3.0 * roll)
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
    ticks = [pitch for pitch in range(low, high + 1) if NOTES[pitch % 12] != " "]
    axes.set_yticks(ticks, [f"{NOTES[pitch % 12]}{pitch // 12 - 1}" for pitch in ticks])
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
    draw_spectrogram(
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
