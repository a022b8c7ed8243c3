"""Scores: notes, sung syllables, and the vocal line that they make.

Times are seconds in float64. Beats (quarter notes) and MIDI ticks are read through the `TempoMap`,
and rounding a time to the nearest tick gives back the tick it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

from music.tempo import Meter, TempoMap
from text.symbols import is_vowel

SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}  # above C
TOLERANCE = 1e-6  # s; notes may touch, and float sums may differ in the last digits


@dataclass(frozen=True)
class Note:
    """A pitch (MIDI number, 60 = middle C) held from `onset` to `offset` in seconds."""

    pitch: int
    onset: float
    offset: float

    def __post_init__(self) -> None:
        """Check pitch and times."""
        if not 1 <= self.pitch <= 127:
            raise ValueError(f"note pitch {self.pitch}: expected a MIDI number from 1 to 127")
        if not 0.0 <= self.onset < self.offset:
            raise ValueError(
                f"note from {self.onset} s to {self.offset} s: expected 0 <= onset < offset"
            )

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.offset - self.onset


@dataclass(frozen=True)
class Syllable:
    """A sung syllable: its spelling, its ARPAbet phonemes, its notes (a melisma has several).

    `word` and `line` number the words and lines of the score from 0. Before it is laid on a melody
    a syllable has no notes.
    """

    text: str
    phonemes: tuple[str, ...]
    word: int
    starts_word: bool = True
    ends_word: bool = True
    line: int = 0
    notes: tuple[Note, ...] = ()

    def __post_init__(self) -> None:
        """Check that it can be sung, one note after the other."""
        if not self.phonemes:
            raise ValueError(f"syllable {self.text!r} has no phoneme")
        for left, right in pairwise(self.notes):
            if right.onset < left.offset - TOLERANCE:
                raise ValueError(f"syllable {self.text!r}: notes {left} and {right} overlap")

    @property
    def onset(self) -> float:
        """Start of the first note in seconds."""
        return self.notes[0].onset

    @property
    def offset(self) -> float:
        """End of the last note in seconds."""
        return self.notes[-1].offset

    @property
    def nucleus(self) -> int:
        """Place of the vowel in `phonemes`; of the last phoneme when there is no vowel ("hmm")."""
        vowels = (index for index, phoneme in enumerate(self.phonemes) if is_vowel(phoneme))
        return next(vowels, len(self.phonemes) - 1)

    @property
    def stress(self) -> int:
        """Stress of the nucleus: 0 none, 1 primary, 2 secondary."""
        vowel = self.phonemes[self.nucleus]
        return int(vowel[-1]) if is_vowel(vowel) else 0


@dataclass(frozen=True)
class Score:
    """A vocal line: syllables in the order they are sung, one note at a time, with its tempo.

    Raises ValueError when a syllable has no note or notes overlap.
    """

    syllables: tuple[Syllable, ...]
    tempo: TempoMap = field(default_factory=TempoMap)
    meters: tuple[Meter, ...] = ()
    title: str = ""

    def __post_init__(self) -> None:
        """Check that every syllable has notes and that they make one voice."""
        for syllable in self.syllables:
            if not syllable.notes:
                raise ValueError(f"syllable {syllable.text!r} has no note")
        for left, right in pairwise(self.syllables):
            if right.onset < left.offset - TOLERANCE:
                raise ValueError(
                    f"syllables {left.text!r} (to {left.offset:.3f} s) and {right.text!r} (from "
                    f"{right.onset:.3f} s) overlap: expected one voice"
                )

    @property
    def notes(self) -> tuple[Note, ...]:
        """All notes in time."""
        return tuple(note for syllable in self.syllables for note in syllable.notes)

    @property
    def duration(self) -> float:
        """End of the last note in seconds."""
        return self.syllables[-1].offset if self.syllables else 0.0

    def words(self) -> Iterator[tuple[Syllable, ...]]:
        """Yield the syllables of each word."""
        word: list[Syllable] = []
        for syllable in self.syllables:
            word.append(syllable)
            if syllable.ends_word:
                yield tuple(word)
                word = []
        if word:
            yield tuple(word)

    @property
    def text(self) -> str:
        """The words in a row."""
        return " ".join("".join(syllable.text for syllable in word) for word in self.words())

    def transposed(self, semitones: int) -> Score:
        """Return the score `semitones` higher; a pitch that leaves 1 … 127 raises ValueError."""
        return self._with_notes(lambda note: replace(note, pitch=note.pitch + semitones))

    def shifted(self, seconds: float) -> Score:
        """Return the syllables `seconds` later; the tempo map stays where it is."""
        return self._with_notes(
            lambda note: Note(note.pitch, note.onset + seconds, note.offset + seconds)
        )

    def faster(self, factor: float) -> Score:
        """Return the score sung `factor` times as fast, tempo map and notes."""
        tempo = self.tempo.scaled(factor)

        def moved(time: float) -> float:
            return self.tempo.carried(time, tempo)

        faster = self._with_notes(
            lambda note: Note(note.pitch, moved(note.onset), moved(note.offset))
        )
        return replace(faster, tempo=tempo)

    def _with_notes(self, change: Callable[[Note], Note]) -> Score:
        syllables = tuple(
            replace(syllable, notes=tuple(change(note) for note in syllable.notes))
            for syllable in self.syllables
        )
        return replace(self, syllables=syllables)

    def phrases(self, rest: float = 0.3, max_seconds: float = 10.0) -> tuple[Score, ...]:
        """Return the score cut between words, at rests of `rest` seconds.

        Where a phrase would grow longer than `max_seconds`, it is cut at the longest rest or note
        of its second half. Times stay those of the whole score; joined, the phrases hold every
        syllable once. A single word longer than `max_seconds` is a phrase of its own.
        """
        groups: list[list[tuple[Syllable, ...]]] = []
        for word in self.words():
            if groups and word[0].onset - groups[-1][-1][-1].offset < rest:
                groups[-1].append(word)
            else:
                groups.append([word])
        phrases = (part for group in groups for part in _split_long(group, max_seconds))
        return tuple(
            replace(self, syllables=tuple(syllable for word in phrase for syllable in word))
            for phrase in phrases
        )

    def outside(self, low: int, high: int) -> tuple[Note, ...]:
        """Return the notes outside a voice's range, MIDI numbers from `low` to `high`."""
        return tuple(note for note in self.notes if not low <= note.pitch <= high)


def octaves_into_range(pitches: Iterable[int], low: int, high: int) -> int:
    """Return the transposition in whole octaves (semitones) that leaves the fewest notes outside.

    Of equals the one nearest to none.
    """
    pitches = list(pitches)

    def cost(semitones: int) -> tuple[int, int]:
        return sum(not low <= pitch + semitones <= high for pitch in pitches), abs(semitones)

    return min(range(-60, 61, 12), key=cost)


def _split_long(
    words: list[tuple[Syllable, ...]], max_seconds: float
) -> Iterator[list[tuple[Syllable, ...]]]:
    """Yield a phrase's words in parts of at most `max_seconds`, where there are words to part."""
    start = words[0][0].onset
    if len(words) < 2 or words[-1][-1].offset - start <= max_seconds:
        yield words
        return
    half = min(max_seconds, words[-1][-1].offset - start) / 2

    def breath(index: int) -> tuple[bool, float]:
        end = words[index - 1][-1].offset
        in_reach = half <= end - start <= max_seconds
        return in_reach, words[index][0].onset - words[index - 1][-1].notes[-1].onset

    cut = max(range(1, len(words)), key=breath)
    yield from _split_long(words[:cut], max_seconds)
    yield from _split_long(words[cut:], max_seconds)
