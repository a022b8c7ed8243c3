"""Melodies as files hold them: notes with written syllables, before any word is pronounced."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from music.score import TOLERANCE, Note, Score
from music.tempo import Meter, TempoMap

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
        for left, right in pairwise(self.notes):
            if right.onset < left.offset - TOLERANCE:
                raise ValueError(f"notes {left} and {right} overlap: expected one voice")

    @classmethod
    def of(cls, score: Score) -> Melody:
        """Return a score as it would be written."""
        lyrics: list[Lyric | None] = []
        for index, syllable in enumerate(score.syllables):
            after = score.syllables[index + 1 : index + 2]
            ends_line = bool(after) and after[0].line != syllable.line
            lyrics.append(Lyric(syllable.text, not syllable.ends_word, ends_line))
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

        notes = tuple(Note(n.pitch, moved(n.onset), moved(n.offset)) for n in self.notes)
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
