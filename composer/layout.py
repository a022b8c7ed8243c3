"""Where the lines of lyrics stand in a song: a grid of sixteenths, bars for every line.

Policy. Lines with time stamps begin there, on the nearest sixteenth, and the lines without stamps
behind one share the time to the next. Without any stamp each line gets whole bars (1, 2, 4, 8, …)
by its number of syllables and the density wanted, alike within a section. When the song is too
short the bars shrink, down to the fastest singing; when it is longer than the lyrics it begins with
up to four bars of introduction and `fill` decides about the rest:
"rest" (sung once; two bars between sections where there is room, the accompaniment ends alone),
"spread" (sections placed evenly over the song), "repeat" (sung again while the whole fits).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from composer.harmony import NO_CHORD, Harmony
from music.score import TICKS_PER_BEAT, Meter, TempoMap, text_syllables

if TYPE_CHECKING:
    from hyperparams import Composer
    from music.score import Syllable
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine

SLOTS_PER_BEAT = 4
BAR_CHOICES = (1, 2, 4, 8, 16)  # of a line
LONGEST_INTRO = 4  # bars
FILLS = ("rest", "spread", "repeat")
# One-syllable words that lean on their neighbours; CMUdict stresses most of them.
LEANING = """
a an the and but or nor as at by for from in of on to with than that this if so
am is are was were be been has have had do does did will would shall should can could may might
must i you he she it we they me him her us them my your his its our their i'm i'll it's you're
"""
FUNCTION_WORDS = frozenset(LEANING.split())


@dataclass(frozen=True)
class UnplacedLine:
    """A line to place: its syllables, its section's name, which stanza it is in, its times in s."""

    syllables: tuple[Syllable, ...]
    section: str
    stanza: int
    line_number: int
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class PlacedLine:
    """A placed line: sung within slots [first, end), its first bar beginning at slot `bar`.

    `is_timed`: it begins at `first` exactly; `is_last`: it closes its section.
    """

    line: UnplacedLine
    first: int
    bar: int
    end: int
    is_timed: bool = False
    is_last: bool = False


@dataclass(frozen=True)
class Grid:
    """The sixteenths of a song: slot 0 is the first downbeat, earlier ones are negative."""

    harmony: Harmony
    breath: float  # s
    shortest: float  # s, of a syllable

    @cached_property
    def _slots_of_beats(self) -> np.ndarray:
        count = len(self.harmony.beats)
        return (np.arange(count) - self.harmony.first_downbeat) * SLOTS_PER_BEAT

    @property
    def slots_per_bar(self) -> int:
        """Sixteenths in a bar."""
        return SLOTS_PER_BEAT * self.harmony.metre

    @cached_property
    def slot_seconds(self) -> float:
        """Length of a slot at the song's tempo."""
        return 60.0 / self.harmony.tempo / SLOTS_PER_BEAT

    @property
    def breath_slots(self) -> int:
        """Slots that hold a breath."""
        return int(np.ceil(self.breath / self.slot_seconds - 1e-6))

    @property
    def shortest_slots(self) -> int:
        """Slots that hold the shortest syllable."""
        return max(1, int(np.ceil(self.shortest / self.slot_seconds - 1e-6)))

    @property
    def last(self) -> int:
        """The last slot whose start lies in the audio."""
        return self.nearest(self.harmony.duration - self.slot_seconds)

    @property
    def first(self) -> int:
        """The first slot that starts in the audio."""
        before = self.harmony.beats[0] / self.slot_seconds
        return int(self._slots_of_beats[0] - np.floor(before + 1e-6))

    def seconds(self, slot: float) -> float:
        """Return the time of a slot, within the audio."""
        beats, slots = self.harmony.beats, self._slots_of_beats
        outside = min(0.0, slot - slots[0]) + max(0.0, slot - slots[-1])
        time = float(np.interp(slot, slots, beats)) + outside * self.slot_seconds
        return float(np.clip(time, 0.0, self.harmony.duration))

    def nearest(self, seconds: float) -> int:
        """Return the slot nearest to a time."""
        beats, slots = self.harmony.beats, self._slots_of_beats
        outside = min(0.0, seconds - beats[0]) + max(0.0, seconds - beats[-1])
        return round(float(np.interp(seconds, beats, slots)) + outside / self.slot_seconds)

    def chord(self, slot: int) -> int:
        """Return the chord under a slot, 0..24."""
        beat = slot // SLOTS_PER_BEAT + self.harmony.first_downbeat
        return int(self.harmony.chords[np.clip(beat, 0, len(self.harmony.chords) - 1)])

    def bars(self) -> tuple[int, int]:
        """Return the first bar with a chord and the bar behind the last; all without chords."""
        whole = (self.last + 1) // self.slots_per_bar
        beats = np.flatnonzero(self.harmony.chords != NO_CHORD) - self.harmony.first_downbeat
        if not len(beats):
            return 0, whole
        first = max(0, int(beats[0]) // self.harmony.metre)
        return first, min(whole, int(beats[-1]) // self.harmony.metre + 1)


def lay_out(lines: Sequence[UnplacedLine], grid: Grid, knobs: Composer) -> list[PlacedLine]:
    """Return the phrases of the lines, in time; raises ValueError when they do not fit."""
    if knobs.fill not in FILLS:
        raise ValueError(f"composer.fill = {knobs.fill!r} is not one of {', '.join(FILLS)}")
    if any(line.start is not None for line in lines):
        return _timed(lines, grid, knobs)
    return _in_bars(lines, grid, knobs)


def wanted_density(grid: Grid, knobs: Composer) -> float:
    """Return the syllables per beat aimed at: the knob, or what the tempo makes of the rate."""
    return knobs.density or knobs.syllable_rate * 60.0 / grid.harmony.tempo


def is_lifted(section: str) -> bool:
    """Return whether a section is of the kind that is sung higher."""
    return section in ("chorus", "refrain", "hook")


def section_name(written: str | None) -> str:
    """Return a section's name without numbers: verses 1 and 2 share a melody; unnamed is ""."""
    return re.sub(r"[^a-z]+", " ", (written or "").lower()).strip()


# -- lines without time stamps ------------------------------------------------------------------


def _in_bars(lines: Sequence[UnplacedLine], grid: Grid, knobs: Composer) -> list[PlacedLine]:
    first_bar, end_bar = grid.bars()
    available = end_bar - first_bar
    bars = _fitted([_bars_wanted(line, lines, grid, knobs) for line in lines], lines, grid)
    if knobs.fill == "repeat":
        times = max(1, available // sum(bars))
        stanzas = lines[-1].stanza + 1
        lines = [
            replace(line, stanza=line.stanza + turn * stanzas)
            for turn in range(times)
            for line in lines
        ]
        bars = bars * times
    spare = available - sum(bars)
    breaks = len({line.stanza for line in lines}) - 1
    intro = min(LONGEST_INTRO, spare // 2 // 2 * 2)
    gap = min(2, (spare - intro) // breaks // 2 * 2) if breaks else 0
    if knobs.fill == "spread" and breaks:
        gap = (spare - intro) // (breaks + 1)
    return _bar_phrases(lines, bars, first_bar + intro, gap, grid)


def _bar_phrases(
    lines: Sequence[UnplacedLine], bars: Sequence[int], bar: int, gap: int, grid: Grid
) -> list[PlacedLine]:
    """Return the phrases of lines in `bars` each from `bar` on; an upbeat may come a beat early."""
    phrases: list[PlacedLine] = []
    for index, (line, count) in enumerate(zip(lines, bars, strict=True)):
        is_last = index + 1 == len(lines) or lines[index + 1].stanza != line.stanza
        start = bar * grid.slots_per_bar
        end = min(start + count * grid.slots_per_bar, grid.last + 1) - grid.breath_slots
        first = max(start - SLOTS_PER_BEAT, grid.first)
        phrases.append(PlacedLine(line, first, start, end, is_last=is_last))
        bar += count + (gap if is_last else 0)
    return phrases


def _capacity(bars: int, grid: Grid) -> int:
    """Return how many syllables fit into bars, the upbeat left aside."""
    return max(0, (bars * grid.slots_per_bar - grid.breath_slots) // grid.shortest_slots)


def _bars_wanted(
    line: UnplacedLine, lines: Sequence[UnplacedLine], grid: Grid, knobs: Composer
) -> int:
    """Return the bars of a line: those of its section's median line, more where it is crowded."""
    density = wanted_density(grid, knobs)
    section = [len(other.syllables) for other in lines if other.section == line.section]

    def nearest(count: float) -> int:
        breath = grid.breath_slots / SLOTS_PER_BEAT
        beats = [bars * grid.harmony.metre - breath for bars in BAR_CHOICES]
        return BAR_CHOICES[int(np.argmin([abs(np.log(count / density / b)) for b in beats]))]

    count = len(line.syllables)
    bars = nearest(float(np.median(section)))
    if count > 1.6 * density * bars * grid.harmony.metre:
        bars = nearest(count)
    while _capacity(bars, grid) < count:
        bars *= 2
    return bars


def _fitted(bars: list[int], lines: Sequence[UnplacedLine], grid: Grid) -> list[int]:
    """Return bars that fit the song, the emptiest lines halved first; ValueError when none do."""
    first_bar, end_bar = grid.bars()
    bars = list(bars)
    counts = [len(line.syllables) for line in lines]
    while sum(bars) > end_bar - first_bar:
        fitting = [
            index
            for index, count in enumerate(counts)
            if bars[index] > 1 and _capacity(bars[index] // 2, grid) >= count
        ]
        if not fitting:
            reach = np.cumsum(bars) <= end_bar - first_bar
            raise ValueError(
                f"the lyrics are too long: {len(lines)} lines ({sum(counts)} syllables) need "
                f"{sum(bars)} bars even sung at their fastest, the accompaniment has "
                f"{end_bar - first_bar} ({grid.harmony.duration:.0f} s at "
                f"{grid.harmony.tempo:.0f} beats per minute). The first {int(reach.sum())} lines "
                f"({int(np.sum(np.array(counts)[reach]))} syllables) fit: shorten the lyrics, or "
                "take a longer accompaniment"
            )
        least = min(fitting, key=lambda index: counts[index] / bars[index])
        bars[least] //= 2
    return bars


# -- lines with time stamps ---------------------------------------------------------------------


def _timed(lines: Sequence[UnplacedLine], grid: Grid, knobs: Composer) -> list[PlacedLine]:
    """Return phrases that begin at their stamps, at most as long as the density makes them."""
    starts = _all_starts(lines, grid)
    phrases = []
    for index, (line, start) in enumerate(zip(lines, starts[:-1], strict=True)):
        count = len(line.syllables)
        room = starts[index + 1] - start
        fits = max(0, room - 1) // grid.shortest_slots
        if count > fits:
            raise ValueError(
                f"lyrics line {line.line_number}: {count} syllables from "
                f"{grid.seconds(start):.2f} s to {grid.seconds(starts[index + 1]):.2f} s, where "
                f"at most {fits} can be sung; move the time stamps, or shorten the line"
            )
        if line.end is not None:  # unless that is too early to sing the line
            room = max(min(room, grid.nearest(line.end) - start), count * grid.shortest_slots + 1)
        breath = min(grid.breath_slots, room - count * grid.shortest_slots)
        natural = round(2 * SLOTS_PER_BEAT * count / wanted_density(grid, knobs))
        end = start + min(room - breath, max(natural, count * grid.shortest_slots))
        bar = start // grid.slots_per_bar * grid.slots_per_bar
        is_last = index + 1 == len(lines) or lines[index + 1].stanza != line.stanza
        phrases.append(PlacedLine(line, start, bar, end, is_timed=True, is_last=is_last))
    return phrases


def _all_starts(lines: Sequence[UnplacedLine], grid: Grid) -> list[int]:
    """Return the first slot of every line, and the end of the song, unstamped lines between."""
    duration = grid.harmony.duration
    for line in lines:
        if line.start is not None and line.start >= duration:
            raise ValueError(
                f"lyrics line {line.line_number} starts at {line.start:.2f} s, the accompaniment "
                f"lasts {duration:.2f} s; expected time stamps within it"
            )
    known = [
        (index, max(grid.first, grid.nearest(line.start)))
        for index, line in enumerate(lines)
        if line.start is not None
    ]
    known = ([] if known[0][0] == 0 else [(0, grid.first)]) + known
    starts: list[int] = []
    for (index, slot), (until, end) in pairwise([*known, (len(lines), grid.last + 1)]):
        weights = np.cumsum([0] + [len(line.syllables) for line in lines[index:until]])
        if (stop := lines[until - 1].end) is not None:  # unless that is too early for all lines
            needed = int(weights[-1]) * grid.shortest_slots + until - index
            end = min(end, max(grid.nearest(stop), slot + needed))
        starts += [slot + round((end - slot) * weight / weights[-1]) for weight in weights[:-1]]
    return [*starts, grid.last + 1]


def stanza_numbers(lines: Sequence[LyricLine]) -> list[int]:
    """Return each line's stanza: the file's where it is known, else new at a name or a gap."""
    if not lines:
        return []
    numbers = [0]
    for before, after in pairwise(lines):
        if before.stanza is not None and after.stanza is not None:
            is_new = before.stanza != after.stanza
        else:
            gap = after.line_number > before.line_number + 1
            is_new = before.section != after.section or gap
        numbers.append(numbers[-1] + is_new)
    return numbers


def sung_stress(text: str, stress: int, is_single: bool) -> int:
    """Return the stress of a syllable in a line: 0 for the function words of one syllable."""
    word = re.sub(r"[^a-z']", "", text.lower().replace("’", "'"))
    return 0 if is_single and word in FUNCTION_WORDS else stress


def phrase_density(phrase: PlacedLine, grid: Grid, knobs: Composer) -> float:
    """Return the syllables per beat that fill the phrase, no slower than half of those wanted."""
    filling = SLOTS_PER_BEAT * (len(phrase.line.syllables) + 1) / (phrase.end - phrase.bar)
    return max(filling, wanted_density(grid, knobs) / 2)


def unplaced_lines(
    lines: Sequence[LyricLine], pronouncer: Pronouncer
) -> tuple[list[UnplacedLine], tuple[str, ...]]:
    """Return the lines with their syllables, and the words that were guessed."""
    placed: list[UnplacedLine] = []
    guessed: list[str] = []
    for line, stanza in zip(lines, stanza_numbers(lines), strict=True):
        syllables, guesses = text_syllables(line.text, pronouncer, line_number=line.line_number)
        guessed += guesses
        if syllables:
            name = section_name(line.section)
            placed.append(
                UnplacedLine(tuple(syllables), name, stanza, line.line_number, line.start, line.end)
            )
    if not placed:
        raise ValueError("the lyrics hold no word that can be pronounced; expected words to sing")
    return placed, tuple(dict.fromkeys(guessed))


def sung_stresses(phrase: PlacedLine) -> list[int]:
    """Return the stress of each syllable as it is sung: function words have none."""
    return [
        sung_stress(syllable.text, syllable.stress, syllable.starts_word and syllable.ends_word)
        for syllable in phrase.line.syllables
    ]


def tempo_map(harmony: Harmony) -> TempoMap:
    """Return a tempo map in which beat k of the harmony is quarter note k, for k >= 1.

    What comes before the second beat, lead-in and first beat, is one long quarter note.
    """
    edges = np.concatenate([[0.0], harmony.beats[1:], [2 * harmony.beats[-1] - harmony.beats[-2]]])
    changes: list[tuple[int, int]] = []
    for beat, microseconds in enumerate(np.round(np.diff(edges) * 1e6).astype(int).tolist()):
        if not changes or abs(changes[-1][1] - microseconds) > 2:
            changes.append((beat * TICKS_PER_BEAT, microseconds))
    return TempoMap(tuple(changes))


def time_signatures(harmony: Harmony) -> tuple[Meter, ...]:
    """Return the time signatures: a short first bar when the first beat is no downbeat."""
    bar = Meter(harmony.first_downbeat * TICKS_PER_BEAT, harmony.metre, 4)
    return (bar,) if not bar.tick else (Meter(0, harmony.first_downbeat, 4), bar)
