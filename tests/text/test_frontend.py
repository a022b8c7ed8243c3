"""The front end: symbols of the table, words at their places, errors with their line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from text.frontend import Pronouncer
from text.lyrics import read_lyrics
from text.normalize import unescaped
from text.symbols import EOS, PUNCTUATION, SYMBOLS, WORD_BOUNDARY, is_vowel

ROOT = Path(__file__).resolve().parents[2]
LJSPEECH = ROOT.parent / "shared/data/LJSpeech-1.1/metadata.csv"


@pytest.fixture(scope="module")
def pronouncer() -> Pronouncer:
    return Pronouncer()


def sound(pronouncer: Pronouncer, line: str) -> str:
    return " | ".join(" ".join(word.phonemes) for word in pronouncer.pronounce(line).words)


def check(pronouncer: Pronouncer, line: str) -> None:
    pronunciation = pronouncer.pronounce(line)
    symbols = pronunciation.symbols
    assert set(symbols) <= set(SYMBOLS)
    assert symbols[-1] == EOS and EOS not in symbols[:-1]
    assert symbols.count(WORD_BOUNDARY) == len(pronunciation.words) - 1
    rebuilt: list[str] = []
    for word in pronunciation.words:
        assert symbols[word.first_symbol : word.last_symbol + 1] == word.phonemes
        assert word.phonemes and word.text
        rebuilt += word.phonemes
    assert rebuilt == [s for s in symbols if s not in (*PUNCTUATION, WORD_BOUNDARY, EOS)]


@settings(max_examples=300, deadline=None)
@given(line=st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="{}")))
@example("<3")
@example("I &hearts; you")
def test_any_line_is_symbols_of_the_table_or_an_error(pronouncer: Pronouncer, line: str) -> None:
    try:
        pronouncer.pronounce(line, 7)
    except ValueError as error:
        meant = unescaped(line)  # "<3" and "&hearts;" are signs
        if meant.isascii():
            assert str(error).startswith("line 7: no word to pronounce")
            assert not any(character.isalnum() for character in meant)
        else:
            assert str(error).startswith("line 7: ")
    else:
        check(pronouncer, line)


@settings(max_examples=200, deadline=None)
@given(line=st.text(max_size=12))
def test_any_unicode_is_read_or_refused_by_name(pronouncer: Pronouncer, line: str) -> None:
    try:
        check(pronouncer, line)
    except ValueError as error:
        assert str(error).startswith("line 1")


@settings(max_examples=100, deadline=None)
@given(line=st.text("abcdehilmnorstuwy '-.,", min_size=1, max_size=30))
def test_case_and_quotes_play_no_part(pronouncer: Pronouncer, line: str) -> None:
    line = f"{line} it's"
    expected = pronouncer.pronounce(line)
    assert pronouncer.pronounce(line.upper()) == expected
    assert pronouncer.pronounce(line.replace("'", "’")) == expected


def test_every_listed_word_is_one_word_with_a_nucleus(pronouncer: Pronouncer) -> None:
    words = [word for word in list(pronouncer.lexicon.cmudict_entries)[::37] if word.isalpha()]
    for word in words:
        (spoken,) = pronouncer.pronounce(word).words
        assert (not spoken.guessed and any(map(is_vowel, spoken.phonemes))) or word in ("fs", "ths")


def test_layout_of_a_line(pronouncer: Pronouncer) -> None:
    pronunciation = pronouncer.pronounce("Hello, world…")
    hello, world = ["HH", "AH0", "L", "OW1"], ["W", "ER1", "L", "D"]
    assert list(pronunciation.symbols) == [*hello, ",", WORD_BOUNDARY, *world, "…", EOS]
    assert [(word.first_symbol, word.last_symbol) for word in pronunciation.words] == [
        (0, 3),
        (6, 9),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("the apple the dog", "DH IY0 | AE1 P AH0 L | DH AH0 | D AO1 G"),
        ("a plan", "AH0 | P L AE1 N"),
        ("plan A.", "P L AE1 N | EY1"),
        ("A4", "EY1 | F AO1 R"),
        ("a-changin'", "AH0 | CH EY1 N JH IH0 N"),
        ("forty-two", "F AO1 R T IY0 | T UW1"),
        ("'hello' ‘hello’ “hello”", "HH AH0 L OW1 | HH AH0 L OW1 | HH AH0 L OW1"),
        ("'cause o'er ev'ry", "K AH1 Z | AO1 R | EH1 V R IY0"),
        ("Mmmm, ooooh, sooo", "AH1 M | UW1 | S OW1"),
        ("I {l ay1 v} live", "AY1 | L AY1 V | L IH1 V"),
        ("Café", "K AH0 F EY1"),
        ("XKCD", "EH1 K S K EY1 S IY1 D IY1"),
        ("e.g.", "IY1 JH IY1"),
    ],
)
def test_words_in_context(pronouncer: Pronouncer, line: str, expected: str) -> None:
    assert sound(pronouncer, line) == expected


def test_guessed_words_are_reported_once(pronouncer: Pronouncer) -> None:
    assert pronouncer.pronounce("Zworble, my zworble love").guessed == ("zworble",)
    assert pronouncer.pronounce("The singers' lovin' hearts").guessed == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("♪", r"line 3: .*U\+266A EIGHTH NOTE.*[Rr]emove"),
        ("la Привет", r"line 3: .*CYRILLIC"),
        ("你好", r"line 3: .*CJK"),
        ("...", "line 3: no word"),
        ("", "line 3: no word"),
        ("oh {HH AH L}", r"line 3, \{HH AH L\}: 'AH' .*AH0"),
        ("oh {HH0 AH1}", r"line 3, .*'HH0' .*no stress"),
        ("oh {}", r"line 3, \{\}: no phonemes"),
        ("oh {HH", "line 3: a '{' without"),
    ],
)
def test_errors_name_the_line(pronouncer: Pronouncer, line: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pronouncer.pronounce(line, 3)


def test_user_lexicon_goes_before_all() -> None:
    pronouncer = Pronouncer(ROOT / "examples/lexicon.txt")
    assert sound(pronouncer, "Yeah, ToplAIner") == "Y EH1 | T AA1 P L EY2 N ER0"
    assert pronouncer.pronounce("toplainer").guessed == ()
    with pytest.raises(FileNotFoundError, match="none"):
        Pronouncer(ROOT / "examples/none.txt")


def test_the_example_needs_no_guess(pronouncer: Pronouncer) -> None:
    for line in read_lyrics(ROOT / "examples/lyrics.txt"):
        assert pronouncer.pronounce(line.text, line.line_number).guessed == ()


@pytest.mark.skipif(not LJSPEECH.exists(), reason="needs ../shared/data/LJSpeech-1.1")
def test_ljspeech_transcripts_are_pronounced_with_few_guesses(pronouncer: Pronouncer) -> None:
    guessed = total = 0
    for row in LJSPEECH.read_text(encoding="utf-8").splitlines():
        line = row.split("|")[1]
        check(pronouncer, line)
        words = pronouncer.pronounce(line).words
        guessed += sum(word.guessed for word in words)
        total += len(words)
    assert guessed / total < 0.02
