"""Letter to sound: any word gets a sound, held-out words mostly the right one, rules are learnt."""

from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text.letter_to_sound import (
    LetterToSound,
    align_letters,
    apply_rules,
    contexts,
    is_held_out,
    learn_rules,
    one_primary_stress,
    read_rules,
    spell,
    write_rules,
)
from text.lexicon import Lexicon
from text.symbols import PHONEMES, is_vowel

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def letter_to_sound() -> LetterToSound:
    return LetterToSound()


def edit_distance(first: list[str], second: list[str]) -> int:
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


@settings(max_examples=200, deadline=None)
@given(word=st.text(LETTERS, min_size=1, max_size=30))
def test_any_letters_make_a_word_with_one_primary_stress(
    letter_to_sound: LetterToSound, word: str
) -> None:
    phonemes = letter_to_sound(word)
    assert set(phonemes) <= set(PHONEMES)
    assert any(map(is_vowel, phonemes))
    if any(letter in "aiou" for letter in word) and len(word) > 1:
        assert phonemes != spell(word)
    if phonemes != spell(word):
        assert sum(phoneme.endswith("1") for phoneme in phonemes) == 1


def test_error_rate_on_words_the_rules_were_not_learnt_from(
    letter_to_sound: LetterToSound,
) -> None:
    entries = Lexicon().cmudict_entries
    held_out = [word for word in entries if re.fullmatch("[a-z]{2,}", word) and is_held_out(word)]
    errors = errors_without_stress = total = 0
    for word in random.Random(0).sample(held_out, 1000):
        truth, guess = entries[word].split(), list(letter_to_sound(word))
        errors += edit_distance(guess, truth)
        errors_without_stress += edit_distance(
            [phoneme.rstrip("012") for phoneme in guess],
            [phoneme.rstrip("012") for phoneme in truth],
        )
        total += len(truth)
    assert errors / total < 0.18  # 0.155 on all 11,747
    assert errors_without_stress / total < 0.13  # 0.110


def test_contexts_grow_by_one_neighbour() -> None:
    grown = contexts("chord", 0)
    assert grown[:4] == ["[c]", "[c]h", "#[c]h", "#[c]ho"]
    assert all(narrow in wide for narrow, wide in pairwise(grown))
    assert contexts("aa", 1) == ["[a]", "[a]#", "a[a]#", "#a[a]#"]


def test_rules_of_a_regular_spelling_are_learnt() -> None:
    generator = random.Random(0)
    soft, hard = ("S",), ("K",)

    def sound(word: str, position: int) -> tuple[str, ...]:
        letter = word[position]
        if letter == "c":
            return soft if word[position + 1 : position + 2] == "i" else hard
        return {"a": ("AE1",), "i": ("IH0",), "x": ("K", "S"), "h": ()}[letter]

    words = ["".join(generator.choices("acixh", k=6)) for _ in range(600)]
    pairs = [
        (word, tuple(p for position in range(6) for p in sound(word, position))) for word in words
    ]
    rules = learn_rules(pairs[:500])
    assert rules["[c]"] == hard and rules["[c]i"] == soft and rules["[x]"] == ("K", "S")
    right = sum(
        tuple(p for position in range(6) for p in _said(rules, word, position)) == truth
        for word, truth in pairs[500:]
    )
    assert right >= 95


def _said(rules: dict[str, tuple[str, ...]], word: str, position: int) -> tuple[str, ...]:
    said: tuple[str, ...] = ()
    for context in contexts(word, position):
        said = rules.get(context, said)
    return said


def test_alignment_keeps_every_phoneme() -> None:
    phonemes = ("S", "IH1", "K", "S")
    sounds = align_letters("six", phonemes, {})
    assert sounds is not None and sum(sounds, ()) == phonemes
    assert (
        align_letters("a", ("B", "IY1", "B"), {}) is None
    )  # one letter makes two phonemes at most


def test_rules_file_round_trip(tmp_path: Path, letter_to_sound: LetterToSound) -> None:
    path = tmp_path / "rules.txt"
    write_rules(path, letter_to_sound.rules)
    assert read_rules(path) == letter_to_sound.rules
    assert {f"[{letter}]" for letter in LETTERS} <= set(letter_to_sound.rules)
    path.write_text("[a] XX\n", encoding="ascii")
    with pytest.raises(ValueError, match=r"\[a\] XX"):
        read_rules(path)


def test_stress_and_spelling() -> None:
    assert one_primary_stress(["AH0", "B", "AW0"]) == ("AH1", "B", "AW0")
    assert one_primary_stress(["AA1", "B", "AW1"]) == ("AA1", "B", "AW2")
    assert one_primary_stress(["AA0", "B", "AW2"]) == ("AA0", "B", "AW1")
    assert one_primary_stress(["S"]) == ("S",)
    assert spell("fm") == ("EH1", "F", "EH1", "M")
    assert LetterToSound()("xkcd") == spell("xkcd")
    assert apply_rules({"[a]": ("AE0",)}, "a") == ("AE1",)
