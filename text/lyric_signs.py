"""Signs of lyrics files that are no words: stamps, names of sections, chords, repeats, entities.

Each function takes a line, or a piece of one, and says what it is; `text.lyrics` decides.
"""

from __future__ import annotations

import html
import re

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
ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[a-zA-Z]{2,31}[0-9]{0,2});")
LINE_BREAK_TAG = re.compile(r"<\s*br\s*/?\s*>", re.IGNORECASE)
OTHER_TAG = re.compile(r"</?\s*(?:b|i|u|em|strong|p|div|span|font|v|c)\b[^<>]*>", re.IGNORECASE)

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


def unescaped(text: str) -> str:
    """Return text with the entities and tags of web pages taken for what they mean."""
    text = OTHER_TAG.sub("", LINE_BREAK_TAG.sub("\n", text))
    return ENTITY.sub(lambda match: html.unescape(match[0]).replace("\u00a0", " "), text)


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
