"""Pictures of a song: the melody as a piano roll over words and chords, and the tracks below.

Shapes: S samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from utils.plotting import (
    MASKED,
    PAGE,
    TRUE,
    Array,
    Region,
    draw_track,
    new_figure,
    track_picture,
    waveform_of,
)

if TYPE_CHECKING:
    from hyperparams import Audio
    from music.score import Score


Chord = tuple[float, str]  # start in s, name

LINE_SECONDS = 8.0  # of the melody in one line: four bars at 120 beats per minute
MOST_LINES = 64  # nearly nine minutes sung; with more a picture is as large as the song
LINE, LINE_GAP = 0.62, 0.23  # inch: the height of a line, and what is below it
WAVE, SPECTRUM = 0.24, 0.4  # inch: heights of a track's waveform and spectrogram
LEFT, RIGHT = 0.38, 0.12  # inch beside the axes
WORDS, CHORDS = 0.32, 0.82  # of a line's height: words lie below, chords above
WORD_SIZE = 7.5  # points
PIANO_TICKS = {0: "C", 7: "G"}  # pitch classes that are named at the side
NO_CHORD = "N"


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
    of `LINE_SECONDS` (those without notes are left out, and those behind MOST_LINES, said so),
    with its words below and `chords`, the accompaniment's, above; without one see
    utils.plotting.track_picture.
    """
    if score is None:
        return track_picture(tracks, audio, regions)
    signals = {name: waveform_of(name, wav) for name, wav in tracks.items()}
    seconds = max(len(samples) for samples in signals.values()) / audio.sample_rate
    parts = {
        name: [part for part in marked if part[0] > 0 or part[1] < seconds - 0.01]
        for name, marked in regions.items()
    }
    all_lines = _lines_of(score)
    lines = all_lines[:MOST_LINES]
    track = 0.2 + WAVE + 0.1 + SPECTRUM + 0.06  # inch, with its title
    page = _Page(len(lines) * (LINE + LINE_GAP) + len(signals) * track + 0.32)
    generated = next(iter(parts.values()), [])
    for line in lines:
        _draw_line(page.add(LINE, LINE_GAP), line, score, chords, generated)
    for name, samples in signals.items():
        page.top += 0.2
        upper, lower = page.add(WAVE, 0.1), page.add(SPECTRUM, 0.06)
        draw_track(upper, lower, samples, audio, parts.get(name, ()))
        upper.set_title(name, fontsize=9, pad=3)
        for axes in (upper, lower):
            axes.set(xlim=(0, seconds), ylabel="")
            axes.tick_params(labelsize=7, length=2, pad=1.5, labelbottom=False)
    lower.tick_params(labelbottom=True)
    lower.set_xlabel(_time_label(len(all_lines)), fontsize=8, labelpad=1)
    return page.figure


def melody_picture(score: Score, chords: Sequence[Chord] = ()) -> Figure:
    """Draw a melody alone, in lines of `LINE_SECONDS`: chords above its notes, words below."""
    all_lines = _lines_of(score)
    lines = all_lines[:MOST_LINES]
    page = _Page(len(lines) * (LINE + LINE_GAP) + 0.2)
    for line in lines:
        axes = page.add(LINE, LINE_GAP)
        _draw_line(axes, line, score, chords, ())
    axes.set_xlabel(_time_label(len(all_lines)), fontsize=8, labelpad=1)
    return page.figure


def _time_label(lines: int) -> str:
    """Return the label of the time axis, which says how many of `lines` are drawn."""
    more = f"; notes: the first {MOST_LINES} of {lines} lines, topline.mid has all"
    return "time (s)" + (more if lines > MOST_LINES else "")


class _Page:
    """A figure of the page's width that axes are added to from top to bottom."""

    def __init__(self, height: float) -> None:
        """Begin a page of `height` inches and a margin."""
        self.height = 0.06 + height
        self.top = 0.06  # inch from the top of the page to the next axes
        self.figure = new_figure(PAGE, self.height, constrained=False)

    def add(self, size: float, gap: float) -> Axes:
        """Add axes `size` inches high, and leave `gap` inches below them."""
        bottom = 1 - (self.top + size) / self.height
        self.top += size + gap
        width = (PAGE - LEFT - RIGHT) / PAGE
        return self.figure.add_axes((LEFT / PAGE, bottom, width, size / self.height))


def _lines_of(score: Score) -> list[Region]:
    """Return the stretches of `LINE_SECONDS` in which something is sung."""
    starts = {
        LINE_SECONDS * number
        for note in score.notes
        for number in range(int(note.onset // LINE_SECONDS), math.ceil(note.offset / LINE_SECONDS))
    }
    return [(start, start + LINE_SECONDS) for start in sorted(starts)]


def _draw_line(
    axes: Axes, line: Region, score: Score, chords: Sequence[Chord], generated: Sequence[Region]
) -> None:
    """Draw the notes of a stretch as bars, chords above, words below, generated parts marked."""
    start, end = line
    pitches = [note.pitch for note in score.notes]
    low, high = min(pitches) - 1, max(pitches) + 1
    span = (high - low) / (CHORDS - WORDS - 0.06)  # semitones of the line's whole height
    axes.set_ylim(low - (WORDS + 0.03) * span, high + (1 - CHORDS + 0.03) * span)
    axes.set_xlim(start, end)
    for note in score.notes:
        if note.onset < end and note.offset > start:
            axes.barh(
                note.pitch,
                note.duration,
                left=note.onset,
                height=max(1.0, 0.05 * span),
                color=MASKED,
                edgecolor=TRUE,
                linewidth=0.7,
            )
    for edge in (WORDS, CHORDS):
        axes.axhline(low - (WORDS + 0.03) * span + edge * span, color="0.8", linewidth=0.5)
    _draw_words(axes, line, score)
    _draw_chords(axes, line, chords)
    for first, last in generated:
        axes.axvspan(first, last, color=MASKED, alpha=0.2, linewidth=0)
    ticks = [pitch for pitch in range(low, high + 1) if pitch % 12 in PIANO_TICKS]
    axes.set_yticks(ticks, [f"{PIANO_TICKS[pitch % 12]}{pitch // 12 - 1}" for pitch in ticks])
    axes.set_xticks(np.arange(start, end + 0.5))
    axes.tick_params(labelsize=7, pad=1.5, length=2)
    axes.grid(axis="y", linewidth=0.3)


def _draw_words(axes: Axes, line: Region, score: Score) -> None:
    """Write the syllables of a stretch in two rows, each at its note or where the row is free."""
    seconds_per_point = LINE_SECONDS / (PAGE - LEFT - RIGHT) / 72
    free = [-math.inf, -math.inf]  # s, where the last word of each row ends
    for syllable in score.syllables:
        if not line[0] <= syllable.onset < line[1]:
            continue
        text = syllable.text + ("" if syllable.ends_word else "-")
        row = 0 if free[0] <= syllable.onset or free[0] <= free[1] else 1
        place = max(syllable.onset + 0.02, free[row])
        axes.text(
            place,
            (0.245, 0.075)[row],
            text,
            transform=axes.get_xaxis_transform(),
            fontsize=WORD_SIZE,
            va="center",
            clip_on=False,
        )
        free[row] = place + (_width(text) + 0.25 * WORD_SIZE) * seconds_per_point


@cache
def _width(text: str) -> float:
    """Return how wide a word is drawn, in points."""
    return TextPath((0, 0), text, size=WORD_SIZE).get_extents().width if text.strip() else 0.0


def _draw_chords(axes: Axes, line: Region, chords: Sequence[Chord]) -> None:
    """Write the names of chords where they begin, and at the start of a line that goes on."""
    ends = [*(start for start, _ in chords[1:]), math.inf]
    for (begin, name), end in zip(chords, ends, strict=False):
        if name == NO_CHORD or end <= line[0] or begin >= line[1]:
            continue
        place = max(begin, line[0])
        transform = axes.get_xaxis_transform()
        if begin > line[0]:
            axes.plot([place] * 2, [CHORDS, 1.0], color="0.6", linewidth=0.6, transform=transform)
        axes.text(
            place + 0.04,
            (1 + CHORDS) / 2,
            name,
            transform=transform,
            fontsize=8,
            fontweight="bold",
            va="center",
        )
