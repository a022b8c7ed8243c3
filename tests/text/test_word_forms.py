"""Words made from known words: inflections as CMUdict has them, clipped forms, compounds."""

from __future__ import annotations

import random
import re

import pytest

from text.lexicon import Lexicon
from text.word_forms import derived, inflected, undrawn


class Without:
    """A lexicon's lookup that does not know one word."""

    def __init__(self, lexicon: Lexicon, hidden: str) -> None:
        self.lexicon, self.hidden = lexicon, hidden

    def __call__(self, word: str) -> tuple[str, ...] | None:
        return None if word == self.hidden else self.lexicon.get(word)


@pytest.fixture(scope="module")
def lexicon() -> Lexicon:
    return Lexicon()


@pytest.mark.parametrize(
    ("form", "sound"),
    [
        ("singer's", "S IH1 NG ER0 Z"),
        ("lovin'", "L AH1 V IH0 N"),
        ("walkin'", "W AO1 K IH0 N"),
        ("debtors'", "D EH1 T ER0 Z"),
        ("heav'n", "HH EH1 V N"),
        ("wand'ring", "W AA1 N D R IH0 NG"),
        ("pow'r", "P AW1 R"),
        ("river'll", "R IH1 V ER0 L"),
        ("com'st", "K AH1 M S T"),
        ("lov'dst", "L AH1 V D S T"),
        ("th'eternal", "DH IH0 T ER1 N AH0 L"),
        ("posing", "P OW1 Z IH0 NG"),
        ("hopping", "HH AA1 P IH0 NG"),
        ("hoping", "HH OW1 P IH0 NG"),
        ("wishes", "W IH1 SH IH0 Z"),
        ("carried", "K AE1 R IY0 D"),
        ("minced", "M IH1 N S T"),
        ("waited", "W EY1 T IH0 D"),
    ],
)
def test_regular_forms(lexicon: Lexicon, form: str, sound: str) -> None:
    assert inflected(form, Without(lexicon, form)) == tuple(sound.split())


def test_inflections_agree_with_cmudict(lexicon: Lexicon) -> None:
    entries = lexicon.cmudict_entries
    words = [word for word in entries if re.fullmatch("[a-z]{3,}(s|ed|ing)|[a-z]{3,}'s", word)]
    formed = right = 0
    for word in random.Random(0).sample(words, 1500):
        guess = inflected(word, Without(lexicon, word))
        if guess:
            formed += 1
            truth = entries[word].replace("IH0", "AH0").split()  # CMUdict writes -ed both ways
            right += [phoneme.replace("IH0", "AH0") for phoneme in guess] == truth
    assert formed > 700
    assert right / formed > 0.85


@pytest.mark.parametrize(
    ("word", "sound"),
    [
        ("woodcutter", "W UH1 D K AH2 T ER0"),
        ("bedstead", "B EH1 D S T EH2 D"),
        ("vileness", "V AY1 L N AH0 S"),
        ("undefended", "AH0 N D IH0 F EH1 N D AH0 D"),
        ("shineth", "SH AY1 N AH0 TH"),
    ],
)
def test_derived_words(lexicon: Lexicon, word: str, sound: str) -> None:
    assert derived(word, lexicon.get) == tuple(sound.split())


def test_chance_halves_are_no_compound(lexicon: Lexicon) -> None:
    assert derived("bodoni", lexicon.get) is None
    assert derived("zworble", lexicon.get) is None
    assert derived("", lexicon.get) is None


@pytest.mark.parametrize(
    ("drawn", "word"),
    [("sooo", "so"), ("feeel", "feel"), ("yeahhh", "yeah"), ("looove", "love"), ("ooooh", "ooh")],
)
def test_drawn_out_words(lexicon: Lexicon, drawn: str, word: str) -> None:
    assert next(spelling for spelling in undrawn(drawn) if spelling in lexicon) == word
    assert undrawn("feel") == []
