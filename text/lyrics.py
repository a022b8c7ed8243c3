"""Lyrics files: plain text and LRC, one list of lines with their times and sections.

Plain text: a line is a line, blank lines part stanzas; `[Chorus]`, `Chorus:` or `Verse 2` alone on
a line, or `[Chorus]` in front of one, names the section of what follows. A part that is named again
without lines of its own is sung as it was before. LRC adds metadata `[ti:Title]`, `[offset:+250]`
(milliseconds by which the lyrics come earlier) and stamps `[mm:ss.xx]`, several on a repeated line;
word stamps, `<mm:ss.xx>` or `[mm:ss.xx]` inside a line, are taken out, and the first one is the
line's start when it has no other. A line with stamps appears once for each, sorted by time; a stamp
without words, or behind the last one, ends the line before it. Subtitles (.srt, .vtt), label tracks
(.lab, Audacity's) and lines with a bare time in front ("0:05 words") are read too.

Not sung, and remarked: `(backing words)`, chords ([Am7], (Am7) and lines of them), ♪ and other
pictures, other notes in brackets, who sings ("Both:"), numbers of verses, "Capo 2" and other notes
on the song, and of lines with one stamp all but the first. `(x2)` sings a line again, or,
alone on a line, the stanza above.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from text.lyric_layouts import (
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
    numbered_rows,
    plain_heading,
    repeat_count,
    take_stamps,
    utf8_text,
    with_chords_in_brackets,
    without_brackets,
    without_parentheses,
    without_verse_numbers,
)
from text.normalize import unescaped, without_pictures
from text.remarks import listed, remark

LARGEST_LYRICS = 4 * 2**20  # bytes; a song's words are a few thousand
FASTEST_SYLLABLE = 0.15  # s; a stamped line is not repeated where that leaves less
SUFFIX = re.compile(r"[\w)-]{2}\.[a-z][a-z0-9]{0,9}$", re.IGNORECASE)
FILE_SUFFIXES = (
    *(".txt", ".lrc", ".srt", ".vtt", ".md", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".html"),
    *(".xml", ".json", ".csv", ".cho", ".pro", ".kar", ".mid", ".midi", ".musicxml", ".mxl"),
    *(".lab", ".ass", ".ssa"),
)
LEADING_BRACKET = re.compile(r"\s*\[([^\[\]]*)\]\s*(.*)$")
OFFSET = re.compile(r"([+-]?\d{1,9}(?:\.\d{1,3})?)?\s*(?:ms)?", re.IGNORECASE)


@dataclass(frozen=True)
class LyricLine:
    """A line to be sung: its words, where it stands in the file, when it starts, in which section.

    `line_number` counts from 1; `start` and `end` are in seconds, None without a stamp; `stanza`
    numbers the stanzas of a file.
    """

    text: str
    line_number: int
    start: float | None = None
    section: str | None = None
    end: float | None = None
    stanza: int | None = field(default=None, compare=False)


class Lyrics(list[LyricLine]):
    """The lines of a text in the order they are sung; `remarks` say what of it is not sung."""

    def __init__(self, lines: Iterable[LyricLine] = (), remarks: Iterable[str] = ()) -> None:
        """Take the lines and the remarks on them."""
        super().__init__(lines)
        self.remarks = tuple(remarks)


def looks_like_path(text: str) -> bool:
    """Return whether lyrics given as text are more likely a file's name with an error in it."""
    if not text.strip() or "\n" in text:
        return False
    suffix = SUFFIX.search(text.strip())
    if suffix and f".{text.strip().rpartition('.')[2]}".lower() in FILE_SUFFIXES:
        return True
    is_rooted = re.match(r"(?:~?|\.{1,2}|[A-Za-z]:)[/\\]", text) is not None
    if any(character.isspace() for character in text):
        return is_rooted
    is_fraction = re.fullmatch(r"\d+/\d+|\w/\w?", text) is not None  # 24/7, w/o
    return is_rooted or suffix is not None or (bool(re.search(r"[/\\]", text)) and not is_fraction)


def read_lyrics(path: Path | str) -> Lyrics:
    """Return the lines of a plain-text or LRC file in UTF-8, in the order they are sung.

    Raises FileNotFoundError without the file; ValueError when it is no UTF-8 text (naming the byte
    and its line), is far too large, has a broken stamp, or holds no line of lyrics.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no lyrics file {path}; expected plain text or LRC in UTF-8")
    size = path.stat().st_size
    if size > LARGEST_LYRICS:
        raise ValueError(f"{path}: {size} bytes; lyrics of more than {LARGEST_LYRICS} are no song")
    text = utf8_text(path.read_bytes(), path)
    try:
        return parse_lyrics(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_lyrics(text: str) -> Lyrics:
    """Return the lines of lyrics in `text`, as `read_lyrics` does; raises ValueError likewise."""
    reader = LyricReader()
    reader.read(text)
    if not reader.lines:
        raise ValueError("no line of lyrics found; expected at least one line of words to sing")
    timed, doubled = _one_per_stamp(_in_time_order(reader.lines))
    moved, early = _from_zero(timed, reader)
    _set_ends(moved, [pause - reader.offset for pause in reader.pauses])
    lines, repeated = _repeated(moved)
    return Lyrics(lines, (*reader.remarks(), *doubled, *early, *repeated))


# -- times --------------------------------------------------------------------------------------


@dataclass
class _Timed:
    """A line at one of its times, in seconds of the file; None stays behind the line before."""

    line: WrittenLine
    start: float | None
    end: float | None = None


def _in_time_order(lines: Iterable[WrittenLine]) -> list[_Timed]:
    """Return lines once for each of their stamps, by time, each unstamped one after its neighbour.

    A line without a stamp (in a file where others have one) stays behind the line above it.
    """
    keyed: list[tuple[float, int, _Timed]] = []
    last_start = 0.0
    for line in lines:
        for start in line.starts or (None,):
            last_start = last_start if start is None else start
            end = line.end if line.end is None or last_start < line.end else None
            keyed.append((last_start, len(keyed), _Timed(line, start, end)))
    return [timed for _, _, timed in sorted(keyed, key=lambda item: item[:2])]


def _one_per_stamp(lines: list[_Timed]) -> tuple[list[_Timed], list[str]]:
    """Return the first line of each time stamp, and a remark on the others."""
    kept: list[_Timed] = []
    others: list[str] = []
    sung: dict[float, WrittenLine] = {}
    for timed in lines:
        if timed.start is not None and timed.start in sung:
            first = sung[timed.start]
            others.append(
                f"line {timed.line.line_number} {timed.line.text!r}, which has the time stamp of "
                f"line {first.line_number}"
            )
            continue
        if timed.start is not None:
            sung[timed.start] = timed.line
        kept.append(timed)
    return kept, [remark("not sung", f"{listed(others, 5)} (a translation?)")] if others else []


def _from_zero(lines: list[_Timed], reader: LyricReader) -> tuple[list[_Timed], list[str]]:
    """Move lines by the file's offset; those that come to lie before 0 s begin there, in order."""
    early: list[str] = []
    for timed in lines:
        if timed.start is None:
            continue
        timed.start -= reader.offset
        if timed.end is not None:
            timed.end -= reader.offset
        if timed.start < 0.0:
            timed.start = None if early else 0.0
            early.append(str(timed.line.line_number))
    if not early:
        return lines, []
    cause = f"{reader.offset_tag} moves" if reader.offset > 0 else "time stamps move"
    some = "line" if len(early) == 1 else "lines"
    text = f"{cause} {some} {listed(early, 8)} before the song: sung from 0 s on"
    return lines, [remark("changed", text)]


def _set_ends(lines: list[_Timed], pauses: Iterable[float]) -> None:
    """End the last line before each pause there."""
    for pause in pauses:
        last, latest = None, -1.0
        for timed in lines:
            latest = latest if timed.start is None else timed.start
            if latest >= pause:
                break
            last = timed
        if last is not None and (last.end is None or pause < last.end):
            last.end = pause


def _repeated(lines: list[_Timed]) -> tuple[list[LyricLine], list[str]]:
    """Return the lines as they are sung, each as often as it says and its time allows."""
    sung: list[LyricLine] = []
    again, crowded = [], []
    starts = [timed.start for timed in lines] + [float("inf")]
    for index, timed in enumerate(lines):
        line, count = timed.line, timed.line.count
        until = next(start for start in starts[index + 1 :] if start is not None)
        vowels = len(re.findall(r"[aeiouy]+", line.text.lower()))
        if timed.start is not None and until - timed.start < count * vowels * FASTEST_SYLLABLE:
            crowded += [str(line.line_number)] if count > 1 else []
            count = 1
        again += [f"line {line.line_number} ({count} times)"] if count > 1 else []
        first = LyricLine(
            line.text, line.line_number, timed.start, line.section, timed.end, line.stanza
        )
        copies = [replace(first, start=None, end=None)] * (count - 1)
        sung += [first, *copies]
        if copies:
            sung[-count] = replace(first, end=None)
            sung[-1] = replace(copies[0], end=timed.end)
    remarks = [remark("repeated", listed(again, 8))] if again else []
    if crowded:
        text = f"the repeats of line {listed(crowded, 8)}: the next time stamp is too near"
        remarks.append(remark("not sung", text))
    return sung, remarks


# -- lines as they are written ------------------------------------------------------------------
# What is not sung is taken out and counted.


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
