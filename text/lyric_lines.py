"""The lines of a lyrics file as they are written, with what is not sung taken out and counted."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from text.normalize import unescaped, without_pictures
from text.remarks import listed, remark

# Hours are optional; minutes, seconds, hundredths or milliseconds; blanks inside are passed over.
STAMP = (
    r"(-)?\s*(?:(\d{1,2})\s*:\s*(?=\d{1,2}\s*:\s*\d{1,2}[.,]\d))?"
    r"(\d{1,3})\s*:\s*(\d{1,2})(?:\s*[.:,]\s*(\d{1,3}))?"
)
LINE_STAMP = re.compile(rf"\s*\[\s*{STAMP}\s*\]")
WORD_STAMP = re.compile(rf"[<\[]\s*{STAMP}\s*[>\]]")
BROKEN_STAMP = re.compile(r"-?[\d.\s]*:[\d:.,\s]*")
METADATA = re.compile(
    r"\s*(ti|ar|al|au|lr|by|re|ve|tool|length|offset|la|id|encoding|key|#)\s*:(.*)$", re.IGNORECASE
)
BRACKETS = re.compile(r"\[([^\[\]]*)\]")
PARENTHESES = re.compile(r"\(([^()]*)\)")

ACCIDENTAL = "[#b♯♭]?"
CHORD_SIGN = re.compile(
    rf"[A-G]{ACCIDENTAL}(?:maj|min|m|M|dim|aug|sus|add|°|ø|Δ|\+|-)?\d{{0,2}}"
    r"(?:(?:maj|min|sus|add|dim|aug|no|omit|[b#♯♭+-]|M|m)\d{1,2}|sus|\([^()\s]{1,8}\))*"
    rf"(?:/[A-G]{ACCIDENTAL})?|N\.?C\.?"
)
TABLATURE = re.compile(r"\s*[eBGDAE]?\s*\|[-\d|hpbrxs/\\~^ ()]*-[-\d|hpbrxs/\\~^ ()]*")

BARE_PARTS = (  # alone on a line they name a section, with a colon or number so do the others
    r"(?:pre|post)[- ]?chorus|chorus|verse|bridge|intro(?:duction)?|outro|refrain|interlude"
    r"|instrumental(?: break)?"
)
OTHER_PARTS = (
    r"hook|(?:\w+ )?solo|break(?:down)?|coda|tag|ending|middle (?:8|eight)|spoken|rap|drop|strophe"
)
COUNT = r"[x×]\s*([1-9])|([1-9])\s*(?:[x×]|times)|(twice)|(repeat|bis)"
IN_BRACKETS = rf"[(\[]\s*(?:repeat\s+)?(?:{COUNT})\s*[)\]]"
REPEAT = re.compile(rf"(?:^|\s*){IN_BRACKETS}\s*[.,]?\s*$", re.IGNORECASE)
BARE_REPEAT = re.compile(r"(?:^|\s+)(?:[x×]\s?([2-9])|([2-9])\s?[x×])\s*[.,]?\s*$", re.IGNORECASE)
PART_NUMBER = r"\s*(?:#?\d{1,2}|[ivx]{1,4}|one|two|three|four|five)"
HEADING = re.compile(
    rf"\s*(?:(?:repeat|rpt\.?)\s+(?:the\s+)?)?((?:{BARE_PARTS}|{OTHER_PARTS})(?:{PART_NUMBER})?)"
    r"\s*([:.]?)\s*(.*)$",
    re.IGNORECASE,
)
BARE_HEADING = re.compile(
    rf"\s*(?:{BARE_PARTS})|\s*(?:{BARE_PARTS}|{OTHER_PARTS}){PART_NUMBER}", re.IGNORECASE
)
ASKED_AGAIN = re.compile(r"\s*(?:repeat|rpt\.?)\s", re.IGNORECASE)
DIRECTIVE = re.compile(r"\s*\{\s*([a-z_]+)\s*(?::\s*([^{}]*))?\}\s*")  # of ChordPro
DIRECTIVE_SECTIONS = {
    **{"soc": "Chorus", "start_of_chorus": "Chorus", "chorus": "Chorus"},
    **{"sov": "Verse", "start_of_verse": "Verse", "sob": "Bridge", "start_of_bridge": "Bridge"},
}


def stamp_seconds(match: re.Match[str], line_number: int) -> float:
    """Return the time of a stamp; sixty or more seconds in it raise ValueError."""
    sign, hours, minutes, seconds, fraction = match.groups(default="0")[:5]
    if int(seconds) >= 60:
        raise ValueError(
            f"line {line_number}: stamp {match[0].strip()} has {seconds} seconds; "
            "expected [minutes:seconds.hundredths] with seconds below 60"
        )
    time = 3600.0 * int(hours) + 60.0 * int(minutes) + int(seconds) + float(f"0.{fraction}")
    return -time if sign == "-" else time


def take_stamps(raw: str, line_number: int) -> tuple[list[float], str, float | None]:
    """Return the times of a line in seconds, the line without stamps, and when it ends.

    Its times are the stamps in front, else the first word stamp; a stamp behind the last word says
    when the line ends, else None.
    """
    starts = []
    while match := LINE_STAMP.match(raw):
        starts.append(stamp_seconds(match, line_number))
        raw = raw[match.end() :]
    inside = list(WORD_STAMP.finditer(raw))
    times = [stamp_seconds(match, line_number) for match in inside]
    text = " ".join(WORD_STAMP.sub("", raw).split())
    end = None
    if inside and not any(c.isalnum() for c in raw[inside[-1].end() :]) and has_words(text):
        end = times.pop()
    if not starts and times:
        starts = times[:1]
    return starts, text, end


def has_words(text: str) -> bool:
    """Return whether a text holds a letter or a digit."""
    return any(character.isalnum() for character in text)


def is_chord(text: str) -> bool:
    """Return whether a token is the sign of a chord: C, F#m7, Bb/D."""
    return CHORD_SIGN.fullmatch(text.strip()) is not None


def is_chord_line(raw: str) -> bool:
    """Return whether a line holds nothing but chords, or is a string of a tablature.

    Single letters alone could be words ("A B C"): they want wide gaps between them.
    """
    if TABLATURE.fullmatch(raw):
        return True
    tokens = [token for token in raw.replace("|", " | ").split() if token not in ("-", "/", "%")]
    chords = [token for token in tokens if is_chord(token)]
    others = [token for token in tokens if not is_chord(token) and token != "|"]
    if not chords or not all(BARE_REPEAT.fullmatch(token) for token in others):
        return False
    return any(len(chord) > 1 for chord in chords) or "|" in tokens or "   " in raw.strip()


def without_brackets(text: str) -> tuple[str, list[str]]:
    """Return a line without what stands in brackets, and that."""
    return BRACKETS.sub("", text), BRACKETS.findall(text)


def without_parentheses(text: str) -> tuple[str, list[str]]:
    """Return a line without what stands in parentheses, and that; "(s)he" keeps its letters."""
    found: list[str] = []
    while match := PARENTHESES.search(text):
        before, after = text[: match.start()], text[match.end() :]
        if before[-1:].isalnum() or after[:1].isalnum():
            text = f"{before}{match[1]}{after}"
        else:
            found.append(match[1].strip())
            text = f"{before} {after}"
    return " ".join(text.split()), found


def repeat_count(text: str) -> tuple[str, int]:
    """Return a line without the sign of a repeat at its end, and how often it is sung."""
    match = REPEAT.search(text) or BARE_REPEAT.search(text)
    if match is None:
        return text, 1
    digits = [group for group in match.groups() if group and group.isdigit()]
    return text[: match.start()].rstrip(), int(digits[0]) if digits else 2


def plain_heading(text: str) -> tuple[str, str] | None:
    """Return the name of a section written without brackets, and the words behind it.

    "Verse 1", "Chorus: (x2)", "(Bridge)", "Repeat chorus", "Chorus: Hello"; None for other lines.
    """
    inner = PARENTHESES.fullmatch(text.strip())
    text = inner[1] if inner else text
    bare, count = repeat_count(text.rstrip(": "))
    text = f"{bare}:" if count > 1 and text.rstrip().endswith(":") else bare if count > 1 else text
    if (match := HEADING.fullmatch(text)) is None:
        return None
    name, colon, rest = match.groups()
    rest = rest.strip()
    is_bare = BARE_HEADING.fullmatch(name) is not None or ASKED_AGAIN.match(text) is not None
    if colon == ":" or (not rest and (is_bare or inner)):
        return name.strip(), f"{rest} (x{count})".strip() if count > 1 else rest
    return None


def heading_name(written: str) -> str:
    """Return a section's name without what follows it: "Chorus: All" is "Chorus"."""
    name = written.strip().rstrip(": ")
    match = HEADING.fullmatch(name)
    return match[1].strip() if match and match[2] == ":" else name


def is_part(name: str) -> bool:
    """Return whether a name is that of a part of songs."""
    match = HEADING.fullmatch(name)
    return match is not None and not match[3].strip()


def directive(text: str) -> tuple[str, str | None] | None:
    """Return (name, value) of a ChordPro directive such as {soc} or {title: Song}, else None."""
    match = DIRECTIVE.fullmatch(text)
    return (match[1], match[2]) if match else None


LEADING_BRACKET = re.compile(r"\s*\[([^\[\]]*)\]\s*(.*)$")
SUBTITLE_TIMES = re.compile(
    r"\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}).*"
)


@dataclass(frozen=True)
class WrittenLine:
    """A line with words: times in seconds of the file, how often it is sung, when it ends."""

    text: str
    line_number: int
    starts: tuple[float, ...] = ()
    section: str | None = None
    stanza: int = 0
    count: int = 1
    end: float | None = None


@dataclass
class _Section:
    """The section that is being read."""

    name: str | None = None
    line_number: int = 0
    first: int = 0  # index of its first line
    count: int = 1  # how often it is sung
    is_set_apart: bool = False  # a blank line stands behind its name


@dataclass
class LyricReader:
    """Reads a file line by line; `lines`, `pauses` (s) and `offset` (s) are what it holds."""

    lines: list[WrittenLine] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    offset: float = 0.0
    offset_tag: str = ""

    def read(self, text: str) -> None:
        """Read a whole text; raises ValueError naming the line of a broken stamp or offset."""
        rows = list(_rows(unescaped(text.lstrip("\ufeff"))))
        self._signs: dict[str, list[tuple[str, int]]] = {}
        self._sections: dict[str, list[WrittenLine]] = {}
        self._aside: list[WrittenLine] = []  # wholly in parentheses, or names of sections
        self._section, self._stanza, self._is_blank = _Section(), 0, False
        self._has_stamps = any(WORD_STAMP.search(row) for _, row in rows)
        self._has_chords = any(
            is_chord(sign) and (len(sign) > 1 or has_words(BRACKETS.sub("", row)))
            for _, row in rows
            for sign in BRACKETS.findall(row)
        )
        for line_number, row in rows:
            if row.strip():
                self._read_row(row, line_number)
            else:
                self._is_blank = True
                if self._section.first == len(self.lines):
                    self._section.is_set_apart = True
        self._close_section(is_end=True)
        if not self.lines and self._aside:
            self.lines = self._aside
            self._signs.pop("backing", None)
            self._signs.pop("headings", None)

    # -- one line ---------------------------------------------------------------------------

    def _read_row(self, row: str, line_number: int) -> None:
        if self._is_directive(row, line_number):
            return
        if not WORD_STAMP.search(row) and is_chord_line(row):
            self._note("chords", " ".join(row.split()), line_number)
            return
        starts, rest, end = take_stamps(row, line_number)
        headed = self._without_headings(rest, line_number)
        if headed != rest and is_chord_line(headed):
            self._note("chords", " ".join(headed.split()), line_number)
            headed = ""
        rest, count = repeat_count(headed)
        rest, signs = without_brackets(rest)
        for sign in signs:
            self._note("chords" if is_chord(sign) else "brackets", f"[{sign}]", line_number)
        whole = rest
        rest, asides = without_parentheses(rest)
        rest, pictures = without_pictures(rest)
        for aside in filter(has_words, asides):
            self._note("backing", f"({aside})", line_number)
        for picture in pictures:
            self._note("pictures", picture, line_number)
        line = WrittenLine(" ".join(rest.split()), line_number, tuple(starts), self._section.name)
        if has_words(rest):
            self._add(replace(line, count=count, end=end))
        elif any(map(has_words, asides)):
            words = without_pictures(re.sub(r"[()]", " ", whole))[0]
            self._aside.append(replace(line, text=" ".join(words.split()), count=count))
            self.pauses += starts
        elif count > 1:
            self._repeat_stanza(count, line_number)
        else:
            self.pauses += starts

    def _add(self, line: WrittenLine) -> None:
        """Take up a line; a blank line or a new section before it begins a stanza."""
        starts_section = self._section.first == len(self.lines)
        if self.lines and (self._is_blank or starts_section):
            self._stanza += 1
        self._is_blank = False
        self.lines.append(replace(line, stanza=self._stanza))

    def _is_directive(self, row: str, line_number: int) -> bool:
        """Follow a ChordPro directive; False for other lines, inline phonemes among them."""
        if (found := directive(row)) is None:
            return False
        name, value = found
        if name in DIRECTIVE_SECTIONS:
            self._open_section(value or DIRECTIVE_SECTIONS[name], line_number)
            self._section.is_set_apart = name == "chorus"
        elif name.startswith(("eo", "end_of_")):
            self._open_section("", line_number)
        elif name in ("c", "comment", "ci") and value and (heading := plain_heading(value)):
            self._open_section(heading[0], line_number)
        else:
            self._note("brackets", row.strip(), line_number)
        return True

    def _without_headings(self, rest: str, line_number: int) -> str:
        """Return a line without metadata and names of sections in front of it, which are kept."""
        for sign in BRACKETS.findall(rest):
            if BROKEN_STAMP.fullmatch(sign):
                raise ValueError(
                    f"line {line_number}: [{sign}] is no time stamp; expected "
                    "[minutes:seconds.hundredths]"
                )
        while match := LEADING_BRACKET.match(rest):
            name, after = match[1].strip(), match[2]
            if metadata := METADATA.match(name):
                self._read_metadata(metadata, line_number)
            elif repeat_count(f"({name})")[1] > 1:
                break
            elif is_chord(name) and (self._has_chords or has_words(after)):
                self._note("chords", f"[{name}]", line_number)
            else:
                self._open_section(name, line_number)
            rest = after
        if heading := plain_heading(rest):
            written = rest if not has_words(repeat_count(heading[1])[0]) else heading[0]
            self._note("headings", repr(written.strip()), line_number)
            self._aside.append(WrittenLine(written.strip(), line_number))
            self._open_section(heading[0], line_number)
            self._section.is_set_apart = ASKED_AGAIN.match(rest) is not None
            rest = heading[1]
        if self._section.first == len(self.lines) and self._section.name:
            alone, count = repeat_count(rest)
            if count > 1 and not alone:  # [Chorus] (x2)
                self._section.count, rest = count, ""
        return rest

    def _read_metadata(self, metadata: re.Match[str], line_number: int) -> None:
        """Take the offset of the lyrics from its tag; other tags are passed over."""
        key, value = metadata[1].lower(), metadata[2].strip()
        if key != "offset":
            return
        if not re.fullmatch(r"[+-]?\d{1,9}", value):
            raise ValueError(
                f"line {line_number}: [offset:{value}]; expected whole milliseconds, as "
                "[offset:+250]"
            )
        self.offset, self.offset_tag = int(value) / 1000.0, f"[offset:{value}]"

    # -- sections ---------------------------------------------------------------------------

    def _open_section(self, written: str, line_number: int) -> None:
        """Begin a section; "Chorus (x2)" is sung twice."""
        written, count = repeat_count(written)
        name = heading_name(written) or None
        self._close_section(is_end=not name or is_part(name))
        self._section = _Section(name, line_number, len(self.lines), count)

    def _close_section(self, is_end: bool) -> None:
        """Finish a section: sung again as its heading says, or as it was when it has no lines.

        Without lines it may also be one of several names: `is_end` says that none follows.
        """
        section, own = self._section, self.lines[self._section.first :]
        if section.name is None:
            return
        key = section.name.casefold()
        if own:
            self._sections[key] = own
            self._copy(own, section.count - 1, section)
            return
        generic = re.sub(r"\s*\d+$", "", key)
        earlier = self._sections.get(key) or (
            self._sections.get(generic) if generic in ("chorus", "refrain", "hook") else None
        )
        if earlier and (is_end or section.is_set_apart):
            self._copy(earlier, section.count, section)

    def _copy(self, lines: list[WrittenLine], times: int, section: _Section) -> None:
        """Sing lines again at the end, or say that time stamps leave no place for them."""
        for _ in range(times):
            sign = f"[{section.name}]" if section.name else "(repeat)"
            if self._has_stamps:
                self._note("unplaced", sign, section.line_number)
                return
            self._note("again", sign, section.line_number)
            self._stanza += 1
            self.lines += [replace(line, stanza=self._stanza) for line in lines]

    def _repeat_stanza(self, count: int, line_number: int) -> None:
        """Sing the last stanza again."""
        last = [line for line in self.lines if line.stanza == self.lines[-1].stanza]
        if last:
            self._copy(last, count - 1, _Section(None, line_number))
        else:
            self._note("brackets", f"(x{count})", line_number)

    # -- remarks ----------------------------------------------------------------------------

    def _note(self, kind: str, sign: str, line_number: int) -> None:
        self._signs.setdefault(kind, []).append((sign, line_number))

    def remarks(self) -> list[str]:
        """Return what was left out and what is sung again, by kind."""
        texts = {
            "pictures": ("not sung", "{} in {}"),
            "chords": ("not sung", "chords {} in {}"),
            "brackets": ("not sung", "{} in {}"),
            "backing": ("not sung", "backing words {} in {}; without parentheses they are sung"),
            "headings": ("not sung", "{} in {}, taken for the name of a section"),
            "unplaced": ("not sung", "{} in {} has no words of its own, and no time stamps"),
            "again": ("repeated", "{} in {}"),
        }
        return [
            remark(kind, text.format(listed(_unique(s for s, _ in found), 8), _places(found)))
            for name, (kind, text) in texts.items()
            if (found := self._signs.get(name))
        ]


def _unique(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _places(found: list[tuple[str, int]]) -> str:
    """Return "line 3" or "lines 3, 5"."""
    numbers = _unique(str(line_number) for _, line_number in found)
    return f"line{'s' if len(numbers) > 1 else ''} {listed(numbers, 8)}"


def _rows(text: str) -> Iterator[tuple[int, str]]:
    """Yield (number, line) of a text; subtitles come as lines with stamps."""
    rows = re.split(r"\r\n|\r|\n", text)
    if not any(SUBTITLE_TIMES.fullmatch(row) for row in rows):
        yield from enumerate(rows, start=1)
        return
    start = end = ""
    for number, row in enumerate(rows, start=1):
        if match := SUBTITLE_TIMES.fullmatch(row):
            start, end = (f"[{time.replace(',', '.')}]" for time in match.groups())
        elif not row.strip():
            if end:
                yield number, end
            start = end = ""
        elif end:
            yield number, start + row
            start = ""
    if end:
        yield len(rows), end
