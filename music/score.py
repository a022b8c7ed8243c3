"""Scores: notes, sung syllables, the vocal line that they make, and the syllables of a text.

Times are seconds in float64. Beats (quarter notes) and MIDI ticks are read through the `TempoMap`,
and rounding a time to the nearest tick gives back the tick it came from.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from text.symbols import is_vowel, syllabify

if TYPE_CHECKING:
    from text.frontend import Pronouncer

TICKS_PER_BEAT = 480
INLINE = "{"  # begins phonemes that stand for a word


@dataclass(frozen=True)
class TempoMap:
    """Tempo changes as (tick, microseconds per beat), the first at tick 0; a beat is a quarter."""

    changes: tuple[tuple[int, int], ...] = ((0, 500_000),)
    ticks_per_beat: int = TICKS_PER_BEAT

    def __post_init__(self) -> None:
        """Check that changes rise from tick 0."""
        ticks = [tick for tick, _ in self.changes]
        if not ticks or ticks[0] != 0 or any(b <= a for a, b in pairwise(ticks)):
            raise ValueError(f"tempo changes at ticks {ticks}: expected rising ticks from 0")
        if self.ticks_per_beat < 1 or any(tempo < 1 for _, tempo in self.changes):
            raise ValueError("a tempo map needs at least 1 tick and 1 microsecond per beat")

    @classmethod
    def constant(cls, bpm: float, ticks_per_beat: int = TICKS_PER_BEAT) -> TempoMap:
        """Return one tempo, in quarter notes per minute, from start to end."""
        if not 1.0 <= bpm <= 1000.0:
            raise ValueError(f"tempo of {bpm} beats per minute: expected 1 to 1000")
        return cls(((0, round(60e6 / bpm)),), ticks_per_beat)

    @cached_property
    def _starts(self) -> list[float]:
        """Time of each change in seconds."""
        steps = (
            (after - before) * tempo * 1e-6 / self.ticks_per_beat
            for (before, tempo), (after, _) in pairwise(self.changes)
        )
        return list(accumulate(steps, initial=0.0))

    def seconds_at(self, tick: float) -> float:
        """Return the time of a tick in seconds."""
        index = max(0, bisect_right(self.changes, tick, key=lambda change: change[0]) - 1)
        start, tempo = self.changes[index]
        return self._starts[index] + (tick - start) * tempo * 1e-6 / self.ticks_per_beat

    def tick_at(self, seconds: float) -> float:
        """Return the tick of a time, unrounded."""
        index = max(0, bisect_right(self._starts, seconds) - 1)
        start, tempo = self.changes[index]
        return start + (seconds - self._starts[index]) * 1e6 * self.ticks_per_beat / tempo

    def bpm_at(self, seconds: float) -> float:
        """Return the tempo at a time in quarter notes per minute."""
        return 60e6 / self.changes[max(0, bisect_right(self._starts, seconds) - 1)][1]

    def carried(self, seconds: float, other: TempoMap) -> float:
        """Return the time at which `other` comes to the tick that is here at `seconds`."""
        return other.seconds_at(self.tick_at(seconds))

    def scaled(self, factor: float) -> TempoMap:
        """Return the map `factor` times as fast; ticks keep their place."""
        changes = tuple((tick, max(1, round(tempo / factor))) for tick, tempo in self.changes)
        return replace(self, changes=changes)


@dataclass(frozen=True)
class Meter:
    """A time signature from `tick` on."""

    tick: int
    numerator: int
    denominator: int


SEMITONES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}  # above C
ACCIDENTALS = {"": 0, "#": 1, "b": -1}  # semitones
VELOCITY = 90  # of a note that says none
TOLERANCE = 1e-6  # s; notes may touch, and float sums may differ in the last digits


@dataclass(frozen=True)
class NoteStyle:
    """How a note is sung; None: as the voice does without being told."""

    velocity: int | None = None  # 1 to 127: loudness
    vibrato_cents: float | None = None  # depth, from the mean
    vibrato_added: float | None = None  # cents, on top of the voice's own depth
    vibrato_rate: float | None = None  # Hz
    vibrato_delay: float | None = None  # s into the note until it starts
    glide_seconds: float | None = None  # from the note before

    def __post_init__(self) -> None:
        """Raise ValueError for what cannot be sung."""
        if self.velocity is not None and not 1 <= self.velocity <= 127:
            raise ValueError(f"velocity {self.velocity}: expected 1 to 127")
        for name, value in self.as_dict().items():
            if name != "velocity" and not 0 <= value <= 1200:
                raise ValueError(f"{name} = {value}: expected a number from 0")

    def as_dict(self) -> dict[str, float]:
        """Return what is said, as plain values."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Note:
    """A pitch (MIDI number, 60 = middle C) held from `onset` to `offset` in seconds."""

    pitch: int
    onset: float
    offset: float
    style: NoteStyle | None = None  # how it is sung, where that is said

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
            lambda note: replace(note, onset=note.onset + seconds, offset=note.offset + seconds)
        )

    def faster(self, factor: float) -> Score:
        """Return the score sung `factor` times as fast, tempo map and notes."""
        tempo = self.tempo.scaled(factor)

        def moved(time: float) -> float:
            return self.tempo.carried(time, tempo)

        faster = self._with_notes(
            lambda note: replace(note, onset=moved(note.onset), offset=moved(note.offset))
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


MOST_NOTES = 50_000  # of a voice; an hour of quick notes has 20,000
LONGEST_NOTE = 120.0  # s
LONGEST_MELODY = 3600.0  # s to the end of the last note
HELD_REST = 0.5  # s; a syllable is not held over a rest as long as this


@dataclass(frozen=True)
class Lyric:
    """A written syllable: its text, whether the word goes on after it, whether a line ends."""

    text: str
    continues: bool = False
    ends_line: bool = False


@dataclass(frozen=True)
class Melody:
    """One voice as it is written.

    A note without a lyric prolongs the syllable before it, but not over a rest of HELD_REST s.

    `remarks` say what was repaired while reading. Raises ValueError when there is no note, when
    notes overlap, or when there is not one entry of `lyrics` for each note.
    """

    notes: tuple[Note, ...]
    lyrics: tuple[Lyric | None, ...]
    tempo: TempoMap = field(default_factory=TempoMap)
    meters: tuple[Meter, ...] = ()
    title: str = ""
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that there is one voice with a lyric or None for each note."""
        if not self.notes:
            raise ValueError("the melody has no note; expected at least one")
        if len(self.notes) != len(self.lyrics):
            raise ValueError(f"{len(self.notes)} notes but {len(self.lyrics)} lyrics")
        if len(self.notes) > MOST_NOTES:
            raise ValueError(f"{len(self.notes)} notes; expected at most {MOST_NOTES}")
        longest = max(self.notes, key=lambda note: note.offset - note.onset)
        if not longest.offset - longest.onset <= LONGEST_NOTE:
            raise ValueError(
                f"a note of {longest.offset - longest.onset:.0f} s at {longest.onset:.0f} s; "
                f"expected at most {LONGEST_NOTE:.0f} s"
            )
        if not self.notes[-1].offset <= LONGEST_MELODY:
            raise ValueError(
                f"the melody ends at {self.notes[-1].offset:.0f} s; expected at most "
                f"{LONGEST_MELODY:.0f} s"
            )
        for left, right in pairwise(self.notes):
            if right.onset < left.offset - TOLERANCE:
                raise ValueError(f"notes {left} and {right} overlap: expected one voice")

    @classmethod
    def of(cls, score: Score) -> Melody:
        """Return a score as it would be written; a compound (twenty-four) as its words."""
        lyrics: list[Lyric | None] = []
        for index, syllable in enumerate(score.syllables):
            after = score.syllables[index + 1 : index + 2]
            ends_line = bool(after) and after[0].line != syllable.line
            # A hyphen between syllables is no letter in a file: of a compound it would be lost.
            is_part = syllable.text.endswith("-") or any(s.text.startswith("-") for s in after)
            continues = not syllable.ends_word and not is_part
            lyrics.append(Lyric(syllable.text.strip("-"), continues, ends_line))
            lyrics += [None] * (len(syllable.notes) - 1)
        return cls(score.notes, tuple(lyrics), score.tempo, score.meters, score.title)

    @property
    def has_lyrics(self) -> bool:
        """Whether any note has a syllable."""
        return any(lyric is not None for lyric in self.lyrics)

    def transposed(self, semitones: int) -> Melody:
        """Return the melody `semitones` higher; a pitch that leaves 1 … 127 raises ValueError."""
        notes = tuple(replace(note, pitch=note.pitch + semitones) for note in self.notes)
        return replace(self, notes=notes)

    def faster(self, factor: float) -> Melody:
        """Return the melody `factor` times as fast; ticks keep their place."""
        tempo = self.tempo.scaled(factor)

        def moved(time: float) -> float:
            return self.tempo.carried(time, tempo)

        notes = tuple(replace(n, onset=moved(n.onset), offset=moved(n.offset)) for n in self.notes)
        return replace(self, notes=notes, tempo=tempo)

    def within(self, start: float, end: float) -> Melody:
        """Return the notes that begin from `start` up to `end` s, the last one ended there.

        Raises ValueError when there is none.
        """
        kept = [
            (replace(note, offset=min(note.offset, end)), lyric)
            for note, lyric in zip(self.notes, self.lyrics, strict=True)
            if start <= note.onset < end - TOLERANCE
        ]
        if not kept:
            raise ValueError(
                f"no note of the melody begins between {start:.2f} s and {end:.2f} s; its notes "
                f"last from {self.notes[0].onset:.2f} s to {self.notes[-1].offset:.2f} s"
            )
        notes, lyrics = zip(*kept, strict=True)
        return replace(self, notes=notes, lyrics=lyrics)

    def groups(self) -> Iterator[tuple[Lyric, tuple[Note, ...]]]:
        """Yield each written syllable with its notes; those of `unworded` are left out."""
        for lyric, notes in self._runs():
            if lyric is not None:
                yield lyric, notes

    def unworded(self) -> list[tuple[Note, ...]]:
        """Return the runs of notes that no syllable is sung on.

        They stand before the first word, or without a word behind a rest of HELD_REST seconds.
        """
        return [notes for lyric, notes in self._runs() if lyric is None]

    def _runs(self) -> Iterator[tuple[Lyric | None, tuple[Note, ...]]]:
        """Yield every note once: a syllable with its notes, or None with notes without one."""
        lyric: Lyric | None = None
        notes: list[Note] = []
        for note, current in zip(self.notes, self.lyrics, strict=True):
            rests = bool(notes) and note.onset - notes[-1].offset >= HELD_REST
            if current is not None or (lyric is not None and rests):
                if notes:
                    yield lyric, tuple(notes)
                lyric, notes = current, []
            notes.append(note)
        yield lyric, tuple(notes)


def one_voice(notes: Sequence[Note]) -> tuple[list[Note], int]:
    """Make notes in any order one voice; returns them and how many were changed or left out.

    Of notes that start together the highest stays; a note that lasts into the next is cut there.
    """
    voice: list[Note] = []
    changed = 0
    for note in sorted(notes, key=lambda note: (note.onset, -note.pitch)):
        if voice and note.onset - voice[-1].onset < TOLERANCE:
            changed += 1
            continue
        if voice and voice[-1].offset > note.onset + TOLERANCE:
            voice[-1] = replace(voice[-1], offset=note.onset)
            changed += 1
        voice.append(note)
    return voice, changed


SPELLED = re.compile(r"[^\W\d_](?:\.[^\W\d_])+\.?")  # a word of letters
NEXT_SYLLABLE = "+"  # of the word before; no letters of its own


# ---------------------------------------------------------------------------- words


@dataclass(frozen=True)
class Underlay:
    """A laid score, the words whose pronunciation was guessed, and remarks for the user."""

    score: Score
    guessed: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def text_syllables(
    text: str,
    pronouncer: Pronouncer,
    first_word: int = 0,
    line: int = 0,
    line_number: int = 1,
    around: tuple[str, str] = ("", ""),
) -> tuple[list[Syllable], list[str]]:
    """Pronounce a text; returns its syllables without notes and the words that were guessed.

    Words are numbered from `first_word`; `line_number` is that of the file, for messages; `around`
    is the text before and after, which may decide on how a word is read.
    """
    syllables: list[Syllable] = []
    guessed: list[str] = []
    word_number = first_word
    for word in pronouncer.pronounce(text, line_number, around).words:
        parts = syllabify(word.phonemes)
        if word.text.startswith(INLINE):  # read again from a file, a part is pronounced alone
            spellings = [f"{{{' '.join(phonemes)}}}" for phonemes in parts]
        else:
            spellings = split_spelling(word.text, len(parts))
        for index, (phonemes, spelling) in enumerate(zip(parts, spellings, strict=True)):
            last = index == len(parts) - 1
            syllable = Syllable(spelling, phonemes, word_number, index == 0, last, line)
            syllables.append(syllable)
        word_number += bool(parts)
        if word.guessed:
            guessed.append(word.text)
    return syllables, guessed


def split_spelling(word: str, count: int) -> list[str]:
    """Split a written word into `count` parts at its groups of vowels; joined they are the word.

    English spelling is no sure guide: the last parts are empty when there are too few letters.
    """
    if count <= 1:
        return [word] * count
    if SPELLED.fullmatch(word):  # U.S.A.: a letter each
        letters = re.findall(r"\w\.?", word)
        parts = [*letters[: count - 1], "".join(letters[count - 1 :])]
        return parts + [""] * (count - len(parts))
    nuclei = [match.start() for match in re.finditer(r"[aeiouy]+", word, re.IGNORECASE)]
    if len(nuclei) > count and re.search(r"[^aeiouy]e[sd]?$", word, re.IGNORECASE):
        nuclei.pop()  # a silent e
    cuts = []
    for left, right in pairwise(nuclei):
        vowels = re.match(r"[aeiouy]*", word[left:], re.IGNORECASE)
        consonants = right - left - (vowels.end() if vowels else 0)
        cut = right - (consonants + 1) // 2 if consonants < 3 else right - 2
        while not word[cut].isalnum():  # signs stay with the part before them
            cut += 1
        cuts.append(cut)
    # Every part has a letter: files have no syllable of a sign alone.
    first = next((place for place, c in enumerate(word) if c.isalnum()), len(word))
    places = [cut for cut in range(first + 1, len(word)) if word[cut].isalnum() and cut not in cuts]
    while len(cuts) < count - 1 and places:
        cuts.append(places.pop())
    cuts = sorted(cuts)[: count - 1]
    bounds = [0, *cuts, len(word)]
    parts = [word[start:end] for start, end in pairwise(bounds)]
    return parts + [""] * (count - len(parts))
