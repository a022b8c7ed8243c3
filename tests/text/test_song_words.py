"""Words of songs and their readings: clipped and drawn-out words, contractions, heteronyms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from text.frontend import Pronouncer
from text.lexicon import CLIPPED, NOUN_VERBS, RESPELLED, RULES, Lexicon
from text.symbols import PHONEMES

LIST = Path(__file__).with_name("song_words.txt")
ROWS = [
    tuple(line.rsplit("  ", 1))
    for line in LIST.read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.fixture(scope="module")
def pronouncer() -> Pronouncer:
    return Pronouncer()


def read(pronouncer: Pronouncer, line: str) -> tuple[str, bool]:
    """Return the phonemes of the word in asterisks, and whether any of it was guessed."""
    before, _, after = line.split("*")
    count = len(pronouncer.pronounce(before).words) if before.strip() else 0
    behind = len(pronouncer.pronounce(after).words) if after.strip() else 0
    words = pronouncer.pronounce(line.replace("*", "")).words
    own = words[count : len(words) - behind]
    return " ".join(p for word in own for p in word.phonemes), any(word.guessed for word in own)


def test_the_list(pronouncer: Pronouncer) -> None:
    assert len(ROWS) >= 300
    wrong = [
        (line, found) for line, wanted in ROWS if (found := read(pronouncer, line)[0]) != wanted
    ]
    assert not wrong
    assert [line for line, _ in ROWS if read(pronouncer, line)[1]] == []


def test_every_clipped_word_is_that_of_its_long_form(pronouncer: Pronouncer) -> None:
    """All words of CMUdict in -ing, clipped with an apostrophe; without one those of the list."""
    lexicon = Lexicon()
    long_forms = [word for word in lexicon.cmudict_entries if re.fullmatch(r"[a-z]{2,}ing", word)]
    wrong = []
    for word in long_forms[::7]:
        whole = lexicon.get(word)
        if whole and whole[-1] == "NG":
            found = pronouncer.pronounce(f"{word[:-1]}' now").words[0]
            if found.phonemes != (*whole[:-1], "N"):
                wrong.append((word, found))
    assert len(long_forms) > 3000 and not wrong
    for word in CLIPPED:
        assert pronouncer.pronounce(word).words[0].phonemes[-1] == "N"
        assert pronouncer.pronounce(word).words[0].phonemes[:-1] == lexicon.get(f"{word}g")[:-1]


def test_tables_hold_phonemes_and_listed_words() -> None:
    lexicon = Lexicon()
    assert [word for word, target in RESPELLED.items() if lexicon.get(target) is None] == []
    readings = [rule.phonemes for rules in RULES.values() for rule in rules]
    readings += [phonemes for pair in NOUN_VERBS.values() for phonemes in pair]
    assert {phoneme for line in readings for phoneme in line.split()} <= set(PHONEMES)
    assert set(RULES) | set(NOUN_VERBS) <= set(lexicon.cmudict_entries)


def test_capitals_are_letters_only_among_small_ones(pronouncer: Pronouncer) -> None:
    assert read(pronouncer, "the *QXR* hour") == ("K Y UW1 EH1 K S AA1 R", False)
    assert read(pronouncer, "the *NASA* hour")[0] == "N AE1 S AH0"
    assert read(pronouncer, "*GLORB* ME TENDER")[1]  # shouted, not spelled


def test_a_users_entry_wins(pronouncer: Pronouncer, tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("lovin'  L OW1 V IH0 N\nclose  K L OW1 S\nba  B EY1\n")
    own = Pronouncer(tmp_path / "own.txt")
    words = own.pronounce("lovin' close your eyes ba").words
    assert [" ".join(words[k].phonemes) for k in (0, 1, 4)] == [
        "L OW1 V IH0 N",
        "K L OW1 S",
        "B EY1",
    ]


def test_words_around_a_line_decide(pronouncer: Pronouncer) -> None:
    alone = pronouncer.pronounce("close").words[0].phonemes
    verb = pronouncer.pronounce("close", around=("", "your eyes")).words[0].phonemes
    assert (alone[-1], verb[-1]) == ("S", "Z")
    assert pronouncer.pronounce("the", around=("", "apple")).words[0].phonemes == ("DH", "IY0")
