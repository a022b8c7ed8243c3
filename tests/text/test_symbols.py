"""The symbol table: complete, without doubles, padding first."""

from __future__ import annotations

from text.symbols import (
    CONSONANTS,
    EOS,
    PAD,
    PHONEMES,
    SYMBOLS,
    VOWELS,
    WORD_BOUNDARY,
    is_vowel,
)


def test_table_is_complete_and_without_doubles() -> None:
    assert SYMBOLS[0] == PAD
    assert len(set(SYMBOLS)) == len(SYMBOLS)
    assert {EOS, WORD_BOUNDARY, *PHONEMES} < set(SYMBOLS)
    assert len(VOWELS) == 15 and len(CONSONANTS) == 24  # the 39 phonemes of ARPAbet in CMUdict


def test_vowels_are_the_symbols_with_stress() -> None:
    assert {symbol for symbol in SYMBOLS if is_vowel(symbol)} == {
        vowel + stress for vowel in VOWELS for stress in "012"
    }
    assert not is_vowel("") and not is_vowel("AH")
