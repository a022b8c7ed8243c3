"""Lyrics files of every layout as numbered rows with LRC stamps: text, subtitles, labels."""

from __future__ import annotations

import re
from collections.abc import Sequence

from text.remarks import remark

Rows = list[tuple[int, str]]  # (line number, row)

# U+2028 and the soft breaks of text processors end a line as "\n" does.
LINE_BREAK = re.compile("\r\n|[\r\n\v\f\x85\u2028\u2029]")
SUBTITLE_TIMES = re.compile(
    r"\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3})\s*-->\s*((?:\d+:)?\d{1,2}:\d{2}[.,]\d{1,3}).*"
)
STYLE_OVERRIDE = re.compile(r"\{\\[^{}]*\}")  # {\an8} of subtitles
LABEL = re.compile(r"\s*(\d+(?:\.\d+)?)[ \t]+(\d+(?:\.\d+)?)(?:[ \t]+(.*))?$")
SILENCES = frozenset(("", "sil", "sp", "spn", "pau", "silence", "<sil>", "<p:>", "-", "_", "br"))
WORD_GAP = 0.4  # s; labels of single words are one line where less lies between them
LONGEST_LABEL_LINE = 8  # words
PHONEME = re.compile(r"[A-Z]{1,2}[012]?|[a-z]{1,2}[012]")
BARE_TIME = re.compile(
    r"\s*[(\[]?((?:\d{1,2}:)?\d{1,3}:\d{2}(?:\.\d{1,3})?)[)\]]?\s*(?:[-–—|:]\s+)?(.*)$"
)
OTHER_FORMATS = (  # what its text begins with or holds, what it is, what to do
    (re.compile(r"\{\\rtf"), "rich text (.rtf)", "save it as plain text"),
    (
        re.compile(r"\[Script Info\]", re.IGNORECASE),
        "a subtitle script (.ass, .ssa)",
        "convert it: ffmpeg -i song.ass song.srt",
    ),
    (
        re.compile(r"<(?:!doctype\s+)?html\b", re.IGNORECASE),
        "a web page",
        "copy its words into a text file",
    ),
    (
        re.compile(r"<\?xml\b"),
        "XML",
        "a MusicXML score is given by --melody; else copy its words into a text file",
    ),
    (
        re.compile(r"(?s).*^#BPM:.*^[:*FRG] \d+ \d+ -?\d+ ", re.MULTILINE),
        "a song of UltraStar, with notes",
        "convert it to MIDI and give that by --melody, or copy its words into a text file",
    ),
)


def numbered_rows(text: str) -> tuple[Rows, list[str]]:
    """Return (number, line) of a text, times as LRC stamps in front, and remarks on guesses.

    Subtitles (.srt, .vtt), label tracks (start, end, text) and lines with a bare time in front come
    as lines with stamps. Raises ValueError naming another format and what to do with it.
    """
    for pattern, what, advice in OTHER_FORMATS:
        if pattern.match(text.lstrip()):
            raise ValueError(f"{what}; expected plain text, LRC or subtitles: {advice}")
    rows = list(enumerate(LINE_BREAK.split(text), start=1))
    if any(SUBTITLE_TIMES.fullmatch(row) for _, row in rows):
        return _subtitle_rows(rows), []
    if labels := _labels(rows):
        return _label_rows(labels), []
    return _rows_of_bare_times(rows)


def _subtitle_rows(rows: Rows) -> Rows:
    """Return the text of subtitles with the stamps of their times."""
    stamped: Rows = []
    start = end = ""
    for number, row in rows:
        if match := SUBTITLE_TIMES.fullmatch(row):
            start, end = (f"[{time.replace(',', '.')}]" for time in match.groups())
        elif not row.strip():
            if end:
                stamped.append((number, end))
            start = end = ""
        elif end:
            stamped.append((number, start + STYLE_OVERRIDE.sub("", row)))
            start = ""
    if end:
        stamped.append((len(rows), end))
    return stamped


# ------------------------------------------------------------------------------------- labels


def _labels(rows: Rows) -> list[tuple[int, float, float, str]]:
    """Return (number, start, end, text) in seconds where every row is a label, else nothing."""
    found: list[tuple[int, float, float, str]] = []
    for number, row in rows:
        if not row.strip() or row.startswith("\\"):  # Audacity: frequencies of a selection
            continue
        match = LABEL.fullmatch(row)
        if match is None:
            return []
        found.append((number, float(match[1]), float(match[2]), (match[3] or "").strip()))
    if len(found) < 2 or any(start > end for _, start, end, _ in found):
        return []
    if any("." in row.split(None, 1)[0] for _, row in rows if row.strip()):
        return found
    if found[-1][2] < 1e5:  # whole seconds would be words ("5 6 pick up sticks")
        return []
    return [(number, start * 1e-7, end * 1e-7, text) for number, start, end, text in found]  # HTK


def _label_rows(labels: Sequence[tuple[int, float, float, str]]) -> Rows:
    """Return labels as stamped rows, those of single words joined to lines.

    Raises ValueError for labels of phonemes.
    """
    texts = [text for *_, text in labels if text.lower() not in SILENCES]
    if texts and sum(PHONEME.fullmatch(text) is not None for text in texts) > 0.6 * len(texts):
        raise ValueError(
            f"labels of phonemes ({', '.join(texts[:4])} …); expected labels of words or lines"
        )
    is_single = sum(" " not in text for text in texts) > 0.8 * len(texts)
    rows: Rows = []
    words, last_end = 0, -1.0
    for number, start, end, text in labels:
        if text.lower() in SILENCES:
            continue
        joins = is_single and 0 < words < LONGEST_LABEL_LINE and start - last_end < WORD_GAP
        if joins:
            before, row = rows[-2]
            rows[-2:] = [(before, f"{row} {text}"), (number, _stamp(end))]
        else:
            rows += [(number, f"{_stamp(start)}{text}"), (number, _stamp(end))]
        words, last_end = (words + 1 if joins else 1), end
    return rows


def _stamp(seconds: float) -> str:
    minutes, rest = divmod(round(seconds, 3), 60.0)
    return f"[{int(minutes):02d}:{rest:06.3f}]"


# ---------------------------------------------------------------------------------- bare times


def _rows_of_bare_times(rows: Rows) -> tuple[Rows, list[str]]:
    """Return rows with "0:05 words" or "0:05" above its words as stamps, where a file has those.

    It has where the first row and half of the others begin with a time, none earlier than the one
    before.
    """
    written = [(number, row) for number, row in rows if row.strip()]
    matches = {number: BARE_TIME.fullmatch(row) for number, row in written}
    times = [_bare_seconds(match[1]) for match in matches.values() if match]
    is_timed = len(times) >= 2 and 2 * len(times) >= len(written) and times == sorted(times)
    if not is_timed or matches[written[0][0]] is None or any("[" in row for _, row in written):
        return rows, []
    stamped: Rows = []
    above = ""  # the stamp of a row that is a time alone
    for number, row in written:
        match = matches[number]
        stamp = _stamp(_bare_seconds(match[1])) if match else above
        text = match[2] if match else row
        above = "" if text.strip() else stamp
        if text.strip():
            stamped.append((number, stamp + text))
    if above:
        stamped.append((written[-1][0], above))
    text = f"the times in front of {len(times)} lines are taken for time stamps"
    return stamped, [remark("guessed", text)]


def _bare_seconds(time: str) -> float:
    seconds = 0.0
    for part in time.split(":"):
        seconds = 60.0 * seconds + float(part)
    return seconds
