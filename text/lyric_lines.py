"""The lines of a lyrics file as they are written, with what is not sung taken out and counted."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from text.lyric_signs import (
    ASKED_AGAIN,
    BRACKETS,
    BROKEN_STAMP,
    DIRECTIVE_SECTIONS,
    MARKED,
    METADATA,
    SINGABLE,
    SINGER,
    SONG_NOTE,
    WORD_STAMP,
    directive,
    generic_name,
    has_words,
    heading_name,
    is_chord,
    is_chord_line,
    is_part,
    plain_heading,
    repeat_count,
    take_stamps,
    with_chords_in_brackets,
    without_brackets,
    without_parentheses,
    without_verse_numbers,
)
from text.lyric_sources import numbered_rows
from text.normalize import unescaped, without_pictures
from text.remarks import listed, remark

LEADING_BRACKET = re.compile(r"\s*\[([^\[\]]*)\]\s*(.*)$")
OFFSET = re.compile(r"([+-]?\d{1,9}(?:\.\d{1,3})?)?\s*(?:ms)?", re.IGNORECASE)


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
        rows, self._guesses = numbered_rows(unescaped(text.lstrip("\ufeff")))
        rows, numbers = without_verse_numbers(with_chords_in_brackets(rows))
        self._signs: dict[str, list[tuple[str, int]]] = {"numbers": numbers} if numbers else {}
        self._sections: dict[str, list[WrittenLine]] = {}
        self._last_of: dict[str, list[WrittenLine]] = {}  # by generic name
        self._aside: list[WrittenLine] = []  # wholly in parentheses, or names of sections
        self._section, self._stanza, self._is_blank = _Section(), 0, False
        self._has_stamps = any(WORD_STAMP.search(row) for _, row in rows)
        self._is_sheet = any(is_chord_line(row) for _, row in rows if not WORD_STAMP.search(row))
        self._has_chords = self._is_sheet or any(
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
            self._signs.pop("empty", None)

    # -- one line ---------------------------------------------------------------------------

    def _read_row(self, row: str, line_number: int) -> None:
        if self._is_directive(row, line_number):
            return
        if not WORD_STAMP.search(row) and is_chord_line(row, self._is_sheet):
            self._note("chords", " ".join(row.split()), line_number)
            return
        starts, rest, end = take_stamps(row, line_number)
        if SONG_NOTE.fullmatch(rest):
            self._note("notes", repr(rest.strip()), line_number)
            self.pauses += starts
            return
        if marked := MARKED.fullmatch(rest):
            rest = marked[1]
            if not is_part(repeat_count(rest)[0]) and plain_heading(rest) is None:
                self._note("notes", repr(marked[0].strip()), line_number)
                return
        headed = self._without_headings(rest, line_number)
        if headed != rest and is_chord_line(headed, self._is_sheet):
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
        if singer := SINGER.match(rest):
            self._note("singers", repr(singer[0].strip()), line_number)
            rest = rest[singer.end() :]
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
        if (match := OFFSET.fullmatch(value)) is None:
            raise ValueError(
                f"line {line_number}: [offset:{value}]; expected whole milliseconds, as "
                "[offset:+250]"
            )
        self.offset, self.offset_tag = float(match[1] or 0) / 1000.0, f"[offset:{value}]"

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
            self._last_of[generic_name(key)] = own
            self._copy(own, section.count - 1, section)
            return
        generic = generic_name(key)
        earlier = self._sections.get(key)
        if earlier is None and generic in ("chorus", "refrain", "hook"):
            earlier = self._sections.get(generic) or self._last_of.get(generic)
        if earlier and (is_end or section.is_set_apart):
            self._copy(earlier, section.count, section)
        elif generic in SINGABLE and is_end:
            self._note("empty", f"[{section.name}]", section.line_number)

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
            "singers": ("not sung", "{} in {}, taken for the name of who sings"),
            "notes": ("not sung", "{} in {}, taken for a note on the song"),
            "numbers": ("not sung", "{} in {}, taken for the numbers of verses"),
            "empty": ("not sung", "{} in {}: no words stand under this name anywhere"),
            "unplaced": ("not sung", "{} in {} has no words of its own, and no time stamps"),
            "again": ("repeated", "{} in {}"),
        }
        return self._guesses + [
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
