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

from text.lyric_lines import LyricReader, WrittenLine
from text.remarks import listed, remark

LARGEST_LYRICS = 4 * 2**20  # bytes; a song's words are a few thousand
FASTEST_SYLLABLE = 0.15  # s; a stamped line is not repeated where that leaves less
SUFFIX = re.compile(r"[\w)-]{2}\.[a-z][a-z0-9]{0,9}$", re.IGNORECASE)
FILE_SUFFIXES = (
    *(".txt", ".lrc", ".srt", ".vtt", ".md", ".pdf", ".doc", ".docx", ".odt", ".rtf", ".html"),
    *(".xml", ".json", ".csv", ".cho", ".pro", ".kar", ".mid", ".midi", ".musicxml", ".mxl"),
    *(".lab", ".ass", ".ssa"),
)
BINARY = {  # what a file begins with: what it is
    b"PK\x03\x04": "a document or archive (.docx, .odt, .zip)",
    b"\xd0\xcf\x11\xe0": "a document (.doc)",
    b"%PDF": "a PDF",
    b"MThd": "a MIDI file (give it by --melody)",
    **dict.fromkeys(
        (b"RIFF", b"ID3", b"OggS", b"fLaC"), "a recording (give it by --accompaniment or --vocal)"
    ),
}


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
    text = _decoded(path.read_bytes(), path)
    try:
        return parse_lyrics(text)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _decoded(data: bytes, path: Path) -> str:
    """Return the text of a file in UTF-8; ValueError names the command that converts another."""
    command = f"-t UTF-8 {path.name} > {path.stem}-utf8{path.suffix or '.txt'}"
    for magic, what in BINARY.items():
        if data.startswith(magic):
            raise ValueError(f"{path} is {what}; expected words as plain text or LRC in UTF-8")
    zeros = data[:1000].count(0)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or 3 * zeros > len(data[:1000]):
        raise ValueError(
            f"{path} is not UTF-8 but UTF-16. Convert the file, for example: iconv -f UTF-16 "
            f"{command}"
        )
    if zeros:
        line_number = data.count(b"\n", 0, data.index(0)) + 1
        raise ValueError(f"{path}, line {line_number}: a zero byte; expected a text file in UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line_number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line_number}: byte 0x{data[error.start]:02x} is not UTF-8. Convert the "
            f"file, for example: iconv -f WINDOWS-1252 {command}"
        ) from None


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
