"""Plans: a melody with its words before it is sung, as the page shows and changes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from composer.harmony import Harmony
from music.score import TOLERANCE, Lyric, Melody, Meter, Note, Score, TempoMap
from singing.melody import BackingAudio, harmony_report
from text.remarks import grouped, remark
from web.fields import integer, number, text

if TYPE_CHECKING:
    from text.lyrics import LyricLine
    from web.choices import Choice

SHORTEST_NOTE = 0.03  # s, of an edited note
LONGEST_SYLLABLE = 60  # characters


@dataclass(frozen=True)
class Plan:
    """What will be sung: the melody of PLAN, which came from `choice` and may have been edited."""

    choice: Choice
    score: Score | None  # as it is read from PLAN; None: the lyrics are spoken
    guessed: tuple[str, ...]
    remarks: tuple[str, ...]
    is_edited: bool = False
    voice_range: tuple[int, int] | None = None

    def report(self, harmony: Harmony | None) -> dict[str, Any]:
        """Describe the plan for the page."""
        return {
            "notes": [] if self.score is None else written_notes(self.score, self.guessed),
            "is_spoken": self.score is None,
            "is_edited": self.is_edited,
            "tempo": None if self.score is None else round(self.score.tempo.bpm_at(0.0), 2),
            "voice_range": self.voice_range,
            "choice": self.choice.report(),
            "harmony": None if harmony is None else chord_strip(harmony),
            "remarks": grouped(self.remarks),
        }


MOST_HARMONIES = 16  # of a session that are remembered


@dataclass(frozen=True)
class KnownBacking(BackingAudio):
    """An accompaniment that is read and analysed once for each tempo; `wav` stays empty."""

    open: Callable[[], BackingAudio] = field(kw_only=True)
    known: dict[Any, Harmony] = field(kw_only=True)
    key: Any = field(kw_only=True)  # of this accompaniment in `known`

    def harmony(self, *arguments: Any) -> Harmony:
        """Analyse it, or return what was found before."""
        key = (self.key, *(argument for argument in arguments if argument is not None))
        if key not in self.known:
            if len(self.known) >= MOST_HARMONIES:
                self.known.clear()
            self.known[key] = self.open().harmony(*arguments)
        return self.known[key]


# ---------------------------------------------------------------------------- to the page


def written_notes(score: Score, guessed: Sequence[str]) -> list[dict[str, Any]]:
    """Return one entry per note: pitch, times, and what is sung where a syllable begins.

    text is None on a note that prolongs the syllable before it. word: the whole word, whose
    phonemes may be changed; is_guessed: no lexicon has it.
    """
    entries: list[dict[str, Any]] = []
    lines = Melody.of(score).lyrics
    words: dict[int, str] = {}
    sounds: dict[int, list[str]] = {}
    for syllable in score.syllables:
        words[syllable.word] = words.get(syllable.word, "") + syllable.text
        sounds.setdefault(syllable.word, []).extend(syllable.phonemes)
    owners = [syllable for syllable in score.syllables for _ in syllable.notes]
    for note, lyric, owner in zip(score.notes, lines, owners, strict=True):
        entry: dict[str, Any] = {
            "pitch": note.pitch,
            "onset": round(note.onset, 4),
            "offset": round(note.offset, 4),
            "text": None,
        }
        if lyric is not None:
            word = words[owner.word]
            entry |= {
                "text": lyric.text,
                "continues": lyric.continues,
                "ends_line": lyric.ends_line,
                "word": word,
                "phonemes": " ".join(owner.phonemes),
                "word_phonemes": " ".join(sounds[owner.word]),
                "is_guessed": word in guessed,
            }
        entries.append(entry)
    return entries


def chord_strip(harmony: Harmony) -> dict[str, Any]:
    """Describe beats and chords of an accompaniment for the page."""
    return {
        **harmony_report(harmony),
        "beats": [round(beat, 4) for beat in harmony.beats.tolist()],
        "downbeats": harmony.is_downbeat.tolist(),
        "seconds": harmony.duration,
        "notes": list(harmony.notes),
    }


def syllable_counts(lines: Sequence[LyricLine], pronouncer: Any) -> list[dict[str, Any]]:
    """Return for each line of lyrics its words, with phonemes, syllables and whether guessed."""
    from music.underlay import text_syllables

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
    notes = [note for note, _ in parsed]
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
    lyrics = [lyric for _, lyric in parsed]
    if all(lyric is None for lyric in lyrics):
        raise ValueError("no note has a word: write one under a note")
    return Melody(tuple(notes), tuple(lyrics), tempo, meters), remarks


def _entry(entry: object, seconds: float) -> tuple[Note, Lyric | None]:
    """Return one note of the page with its syllable."""
    if not isinstance(entry, Mapping):
        raise ValueError("a note is an object with pitch, onset, offset and text")
    onset = number(entry, "onset", 0.0, seconds)
    offset = number(entry, "offset", 0.0, seconds + 60.0)
    if offset - onset < SHORTEST_NOTE:
        raise ValueError(
            f"a note from {onset:.2f} s to {offset:.2f} s: expected {SHORTEST_NOTE} s or more"
        )
    note = Note(integer(entry, "pitch", 1, 127), onset, offset)
    if entry.get("text") is None:
        return note, None
    written = " ".join(text(entry, "text", LONGEST_SYLLABLE).split())
    if not written:
        return note, None
    return note, Lyric(written, bool(entry.get("continues")), bool(entry.get("ends_line")))
