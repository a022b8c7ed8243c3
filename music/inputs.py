"""Phrase inputs of the acoustic model: an interval per symbol, and the notes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from music.score import TOLERANCE, Score, Syllable
from text.symbols import EOS, WORD_BOUNDARY

CONSONANT_SECONDS = 0.08  # slot of a consonant before the next onset


@dataclass(frozen=True)
class PhraseInputs:
    """Conditioning of one phrase: five values per symbol (N of each), and the notes.

    Times are seconds from the phrase start. pitch: MIDI of the symbol's note, 0 between words.
    [onset, offset]: the interval in which the symbol is expected. position: 1, 2, … in the
    syllable, 0 between words. slur: 1 in a syllable of several notes. notes: onset, offset, pitch.
    """

    symbols: tuple[str, ...]
    pitch: tuple[int, ...]
    onset: tuple[float, ...]
    offset: tuple[float, ...]
    position: tuple[int, ...]
    slur: tuple[int, ...]
    notes: tuple[tuple[float, float, int], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the plain lists that a feature index stores; times to 0.1 ms."""
        return {
            "pitch": list(self.pitch),
            "onset": [round(time, 4) for time in self.onset],
            "offset": [round(time, 4) for time in self.offset],
            "position": list(self.position),
            "slur": list(self.slur),
            "notes": [[round(a, 4), round(b, 4), pitch] for a, b, pitch in self.notes],
        }


def phrase_inputs(
    score: Score, start: float, end: float, consonant_seconds: float = CONSONANT_SECONDS
) -> PhraseInputs:
    """Return the inputs of a score that is a phrase from `start` to `end` s.

    A vowel's interval is its note span; consonants have slots of `consonant_seconds` (less when
    they would take more than half a note) before the next onset, or before their own note's end
    when a rest follows; a word boundary has what is left between its neighbours, the end mark the
    time to `end`. Raises ValueError when notes leave the phrase or there is none.
    """
    if not score.syllables:
        raise ValueError("a phrase without syllables has no inputs")
    first, last = score.syllables[0].onset, score.syllables[-1].offset
    if not start - TOLERANCE <= first or not last <= end + TOLERANCE:
        raise ValueError(
            f"phrase from {start:.3f} s to {end:.3f} s: its notes last from {first:.3f} s to "
            f"{last:.3f} s"
        )
    rows = symbol_rows(score.syllables, start, end, consonant_seconds)
    symbols, pitch, onset, offset, position, slur = zip(*rows, strict=True)
    span = end - start
    # Where slots around a very short note overlap, the later symbol begins with the earlier.
    starts = tuple(accumulate((min(max(0.0, time - start), span) for time in onset), max))
    ends = tuple(
        max(begin, min(max(0.0, time - start), span))
        for begin, time in zip(starts, offset, strict=True)
    )
    notes = tuple(
        (max(0.0, n.onset - start), min(n.offset - start, span), n.pitch) for n in score.notes
    )
    return PhraseInputs(symbols, pitch, starts, ends, position, slur, notes)


SymbolRow = tuple[str, int, float, float, int, int]  # symbol, pitch, onset, offset, position, slur


def symbol_rows(
    syllables: Sequence[Syllable], start: float, end: float, consonant_seconds: float
) -> Iterator[SymbolRow]:
    """Yield one row per symbol, times in seconds of the score."""
    room = syllables[0].onset - start
    slot = _slot(syllables[0].nucleus, room, consonant_seconds)
    for index, syllable in enumerate(syllables):
        after = syllables[index + 1] if index + 1 < len(syllables) else None
        nucleus = syllable.nucleus
        slur = int(len(syllable.notes) > 1)
        begin = syllable.onset - nucleus * slot
        for place in range(nucleus):
            onset = begin + place * slot
            yield _row(syllable, place, syllable.notes[0].pitch, onset, onset + slot, slur)
        yield _row(
            syllable, nucleus, syllable.notes[0].pitch, syllable.onset, syllable.offset, slur
        )
        coda = len(syllable.phonemes) - nucleus - 1
        lead = after.nucleus if after else 0  # consonants of the next onset
        room = (syllable.offset - syllable.onset) / 2
        room += max(0.0, after.onset - syllable.offset) if after else 0.0
        slot = _slot(coda + lead, room, consonant_seconds)
        next_begin = after.onset - lead * slot if after else end
        coda_end = min(syllable.offset, next_begin)
        for place in range(coda):
            onset = coda_end - (coda - place) * slot
            row = _row(
                syllable, nucleus + 1 + place, syllable.notes[-1].pitch, onset, onset + slot, slur
            )
            yield row
        if after is None:
            yield (EOS, 0, coda_end, end, 0, 0)
        elif syllable.ends_word:
            yield (WORD_BOUNDARY, 0, coda_end, next_begin, 0, 0)


def _row(
    syllable: Syllable, place: int, pitch: int, onset: float, offset: float, slur: int
) -> SymbolRow:
    return (syllable.phonemes[place], pitch, onset, offset, place + 1, slur)


def _slot(consonants: int, room: float, consonant_seconds: float) -> float:
    """Return the seconds of one of several consonants that share `room` seconds."""
    return min(consonant_seconds, max(0.0, room) / consonants) if consonants else 0.0
