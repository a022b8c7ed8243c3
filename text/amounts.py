"""Written amounts to words: dates, times, money, units, fractions, ranges, ordinals, plain numbers.

`AMOUNT_RULES` are tried in order on folded lower-case text; each leaves words where digits were.
A bare number of four digits from 1100 to 2099 is read as a year ("fourteen fifty-five"), which is
how such amounts are mostly said too ("fifteen hundred men"); with a comma, a point, a currency or a
unit it is a count, and from 1000 to 1099 it is a year only after a word such as "in" or "since".
"""

from __future__ import annotations

import re
from collections.abc import Callable

from text.numbers import cardinal, decimal, digits, fraction, ordinal, plural, year

Rule = tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]

NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?![\d,]*\d)|\d+)(?:\.\d+)?"  # 12 or 12,345 or 12.5
NOT_INSIDE = r"(?<![\w.,])"  # no digit or letter in front
MONTHS = (
    *("january", "february", "march", "april", "may", "june", "july", "august"),
    *("september", "october", "november", "december"),
)
SHORT_MONTHS = {month[:3]: month for month in MONTHS} | {"sept": "september"}
ANY_MONTH = "|".join((*MONTHS, *SHORT_MONTHS))
DAY = r"(?:3[01]|[12]\d|0?[1-9])"

CURRENCIES = {  # sign: one, many, a hundredth, hundredths
    "$": ("dollar", "dollars", "cent", "cents"),
    "£": ("pound", "pounds", "penny", "pence"),
    "€": ("euro", "euros", "cent", "cents"),
    "¥": ("yen", "yen", "sen", "sen"),
    "₹": ("rupee", "rupees", "paisa", "paise"),
}
MAGNITUDES = {"k": "thousand", "m": "million", "mn": "million", "bn": "billion", "b": "billion"}
ANY_MAGNITUDE = "|".join(("thousand", "million", "billion", "trillion", *MAGNITUDES))

MEASURES = {  # written: one, many
    "%": ("percent", "percent"),
    "°c": ("degree celsius", "degrees celsius"),
    "°f": ("degree fahrenheit", "degrees fahrenheit"),
    "°": ("degree", "degrees"),
    "¢": ("cent", "cents"),
    "km": ("kilometer", "kilometers"),
    "m": ("meter", "meters"),
    "cm": ("centimeter", "centimeters"),
    "mm": ("millimeter", "millimeters"),
    "km/h": ("kilometer per hour", "kilometers per hour"),
    "mph": ("mile per hour", "miles per hour"),
    "kg": ("kilogram", "kilograms"),
    "g": ("gram", "grams"),
    "mg": ("milligram", "milligrams"),
    "lb": ("pound", "pounds"),
    "lbs": ("pound", "pounds"),
    "oz": ("ounce", "ounces"),
    "ft": ("foot", "feet"),
    "yd": ("yard", "yards"),
    "yds": ("yard", "yards"),
    "l": ("liter", "liters"),
    "ml": ("milliliter", "milliliters"),
    "hz": ("hertz", "hertz"),
    "khz": ("kilohertz", "kilohertz"),
    "mhz": ("megahertz", "megahertz"),
    "ghz": ("gigahertz", "gigahertz"),
    "db": ("decibel", "decibels"),
    "kb": ("kilobyte", "kilobytes"),
    "mb": ("megabyte", "megabytes"),
    "gb": ("gigabyte", "gigabytes"),
    "kw": ("kilowatt", "kilowatts"),
    "bpm": ("beat per minute", "beats per minute"),
    "ms": ("millisecond", "milliseconds"),
    "sec": ("second", "seconds"),
    "secs": ("second", "seconds"),
    "min": ("minute", "minutes"),
    "mins": ("minute", "minutes"),
    "hr": ("hour", "hours"),
    "hrs": ("hour", "hours"),
}
ANY_UNIT = "|".join(sorted(map(re.escape, MEASURES), key=len, reverse=True))


def _month(written: str) -> str:
    return SHORT_MONTHS.get(written, written)


def _day_month(match: re.Match[str]) -> str:
    return f"{match[1] or 'the '}{ordinal(int(match[2]))} of {_month(match[3])}"


def _month_day(match: re.Match[str]) -> str:
    return f"{_month(match[1])} {ordinal(int(match[2]))}"


def _iso_date(match: re.Match[str]) -> str:
    return _date(int(match[2]), int(match[3]), match[1], match[0])


def _numeric_date(match: re.Match[str]) -> str:
    """Return a date with slashes: month first, unless only the second number can be the month."""
    first, second = int(match[1]), int(match[2])
    month, day = (second, first) if first > 12 >= second else (first, second)
    return _date(month, day, match[3], match[0])


def _date(month: int, day: int, written_year: str, written: str) -> str:
    """Return a date in words, or its numbers one by one when there is no such day."""
    spoken_year = year(int(written_year)) if len(written_year) == 4 else _two_digits(written_year)
    if not 1 <= month <= 12 or not 1 <= day <= 31:
        return " ".join(cardinal(int(part)) for part in re.findall(r"\d+", written))
    return f"{MONTHS[month - 1]} {ordinal(day)} {spoken_year}"


def _two_digits(written: str) -> str:
    """Return the last two digits of a year: "05" is "oh five"."""
    return f"oh {cardinal(int(written))}" if int(written) < 10 else cardinal(int(written))


def _clock(match: re.Match[str]) -> str:
    """Return a time of day: 7:05 "seven oh five", 7:00 "seven o'clock"."""
    hour, minute, second, half = int(match[1]), match[2], match[3], match[4]
    if int(minute) == 0 and not second:
        words = cardinal(hour) if half else f"{cardinal(hour)} o'clock"
        words = words if hour <= 12 else f"{cardinal(hour)} hundred"
    else:
        words = f"{cardinal(hour)} {_two_digits(minute)}"
    if second:
        words += f" and {_count(second, 'second', 'seconds')}"
    return f"{words} {half}.m." if half else words


def _hour(match: re.Match[str]) -> str:
    return f"{cardinal(int(match[1]))} {match[2]}.m."


def _count(number: str, one: str, many: str) -> str:
    """Return a number with its unit: ("1", "foot", "feet") is "one foot"."""
    return f"{decimal(number)} {one if number.lstrip('0') == '1' else many}"


NOTE_OR_COIN = re.compile(r" ?-?(?:bill|note|coin|question|tip|word|wine|shoe|dress|smile)s?\b")


def _money(match: re.Match[str]) -> str:
    """Return an amount of money: $5.50 is "five dollars and fifty cents"."""
    one, many, cent, cents = CURRENCIES[match["sign"]]
    amount, magnitude = match["amount"], match["magnitude"]
    if magnitude:
        return f"{decimal(amount)} {MAGNITUDES.get(magnitude, magnitude)} {many}"
    whole, _, hundredths = amount.partition(".")
    if not hundredths and NOTE_OR_COIN.match(match.string, match.end()):
        return f"{decimal(amount)} {one}"
    if len(hundredths) != 2:
        return _count(amount, one, many)
    if int(hundredths) == 0:
        return _count(whole, one, many)
    small = _count(str(int(hundredths)), cent, cents)
    return small if whole in ("", "0") else f"{_count(whole, one, many)} and {small}"


def _shillings(match: re.Match[str]) -> str:
    """Return old British money: £1 10s. 6d. is "one pound ten shillings sixpence"."""
    pounds, shillings, pence = match[1], match[2], match[3]
    words = [_count(pounds, "pound", "pounds")] if pounds else []
    words.append(_count(shillings, "shilling", "shillings"))
    if pence:
        words.append(_count(pence, "penny", "pence"))
    return " ".join(words)


def _unit(match: re.Match[str]) -> str:
    return _count(match[1], *MEASURES[match[2]])


def _mixed_fraction(match: re.Match[str]) -> str:
    numerator, denominator = int(match[2]), int(match[3])
    part = fraction(numerator, denominator)
    if numerator == 1 and denominator in (2, 4):
        part = "a " + part.removeprefix("one ")
    return f"{decimal(match[1])} and {part}"


def _fraction(match: re.Match[str]) -> str:
    """Return a fraction; n/n is n out of n, and 50/50 as it is said."""
    if match[1] == match[2]:
        words = _plain(match[1])
        return f"{words}-{words}" if match[1] == "50" else f"{words} out of {words}"
    return fraction(int(match[1]), int(match[2]))


def _spoken_digits(match: re.Match[str]) -> str:
    return digits(match[0])


def _range(match: re.Match[str]) -> str:
    """Return two numbers with "to" between them, a number and itself without: fifty-fifty."""
    between = "-" if match[1] == match[2] else " to "
    return f"{_plain(match[1])}{between}{_plain(match[2])}"


def _plain(written: str) -> str:
    """Return a number with nothing around it, four digits from 1100 to 2099 as a year."""
    if len(written) == 4 and written.isdigit() and 1100 <= int(written) <= 2099:
        return year(int(written))
    return decimal(written)


def _decade(match: re.Match[str]) -> str:
    """Return a plural of years or numbers: 1480s "fourteen eighties", '60s "sixties"."""
    words = plural(_plain(match[1]))
    return words.removeprefix("one ") if set(match[1]) <= set("10,") else words


AMOUNT_RULES: tuple[Rule, ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\d{22,}", lambda match: f" {digits(match[0])} "),  # beyond any name of a number
        # dates
        (rf"{NOT_INSIDE}(\d{{4}})-(0[1-9]|1[0-2])-({DAY})(?![\w-])", _iso_date),
        (rf"{NOT_INSIDE}(\d\d?)/(\d\d?)/(\d{{4}}|\d\d)(?![\w/])", _numeric_date),
        (
            rf"{NOT_INSIDE}(the )?({DAY})(?:st|nd|rd|th)? (?:of )?({ANY_MONTH})\b\.?(?= \d{{4}})",
            _day_month,
        ),
        (rf"\b({ANY_MONTH})\.? ({DAY})(?:st|nd|rd|th)?(?![\w:/%°$£€]|[.,]\d|-\d)", _month_day),
        (rf"\b({'|'.join(SHORT_MONTHS)})\.?(?=,? \d{{4}}\b)", lambda match: _month(match[1])),
        # times
        (
            rf"{NOT_INSIDE}([01]?\d|2[0-4]):([0-5]\d)(?::([0-5]\d))?"
            r"(?: ?([ap])\.?m\b\.?)?(?![\w:])",
            _clock,
        ),
        (rf"{NOT_INSIDE}(1[0-2]|0?[1-9]) ?([ap])\.?m\b\.?", _hour),
        # money
        (rf"£({NUMBER}) (\d+)s\b\.?(?: ?(\d+)d\b\.?)?", _shillings),
        (rf"{NOT_INSIDE}()(\d+)s\. ?(\d+)d\b\.?", _shillings),
        (
            rf"(?:\b(?:us|a|c|hk))?(?P<sign>[$£€¥₹]) ?(?P<amount>{NUMBER}|\.\d\d)"
            rf"(?: ?(?P<magnitude>{ANY_MAGNITUDE})\b)?",
            _money,
        ),
        (
            rf"{NOT_INSIDE}(?P<amount>{NUMBER}) ?(?:(?P<magnitude>{ANY_MAGNITUDE}) ?)?"
            r"(?P<sign>[$£€¥₹])",
            _money,
        ),
        # units, with the number directly in front
        (rf"{NOT_INSIDE}(\d+)'(\d+)(?:\"|'')", r"\1 foot \2"),
        (rf"{NOT_INSIDE}({NUMBER}) ?({ANY_UNIT})(?![\w'])(?:\.(?=\s*[a-z,;]))?", _unit),
        # fractions
        (r"\b24[-/]7\b", "twenty-four seven"),
        (r"\b9/11\b", "nine eleven"),
        (r"(?<![\w.,$£€-])911(?![\w/-]|[.,]\d)", _spoken_digits),
        (r"(?<=\bcall )\d{3}(?![\w/-]|[.,]\d)", _spoken_digits),
        (r"(?<=\bdial )\d{3}(?![\w/-]|[.,]\d)", _spoken_digits),
        (r"(?<![\w.,$£€-])808(?='?s\b)", "eight oh eight"),
        (rf"(?<![\w.,/])({NUMBER})[ -](\d+)/(\d+)(?![\w/])", _mixed_fraction),
        (rf"{NOT_INSIDE}(\d+)/(\d+)(?![\w/])", _fraction),
        (rf"{NOT_INSIDE}({NUMBER}) ?x ?({NUMBER})(?![\w.,])", r"\1 by \2"),
        (rf"{NOT_INSIDE}({NUMBER})x(?= +[a-z])", r"\1 times"),
        # ordinals, decades, ranges
        (
            rf"{NOT_INSIDE}({NUMBER})(?:st|nd|rd|th)\b",
            lambda match: ordinal(int(match[1].replace(",", "").split(".")[0])),
        ),
        (rf"{NOT_INSIDE}'?({NUMBER})'?s\b", _decade),
        (r"(?<!\w)'(\d\d)\b", lambda match: _two_digits(match[1])),
        (
            rf"{NOT_INSIDE}(\d{{3}})-(\d{{4}})(?![\w-])",
            lambda match: f"{digits(match[1])}, {digits(match[2])}",
        ),
        (rf"(?<![\w.,-])({NUMBER}) ?[-–] ?({NUMBER})(?![\w-])", _range),
        (r"(?<=\d)-(?=\d)", " "),  # "1-2-3"
        # plain numbers
        (r"(?<![\w)])[-–](?=\d)", "minus "),
        (r"#(?=\d)", "number "),
        (
            r"\b(in|since|until|till|year|by|circa|of|from|before|after|ad) (10\d\d)\b(?![,.]?\d)",
            lambda match: f"{match[1]} {year(int(match[2]))}",
        ),
        (r"\ba(\d+)\b", lambda match: f"a-{_plain(match[1])}"),  # the letter, not the article
        (r"(?<=[a-z])(\d+)'?s\b", lambda match: f" {plural(_plain(match[1]))}"),
        (r"(?<=[a-z])(?=\d)|(?<=\d)(?=[a-z])", " "),
        (rf"{NUMBER}|\.\d+", lambda match: f" {_plain(match[0])} "),
    )
)
