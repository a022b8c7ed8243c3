"""Pictures of a song: the melody as a piano roll over words and chords, and the tracks below.

Shapes: S samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from singing.piano_roll import (
    LEFT,
    LINE,
    LINE_GAP,
    RIGHT,
    Chord,
    Label,
    lines_of,
    roll_of,
    text_width,
)
from utils.plotting import (
    PAGE,
    Region,
    draw_track,
    new_figure,
    track_picture,
    waveform_of,
)

if TYPE_CHECKING:
    from hyperparams import Audio
    from music.score import Score
    from utils.plotting import Array

MOST_LINES = 64  # nearly nine minutes sung; with more a picture is as large as the song
WAVE, SPECTRUM = 0.24, 0.4  # inch: heights of a track's waveform and spectrogram
MARGIN = 0.06  # inch above the first line
TIME_SIZE = 8.0  # points


def song_picture(
    tracks: Mapping[str, Array],
    audio: Audio,
    regions: Mapping[str, Sequence[Region]],
    score: Score | None = None,
    chords: Sequence[Chord] = (),
) -> Figure:
    """Draw tracks by name, each a waveform above its spectrogram, and the melody they sing.

    tracks: (S,) in [-1, 1] each. regions: stretches of a track that are generated, not known, and
    are marked; a track that is generated as a whole is not. score: drawn above the tracks in lines
    of `LINE_SECONDS`, the first MOST_LINES of those that have notes, with its words below and
    `chords`, the accompaniment's, above; without one see utils.plotting.track_picture.
    """
    if score is None:
        return track_picture(tracks, audio, regions)
    signals = {name: waveform_of(name, wav) for name, wav in tracks.items()}
    seconds = max(len(samples) for samples in signals.values()) / audio.sample_rate
    parts = {
        name: [part for part in marked if part[0] > 0 or part[1] < seconds - 0.01]
        for name, marked in regions.items()
    }
    all_lines = lines_of(score)
    lines = all_lines[:MOST_LINES]
    track = 0.2 + WAVE + 0.1 + SPECTRUM + 0.06  # inch, with its title
    page = _Page(len(lines) * (LINE + LINE_GAP) + len(signals) * track + 0.32)
    page.add_roll(lines, score, chords, next(iter(parts.values()), []))
    for name, samples in signals.items():
        page.top += 0.2
        upper, lower = page.add(WAVE, 0.1), page.add(SPECTRUM, 0.06)
        draw_track(upper, lower, samples, audio, parts.get(name, ()))
        upper.set_title(name, fontsize=9, pad=3)
        for axes in (upper, lower):
            axes.set(xlim=(0, seconds), ylabel="")
            axes.tick_params(labelsize=7, length=2, pad=1.5, labelbottom=False)
    lower.tick_params(labelbottom=True)
    lower.set_xlabel(_time_label(len(all_lines)), fontsize=TIME_SIZE, labelpad=1)
    return page.figure


def melody_picture(score: Score, chords: Sequence[Chord] = ()) -> Figure:
    """Draw a melody alone, in lines of `LINE_SECONDS`: chords above its notes, words below."""
    all_lines = lines_of(score)
    lines = all_lines[:MOST_LINES]
    page = _Page(len(lines) * (LINE + LINE_GAP) + 0.2)
    page.add_roll(lines, score, chords, (), _time_label(len(all_lines)))
    return page.figure


def _time_label(lines: int) -> str:
    """Return the label of the time axis, which says how many of `lines` are drawn."""
    more = f"; notes: the first {MOST_LINES} of {lines} lines, topline.mid has all"
    return "time (s)" + (more if lines > MOST_LINES else "")


class _Page:
    """A figure of the page's width that axes are added to from top to bottom."""

    def __init__(self, height: float) -> None:
        """Begin a page of `height` inches and a margin."""
        self.height = MARGIN + height
        self.top = MARGIN  # inch from the top of the page to the next axes
        self.figure = new_figure(PAGE, self.height, constrained=False)

    def add(self, size: float, gap: float) -> Axes:
        """Add axes `size` inches high, and leave `gap` inches below them."""
        bottom = 1 - (self.top + size) / self.height
        self.top += size + gap
        width = (PAGE - LEFT - RIGHT) / PAGE
        return self.figure.add_axes((LEFT / PAGE, bottom, width, size / self.height))

    def add_roll(
        self,
        lines: Sequence[Region],
        score: Score,
        chords: Sequence[Chord],
        generated: Sequence[Region],
        label: str = "",
    ) -> None:
        """Add the lines of a melody, and below them what the axis of time is called."""
        roll = roll_of(score, lines, self.height - self.top, chords, generated)
        self.top += len(lines) * (LINE + LINE_GAP)
        x = LEFT + (PAGE - LEFT - RIGHT - text_width(label, TIME_SIZE)) / 2
        roll.ticks.append(Label(label, x, self.height - self.top - 0.03, TIME_SIZE))
        axes = self.figure.add_axes((0, 0, 1, 1), xlim=(0, PAGE), ylim=(0, self.height))
        axes.set_axis_off()
        roll.draw(axes)
