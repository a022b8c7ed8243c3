"""The symbol table: ids round trip, padding is 0, wrong symbols and ids are named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.symbols import (
    CONSONANTS,
    EOS,
    PAD,
    PHONEMES,
    SYMBOLS,
    VOWELS,
    WORD_BOUNDARY,
    ids_to_symbols,
    is_vowel,
    symbols_to_ids,
)


@given(st.lists(st.sampled_from(SYMBOLS)))
def test_symbols_survive_the_round_trip_through_ids(symbols: list[str]) -> None:
    assert ids_to_symbols(symbols_to_ids(symbols)) == symbols


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


def test_wrong_symbols_and_ids_are_named() -> None:
    with pytest.raises(ValueError, match="'AH'"):
        symbols_to_ids(["HH", "AH"])
    for index in (-1, len(SYMBOLS)):
        with pytest.raises(ValueError, match=str(index)):
            ids_to_symbols([index])
