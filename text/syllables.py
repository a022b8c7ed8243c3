"""Syllables from pronunciations: each vowel a nucleus, consonants to the longest legal onset."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from text.symbols import CONSONANTS, is_vowel

# Onsets of two and three consonants that begin an English word (the maximal onset principle,
# Kahn 1976); a single consonant may always be one, except NG.
CLUSTERS = """
P L, P R, P Y, B L, B R, B Y, T R, T W, T Y, D R, D W, D Y, K L, K R, K W, K Y, G L, G R, G W, G Y,
F L, F R, F Y, V Y, TH R, TH W, TH Y, S P, S T, S K, S M, S N, S L, S W, S F, SH R, SH M, SH N,
SH L, HH W, HH Y, M Y, N Y, L Y, S P L, S P R, S P Y, S T R, S T Y, S K R, S K W, S K Y, S K L
"""
ONSETS = {tuple(cluster.split()) for cluster in CLUSTERS.split(",")}
ONSETS |= {(consonant,) for consonant in CONSONANTS if consonant != "NG"}


def syllabify(phonemes: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the syllables of a word's phonemes, in order; joined they are the word again.

    One syllable per vowel, or a single one when there is none ("shh"); an empty word has none.
    """
    nuclei = [index for index, phoneme in enumerate(phonemes) if is_vowel(phoneme)]
    starts = [0]
    for left, right in pairwise(nuclei):
        starts.append(right - _onset_length(phonemes[left + 1 : right]))
    ends = [*starts[1:], len(phonemes)]
    syllables = (tuple(phonemes[start:end]) for start, end in zip(starts, ends, strict=True))
    return tuple(syllable for syllable in syllables if syllable)


def _onset_length(consonants: Sequence[str]) -> int:
    """Return how many of the consonants between two vowels begin the second syllable."""
    for start in range(len(consonants)):
        if tuple(consonants[start:]) in ONSETS:
            return len(consonants) - start
    return 0
