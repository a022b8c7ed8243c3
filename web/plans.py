"""Plans: a melody with its words before it is sung, as the page shows and changes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from composer.harmony import Harmony
from music.score import (
    LONGEST_NOTE,
    TOLERANCE,
    Lyric,
    Melody,
    Meter,
    Note,
    TempoMap,
    text_syllables,
)
from singing.melody import BackingAudio
from singing.plan import Plan
from text.remarks import grouped, remark
from web.fields import integer, number, text

if TYPE_CHECKING:
    from text.lyrics import LyricLine
    from web.choices import Choice

SHORTEST_NOTE = 0.03  # s, of an edited note
LONGEST_SYLLABLE = 60  # characters


@dataclass(frozen=True)
class SessionPlan:
    """What will be sung: the melody of PLAN, which came from `choice` and may have been edited."""

    choice: Choice
    made: Plan | None  # as it is read from PLAN; None: the lyrics are spoken
    remarks: tuple[str, ...]
    is_edited: bool = False

    def report(self) -> dict[str, Any]:
        """Describe the plan for the page, as plan.json does."""
        return {
            **(self.made.as_dict() if self.made else {"notes": [], "guessed": []}),
            "source": self.choice.melody,
            "tempo": self.made and round(self.made.score.tempo.bpm_at(0.0), 2),
            "is_spoken": self.made is None,
            "is_edited": self.is_edited,
            "choice": self.choice.report(),
            "remarks": grouped(self.remarks),
        }


MOST_HARMONIES = 16  # of a session that are remembered


@dataclass(frozen=True)
class KnownBacking(BackingAudio):
    """An accompaniment that is read and analysed once for each tempo; `wav` stays empty."""

    open: Callable[[], BackingAudio] = field(kw_only=True)
    harmonies: dict[Any, Harmony] = field(kw_only=True)  # that are known, by `key` and more
    key: Any = field(kw_only=True)

    def harmony(self, *arguments: Any) -> Harmony:
        """Analyse it, or return what was found before."""
        key = (self.key, *(argument for argument in arguments if argument is not None))
        if key not in self.harmonies:
            if len(self.harmonies) >= MOST_HARMONIES:
                self.harmonies.clear()
            self.harmonies[key] = self.open().harmony(*arguments)
        return self.harmonies[key]


# ---------------------------------------------------------------------------- to the page


def syllable_counts(lines: Sequence[LyricLine], pronouncer: Any) -> list[dict[str, Any]]:
    """Return for each line of lyrics its words, with phonemes, syllables and whether guessed."""
    counted = []
    for line in lines:
        syllables, guessed = text_syllables(
            line.text, pronouncer, line=0, line_number=line.line_number
        )
        words: dict[int, dict[str, Any]] = {}
        for syllable in syllables:
            word = words.setdefault(syllable.word, {"text": "", "phonemes": [], "syllables": 0})
            word["text"] += syllable.text
            word["phonemes"] += syllable.phonemes
            word["syllables"] += 1
        counted.append(
            {
                "line_number": line.line_number,
                "start": line.start,
                "section": line.section,
                "text": line.text,
                "syllables": len(syllables),
                "words": [
                    {**word, "phonemes": " ".join(word["phonemes"])}
                    | {"is_guessed": word["text"] in guessed}
                    for word in words.values()
                ],
            }
        )
    return counted


# ---------------------------------------------------------------------------- from the page


def edited_melody(
    entries: Sequence[Any],
    tempo: TempoMap,
    meters: tuple[Meter, ...],
    seconds: float,
    most: int,
) -> tuple[Melody, list[str]]:
    """Return the melody of notes that were changed on the page, and remarks on repairs.

    A note that lasts into the next is cut there. Raises ValueError for entries that are no notes
    between 0 and `seconds`, for two that begin together, and for more than `most`.
    """
    if not entries:
        raise ValueError("the melody has no note left: compose again, or take the change back")
    if len(entries) > most:
        raise ValueError(f"{len(entries)} notes; expected at most {most}")
    parsed = sorted((_entry(entry, seconds) for entry in entries), key=lambda e: e[0].onset)
    notes = [note for note, _, _ in parsed]
    cut = []
    for index, (left, right) in enumerate(pairwise(notes)):
        if right.onset - left.onset < SHORTEST_NOTE:
            raise ValueError(
                f"two notes begin at {left.onset:.2f} s: move one of them, one voice sings both"
            )
        if left.offset > right.onset + TOLERANCE:
            notes[index] = replace(left, offset=right.onset)
            cut.append(f"{left.onset:.2f} s")
    remarks = []
    if cut:
        text = f"notes that lasted into the next end there: those at {', '.join(cut[:8])}"
        remarks.append(remark("changed", text))
    worded = [index for index, (_, lyric, _) in enumerate(parsed) if lyric is not None]
    if not worded:
        raise ValueError("no note has a word: write one under a note")
    lyrics = [lyric for _, lyric, _ in parsed]
    for index, after in pairwise(worded):
        lyric = lyrics[index]
        if lyric is not None and parsed[index][2] != parsed[after][2]:
            lyrics[index] = replace(lyric, continues=False, ends_line=True)
    return Melody(tuple(notes), tuple(lyrics), tempo, meters), remarks


def _entry(entry: object, seconds: float) -> tuple[Note, Lyric | None, int]:
    """Return one note of the page with its syllable and its line, as plan.json writes them.

    A note without text prolongs the syllable before it, unless it has phonemes of its own: the
    spelling of that syllable stands in the one before.
    """
    if not isinstance(entry, Mapping):
        raise ValueError("a note is an object with pitch, onset, offset and text")
    onset = number(entry, "onset", 0.0, seconds)
    offset = number(entry, "offset", 0.0, seconds + LONGEST_NOTE)
    if offset - onset < SHORTEST_NOTE:
        raise ValueError(
            f"a note from {onset:.2f} s to {offset:.2f} s: expected {SHORTEST_NOTE} s or more"
        )
    note = Note(integer(entry, "pitch", 1, 127), onset, offset)
    line = integer(entry, "line", 0, 100_000) if "line" in entry else 0
    written = " ".join(text(entry, "text", LONGEST_SYLLABLE).split()) if entry.get("text") else ""
    if not written and not entry.get("phonemes"):
        return note, None, line
    return note, Lyric(written, not entry.get("ends_word", True)), line
