"""The symbol table: padding, end of line, word boundary, punctuation, ARPAbet with stress.

A line of lyrics becomes the phonemes of its words, " " between words, a punctuation symbol directly
after the word that it follows, and `EOS` as the last symbol: W IH1 N D , " " B L OW1 ~
The order of `SYMBOLS` is the meaning of the ids in every checkpoint and feature index: append only.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

PAD = "_"
EOS = "~"
WORD_BOUNDARY = " "
PUNCTUATION = (",", ".", "?", "!", ";", ":", "-", "…")  # "-" is a dash between words

VOWELS = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY"),
    *("IH", "IY", "OW", "OY", "UH", "UW"),
)
CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N"),
    *("NG", "P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)
STRESSES = ("0", "1", "2")  # none, primary, secondary
STRESSED_VOWELS = tuple(vowel + stress for vowel in VOWELS for stress in STRESSES)
PHONEMES = STRESSED_VOWELS + CONSONANTS

VOICELESS = frozenset(("CH", "F", "HH", "K", "P", "S", "SH", "T", "TH"))

SYMBOLS: tuple[str, ...] = (PAD, EOS, WORD_BOUNDARY, *PUNCTUATION, *PHONEMES)
SYMBOL_TO_ID: dict[str, int] = {symbol: index for index, symbol in enumerate(SYMBOLS)}


def is_vowel(symbol: str) -> bool:
    """Return whether `symbol` is a vowel with its stress digit, a syllable's nucleus."""
    return symbol[-1:] in STRESSES and symbol[:-1] in VOWELS


def is_voiced(symbol: str) -> bool:
    """Return whether the vocal folds vibrate during `symbol`: vowels and voiced consonants."""
    return symbol in PHONEMES and symbol not in VOICELESS


def word_spans(symbols: Sequence[str]) -> list[tuple[int, int]]:
    """Return (first, last) symbol of each word, inclusive: runs of phonemes between the others."""
    spans: list[tuple[int, int]] = []
    inside = False
    for index, symbol in enumerate(symbols):
        is_phoneme = symbol[0].isalpha()
        if is_phoneme and inside:
            spans[-1] = (spans[-1][0], index)
        elif is_phoneme:
            spans.append((index, index))
        inside = is_phoneme
    return spans


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
