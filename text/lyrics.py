"""Lyrics files: plain text and LRC, one list of lines with their times and sections.

Plain text: a line is a line, blank lines part stanzas, `[Chorus]` alone on a line or in front of
one names the section of what follows, until the next name. LRC adds metadata `[ti:Title]`,
`[offset:+250]` (milliseconds by which the lyrics come earlier) and stamps `[mm:ss.xx]`, several on
a repeated line; the word stamps `<mm:ss.xx>` of enhanced LRC are taken out, and the first one is
the line's start when it has no other. A line with stamps appears once for each, sorted by time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

STAMP = r"(\d{1,3}):(\d{1,2})(?:[.:](\d{1,3}))?"  # minutes, seconds, hundredths or milliseconds
LINE_STAMP = re.compile(rf"\s*\[{STAMP}\]")
WORD_STAMP = re.compile(rf"<{STAMP}>")
HEADING = re.compile(r"\s*\[([^\[\]]*)\]\s*(.*)$")
METADATA = re.compile(
    r"\s*(ti|ar|al|au|lr|by|re|ve|tool|length|offset|la|id|encoding|key|#)\s*:(.*)$", re.IGNORECASE
)
LARGEST_FILE = 4 * 2**20  # bytes; a song's words are a few thousand


@dataclass(frozen=True)
class LyricLine:
    """A line to be sung: its words, where it stands in the file, when it starts, in which section.

    `line_number` counts from 1; `start` is in seconds, None without a stamp.
    """

    text: str
    line_number: int
    start: float | None = None
    section: str | None = None


def read_lyrics(path: Path | str) -> list[LyricLine]:
    """Return the lines of a plain-text or LRC file in UTF-8, in the order they are sung.

    Raises FileNotFoundError without the file; ValueError when it is no UTF-8 text (naming the byte
    and its line), is far too large, has a broken stamp, or holds no line of lyrics.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no lyrics file {path}; expected plain text or LRC in UTF-8")
    size = path.stat().st_size
    if size > LARGEST_FILE:
        raise ValueError(f"{path}: {size} bytes; lyrics of more than {LARGEST_FILE} are no song")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line_number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line_number}: byte 0x{data[error.start]:02x} is not UTF-8. Convert the "
            f"file, for example: iconv -f WINDOWS-1252 -t UTF-8 {path.name} > {path.stem}-utf8.txt"
        ) from None
    try:
        return parse_lyrics(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_lyrics(text: str) -> list[LyricLine]:
    """Return the lines of lyrics in `text`, as `read_lyrics` does; raises ValueError likewise."""
    lines: list[LyricLine] = []
    section: str | None = None
    offset = 0.0  # seconds
    for line_number, raw in enumerate(re.split(r"\r\n|\r|\n", text.lstrip("\ufeff")), start=1):
        stamps, rest = _take_stamps(raw, line_number)
        while heading := HEADING.match(rest):
            name, rest = heading[1].strip(), heading[2]
            if metadata := METADATA.match(name):
                offset = _offset(metadata, offset, line_number)
            else:
                section = _section(name, line_number) or section
        if rest.strip():
            starts = stamps or [None]
            lines += [LyricLine(rest.strip(), line_number, start, section) for start in starts]
    if not lines:
        raise ValueError("no line of lyrics found; expected at least one line of words to sing")
    return _in_time_order(lines, offset)


def _take_stamps(raw: str, line_number: int) -> tuple[list[float], str]:
    """Return the times in front of a line, in seconds, and the line without any stamp."""
    stamps = []
    while match := LINE_STAMP.match(raw):
        stamps.append(_seconds(match, line_number))
        raw = raw[match.end() :]
    word_stamps = [_seconds(match, line_number) for match in WORD_STAMP.finditer(raw)]
    return stamps or word_stamps[:1], " ".join(WORD_STAMP.sub("", raw).split())


def _section(name: str, line_number: int) -> str:
    """Return the name of a section; digits and colons alone are a broken stamp: ValueError."""
    if re.fullmatch(r"[\d.\s]*:[\d:.,\s]*", name):
        raise ValueError(
            f"line {line_number}: [{name}] is no time stamp; expected [minutes:seconds.hundredths]"
        )
    return name.rstrip(": ")


def _seconds(match: re.Match[str], line_number: int) -> float:
    """Return the time of a stamp; sixty or more seconds in it raise ValueError."""
    minutes, seconds, fraction = match.groups(default="0")
    if int(seconds) >= 60:
        raise ValueError(
            f"line {line_number}: stamp {match[0].strip()} has {seconds} seconds; "
            "expected [minutes:seconds.hundredths] with seconds below 60"
        )
    return 60.0 * int(minutes) + int(seconds) + float(f"0.{fraction}")


def _offset(metadata: re.Match[str], offset: float, line_number: int) -> float:
    """Return the offset after a metadata tag, in seconds: changed by `offset`, kept by others."""
    key, value = metadata[1].lower(), metadata[2].strip()
    if key != "offset":
        return offset
    if not re.fullmatch(r"[+-]?\d{1,9}", value):
        raise ValueError(
            f"line {line_number}: [offset:{value}]; expected whole milliseconds, as [offset:+250]"
        )
    return int(value) / 1000.0


def _in_time_order(lines: list[LyricLine], offset: float) -> list[LyricLine]:
    """Return lines moved by `offset`, stamped ones by time, each unstamped one after its neighbour.

    A line without a stamp (in a file where others have one) stays behind the line above it.
    """
    keyed = []
    last_start = 0.0
    for index, line in enumerate(lines):
        if line.start is not None:
            last_start = max(0.0, line.start - offset)
            line = replace(line, start=last_start)
        keyed.append((last_start, index, line))
    return [line for _, _, line in sorted(keyed, key=lambda item: item[:2])]
