"""Pictures of a song: a piano roll in lines, words below and chords above; the tracks below it.

All shapes of one kind are one artist, and text is outlines of its characters, each made once: a
song of a thousand words is drawn in a fraction of the time that an artist for each takes.
Shapes: S samples, K corners of a path, x and y in inches.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from utils.plotting import (
    MASKED,
    PAGE,
    TRUE,
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


Chord = tuple[float, str]  # start in s, name
Box = tuple[float, float, float, float]  # left, bottom, right, top
Stroke = tuple[float, float, float, float]  # x, y of both ends

LINE_SECONDS = 8.0  # of the melody in one line: four bars at 120 beats per minute
LINE, LINE_GAP = 0.62, 0.23  # inch: the height of a line, and what is below it
LEFT, RIGHT = 0.38, 0.12  # inch beside the lines
WORDS, CHORDS = 0.32, 0.82  # of a line's height: words lie below, chords above
WORD_ROWS = (0.25, 0.09)  # of a line's height: the middles of two rows of words
WORD_SIZE, CHORD_SIZE, TICK_SIZE = 7.5, 8.0, 7.0  # points
NOTE_RIM = 0.7  # points
CAPITAL = 0.73  # height of a capital letter, of the size
TICK = 2 / 72  # inch
PIANO_TICKS = {0: "C", 7: "G"}  # pitch classes that are named at the side
NO_CHORD = "N"
INCH_PER_SECOND = (PAGE - LEFT - RIGHT) / LINE_SECONDS
STROKES = {  # kind: (colour, width in points)
    "grid": ("#b0b0b0", 0.3),
    "edge": ("0.8", 0.5),
    "change": ("0.6", 0.6),
    "frame": ("black", 0.8),
}


@dataclass(frozen=True)
class Label:
    """A text on one line: from x to `right`, centred on y by the height of its capitals."""

    text: str
    x: float
    y: float
    size: float  # points
    bold: bool = False

    @property
    def right(self) -> float:
        """Where it ends."""
        return self.x + text_width(self.text, self.size, self.bold)


@dataclass
class Roll:
    """What is drawn of the lines of a melody; x and y in inches from the page's lower left."""

    notes: list[Box] = field(default_factory=list)
    generated: list[Box] = field(default_factory=list)
    strokes: dict[str, list[Stroke]] = field(default_factory=lambda: {k: [] for k in STROKES})
    words: list[Label] = field(default_factory=list)
    chords: list[Label] = field(default_factory=list)
    ticks: list[Label] = field(default_factory=list)

    def draw(self, axes: Axes) -> None:
        """Draw everything on axes whose units are inches of the page."""
        for kind, (colour, width) in STROKES.items():
            parts = [((a, b), (c, d)) for a, b, c, d in self.strokes[kind]]
            axes.add_collection(LineCollection(parts, colors=colour, linewidths=width), False)
        corners = [((a, b), (c, b), (c, d), (a, d)) for a, b, c, d in self.generated]
        marks = PolyCollection(corners, facecolors=MASKED, alpha=0.2, linewidths=0)
        axes.add_collection(marks, False)
        # Bars are thick lines, equally thick wherever they lie among the pixels; rims below.
        for colour, rim in ((TRUE, NOTE_RIM / 2), (MASKED, -NOTE_RIM / 2)):
            bars = [
                ((a - rim / 72, (b + d) / 2), (c + rim / 72, (b + d) / 2))
                for a, b, c, d in self.notes
            ]
            widths = [72 * (d - b) + 2 * rim for _, b, _, d in self.notes]
            lines = LineCollection(
                bars, colors=colour, linewidths=widths, capstyle="butt", zorder=3
            )
            axes.add_collection(lines, False)
        outlines = [outline_of(label) for label in (*self.words, *self.chords, *self.ticks)]
        if outlines:
            path = Path.make_compound_path(*outlines)
            # Not add_patch, which looks for the extent of every curve of every character.
            axes.add_artist(PathPatch(path, facecolor="black", linewidth=0, zorder=4))


def lines_of(score: Score) -> list[Region]:
    """Return the stretches of `LINE_SECONDS` in which something is sung."""
    starts = {
        LINE_SECONDS * number
        for note in score.notes
        for number in range(int(note.onset // LINE_SECONDS), math.ceil(note.offset / LINE_SECONDS))
    }
    return [(start, start + LINE_SECONDS) for start in sorted(starts)]


def place_x(seconds: float, line: Region) -> float:
    """Return where a time stands in a line, in inches."""
    return LEFT + (seconds - line[0]) * INCH_PER_SECOND


def roll_of(
    score: Score,
    lines: Sequence[Region],
    top: float,
    chords: Sequence[Chord] = (),
    generated: Sequence[Region] = (),
) -> Roll:
    """Lay out the lines of a melody, the first `top` inches from the page's lower edge.

    chords: drawn above; generated: stretches in s that are marked.
    """
    roll = Roll()
    for number, line in enumerate(lines):
        _add_line(roll, line, top - number * (LINE + LINE_GAP), score, chords, generated)
    return roll


def _add_line(
    roll: Roll,
    line: Region,
    top: float,
    score: Score,
    chords: Sequence[Chord],
    generated: Sequence[Region],
) -> None:
    """Add a stretch of a melody, its upper edge at `top`."""
    bottom, right = top - LINE, PAGE - RIGHT
    low = min(note.pitch for note in score.notes) - 1
    high = max(note.pitch for note in score.notes) + 1
    semitone = LINE * (CHORDS - WORDS - 0.06) / (high - low)

    def place_y(pitch: float) -> float:
        return bottom + (WORDS + 0.03) * LINE + (pitch - low) * semitone

    half = max(1.0, 0.05 * LINE / semitone) * semitone / 2
    for note in score.notes:
        first, last = max(note.onset, line[0]), min(note.offset, line[1])
        if first < last:
            y = place_y(note.pitch)
            roll.notes.append((place_x(first, line), y - half, place_x(last, line), y + half))
    for first, last in generated:
        first, last = max(first, line[0]), min(last, line[1])
        if first < last:
            roll.generated.append((place_x(first, line), bottom, place_x(last, line), top))
    for edge in (WORDS, CHORDS):
        y = bottom + edge * LINE
        roll.strokes["edge"].append((LEFT, y, right, y))
    corners = ((LEFT, bottom), (right, bottom), (right, top), (LEFT, top), (LEFT, bottom))
    roll.strokes["frame"] += [(*a, *b) for a, b in pairwise(corners)]
    _add_ticks(roll, line, bottom, [(p, place_y(p)) for p in range(low, high + 1)])
    _add_words(roll, line, bottom, score)
    _add_chords(roll, line, bottom, chords)


def _add_ticks(
    roll: Roll, line: Region, bottom: float, pitches: Sequence[tuple[int, float]]
) -> None:
    """Name C and G at the side, and every second below."""
    for pitch, y in pitches:
        if pitch % 12 in PIANO_TICKS:
            name = f"{PIANO_TICKS[pitch % 12]}{pitch // 12 - 1}"
            x = LEFT - 1.8 * TICK - text_width(name, TICK_SIZE)
            roll.ticks.append(Label(name, x, y, TICK_SIZE))
            roll.strokes["frame"].append((LEFT - TICK, y, LEFT, y))
            roll.strokes["grid"].append((LEFT, y, PAGE - RIGHT, y))
    for number in range(round(LINE_SECONDS) + 1):
        x, name = place_x(line[0] + number, line), f"{line[0] + number:g}"
        y = bottom - 1.8 * TICK - CAPITAL * TICK_SIZE / 144
        roll.ticks.append(Label(name, x - text_width(name, TICK_SIZE) / 2, y, TICK_SIZE))
        roll.strokes["frame"].append((x, bottom - TICK, x, bottom))


def _add_words(roll: Roll, line: Region, bottom: float, score: Score) -> None:
    """Write the syllables of a stretch in two rows, each at its note or where the row is free."""
    free = [-math.inf, -math.inf]  # where the last word of each row ends
    for syllable in score.syllables:
        if not line[0] <= syllable.onset < line[1]:
            continue
        x = place_x(syllable.onset, line)
        row = 0 if free[0] <= x or free[0] <= free[1] else 1
        text = syllable.text + ("" if syllable.ends_word else "-")
        y = bottom + WORD_ROWS[row] * LINE
        label = Label(text, max(x + 0.02, free[row]), y, WORD_SIZE)
        roll.words.append(label)
        free[row] = label.right + 0.2 * WORD_SIZE / 72


def _add_chords(roll: Roll, line: Region, bottom: float, chords: Sequence[Chord]) -> None:
    """Write the names of chords where they begin, and at the start of a line that goes on."""
    ends = [*(start for start, _ in chords[1:]), math.inf]
    for (begin, name), end in zip(chords, ends, strict=False):
        if name == NO_CHORD or end <= line[0] or begin >= line[1]:
            continue
        x = place_x(max(begin, line[0]), line)
        if begin > line[0]:
            roll.strokes["change"].append((x, bottom + CHORDS * LINE, x, bottom + LINE))
        y = bottom + (1 + CHORDS) / 2 * LINE
        roll.chords.append(Label(name, x + 0.04, y, CHORD_SIZE, bold=True))


# ---------------------------------------------------------------------------- text


@cache
def _character(character: str, bold: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the outline of a character at one point, and how far the next one stands behind it.

    Vertices (K, 2) and codes (K,); the advance is that of a bar behind the character.
    """
    font = FontProperties(weight="bold" if bold else "normal")
    alone, behind = (TextPath((0, 0), text, size=1, prop=font) for text in ("|", character + "|"))
    advance = float(behind.vertices[:, 0].max() - alone.vertices[:, 0].max())
    if character.isspace():
        return np.zeros((0, 2)), np.zeros(0, np.uint8), advance
    path = TextPath((0, 0), character, size=1, prop=font)
    return path.vertices, path.codes, advance


def text_width(text: str, size: float, bold: bool = False) -> float:
    """Return how wide a text is drawn, in inches; size in points."""
    return sum(_character(character, bold)[2] for character in text) * size / 72


def outline_of(label: Label) -> Path:
    """Return the outlines of a label's characters, in inches of the page."""
    vertices, codes = [np.zeros((0, 2))], [np.zeros(0, np.uint8)]
    scale, x = label.size / 72, label.x
    for character in label.text:
        shape, kinds, advance = _character(character, label.bold)
        vertices.append(shape * scale + (x, label.y - CAPITAL / 2 * scale))
        codes.append(kinds)
        x += advance * scale
    return Path(np.concatenate(vertices), np.concatenate(codes))


# ---------------------------------------------------------------------------- pictures of a song

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
