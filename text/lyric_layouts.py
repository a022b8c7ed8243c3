"""Layouts of lyrics: files of every kind as rows, and what a row holds besides words.

Rows have LRC stamps, whether the file is text, subtitles or labels; signs in them are time stamps,
chords, headings and repeats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

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
BINARY = {  # what a file begins with: what it is
    b"PK\x03\x04": "a document or archive (.docx, .odt, .zip)",
    b"\xd0\xcf\x11\xe0": "a document (.doc)",
    b"%PDF": "a PDF",
    b"MThd": "a MIDI file (give it by --melody)",
    **dict.fromkeys(
        (b"RIFF", b"ID3", b"OggS", b"fLaC"), "a recording (give it by --accompaniment or --vocal)"
    ),
}


def utf8_text(data: bytes, path: Path) -> str:
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


# ------------------------------------------------------------------------------------- signs

# Hours are optional; minutes, seconds and their fraction; blanks inside are passed over.
STAMP = (
    r"(-)?\s*(?:(\d{1,2})\s*:\s*(?=\d{1,2}\s*:\s*\d{1,2}[.,]\d))?"
    r"(\d{1,3})\s*:\s*(\d{1,2})(?:\s*[.:,]\s*(\d{1,9}))?"
)
LINE_STAMP = re.compile(rf"\s*\[\s*{STAMP}\s*\]")
WORD_STAMP = re.compile(rf"[<\[]\s*{STAMP}\s*[>\]]")
BROKEN_STAMP = re.compile(r"-?[\d.\s]*:[\d:.,\s]*|-?\d{2}:\d\S*")
METADATA = re.compile(
    r"\s*(ti|ar|al|au|lr|by|re|ve|tool|length|offset|la|id|encoding|key|#)\s*:(.*)$", re.IGNORECASE
)
BRACKETS = re.compile(r"\[([^\[\]]*)\]")
PARENTHESES = re.compile(r"\(([^()]*)\)")

ACCIDENTAL = "[#b♯♭]?"
CHORD_SIGN = re.compile(
    rf"[A-G]{ACCIDENTAL}(?:[Mm]aj|[Mm]in|m[ai](?=\d)|m|M|dim|aug|sus|add|°|ø|Δ|\+|-)?\d{{0,2}}"
    r"(?:/9)?(?:(?:maj|min|sus|add|dim|aug|no|omit|[b#♯♭+-]|M|m)\d{1,2}|sus|alt|[+-]"
    r"|\([^()\s]{1,8}\))*"
    rf"(?:/[A-G]{ACCIDENTAL})?|N\.?C\.?"
)
TABLATURE = re.compile(
    r"\s*[eBGDAE]?\s*\|[-\d|hpbrxs/\\~^ ()]*-[-\d|hpbrxs/\\~^ ()]*"
    r"|\s*[A-G]\S{0,8}\s*[:=]?\s+[xX\d]{6}\s*"  # a string of it, or a chord's fingering
)
CHORD_IN_PARENTHESES = re.compile(r"\(([A-G][^()\s]{0,8}(?:\([^()\s]{1,8}\))?)\)")

WHICH = r"(?:(?:final|last|first|second|third|fourth|1st|2nd|3rd|4th|double|half|main)[- ])?"
BARE_PARTS = (  # alone on a line they name a section, with a colon or number so do the others
    rf"{WHICH}(?:(?:pre|post)[- ]?chorus|chorus|verse|bridge|refrain|interlude)"
    r"|intro(?:duction)?|outro|instrumental(?: break)?"
    r"|(?:guitar|sax(?:ophone)?|piano|drum|bass|organ|harmonica|fiddle|violin|synth|trumpet|flute)"
    r" (?:solo|break|intro|interlude|outro)"
)
OTHER_PARTS = (
    r"hook|(?:\w+ )?solo|break(?:down)?|coda|tag|ending|middle (?:8|eight)|spoken|rap|drop|strophe"
)
COUNT = r"[x×*]\s*([1-9])|([1-9])\s*(?:[x×]|times)|(twice)|(repeat|bis)"
IN_BRACKETS = rf"[(\[]\s*(?:repeat\s+)?(?:{COUNT})\s*[)\]]"
REPEAT = re.compile(rf"(?:^|\s*){IN_BRACKETS}\s*[.,]?\s*$", re.IGNORECASE)
BARE_REPEAT = re.compile(
    r"(?:^|\s+)(?:(?:[x×]\s?|\*)([2-9])|([2-9])\s?[x×])\s*[.,]?\s*$", re.IGNORECASE
)
PART_NUMBER = r"\s*(?:#?\d{1,2}|[ivx]{1,4}|one|two|three|four|five)"
HEADING = re.compile(
    rf"\s*(?:(?:repeat|rpt\.?)\s+(?:the\s+)?)?((?:{BARE_PARTS}|{OTHER_PARTS})(?:{PART_NUMBER})?)"
    r"\s*([:.]?)\s*(.*)$",
    re.IGNORECASE,
)
BARE_HEADING = re.compile(
    rf"\s*(?:{BARE_PARTS})|\s*(?:{BARE_PARTS}|{OTHER_PARTS}){PART_NUMBER}", re.IGNORECASE
)
BEHIND_HEADING = re.compile(r"\s*(\S.*?)(?:\s*\([^()]*\)|\s+[-–—]\s+\S.*)\s*:?\s*")
DECORATION = "-–—=*_~|<>{}«»•+ \t"  # around a heading
MARKED = re.compile(r"\s*#{1,6}\s+(?=[^\W\d])(.*)$")  # Markdown's headings, ChordPro's comments
SINGER = re.compile(
    r"\s*([MFD]|(?i:both|all|everyone|everybody|together|duet|choir|group|lead|men|women|man|woman"
    r"|boys?|girls?|males?|females?|kids|children))\s*:\s*"
)
MADE = (
    "(?:written|composed|produced|arranged|performed|transcribed|tabbed|translated|lyrics|words"
    "|music|text|songwriters?|composers?|writers?|producers?|作词|作詞|作曲|编曲|編曲)"
)
NAMES = r"(?:[A-Z][\w.'’-]*|and|&|,|/|de|la|van|von|of)"
SONG_NOTE = re.compile(  # what stands around the words on a page
    r"\s*(?:(?i:(?:song|title|artist|album|genre|capo|tuning|key|tempo|bpm|publisher"
    rf"|time signature|{MADE}(?:\s*(?:,|&|and|/)\s*{MADE})*(?:\s+by)?)\s*[:：=]\s*\S.*"
    r"|capo\s*(?:on\s*)?(?:fret\s*)?\d.*|(?:©|℗|\(c\)\s|copyright\b).*|all rights reserved.*"
    r"|(?:https?://|www\.)\S+|\d+ contributors?\b.*|you might also like|\d*embed"
    r"|\**\s*this lyrics is not for commercial use\s*\**)"
    rf"|(?i:{MADE}(?:\s*(?:,|&|and|/)\s*{MADE})*\s+by)\s+[A-Z]\S*(?:\s+{NAMES})*\s*)"
)
VERSE_NUMBER = re.compile(r"\s*(\d{1,2})\s*([.)]?)\s+(?=[^\W\d]|[\"'“‘’(])")
SINGABLE = ("chorus", "refrain", "hook", "verse", "bridge", "pre-chorus", "prechorus")
BESIDE_NAME = re.compile(r"[-–—|,;/(]|(?:again|reprise|repeat(?:ed)?)\b", re.IGNORECASE)
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


def is_chord_line(raw: str, is_sheet: bool = False) -> bool:
    """Return whether a line holds nothing but chords, or is part of a tablature.

    Single letters alone could be words ("A B C"): they want wide gaps between them, or other lines
    of chords around (`is_sheet`).
    """
    if TABLATURE.fullmatch(raw):
        return True
    holds = ("-", "/", "%", ".") if "|" in raw else ("-", "/", "%")
    tokens = [token.rstrip(",") for token in raw.replace("|", " | ").split() if token not in holds]
    chords = [token for token in tokens if is_chord(token)]
    others = [token for token in tokens if not is_chord(token) and token != "|"]
    if not chords or not all(BARE_REPEAT.fullmatch(token) for token in others):
        return False
    is_sure = any(len(chord) > 1 for chord in chords) or "|" in tokens or "   " in raw.strip()
    return is_sure or is_sheet


def with_chords_in_brackets(rows: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return numbered rows with "(Am)Hello (G)you" as "[Am]Hello [G]you", where they are chords.

    They are in a file that has several, one at least directly before a word, and not all initials
    of words: "(B)eautiful (D)ay".
    """
    found = [
        (match[1], row[match.end() : match.end() + 1])
        for _, row in rows
        for match in CHORD_IN_PARENTHESES.finditer(row)
        if is_chord(match[1])
    ]
    is_joined = any(after.isalpha() for _, after in found)
    is_sure = any(len(sign) > 1 or after.isupper() for sign, after in found)
    if len({sign for sign, _ in found}) < 2 or not (is_joined and is_sure):
        return list(rows)
    return [
        (
            number,
            CHORD_IN_PARENTHESES.sub(lambda m: f"[{m[1]}]" if is_chord(m[1]) else m[0], row),
        )
        for number, row in rows
    ]


def without_verse_numbers(
    rows: Sequence[tuple[int, str]],
) -> tuple[list[tuple[int, str]], list[tuple[str, int]]]:
    """Return rows without the numbers of verses in front ("1. Amazing grace"), and these.

    Numbers are of verses where they run 1, 2, … through the file, with a full stop or parenthesis
    behind or each before a stanza of several lines.
    """
    signs: dict[int, str] = {}
    counts, is_sure = [], True
    for index, (number, row) in enumerate(rows):
        if (match := VERSE_NUMBER.match(row)) is None:
            continue
        is_first = index == 0 or not rows[index - 1][1].strip()
        goes_on = index + 1 < len(rows) and bool(rows[index + 1][1].strip())
        is_sure = is_sure and (bool(match[2]) or (is_first and goes_on))
        signs[number] = match[0]
        counts.append(int(match[1]))
    if len(counts) < 2 or not is_sure or counts != list(range(1, len(counts) + 1)):
        return list(rows), []
    bare = [(number, row[len(signs.get(number, "")) :]) for number, row in rows]
    return bare, [(sign.strip(), number) for number, sign in signs.items()]


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
    plain = text.strip(DECORATION)
    is_marked = inner is not None or (plain != text.strip() and is_part(repeat_count(plain)[0]))
    text = plain if is_marked else text
    behind = BEHIND_HEADING.fullmatch(text)
    if behind and BARE_HEADING.fullmatch(behind[1]) and repeat_count(text)[1] == 1:
        return behind[1].strip(), ""  # Bridge (spoken), Verse 2 - Ann
    bare, count = repeat_count(text.rstrip(": "))
    text = f"{bare}:" if count > 1 and text.rstrip().endswith(":") else bare if count > 1 else text
    if (match := HEADING.fullmatch(text)) is None:
        return None
    name, colon, rest = match.groups()
    rest = rest.strip()
    is_bare = BARE_HEADING.fullmatch(name) is not None or ASKED_AGAIN.match(text) is not None
    if colon == ":" or (not rest and (is_bare or is_marked)):
        return name.strip(), f"{rest} (x{count})".strip() if count > 1 else rest
    return None


def heading_name(written: str) -> str:
    """Return the name of a section alone: "Repeat Chorus", "Chorus: All", "Chorus | soft"."""
    name = written.strip().rstrip(": ")
    match = HEADING.fullmatch(name)
    if match and (match[2] == ":" or not match[3].strip() or BESIDE_NAME.match(match[3])):
        return match[1].strip()
    return name


def generic_name(name: str) -> str:
    """Return a section's name in lower case without number or rank: "Last Chorus 2" is chorus."""
    return re.sub(r"\s*\d+$", "", re.sub(rf"^{WHICH}", "", name.casefold()))


def is_part(name: str) -> bool:
    """Return whether a name is that of a part of songs."""
    match = HEADING.fullmatch(name)
    return match is not None and not match[3].strip()


def directive(text: str) -> tuple[str, str | None] | None:
    """Return (name, value) of a ChordPro directive such as {soc} or {title: Song}, else None."""
    match = DIRECTIVE.fullmatch(text)
    return (match[1], match[2]) if match else None
