"""Numbers in words as an American reads them: 1,234, "one thousand two hundred thirty-four".

Every function returns lower-case words parted by spaces, tens and units joined by a hyphen.
"""

from __future__ import annotations

UNITS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    *("eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen"),
    *("eighteen", "nineteen"),
)
TENS = (*("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"),)
SCALE_WORDS = ("", "thousand", "million", "billion", "trillion", "quadrillion", "quintillion")
LIMIT = 1000 ** len(SCALE_WORDS)  # from here on a number is read digit by digit
ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}


def cardinal(number: int) -> str:
    """Return a whole number in words: 1999 is "one thousand nine hundred ninety-nine"."""
    if number < 0:
        return f"minus {cardinal(-number)}"
    if number == 0:
        return UNITS[0]
    if number >= LIMIT:
        return digits(str(number))
    groups = []
    for scale in SCALE_WORDS:
        number, group = divmod(number, 1000)
        if group:
            groups.append(f"{_below_thousand(group)} {scale}".rstrip())
    return " ".join(reversed(groups))


def _below_thousand(number: int) -> str:
    """Return a number from 1 to 999 in words."""
    hundreds, rest = divmod(number, 100)
    words = [f"{UNITS[hundreds]} hundred"] if hundreds else []
    if rest:
        words.append(below_hundred(rest))
    return " ".join(words)


def below_hundred(number: int) -> str:
    """Return a number from 0 to 99 in words: 42 is "forty-two"."""
    if number < 20:
        return UNITS[number]
    tens, unit = divmod(number, 10)
    return TENS[tens] + (f"-{UNITS[unit]}" if unit else "")


def ordinal(number: int) -> str:
    """Return the rank in words: 42 is "forty-second"."""
    head, last = _last_word(cardinal(number))
    if last in ORDINALS:
        return head + ORDINALS[last]
    return head + (last[:-1] + "ieth" if last.endswith("y") else last + "th")


def plural(words: str) -> str:
    """Return the plural of number words: "nineteen eighty" is "nineteen eighties"."""
    if words.endswith("y"):
        return words[:-1] + "ies"
    return words + ("es" if words.endswith("x") else "s")


def year(number: int) -> str:
    """Return a year in words: 1805 is "eighteen oh five", 1900 "nineteen hundred"."""
    century, rest = divmod(number, 100)
    if not 1000 <= number <= 9999 or (century % 10 == 0 and rest < 10):
        return cardinal(number)
    if rest == 0:
        return f"{below_hundred(century)} hundred"
    tail = f"oh {UNITS[rest]}" if rest < 10 else below_hundred(rest)
    return f"{below_hundred(century)} {tail}"


def digits(text: str) -> str:
    """Return decimal digits read one by one: "007" is "zero zero seven"."""
    return " ".join(UNITS[int(digit)] for digit in text)


def decimal(text: str) -> str:
    """Return a number written with digits, commas and at most one point, in words.

    "3.14" is "three point one four", ".5" is "point five"; a leading zero ("007") or more digits
    than `SCALE_WORDS` names are read one by one.
    """
    whole, point, fraction = text.replace(",", "").partition(".")
    words = []
    if whole:
        leading_zero = len(whole) > 1 and whole.startswith("0")
        words.append(digits(whole) if leading_zero else cardinal(int(whole)))
    if point and fraction:
        words.append(f"point {digits(fraction)}")
    return " ".join(words)


def fraction(numerator: int, denominator: int) -> str:
    """Return a fraction in words: 1/2 "one half", 3/4 "three quarters", 5/200 "five over ..."."""
    if not 2 <= denominator <= 100 or numerator < 1:
        return f"{cardinal(numerator)} over {cardinal(denominator)}"
    part = {2: "half", 4: "quarter"}.get(denominator, ordinal(denominator))
    if numerator > 1:
        part = "halves" if denominator == 2 else f"{part}s"
    return f"{cardinal(numerator)} {part}"


def _last_word(words: str) -> tuple[str, str]:
    """Split number words before the last one: "forty-two" is ("forty-", "two")."""
    start = max(words.rfind(" "), words.rfind("-")) + 1
    return words[:start], words[start:]
