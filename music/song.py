"""A song as it is written: the voice with its lyrics, and what the instruments play."""

from __future__ import annotations

from dataclasses import dataclass

from music.score import Melody, Note


@dataclass(frozen=True)
class Backing:
    """What one instrument plays; notes may sound together. `program`: General MIDI, from 0."""

    name: str
    program: int
    notes: tuple[Note, ...]


@dataclass(frozen=True)
class Song:
    """A voice and its accompaniment on one time axis, in seconds."""

    title: str
    composer: str
    melody: Melody
    backing: tuple[Backing, ...] = ()
    verses: int = 1  # how many verses of lyrics are written

    @property
    def duration(self) -> float:
        """End of the last note in seconds."""
        ends = [note.offset for part in self.backing for note in part.notes]
        return max([*ends, self.melody.notes[-1].offset])
