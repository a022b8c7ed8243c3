"""The songs of a songbook to other words: more syllables for a network to learn, no more melodies.

A corpus of few hundred songs holds few words. A voice that is synthesised sings any others.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np

from music.score import Score, Syllable, split_spelling
from text.lexicon import Lexicon
from text.symbols import is_vowel, syllabify

OWN_SHARE = 0.5  # of the words are the song's own in another order, which keeps "the" frequent
LONGEST_WORD = 5  # syllables; a longer one stays

Word = tuple[str, tuple[tuple[str, ...], ...]]  # spelling and the phonemes of each syllable


def with_other_words(score: Score, generator: np.random.Generator) -> Score:
    """Return a score whose words are others, each of as many syllables, on the same notes.

    Half of them are words of this song in another order, the others are drawn from CMUdict.
    """
    own = _by_syllables(
        ("".join(s.text for s in word), tuple(s.phonemes for s in word)) for word in score.words()
    )
    syllables: list[Syllable] = []
    for word in score.words():
        count = len(word)
        pool: Sequence[Word] = own[count]
        if generator.random() >= OWN_SHARE:
            pool = _dictionary().get(count, pool)
        spelling, phonemes = pool[int(generator.integers(len(pool)))]
        parts = split_spelling(spelling, count)
        syllables += (
            dataclasses.replace(syllable, text=text, phonemes=sung)
            for syllable, text, sung in zip(word, parts, phonemes, strict=True)
        )
    return dataclasses.replace(score, syllables=tuple(syllables))


def _by_syllables(words: Iterable[Word]) -> dict[int, list[Word]]:
    pools: dict[int, list[Word]] = defaultdict(list)
    for word in words:
        pools[len(word[1])].append(word)
    return pools


@cache
def _dictionary() -> Mapping[int, Sequence[Word]]:
    """Return the words of CMUdict by their number of syllables, read once for a process."""
    return _by_syllables(
        (word, syllables)
        for word, entry in Lexicon().cmudict_entries.items()
        if word.isalpha()
        and 0 < len(syllables := syllabify(tuple(entry.split()))) <= LONGEST_WORD
        and all(any(map(is_vowel, part)) for part in syllables)
    )
