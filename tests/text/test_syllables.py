"""Syllables: nothing lost, one nucleus each, onsets that English words begin with."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.lexicon import Lexicon
from text.symbols import PHONEMES, is_vowel, syllabify


@given(st.lists(st.sampled_from(PHONEMES)))
def test_syllables_join_to_the_word_and_have_one_nucleus_each(phonemes: list[str]) -> None:
    syllables = syllabify(phonemes)
    assert [phoneme for syllable in syllables for phoneme in syllable] == phonemes
    nuclei = [sum(map(is_vowel, syllable)) for syllable in syllables]
    assert nuclei == [1] * len(nuclei) or (len(nuclei) == 1 and nuclei[0] == 0)
    assert all(syllables)


def test_no_inner_onset_begins_with_ng_and_none_is_left_to_a_coda() -> None:
    for entry in list(Lexicon().cmudict_entries.values())[::97]:
        for before, after in pairwise(syllabify(entry.split())):
            assert after[0] != "NG"
            if is_vowel(after[0]):  # a hiatus, or a coda that cannot be an onset
                assert is_vowel(before[-1]) or before[-1] == "NG"


@pytest.mark.parametrize(
    ("word", "syllables"),
    [
        ("hello", "HH AH0|L OW1"),
        ("extra", "EH1 K|S T R AH0"),
        ("singing", "S IH1 NG|IH0 NG"),
        ("window", "W IH1 N|D OW0"),
        ("apple", "AE1|P AH0 L"),
        ("beautiful", "B Y UW1|T AH0|F AH0 L"),
        ("strength", "S T R EH1 NG K TH"),
        ("create", "K R IY0|EY1 T"),
    ],
)
def test_known_words(word: str, syllables: str) -> None:
    phonemes = Lexicon().get(word)
    assert phonemes is not None
    assert "|".join(" ".join(syllable) for syllable in syllabify(phonemes)) == syllables


def test_no_phonemes_no_syllables() -> None:
    assert syllabify(()) == ()
    assert syllabify(["SH"]) == (("SH",),)
