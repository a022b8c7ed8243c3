"""Normalisation: readings, fixed points, indifference to case and typography, clear errors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text.normalize import normalise, tokens

LJSPEECH = Path(__file__).resolve().parents[3] / "shared/data/LJSpeech-1.1/metadata.csv"

WRITTEN = """
Mr. St. Dr. U.S.A. e.g. a.m. No. 5 1805 '80s 1,234 3.14 $5.50 £30 10% 1/2 2½ 7:30 5pm 21st May 14
Nov. Henry VIII Part I. lovin' o'er 'cause rock'n'roll R2D2 -5 -- — … ?! ( ) [ ] " & @ # / * café
naïve A4 555-1234 1914-18 12/25/1999 1999-12-25 I-I-I wo- 's ' '' www. .com rep co" 6'2" 1s.6d. ph.d
"""
SNIPPETS = st.sampled_from([*WRITTEN.split(), "{HH AH0}", " ", "  "])
LINES = st.lists(SNIPPETS | st.text("abz'IX019.,-$ /:", max_size=6), max_size=8).map(" ".join)
ASCII = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="{}")).filter(
    lambda line: "<3" not in line  # a heart, which has no sound: refused
)


@settings(max_examples=300, deadline=None)
@given(LINES | ASCII)
def test_normalising_twice_changes_nothing(line: str) -> None:
    once = normalise(line)
    assert normalise(once) == once


@settings(max_examples=300, deadline=None)
@given(LINES | ASCII)
def test_only_spoken_signs_come_out(line: str) -> None:
    without_phonemes = re.sub(r"\{[^}]*\}", "", normalise(line))
    assert re.fullmatch(r"[a-z '.,?!;:-]*", without_phonemes)
    assert " ".join(tokens(normalise(line))).split() or not re.search("[A-Za-z0-9]", line)


@settings(max_examples=200, deadline=None)
@given(LINES | ASCII)
def test_case_plays_no_part(line: str) -> None:
    assert normalise(line.upper()) == normalise(line.lower()) == normalise(line)


@settings(max_examples=200, deadline=None)
@given(LINES | ASCII)
def test_typographic_quotes_are_plain_quotes(line: str) -> None:
    assert normalise(line.replace("'", "’")) == normalise(line)
    assert normalise(line.replace('"', "“")) == normalise(line.replace('"', "”"))


READINGS = {
    "On the 14th June, 1800, there were 199 debtors": (
        "on the fourteenth june, eighteen hundred, there were one hundred ninety-nine debtors"
    ),
    "Nov. 22, 1963; 14 June 1800": (
        "november twenty-second, nineteen sixty-three; the fourteenth of june eighteen hundred"
    ),
    "2024-02-29 and 12/25/99": (
        "february twenty-ninth twenty twenty-four and december twenty-fifth ninety-nine"
    ),
    "the 1480s, the '80s, in '05": "the fourteen eighties, the eighties, in oh five",
    "in 1066, 1066 men, 1914-18": "in ten sixty-six, one thousand sixty-six men, "
    "nineteen fourteen to eighteen",
    "$5.50, $1, £1.01, $0.99": "five dollars and fifty cents, one dollar, "
    "one pound and one penny, ninety-nine cents",
    "£81,791 and $1.5 million": (
        "eighty-one thousand seven hundred ninety-one pounds and one point five million dollars"
    ),
    "£1 10s. 6d.": "one pound ten shillings six pence",
    "7:05 pm, 7:00, 12:30, 5pm": "seven oh five p.m., seven o'clock, twelve thirty, five p.m.",
    "2½ cups, 1/2, 3/4, 24/7": "two and a half cups, one half, three quarters, twenty-four seven",
    "1st 2nd 3rd 11th 1,000th": "first second third eleventh one thousandth",
    "50% of 20°C, 1 km, 5 km": "fifty percent of twenty degrees celsius, one kilometer, "
    "five kilometers",
    "-5, 3.14, 007": "minus five, three point one four, zero zero seven",
    "Mr. and Mrs. Smith vs. Messrs. Jones": "mister and missus smith versus messieurs jones",
    "Dr. Lee, Main St., St. Paul": "doctor lee, main street, saint paul",
    "Henry VIII, Louis XIV; World War II": "henry the eighth, louis the fourteenth; world war two",
    "the part I like. Part I.": "the part i like. part one.",
    "J. F. Kennedy, i.e. him": "j.f. kennedy, i.e. him",
    "The hardest part I\u2019ll keep, Mary, I": "the hardest part i'll keep, mary, i",
    "Hey, Jan. Jan. 5, Gen. Lee": "hey, jan. january fifth, general lee",
    "50-50, 9-5, 1-2-3, 24-7": "fifty-fifty, nine to five, one two three, twenty-four seven",
    "Ke$ha w/ me w/o you": "kesha with me without you",
    "rock & roll @ home #1": "rock and roll at home number one",
    "R2D2 and A4": "r two d two and a-four",
    "well—I mean -- you know… (ooh)": "well - i mean - you know... ooh",
    'he said "go," then left.': "he said go, then left.",
    "Café Zoë ﬁne Ｈｉ Æon": "cafe zoe fine hi aeon",
    "say {hh ah0  l ow1}!": "say {HH AH0 L OW1}!",
    "\tI\u00a0love\u200b you\r": "i love you",
    "9" * 22: " ".join(["nine"] * 22),
    "": "",
    "...": "",
}


@pytest.mark.parametrize(("written", "spoken"), READINGS.items())
def test_readings(written: str, spoken: str) -> None:
    assert normalise(written) == spoken


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("la la ♪", "U+266A EIGHTH NOTE"),
        ("Привет", "CYRILLIC CAPITAL LETTER PE"),
        ("你好", "U+4F60"),
        ("bell\x07", "U+0007"),
        ("{HH AH0", "without its partner"),
        ("HH}", "without its partner"),
        ("la " * 4000, "12000 characters"),
    ],
)
def test_errors_name_line_and_character(line: str, named: str) -> None:
    with pytest.raises(ValueError, match=r"^line 12: ") as error:
        normalise(line, line_number=12)
    assert named in str(error.value)


@pytest.mark.skipif(not LJSPEECH.exists(), reason="needs ../shared/data/LJSpeech-1.1")
def test_ljspeech_is_read_as_its_own_normalised_column() -> None:
    def words(line: str) -> list[str]:
        return re.sub("[^a-z ]", " ", normalise(line)).split()

    for row in LJSPEECH.read_text(encoding="utf-8").splitlines():
        _, written, spoken = row.split("|")
        assert words(written) == words(spoken)
