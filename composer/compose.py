"""A melody for lyrics over an accompaniment: placed lines, sampled rhythms, sampled pitches.

The weights are counts of real songs (counts.py); a seed gives variations. Where lines stand in the
song is settled in layout.py. What makes it a topline is repetition: a section that comes again (a
second chorus, or the next verse) takes up its melody, as do the same words; within a section a line
takes up the rhythm and, as far as the chords allow, the tune of the line it rhymes with, or of the
line before the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from composer.counts import read_table, sung_stress
from composer.harmony import Harmony
from composer.layout import (
    Grid,
    PlacedLine,
    UnplacedLine,
    is_lifted,
    lay_out,
    section_name,
    stanza_numbers,
)
from composer.pitches import LIFT, VocalRange, sample_pitches
from composer.rhythm import sample_rhythm
from music.score import Note, Score, Syllable
from music.tempo import TICKS_PER_BEAT, Meter, TempoMap
from music.underlay import Underlay, text_syllables
from text.remarks import remark
from text.symbols import is_vowel
from utils.seeds import numpy_generator

if TYPE_CHECKING:
    from hyperparams import Composer
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine

NARROWEST = 7  # semitones that a range has to span


@dataclass(frozen=True)
class ComposedLine:
    """A finished phrase: onsets (N + 1 slots, the last its end) and pitches (N)."""

    phrase: PlacedLine
    onsets: tuple[int, ...]
    pitches: tuple[int, ...]

    @property
    def relative(self) -> dict[int, int]:
        """Pitch by onset, in slots from the phrase's first bar."""
        onsets = (slot - self.phrase.bar for slot in self.onsets[:-1])
        return dict(zip(onsets, self.pitches, strict=True))


def compose(
    lines: Sequence[LyricLine],
    harmony: Harmony,
    pronouncer: Pronouncer,
    knobs: Composer,
    seed: int = 0,
) -> Underlay:
    """Return a melody for the lyrics on the accompaniment's harmony: one note per syllable.

    The same seed gives the same melody. Remarks repeat the fallbacks of the harmony. Raises
    ValueError for lyrics without a word, a range or density that cannot be sung, and lyrics that
    are too long for the song or for their time stamps (saying how many syllables fit).
    """
    _check(knobs)
    placed_lines, guessed = _lines(lines, pronouncer)
    grid = Grid(harmony, knobs.breath, knobs.shortest)
    table = read_table()
    voice = VocalRange(knobs.low, knobs.high, knobs.max_leap, table, knobs.repeat_bias)
    done: list[ComposedLine] = []
    for index, phrase in enumerate(lay_out(placed_lines, grid, knobs)):
        rng = numpy_generator(seed, index)
        if done and not phrase.is_timed:
            breathed = done[-1].onsets[-1] + grid.breath_slots
            phrase = replace(phrase, first=max(phrase.first, breathed))
        model, is_same_place = _model(phrase, done)
        agreement = knobs.repetition * (3 if is_same_place else 1)
        melody = model.relative if model else {}
        onsets = sample_rhythm(
            phrase, _stresses(phrase), grid, table, knobs, rng, list(melody), agreement
        )
        pitches = sample_pitches(
            onsets,
            grid,
            voice,
            knobs,
            rng,
            previous=done[-1].pitches[-1] if done else None,
            reference=[melody.get(slot - phrase.bar) for slot in onsets[:-1]],
            agreement=agreement,
            lift=LIFT if is_lifted(phrase.line.section) else 0.0,
            is_last=phrase.is_last,
        )
        done.append(ComposedLine(phrase, tuple(onsets), tuple(pitches)))
    score = _score(done, grid)
    times = len(done) // len(placed_lines)
    text = f"the lyrics are sung {times} times over the song; composer.fill=rest sings them once"
    remarks = [remark("repeated", text)] if times > 1 else []
    return Underlay(score, guessed, (*harmony.notes, *remarks))


def _check(knobs: Composer) -> None:
    """Raise ValueError for knobs with which nothing can be sung."""
    if not 1 <= knobs.low <= knobs.high - NARROWEST <= 127 - NARROWEST:
        raise ValueError(
            f"range {knobs.low} to {knobs.high}: expected MIDI numbers, the higher one at least "
            f"{NARROWEST} semitones above the lower, for example 53 to 72"
        )
    if not 0 <= knobs.density <= 4:
        raise ValueError(
            f"density {knobs.density}: expected up to 4 syllables per beat, or 0 to go by the tempo"
        )
    if knobs.temperature <= 0:
        raise ValueError(f"composer.temperature = {knobs.temperature}: expected a number above 0")


def _lines(
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


def _stresses(phrase: PlacedLine) -> list[int]:
    """Return the stress of each syllable as it is sung: function words have none."""
    return [
        sung_stress(syllable.text, syllable.stress, syllable.starts_word and syllable.ends_word)
        for syllable in phrase.line.syllables
    ]


def rhyme(syllables: Sequence[Syllable]) -> tuple[str, ...]:
    """Return the sounds that rhyme: from the line's last stressed vowel on, without stress."""
    sounds = [phoneme for syllable in syllables for phoneme in syllable.phonemes]
    vowels = [index for index, sound in enumerate(sounds) if is_vowel(sound)]
    stressed = [index for index in vowels if sounds[index][-1] != "0"] or vowels or [0]
    return tuple(sound.rstrip("012") for sound in sounds[stressed[-1] :])


def _model(phrase: PlacedLine, done: Sequence[ComposedLine]) -> tuple[ComposedLine | None, bool]:
    """Return the earlier phrase to take up, and whether it had this place in a like section."""
    line = phrase.line  # same section's place, then same words, then rhyme, then last but one
    here = [sung for sung in done if sung.phrase.line.stanza == line.stanza]
    stanzas = [
        sung.phrase.line.stanza
        for sung in done
        if sung.phrase.line.section == line.section and sung.phrase.line.stanza != line.stanza
    ]
    if stanzas:
        first = [sung for sung in done if sung.phrase.line.stanza == stanzas[0]]
        if len(here) < len(first):
            return first[len(here)], True
    same = [s for s in done if _sounds(s.phrase.line) == _sounds(line)]
    if same:
        return same[0], True
    rhyming = [s for s in here if rhyme(s.phrase.line.syllables) == rhyme(line.syllables)]
    if rhyming:
        return rhyming[-1], False
    return (here[-2], False) if len(here) >= 2 else (None, False)


def _sounds(line: UnplacedLine) -> list[tuple[str, ...]]:
    """Return the phonemes of a line's syllables."""
    return [syllable.phonemes for syllable in line.syllables]


def _score(done: Sequence[ComposedLine], grid: Grid) -> Score:
    """Return the score in seconds, words and lines numbered through."""
    syllables: list[Syllable] = []
    word = 0
    for line, sung in enumerate(done):
        first = word
        times = [grid.seconds(slot) for slot in sung.onsets]
        spans = zip(sung.phrase.line.syllables, sung.pitches, pairwise(times), strict=True)
        for syllable, pitch, (onset, offset) in spans:
            word = first + syllable.word + 1
            note = Note(pitch, onset, offset)
            syllables.append(
                replace(syllable, word=first + syllable.word, line=line, notes=(note,))
            )
    harmony = grid.harmony
    return Score(tuple(syllables), tempo_map(harmony), _meters(harmony))


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


def _meters(harmony: Harmony) -> tuple[Meter, ...]:
    """Return the time signatures: a short first bar when the first beat is no downbeat."""
    bar = Meter(harmony.first_downbeat * TICKS_PER_BEAT, harmony.metre, 4)
    return (bar,) if not bar.tick else (Meter(0, harmony.first_downbeat, 4), bar)
