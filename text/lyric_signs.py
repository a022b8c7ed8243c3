"""What a line of lyrics holds besides words: time stamps, chords, headings, signs of repeats."""

from __future__ import annotations

import re
from collections.abc import Sequence

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
    rf"[A-G]{ACCIDENTAL}(?:maj|min|m|M|dim|aug|sus|add|°|ø|Δ|\+|-)?\d{{0,2}}"
    r"(?:(?:maj|min|sus|add|dim|aug|no|omit|[b#♯♭+-]|M|m)\d{1,2}|sus|\([^()\s]{1,8}\))*"
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
    tokens = [token for token in raw.replace("|", " | ").split() if token not in ("-", "/", "%")]
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
    """Return a section's name without what follows it: "Chorus: All" is "Chorus"."""
    name = written.strip().rstrip(": ")
    match = HEADING.fullmatch(name)
    return match[1].strip() if match and match[2] == ":" else name


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
