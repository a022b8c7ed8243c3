r"""Words of MIDI files: lyric and text events, as editors and karaoke files write them, on notes.

Conventions. A hyphen at an end or a beginning joins syllables; where words are parted by blanks
(karaoke files), a syllable without one continues. A line ends at a carriage return or line feed
(RP-017); `\` and `/` begin one (.kar). Singing editors write `-` on a note that holds the syllable
before, and `+` on one that takes the next syllable of its word. `[Chorus]` is no word, nor are
`{@LATIN}` and `{#Title=...}` (RP-026).
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from music.score import NEXT_SYLLABLE, Lyric, Note, TempoMap
from text.normalize import HYPHENS
from text.remarks import listed, remark

MATCH_SECONDS = 0.06  # a text this near to a note's onset belongs to it
HOLD_SIGN = re.compile(r"[-‐‑–—_~ー]+|\+[~*]+")
TAG = re.compile(r"\{[@#][^{}]*\}")
SECTION = re.compile(r"\[[^\[\]]*\]")
VERSE_NUMBER = re.compile(r"^\d+\s*[.)]\s*(?=\D)")
SPACED_SHARE = 0.2  # of texts with a blank, from which blanks part the words


@dataclass(frozen=True)
class _Syllable:
    """A text event: its letters, and what stood around them."""

    seconds: float
    text: str  # "" holds the syllable before
    space_before: bool = False
    space_after: bool = False
    joins_before: bool = False  # a hyphen, or `+`
    joins_after: bool = False
    starts_line: bool = False
    ends_line: bool = False


def attach(
    notes: Sequence[Note], texts: Mapping[int, str], tempo: TempoMap
) -> tuple[tuple[Lyric | None, ...], list[str]]:
    """Return the lyric of each note, and remarks on the texts that are on none.

    A text takes the nearest note within MATCH_SECONDS that no earlier one has taken.
    """
    syllables, remarks = _syllables(texts, tempo)
    spaced = _is_spaced([s for s in syllables if s.text])
    places = _places([note.onset for note in notes], [s.seconds for s in syllables])
    lost = [s for s, place in zip(syllables, places, strict=True) if place is None and s.text]
    if lost:
        names = listed([f"{s.text!r} at {s.seconds:.2f} s" for s in lost])
        some = "lyric stands" if len(lost) == 1 else "lyrics stand"
        remarks.append(remark("not sung", f"{len(lost)} {some} at no note: {names}"))
    sung = [
        (place, syllable)
        for place, syllable in zip(places, syllables, strict=True)
        if place is not None and syllable.text
    ]
    lyrics: list[Lyric | None] = [None] * len(notes)
    for number, (place, syllable) in enumerate(sung):
        after = sung[number + 1][1] if number + 1 < len(sung) else None
        text = "" if syllable.text == NEXT_SYLLABLE else syllable.text
        ends_line = syllable.ends_line or (after is not None and after.starts_line)
        lyrics[place] = Lyric(
            text, after is not None and _joined(syllable, after, spaced), ends_line
        )
    return tuple(lyrics), remarks


def _syllables(texts: Mapping[int, str], tempo: TempoMap) -> tuple[list[_Syllable], list[str]]:
    """Return the syllables in time, and remarks on signs that are none."""
    syllables: list[_Syllable] = []
    signs: list[str] = []
    pending_line = False  # a line mark without a word of its own
    for tick in sorted(texts):
        raw = TAG.sub("", texts[tick].replace("\r\n", "\r").replace("\n", "\r"))
        signs += SECTION.findall(raw)
        raw = SECTION.sub("", raw)
        starts_line = raw.startswith(("\r", "/", "\\")) or pending_line
        body = raw.lstrip("\r/\\")
        text = VERSE_NUMBER.sub("", body.strip().rstrip("\r/\\").strip())
        pending_line = False
        if HOLD_SIGN.fullmatch(text):
            syllables.append(_Syllable(tempo.seconds_at(tick), ""))
            continue
        if text != NEXT_SYLLABLE and not any(c.isalnum() or c in "'’" for c in text):
            pending_line = starts_line or "\r" in body
            signs += [text] if any(not c.isascii() for c in text) else []
            continue
        joins_before = text == NEXT_SYLLABLE or text[0] in HYPHENS
        joins_after = text[-1] in HYPHENS
        syllables.append(
            _Syllable(
                tempo.seconds_at(tick),
                text.strip(HYPHENS + "_~").replace("_", " "),
                body[:1].isspace(),
                body[-1:].isspace() or body[-1:] in "/\\",
                joins_before,
                joins_after,
                starts_line,
                "\r" in body or body[-1:] in ("/", "\\"),
            )
        )
    names = listed(list(dict.fromkeys(signs)))
    return syllables, [remark("not sung", f"{names} among the words")] if signs else []


def _is_spaced(syllables: Sequence[_Syllable]) -> bool:
    """Return whether blanks part the words."""
    count = sum(s.space_before or (s.space_after and not s.ends_line) for s in syllables)
    return count > SPACED_SHARE * len(syllables)


def _joined(syllable: _Syllable, after: _Syllable, spaced: bool) -> bool:
    """Return whether a syllable and the one behind it are of one word."""
    if syllable.joins_after or after.joins_before:
        return True
    parted = syllable.space_after or after.space_before or syllable.ends_line or after.starts_line
    return spaced and not parted


def _places(onsets: Sequence[float], times: Sequence[float]) -> list[int | None]:
    """Return the note of each text: the nearest free one within reach, in order of time."""
    places: list[int | None] = []
    free = 0  # first note behind those that are taken
    for time in times:
        low = max(free, bisect_left(onsets, time - MATCH_SECONDS))
        reach = range(low, bisect_right(onsets, time + MATCH_SECONDS))
        place = min(reach, key=lambda index: abs(onsets[index] - time), default=None)
        places.append(place)
        if place is not None:
            free = place + 1
    return places
