"""Label files of singing corpora: when each phoneme is sung, and the notes where they say so.

Formats: Praat TextGrid (tiers of phones, words and notes), HTK labels (.lab, in 100 ns or s), rows
`onset offset phoneme` in seconds (.txt of NUS-48E, Duan et al. 2013), DiffSinger's .ds (Liu et al.
2022), and .csv tables `start,end,pitch,syllable` of CSD (Choi et al. 2020), whose syllables are
phonemes joined by "_". Phonemes are ARPAbet in any case, with or without stress.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from music.score import ACCIDENTALS, SEMITONES
from text.lexicon import Lexicon
from text.symbols import CONSONANTS, STRESSES, VOWELS, is_vowel

LABEL_SUFFIXES = (".textgrid", ".ds", ".csv", ".lab", ".txt")
LARGEST_LABELS = 16 * 2**20  # bytes; an hour of phonemes has less than one million
HTK_UNIT = 1e-7  # s
SILENCES = ("", "sil", "sp", "spn", "pau", "ap", "br", "silence", "_", "-", "<sp>", "<ap>", "h#")
REST_WORDS = ("rest", "0", "")
ROW = re.compile(r"\s*(\d+(?:\.\d+)?)[\s,;]+(\d+(?:\.\d+)?)[\s,;]+(\S+)\s*")
NOTE_NAME = re.compile(r"([A-Ga-g])([#♯b♭]?)(-?\d)(?:[+-]\d+)?")


class Phone(NamedTuple):
    """A phoneme (ARPAbet; vowels with stress) from onset to offset in s."""

    symbol: str
    onset: float
    offset: float


@dataclass(frozen=True)
class SungWord:
    """A word with its phonemes and their times; no text where nobody wrote it."""

    text: str
    phones: tuple[Phone, ...]


@dataclass(frozen=True)
class Labels:
    """What a label file says: words in time, and notes (onset s, offset s, MIDI) if there are."""

    words: tuple[SungWord, ...]
    notes: tuple[tuple[float, float, float], ...] = ()
    remarks: tuple[str, ...] = ()


class _Span(NamedTuple):
    """A label as it stands in a file."""

    onset: float
    offset: float
    text: str


def has_labels(path: Path) -> bool:
    """Say whether a file holds labels: by its suffix, and of text by its first rows."""
    suffix = path.suffix.lower()
    if suffix in (".textgrid", ".ds"):
        return True
    try:
        with open(path, encoding="utf-8-sig", errors="replace") as file:
            rows = [row for row in (file.readline(1000) for _ in range(4)) if row.strip()]
    except OSError:
        return False
    if suffix == ".csv":
        return bool(rows) and rows[0].lower().replace(" ", "").startswith("start,end,pitch")
    return bool(rows) and all(ROW.fullmatch(row) for row in rows)


def read_labels(path: Path) -> Labels:
    """Read a label file; ValueError names what is not understood, unknown phonemes included."""
    size = path.stat().st_size
    if size > LARGEST_LABELS:
        raise ValueError(f"{path}: {size} bytes; expected at most {LARGEST_LABELS}")
    text = path.read_text(encoding=_encoding(path))
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _table(text)
    if suffix == ".ds":
        return _diffsinger(json.loads(text))
    if suffix == ".textgrid":
        return _textgrid(_tiers(text))
    return Labels(_words(_rows(text)))


def _encoding(path: Path) -> str:
    with open(path, "rb") as file:
        start = file.read(2)
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


# -- the formats ---------------------------------------------------------------------------------


def _rows(text: str) -> list[_Span]:
    """Read rows `onset offset phoneme`, in s or, where all are whole and large, in 100 ns."""
    spans = []
    for number, row in enumerate(text.splitlines(), 1):
        if not row.strip():
            continue
        if not (match := ROW.match(row)):
            raise ValueError(f"line {number}: {row.strip()[:60]!r}, expected: onset offset phoneme")
        spans.append(_Span(float(match[1]), float(match[2]), match[3]))
    if not spans:
        raise ValueError("no row `onset offset phoneme`")
    whole = all(s.onset.is_integer() and s.offset.is_integer() for s in spans)
    if whole and spans[-1].offset > 1e5:
        spans = [_Span(s.onset * HTK_UNIT, s.offset * HTK_UNIT, s.text) for s in spans]
    return spans


def _table(text: str) -> Labels:
    """Read the csv of CSD: one note a row, with the phonemes of its syllable.

    A syllable's consonants have slots beside its vowel, which begins with the note.
    """
    words: list[SungWord] = []
    notes: list[tuple[float, float, float]] = []
    for number, row in enumerate(csv.DictReader(text.splitlines()), 2):
        try:
            values = {str(k).strip().lower(): str(v).strip() for k, v in row.items()}
            onset, offset = float(values["start"]), float(values["end"])
            pitch, syllable = float(values["pitch"]), values["syllable"]
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"line {number}: expected start,end,pitch,syllable ({error})"
            ) from None
        notes.append((onset, offset, pitch))
        names = [_bare(name) for name in re.split(r"[_\s]+", syllable) if name]
        if names and not all(_is_silence(name) for name in names):
            words.append(SungWord("", _in_slots(_arpabet(names), onset, offset)))
    return Labels(tuple(words), tuple(notes))


def _in_slots(symbols: Sequence[str], onset: float, offset: float, slot: float = 0.06) -> tuple[
    Phone, ...
]:  # fmt: skip
    """Give the vowel of a syllable its note, and each consonant a slot before or in its end."""
    vowel = next((i for i, s in enumerate(symbols) if is_vowel(s)), len(symbols) - 1)
    coda = len(symbols) - vowel - 1
    slot = min(slot, (offset - onset) / 2 / max(1, coda))
    end = offset - coda * slot
    phones = []
    for index, symbol in enumerate(symbols):
        if index < vowel:
            begin = max(0.0, onset - (vowel - index) * slot)
            phones.append(Phone(symbol, begin, max(begin, onset - (vowel - index - 1) * slot)))
        elif index == vowel:
            phones.append(Phone(symbol, onset, end))
        else:
            place = index - vowel - 1
            phones.append(Phone(symbol, end + place * slot, end + (place + 1) * slot))
    return tuple(phones)


def _diffsinger(content: Any) -> Labels:
    """Read the segments of a .ds file: ph_seq with ph_dur, note_seq with note_dur, offset."""
    segments = content if isinstance(content, list) else [content]
    spans: list[_Span] = []
    notes: list[tuple[float, float, float]] = []
    for number, segment in enumerate(segments, 1):
        if not isinstance(segment, dict) or "ph_seq" not in segment or "ph_dur" not in segment:
            raise ValueError(f"segment {number}: expected ph_seq and ph_dur")
        start = float(segment.get("offset", 0.0))
        spans += _durations(segment, "ph", start, number)
        if "note_seq" in segment and "note_dur" in segment:
            for span in _durations(segment, "note", start, number):
                if (pitch := note_pitch(span.text)) is not None:
                    notes.append((span.onset, span.offset, pitch))
        spans.append(_Span(spans[-1].offset, spans[-1].offset, "SP"))
    return Labels(_words(spans), tuple(notes))


def _durations(segment: dict[str, Any], kind: str, start: float, number: int) -> list[_Span]:
    """Lay NAME_seq end to end by NAME_dur."""
    names, seconds = (_listed(segment[f"{kind}_{part}"]) for part in ("seq", "dur"))
    if len(names) != len(seconds) or not names:
        raise ValueError(
            f"segment {number}: {len(names)} entries in {kind}_seq, {len(seconds)} in {kind}_dur"
        )
    spans = []
    for name, duration in zip(names, map(float, seconds), strict=True):
        if not 0 <= duration < 3600:
            raise ValueError(f"segment {number}: {kind}_dur holds {duration}")
        spans.append(_Span(start, start + duration, name))
        start += duration
    return spans


def _listed(value: Any) -> list[str]:
    return value.split() if isinstance(value, str) else [str(part) for part in value]


def note_pitch(name: str) -> float | None:
    """Return the MIDI number of a note's name (C4 = 60) or number; None for a rest.

    Raises ValueError for anything else.
    """
    text = name.strip()
    if text.lower() in REST_WORDS:
        return None
    if match := NOTE_NAME.fullmatch(text):
        sign = match[2].replace("♯", "#").replace("♭", "b")
        return 12.0 * (int(match[3]) + 1) + SEMITONES[match[1].upper()] + ACCIDENTALS[sign]
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{name!r} is no note: expected C4, a MIDI number, or rest") from None


TOKEN = re.compile(r'"((?:[^"]|"")*)"|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)|(<exists>)')


def _tiers(text: str) -> dict[str, list[_Span]]:
    """Read the interval tiers of a TextGrid, in its long or its short form."""
    if "ooTextFile" not in text[:200]:
        raise ValueError('not a TextGrid: expected File type = "ooTextFile"')
    text = re.sub(r"\[\d*\]", "", text.split('"TextGrid"', 1)[-1])  # "item [1]:", "intervals [1]:"
    tokens: list[str | float] = []
    for quoted, number, _ in TOKEN.findall(text):
        tokens.append(float(number) if number else quoted.replace('""', '"'))
    tiers: dict[str, list[_Span]] = {}
    place = tokens.index("IntervalTier") if "IntervalTier" in tokens else len(tokens)
    while place < len(tokens):
        kind, name = tokens[place], str(tokens[place + 1])
        count, place = int(float(tokens[place + 4])), place + 5
        if kind == "TextTier":  # points: time and mark
            place += 2 * count
            continue
        if kind != "IntervalTier":
            raise ValueError(f"a tier of kind {kind!r}, expected IntervalTier or TextTier")
        rows = [tokens[place + 3 * k : place + 3 * k + 3] for k in range(count)]
        if any(len(row) < 3 for row in rows):
            raise ValueError(f"tier {name!r} ends before its {count} intervals")
        tiers[name] = [_Span(float(a), float(b), str(mark).strip()) for a, b, mark in rows]
        place += 3 * count
    return tiers


def _textgrid(tiers: dict[str, list[_Span]]) -> Labels:
    """Take phones, words and notes out of the tiers, by their names."""

    def named(*parts: str) -> list[_Span] | None:
        names = (name for name in tiers if any(part in name.lower() for part in parts))
        return next((tiers[name] for name in names), None)

    phones = named("phon") or tiers.get("ph")
    if phones is None:
        raise ValueError(f"no tier of phones: tiers are {', '.join(tiers) or 'none'}")
    notes = []
    for span in named("note", "pitch", "midi") or ():
        if (pitch := note_pitch(span.text)) is not None:
            notes.append((span.onset, span.offset, pitch))
    return Labels(_words(phones, named("word", "lyric")), tuple(notes))


# -- phonemes to words ---------------------------------------------------------------------------


def _is_silence(name: str) -> bool:
    return name.lower() in SILENCES


def _bare(name: str) -> str:
    """Return a phoneme's name without a language in front (en/ah)."""
    return name.rpartition("/")[2].strip()


def _words(phones: Iterable[_Span], words: Sequence[_Span] | None = None) -> tuple[SungWord, ...]:
    """Group phones to words: by the words' own spans, else by the silences between them."""
    previous = 0.0
    groups: list[tuple[str, list[_Span]]] = []
    inside: int | None = None
    for span in phones:
        if span.offset < span.onset or span.onset < previous - 1e-3:
            raise ValueError(f"{span.text!r} at {span.onset:.3f} s: labels must follow in time")
        previous = span.onset
        name = _bare(span.text)
        if _is_silence(name):
            inside = None
            continue
        word, text = _word_at(words, (span.onset + span.offset) / 2)
        if inside is None or word != inside:
            groups.append((text, []))
        inside = word
        groups[-1][1].append(span)
    found = []
    for text, spans in groups:
        symbols = _arpabet([_bare(span.text) for span in spans])
        phones_of = (Phone(s, p.onset, p.offset) for s, p in zip(symbols, spans, strict=True))
        found.append(SungWord(text, tuple(phones_of)))
    if not found:
        raise ValueError("no phoneme is sung: every label is a silence")
    return tuple(found)


def _word_at(words: Sequence[_Span] | None, time: float) -> tuple[int, str]:
    """Return number and text of the word that is sung at a time; -1 where none is marked."""
    for number, word in enumerate(words or ()):
        if word.onset <= time < word.offset and not _is_silence(word.text):
            return number, word.text
    return -1, ""


def _arpabet(names: Sequence[str]) -> tuple[str, ...]:
    """Return the phonemes of a word in our table, stress included; ValueError names others."""
    symbols = [name.upper() for name in names]
    strange = [
        name
        for name, symbol in zip(names, symbols, strict=True)
        if symbol not in CONSONANTS and symbol.rstrip("".join(STRESSES)) not in VOWELS
    ]
    if strange:
        some = ", ".join(dict.fromkeys(strange))
        raise ValueError(f"phonemes {some}: expected ARPAbet (English), such as HH AH L OW")
    if all(is_vowel(symbol) or symbol in CONSONANTS for symbol in symbols):
        return tuple(symbols)
    bare = tuple(symbol.rstrip("".join(STRESSES)) for symbol in symbols)
    return _stressed().get(bare, ("", _guessed_stress(bare)))[1]


def _guessed_stress(bare: Sequence[str]) -> tuple[str, ...]:
    """Stress the first vowel that is no schwa, and none of the others."""
    strong = next((i for i, s in enumerate(bare) if s in VOWELS and s != "AH"), None)
    first = next((i for i, s in enumerate(bare) if s in VOWELS), None)
    strong = first if strong is None else strong
    return tuple(
        symbol + ("1" if index == strong else "0") if symbol in VOWELS else symbol
        for index, symbol in enumerate(bare)
    )


def spelling(phonemes: Sequence[str]) -> str:
    """Return a word that is pronounced so, else the phonemes in braces, as in lyrics."""
    bare = tuple(symbol.rstrip("".join(STRESSES)) for symbol in phonemes)
    found = _stressed().get(bare)
    return found[0] if found else "{" + " ".join(phonemes) + "}"


@cache
def _stressed() -> dict[tuple[str, ...], tuple[str, tuple[str, ...]]]:
    """Map phonemes without stress to a word of the dictionary and its phonemes with stress.

    Of several the shortest spelling, then the first in the alphabet: words before names.
    """
    table: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {}
    entries = Lexicon().cmudict_entries
    for word in sorted(entries, key=lambda word: (len(word), word)):
        if not word.isalpha():
            continue
        phonemes = tuple(entries[word].split())
        bare = tuple(symbol.rstrip("".join(STRESSES)) for symbol in phonemes)
        table.setdefault(bare, (word, phonemes))
    return table
