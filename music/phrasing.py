"""Phrasing: where a voice breathes, and which breaths are sung as one item.

The songbook is cut into items in this way, and synthesis sings a score in items of the same kind:
a network then meets what it was trained on.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from music.inputs import PhraseInputs, phrase_inputs
from music.score import Score, Syllable

SHORT_REST = 0.3  # s; shorter ones are sung over
BREATH_SECONDS = 0.2  # s before the next phrase, taken from a phrase's last note
PHRASE_SECONDS = 8.0  # longest breath; longer ones are parted
SHORTEST_ITEM, LONGEST_ITEM = 2.0, 10.0  # s
LEAD_SECONDS = 0.33  # s of an item before its first note: room for consonants
TAIL_SECONDS = 0.15  # s kept after a phrase's last note


@dataclass(frozen=True)
class Item:
    """Some breaths of a score that are sung as one, from `start` to `end` seconds."""

    score: Score
    start: float
    end: float

    def inputs(self) -> PhraseInputs:
        """Return the conditioning of the acoustic model."""
        return phrase_inputs(self.score, self.start, self.end)


def items_to_sing(score: Score, grid: float) -> list[Item]:
    """Cut a score into items that never overlap and begin on multiples of `grid` seconds."""
    phrases = breaths(score)
    groups = item_groups(phrases, SHORTEST_ITEM, LONGEST_ITEM)
    starts: list[float] = []
    free = 0.0  # s, where nothing is sung any more
    for group in groups:
        onset = phrases[group[0]].syllables[0].onset
        wanted = max(onset - LEAD_SECONDS, free)
        starts.append(min(math.ceil(wanted / grid), math.floor(onset / grid)) * grid)
        free = phrases[group[-1]].duration
    items = []
    for group, start, after in zip(groups, starts, [*starts[1:], math.inf], strict=True):
        syllables = tuple(s for number in group for s in phrases[number].syllables)
        last = syllables[-1].offset
        end = max(last, min(last + TAIL_SECONDS, after))
        items.append(Item(dataclasses.replace(score, syllables=syllables), start, end))
    return items


def breaths(score: Score) -> list[Score]:
    """Return the phrases that are sung in one breath: short rests closed, time to breathe left."""
    syllables = list(score.syllables)
    for index, (left, right) in enumerate(pairwise(syllables)):
        if 0.0 < right.onset - left.offset < SHORT_REST:
            syllables[index] = _ending(left, right.onset)
    phrases = dataclasses.replace(score, syllables=tuple(syllables)).phrases(
        SHORT_REST, PHRASE_SECONDS
    )
    breathing = []
    for phrase, after in zip(phrases, [*phrases[1:], None], strict=True):
        last = phrase.syllables[-1]
        if after is not None and after.syllables[0].onset - last.offset < BREATH_SECONDS:
            note = last.notes[-1]
            latest = after.syllables[0].onset - BREATH_SECONDS
            end = max(latest, note.onset + note.duration / 2)
            phrase = dataclasses.replace(
                phrase, syllables=(*phrase.syllables[:-1], _ending(last, end))
            )
        breathing.append(phrase)
    return breathing


def _ending(syllable: Syllable, offset: float) -> Syllable:
    """Return a syllable whose last note ends at `offset`."""
    last = dataclasses.replace(syllable.notes[-1], offset=offset)
    return dataclasses.replace(syllable, notes=(*syllable.notes[:-1], last))


def item_groups(phrases: Sequence[Score], shortest: float, longest: float) -> list[list[int]]:
    """Group neighbouring breaths into items of `shortest` to `longest` seconds where they can be.

    A group grows while it is too short; a rest of more than a second ends it. Returns the numbers
    of the breaths of each item.
    """
    groups: list[list[int]] = []
    for number, phrase in enumerate(phrases):
        if groups:
            start = phrases[groups[-1][0]].syllables[0].onset
            before = phrases[groups[-1][-1]].duration
            is_short = before - start < shortest
            near = phrase.syllables[0].onset - before <= 1.0
            if is_short and near and phrase.duration - start <= longest:
                groups[-1].append(number)
                continue
        groups.append([number])
    return groups
