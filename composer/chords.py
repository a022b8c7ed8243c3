"""Charts of chords that a user gives.

A chart says the chords of a song bar by bar, as musicians write them:

    C | Am | F G | %          bars are parted by `|` or a line break, chords in a bar by blanks
    C . . G | F               they share their bar evenly; `.` (or `/`) holds the chord before
    | Dm7 | G/B | N.C. | C |  every chord counts as its major or minor triad, N or N.C. as none
    F | G x4                  `%` repeats the bar before, x4 at the end of a line that line

Empty lines, `[Chorus]` and what follows `#` between blanks are left out. A `.lab` file says "start
end chord" in seconds, line by line (Harte 2010), as annotations and chord recognisers are stored.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from composer.harmony import NO_CHORD, Chart
from utils.files import reading

NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
SHARPENS = "#♯"
NONE_NAMES = ("n", "nc", "n.c.", "x")
HOLDS = (".", "/")
SAME_BAR = "%"
CHORD = re.compile(r"([A-G])([#b♯♭]*)([^/]*)(?:/([A-G][#b♯♭]*|[b#]?\d+))?")
MINOR = re.compile(r"(m(?!a(?!dd))|(?i:min)|-|dim|hdim|°|o(?![a-z])|ø)")  # madd9, not maj
MAJOR = re.compile(r"(maj|major|ma|M|Δ|\^|dom|sus|aug|\+|add|alt|no|\(|\d|[#b]\d)")
TIMES = re.compile(r"\s+[x×](\d+)\s*$")
COMMENT = re.compile(r"(^|\s)#(\s.*|$)")
SECTION = re.compile(r"^\s*\[[^\]|]*\]\s*$")
MOST_BARS = 4000  # an hour of song
EXAMPLE = "bars parted by | and chords by blanks, as in 'C | Am | F G'"


def parse_chord(name: str) -> int:
    """Return the triad 0..24 of a chord's name: "Bb", "F#m7", "G/B", "C:min7", "N.C.".

    Diminished chords count as minor, augmented and suspended ones as major. Raises ValueError.
    """
    if name.lower() in NONE_NAMES:
        return NO_CHORD
    match = CHORD.fullmatch(name.replace(":", "", 1))
    if match is None:
        raise ValueError(f"{name!r} is no chord; expected names such as C, Am, F#m7, Bb/D or N.C.")
    letter, accidentals, quality, _ = match.groups()
    if MINOR.match(quality):
        mode = 12
    elif not quality or MAJOR.match(quality):
        mode = 0
    else:
        raise ValueError(
            f"{name!r}: {quality!r} is no kind of chord that is known here; the triad is enough: "
            f"{letter}{accidentals} or {letter}{accidentals}m"
        )
    shift = sum(1 if sign in SHARPENS else -1 for sign in accidentals)
    return (NATURALS[letter] + shift) % 12 + mode


def read_chart(argument: str) -> Chart:
    """Read `--chords`: a .lab or text file when one of that name exists, else the text itself.

    Raises ValueError naming the bar, or the file and its line; FileNotFoundError.
    """
    path = Path(argument)
    try:
        is_file = path.is_file()
    except (OSError, ValueError):  # longer than a file name may be
        is_file = False
    if not is_file:
        if path.suffix.lower() in (".txt", ".lab", ".chords", ".cho"):
            raise FileNotFoundError(f"--chords {argument}: no such file; or give {EXAMPLE}")
        return parse_chart(argument)
    with reading(path):
        text = path.read_text(encoding="utf-8-sig")
        try:
            return parse_spans(text) if path.suffix.lower() == ".lab" else parse_chart(text)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def parse_chart(text: str) -> Chart:
    """Parse bars of chords; ValueError names the bar that cannot be read."""
    bars: list[tuple[int, ...]] = []
    for line in text.splitlines():
        line = COMMENT.sub("", line).strip()
        if not line or SECTION.match(line):
            continue
        times = TIMES.search(line)
        first = len(bars)
        for part in _parts(TIMES.sub("", line)):
            bars.append(_bar(part, bars))
        if times:
            bars += bars[first:] * (int(times[1]) - 1) if int(times[1]) else []
        if len(bars) > MOST_BARS:
            raise ValueError(f"more than {MOST_BARS} bars of chords")
    if not bars:
        raise ValueError(f"no chord in {text.strip()[:40]!r}; expected {EXAMPLE}")
    return Chart(tuple(bars))


def _parts(line: str) -> list[str]:
    """Return the bars of a line; bar lines at its ends, and double ones, part nothing."""
    parts = re.split(r"\s*\|{1,2}\s*", line)
    return parts[not parts[0] : len(parts) - (len(parts) > 1 and not parts[-1])]


def _bar(part: str, before: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """Parse one bar; `before`: those that it may repeat or hold."""
    number = len(before) + 1
    names = part.split()
    if not names:
        raise ValueError(f"bar {number} is empty; {SAME_BAR} repeats the bar before, N.C. is none")
    if SAME_BAR in names:
        if names != [SAME_BAR] or not before:
            raise ValueError(
                f"bar {number}: {SAME_BAR} stands alone in its bar, and behind another"
            )
        return before[-1]
    chords: list[int] = []
    for name in names:
        if name in HOLDS:
            if not chords and not before:
                raise ValueError(f"bar {number}: {name!r} holds the chord before, there is none")
            chords.append(chords[-1] if chords else before[-1][-1])
            continue
        try:
            chords.append(parse_chord(name))
        except ValueError as error:
            raise ValueError(f"bar {number}: {error}") from error
    return tuple(chords)


def parse_spans(text: str) -> Chart:
    """Parse lines of "start end chord", in seconds; ValueError names the line."""
    spans: list[tuple[float, float, int]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if not fields or line.lstrip().startswith("#"):
            continue
        try:
            start, end, name = float(fields[0]), float(fields[1]), fields[2]
        except (ValueError, IndexError):
            raise ValueError(
                f"line {number} {line.strip()!r}: expected start end chord, as in '0.0 2.1 C:maj'"
            ) from None
        if not 0 <= start < end or (spans and start < spans[-1][1] - 1e-3):
            raise ValueError(
                f"line {number}: {start:g} to {end:g} s is not behind the line before it"
            )
        try:
            spans.append((start, end, parse_chord(name)))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    if not spans:
        raise ValueError("no chord; expected lines such as '0.0 2.1 C:maj'")
    return Chart(spans=tuple(spans))
