"""Numbers in words, read back by an independent reader."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from text.normalize import normalise
from text.numbers import LIMIT, cardinal, decimal, digits, fraction, ordinal, plural, year

SMALL_WORDS = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
sixteen seventeen eighteen nineteen
"""
SMALL = {word: value for value, word in enumerate(SMALL_WORDS.split())}
TENS = {"twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70}
TENS |= {"eighty": 80, "ninety": 90}
LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
LARGE |= {"quadrillion": 10**15, "quintillion": 10**18}


def read_back(words: str) -> int:
    """Return the number that cardinal words mean, by addition and multiplication alone."""
    total = group = 0
    for word in words.replace("-", " ").split():
        if word == "hundred":
            group *= 100
        elif word in LARGE:
            total, group = total + group * LARGE[word], 0
        else:
            group += SMALL[word] if word in SMALL else TENS[word]
    return total + group


@given(st.integers(0, 10**12) | st.integers(0, 9999) | st.integers(0, LIMIT - 1))
def test_cardinals_mean_their_number(number: int) -> None:
    assert read_back(cardinal(number)) == number


@given(st.integers(0, 10**12))
def test_grouped_numbers_in_a_line_mean_their_number(number: int) -> None:
    if 1100 <= number <= 2099:
        return  # "1,900" is a count, and tested below; "1900" would be a year
    assert read_back(normalise(f"{number:,}")) == number


def test_every_four_digit_group_with_a_comma_is_a_count() -> None:
    assert all(read_back(normalise(f"{number:,}")) == number for number in range(1000, 10_000, 37))


@given(st.integers(1100, 1999))
def test_years_mean_their_number(number: int) -> None:
    words = year(number).replace("oh ", "")
    century, _, rest = words.partition(" ")
    value = read_back(century) * 100
    assert value + (0 if rest == "hundred" else read_back(rest)) == number


@given(st.integers(0, 10**6), st.text("0123456789", min_size=1, max_size=6))
def test_decimals_keep_every_digit(whole: int, fraction_digits: str) -> None:
    head, _, tail = decimal(f"{whole}.{fraction_digits}").partition(" point ")
    assert read_back(head) == whole
    assert "".join(str(SMALL[word]) for word in tail.split()) == fraction_digits


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (1, "first"),
        (3, "third"),
        (12, "twelfth"),
        (20, "twentieth"),
        (22, "twenty-second"),
        (100, "one hundredth"),
        (1005, "one thousand fifth"),
    ],
)
def test_ordinals(number: int, words: str) -> None:
    assert ordinal(number) == words


def test_other_readings() -> None:
    assert digits("007") == "zero zero seven"
    assert decimal("007") == "zero zero seven"
    assert decimal("0.5") == "zero point five"
    assert cardinal(-4) == "minus four"
    assert cardinal(LIMIT) == digits(str(LIMIT))
    assert plural("nineteen eighty") == "nineteen eighties" and plural("six") == "sixes"
    assert fraction(1, 2) == "one half" and fraction(3, 4) == "three quarters"
    assert fraction(7, 8) == "seven eighths" and fraction(5, 200) == "five over two hundred"
    assert [year(number) for number in (1900, 1805, 2000, 2009, 2015)] == [
        "nineteen hundred",
        "eighteen oh five",
        "two thousand",
        "two thousand nine",
        "twenty fifteen",
    ]
