"""Pictures of what a transcriber hears: posteriorgram of phonemes, piano roll of notes.

As in utils.plotting, every function returns a matplotlib Figure on the Agg canvas.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from transcription.labels import PHONEME_CLASSES, SILENCE
from transcription.transcribe import Transcribed
from utils.pitch import midi_of

if TYPE_CHECKING:
    from utils.pitch import TimedNote

TRUE, HEARD, PITCH = "#22577a", "#c0392b", "#f4a261"
ROLL_MARGIN = 2  # semitones above and below the notes


def listening_picture(
    heard: Transcribed,
    reference_classes: np.ndarray | None = None,
    reference_notes: Sequence[TimedNote] = (),
    title: str = "",
) -> Figure:
    """Draw a posteriorgram and, below it, the notes heard and those of the reference.

    reference_classes: (T,) the true class of each frame, drawn as a line.
    """
    seconds = len(heard.phoneme) * heard.hop_seconds
    figure = Figure(
        figsize=(min(6 + 0.5 * seconds, 20), 8), layout="constrained", facecolor="white"
    )
    FigureCanvasAgg(figure)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    draw_posteriorgram(upper, heard, reference_classes)
    draw_piano_roll(lower, heard, reference_notes)
    upper.set_title(title, fontsize=9)
    lower.set_xlabel("seconds")
    return figure


def draw_posteriorgram(axes: Axes, heard: Transcribed, classes: np.ndarray | None = None) -> None:
    """Draw phoneme probabilities (T, 39), one row per class, and the true classes (T,)."""
    frames, count = heard.phoneme.shape
    hop = heard.hop_seconds
    axes.imshow(
        heard.phoneme.numpy().T,
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


def draw_piano_roll(axes: Axes, heard: Transcribed, reference: Sequence[TimedNote] = ()) -> None:
    """Draw notes as bars over time, the F0 as a line, and the onset probability at the bottom."""
    times = np.arange(len(heard.f0)) * heard.hop_seconds
    for notes, style in (
        (reference, {"facecolor": TRUE, "alpha": 0.35, "label": "score"}),
        (heard.notes, {"facecolor": "none", "edgecolor": HEARD, "label": "heard"}),
    ):
        for onset, offset, pitch in notes:
            axes.add_patch(Rectangle((onset, pitch - 0.5), offset - onset, 1.0, **style))
            style.pop("label", None)
    pitches = [note[2] for note in (*reference, *heard.notes)] or [60]
    low, high = min(pitches) - ROLL_MARGIN, max(pitches) + ROLL_MARGIN
    midi = midi_of(heard.f0.numpy())
    inside = np.where((midi > low) & (midi < high), midi, np.nan)
    axes.plot(times, inside, color=PITCH, linewidth=0.8, label="F0")
    onset = low + 0.2 * (high - low) * heard.note[:, 0].numpy()
    axes.plot(times, onset, color="gray", linewidth=0.6, label="onset probability")
    axes.set(xlim=(0, max(len(times), 1) * heard.hop_seconds), ylim=(low, high), ylabel="MIDI")
    axes.legend(loc="upper right", fontsize=7)
