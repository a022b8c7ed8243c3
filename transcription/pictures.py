"""Pictures of a transcription: phoneme posteriorgram, piano roll of notes.

As in utils.plotting, every function returns a matplotlib Figure on the Agg canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from transcription.labels import PHONEME_CLASSES, SILENCE
from transcription.transcribe import Transcribed
from utils.metrics import midi_of
from utils.plotting import new_figure

if TYPE_CHECKING:
    from utils.metrics import TimedNote

REFERENCE, TRANSCRIBED, PITCH = "#22577a", "#c0392b", "#f4a261"
ROLL_MARGIN = 2  # semitones above and below the notes


def transcription_picture(
    transcribed: Transcribed,
    reference_classes: np.ndarray | None = None,
    reference_notes: Sequence[TimedNote] = (),
    title: str = "",
) -> Figure:
    """Draw a posteriorgram and, below it, the transcribed notes and those of the reference.

    reference_classes: (T,) the true class of each frame, drawn as a line.
    """
    seconds = len(transcribed.phoneme) * transcribed.hop_seconds
    figure = new_figure(min(6 + 0.5 * seconds, 20), 8)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    draw_posteriorgram(upper, transcribed, reference_classes)
    draw_piano_roll(lower, transcribed, reference_notes)
    upper.set_title(title, fontsize=9)
    lower.set_xlabel("seconds")
    return figure


def posteriorgram(transcribed: Transcribed) -> Figure:
    """Draw the probability of each phoneme class over time."""
    seconds = len(transcribed.phoneme) * transcribed.hop_seconds
    figure = new_figure(min(16.0, max(7.0, 1.6 * seconds)), 5.0)
    axes = figure.subplots()
    draw_posteriorgram(axes, transcribed)
    axes.set_xlabel("time (s)")
    return figure


def draw_posteriorgram(
    axes: Axes, transcribed: Transcribed, classes: np.ndarray | None = None
) -> None:
    """Draw phoneme probabilities (T, 39), one row per class, and the true classes (T,)."""
    frames, count = transcribed.phoneme.shape
    hop = transcribed.hop_seconds
    axes.imshow(
        transcribed.phoneme.numpy().T,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap="magma",
        vmin=0.0,
        vmax=1.0,
        extent=(-hop / 2, (frames - 0.5) * hop, -0.5, count - 0.5),
    )
    if classes is not None:
        sung = np.where(classes == PHONEME_CLASSES.index(SILENCE), np.nan, classes)
        axes.plot(np.arange(frames) * hop, sung, color="#7fdbff", linewidth=0.8, label="true")
        axes.legend(loc="upper right", fontsize=7)
    axes.set_yticks(range(count), PHONEME_CLASSES[:count], fontsize=5)
    axes.set_ylabel("phoneme")


def draw_piano_roll(
    axes: Axes, transcribed: Transcribed, reference: Sequence[TimedNote] = ()
) -> None:
    """Draw notes as bars over time, the F0 as a line, and the onset probability at the bottom."""
    times = np.arange(len(transcribed.f0)) * transcribed.hop_seconds
    styles: tuple[tuple[Sequence[TimedNote], dict[str, Any]], ...] = (
        (reference, {"facecolor": REFERENCE, "alpha": 0.35, "label": "score"}),
        (
            transcribed.notes,
            {"facecolor": "none", "edgecolor": TRANSCRIBED, "label": "transcribed"},
        ),
    )
    for notes, style in styles:
        for onset, offset, pitch in notes:
            axes.add_patch(Rectangle((onset, pitch - 0.5), offset - onset, 1.0, **style))
            style.pop("label", None)
    pitches = [note[2] for note in (*reference, *transcribed.notes)] or [60]
    low, high = min(pitches) - ROLL_MARGIN, max(pitches) + ROLL_MARGIN
    midi = midi_of(transcribed.f0.numpy())
    inside = np.where((midi > low) & (midi < high), midi, np.nan)
    axes.plot(times, inside, color=PITCH, linewidth=0.8, label="F0")
    probability = low + 0.2 * (high - low) * transcribed.note[:, 0].numpy()
    axes.plot(times, probability, color="gray", linewidth=0.6, label="onset probability")
    axes.set(
        xlim=(0, max(len(times), 1) * transcribed.hop_seconds), ylim=(low, high), ylabel="MIDI"
    )
    axes.legend(loc="upper right", fontsize=7)
