"""Pronunciations made from known words: clipped and possessive forms, inflections, compounds.

`inflected` covers what English forms without exception (lovin', singer's, -s, -ed, -ing, elisions
as heav'n and wand'ring); `derived` what is only likely right (-ly, -ness, un-, two words joined).
Both look stems up with a function word -> phonemes or None, and return None when nothing fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from text.symbols import is_vowel

Phonemes = tuple[str, ...]
Lookup = Callable[[str], "Phonemes | None"]

SIBILANTS = {"S", "Z", "SH", "ZH", "CH", "JH"}
VOICELESS_ENDS = {"P", "T", "K", "F", "TH", "S", "SH", "CH"}
SUFFIXES = {  # spelling: sound; the stem is looked up as it stands, or respelled by `_stems`
    "ly": "L IY0",
    "ness": "N AH0 S",
    "less": "L AH0 S",
    "ful": "F AH0 L",
    "ment": "M AH0 N T",
    "ship": "SH IH2 P",
    "hood": "HH UH2 D",
    "dom": "D AH0 M",
    "some": "S AH0 M",
    "like": "L AY2 K",
    "ward": "W ER0 D",
    "wards": "W ER0 D Z",
    "wise": "W AY2 Z",
    "able": "AH0 B AH0 L",
    "er": "ER0",
    "est": "AH0 S T",
    "ish": "IH0 SH",
    "eth": "AH0 TH",
}
PREFIXES = {
    "un": "AH0 N",
    "re": "R IY0",
    "non": "N AA0 N",
    "mis": "M IH0 S",
    "over": "OW2 V ER0",
    "under": "AH2 N D ER0",
    "out": "AW2 T",
    "fore": "F AO2 R",
    "inter": "IH2 N T ER0",
    "super": "S UW2 P ER0",
    "anti": "AE2 N T IY0",
    "pre": "P R IY0",
}
SHORTEST_STEM = 3  # letters
# Words that compounds are made of: one half must be one, or both halves long.
COMPOUND_ELEMENTS = """
air back ball bed bell bird blood blue book born boy break bright bull candle child church cloud
cold corn cross crown dawn day dead dew door down dream drum dust earth east eye face fair fall
father fellow field fire fish flower fly folk foot ghost girl glass gold good grand grass grave
green guitar hair half hand head heart heaven high hill home horse house ice iron key king
knight lady lamp land life light line lip long lord love maid man mate men mid milk mill moon
morning mother mountain mouth night noon north ocean over pence pipe plough rain river road room
root rose sail sand sea shadow sheep shell shine ship shoe shore side silver sky smith smoke
snow soldier song soul south stone storm street string strings summer sun sweet sword tear thorn
thunder tide time town tree trumpet under upon water wave way weather west white wild wind
window wing winter woman women wood word work world worth yard
"""
ELEMENTS = frozenset(COMPOUND_ELEMENTS.split())
SOUNDS_OF = {"c": "KS", "s": "SZ", "q": "K", "g": "GJ"}  # first letters of phonemes
ARCHAIC = {"st": "S T", "dst": "D S T", "th": "TH"}  # com'st, lov'dst, com'th
LONG_HALF = 5  # letters
SILENT_E = re.compile(r"(?:[^aeiou][aeiouy][^aeiouwxy]|[^n]g|c|[^s]s|v|z|u)$")
DRAWN_OUT = re.compile(r"(.)\1\1+")
DOUBLED = "elofs"  # letters that English words double at an end; a drawn-out one may be two
ENDLESS = "aeiouyhmnrs"  # letters that are drawn out at the end of a word: babyy
NEVER_DOUBLED = {"so", "no", "go", "do", "to", "yo", "bro", "me", "be", "we", "he", "she", "hello"}


def plural_sound(stem: Phonemes) -> Phonemes:
    """Return a stem with the sound of -s: IH0 Z after a hiss, S after a voiceless sound, else Z."""
    if stem[-1] in SIBILANTS:
        return (*stem, "IH0", "Z")
    return (*stem, "S" if stem[-1] in VOICELESS_ENDS else "Z")


def past_sound(stem: Phonemes) -> Phonemes:
    """Return a stem with the sound of -ed: IH0 D after T or D, T after a voiceless one, else D."""
    if stem[-1] in ("T", "D"):
        return (*stem, "IH0", "D")
    return (*stem, "T" if stem[-1] in VOICELESS_ENDS else "D")


def undrawn(word: str) -> list[str]:
    """Return the likely spellings of a word with letters drawn out: "feeel" feel, "sooo" so."""
    if not DRAWN_OUT.search(word):
        return [word[:-1]] if len(word) > 3 and word[-1] == word[-2] and word[-1] in ENDLESS else []
    single = DRAWN_OUT.sub(r"\1", word)
    double = DRAWN_OUT.sub(r"\1\1", word)
    mixed = DRAWN_OUT.sub(lambda run: run[1] * (2 if run[1] in DOUBLED else 1), word)
    spellings = [single, mixed, double] if single in NEVER_DOUBLED else [mixed, single, double]
    return [spelling for spelling in spellings if len(spelling) > 1]


def inflected(word: str, lookup: Lookup) -> Phonemes | None:
    """Return the pronunciation of a regular form of a known word."""
    if word.endswith("in'"):
        return clipped(word[:-1], lookup)
    if word.endswith("s'"):
        return lookup(word[:-1]) or inflected(word[:-1], lookup)
    if word.endswith("'s"):
        stem = lookup(word[:-2]) or inflected(word[:-2], lookup)
        return plural_sound(stem) if stem else None
    if "'" in word:
        return _contracted(word, lookup) or _elided(word, lookup)
    if word.endswith("ies") and (stem := lookup(word[:-3] + "y")):
        return plural_sound(stem)
    if word.endswith("s") and not word.endswith("ss") and (stem := _stem(word[:-1], lookup)):
        return plural_sound(stem)
    if word.endswith("es") and (stem := lookup(word[:-2])) and stem[-1] in SIBILANTS:
        return plural_sound(stem)
    if word.endswith("ied") and (stem := lookup(word[:-3] + "y")):
        return past_sound(stem)
    if word.endswith("ed") and (stem := _first(_stems(word[:-2]), lookup)):
        return past_sound(stem)
    if word.endswith("ing") and (stem := _first(_stems(word[:-3]), lookup)):
        return (*stem, "IH0", "NG")
    return None


def clipped(word: str, lookup: Lookup) -> Phonemes | None:
    """Return "lovin" from loving, "com'in" from coming; None where no word in -ing is known."""
    written = word.replace("'", "") + "g"
    whole = lookup(written) or inflected(written, lookup)
    if whole and whole[-1] == "NG":
        return (*whole[:-1], "N")
    return None


def _contracted(word: str, lookup: Lookup) -> Phonemes | None:
    """Return the pronunciation of a word with 'll, 'd, 've, 're or 'st: "river'll"."""
    stem_word, _, ending = word.rpartition("'")
    if stem_word == "th":  # th'eternal
        whole = lookup(ending) or inflected(ending, lookup)
        return ("DH", *whole) if whole else None
    stem = lookup(stem_word)
    if ending in ARCHAIC:
        stem = lookup(stem_word + "e") or stem
        return (*stem, *ARCHAIC[ending].split()) if stem else None
    if not stem:
        return None
    if ending == "d":
        return past_sound(stem) if stem[-1] in ("T", "D") else (*stem, "D")
    if ending == "m":
        return (*stem, "M")
    after_vowel = is_vowel(stem[-1])
    sounds = {"ll": "L", "ve": "V", "re": "R"}
    if ending not in sounds:
        return None
    weak = "ER0" if ending == "re" else f"AH0 {sounds[ending]}"
    return (*stem, *(sounds[ending] if after_vowel else weak).split())


def _elided(word: str, lookup: Lookup) -> Phonemes | None:
    """Return heav'n from heaven: the unstressed vowel in the apostrophe's place is not sung.

    A lexicon may have left it out already: "everything" has four written vowels and three sounds.
    """
    head, _, tail = word.partition("'")
    if not head or not tail:
        return None
    for letter in "eiou":
        written = head + letter + tail
        whole = lookup(written) or inflected(written, lookup)
        if not whole:
            continue
        nuclei = [index for index, phoneme in enumerate(whole) if is_vowel(phoneme)]
        elided = len(re.findall("[aeiouy]+", head))
        sounded = len(re.findall("[aeiouy]+", re.sub(r"(?<=[^aeiouy])e$", "", written)))
        if sounded > len(nuclei) or elided >= len(nuclei):
            return whole
        index = nuclei[elided]
        after = whole[index + 1 : index + 2]
        is_there = whole[index] == "ER0" or (
            after and after[0][0] in SOUNDS_OF.get(tail[0], tail[0].upper())
        )
        if not whole[index].endswith("0") or not is_there:
            return whole
        kept = ("R",) if whole[index] == "ER0" else ()
        return (*whole[:index], *kept, *whole[index + 1 :])
    return None


def derived(word: str, lookup: Lookup) -> Phonemes | None:
    """Return a likely pronunciation from a known stem with an affix, or from two known words."""

    def known(part: str) -> Phonemes | None:
        return lookup(part) or inflected(part, lookup) if len(part) >= SHORTEST_STEM else None

    for suffix, sound in SUFFIXES.items():
        if word.endswith(suffix) and (stem := _first(_stems(word[: -len(suffix)]), known)):
            return _joined(stem, tuple(sound.split()))
    for prefix, sound in PREFIXES.items():
        if word.startswith(prefix) and (stem := known(word[len(prefix) :])):
            return (*sound.split(), *stem)
    for first, second in _halves(word):
        if (head := known(first)) and (tail := known(second)):
            return _joined(head, tuple(phoneme.replace("1", "2") for phoneme in tail))
    return None


def _joined(head: Phonemes, tail: Phonemes) -> Phonemes:
    """Return two parts of a word as one; a consonant on both sides of the seam is said once."""
    return (*head, *(tail[1:] if head[-1] == tail[0] else tail))


def _is_compound(first: str, second: str) -> bool:
    """Return whether two known words are likely to be meant, and not met by chance."""
    long_halves = len(first) >= LONG_HALF and len(second) >= LONG_HALF
    return long_halves or bool({first, second, second.removesuffix("s")} & ELEMENTS)


def _halves(word: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to part a word in two, the most even first."""
    places = range(SHORTEST_STEM, len(word) - SHORTEST_STEM + 1)
    for place in sorted(places, key=lambda place: abs(2 * place - len(word))):
        if _is_compound(word[:place], word[place:]):
            yield word[:place], word[place:]


def _stems(written: str) -> Iterator[str]:
    """Yield the words that a stem before a suffix may be: runn -> run; lov -> love; happi -> happy.

    After one vowel and one consonant, or a soft one, a silent e is likelier than none: "hop" before
    -ing is "hope", since "hop" would double its p.
    """
    if len(written) < 2:
        return
    if written[-1] == written[-2] and written[-1] not in "aeiousl":
        yield written[:-1]
    if SILENT_E.search(written):
        yield written + "e"
    yield written
    yield written + "e"
    if written.endswith("i"):
        yield written[:-1] + "y"


def _stem(written: str, lookup: Lookup) -> Phonemes | None:
    """Return a stem of at least three letters."""
    return lookup(written) if len(written) >= SHORTEST_STEM else None


def _first(candidates: Iterator[str], lookup: Lookup) -> Phonemes | None:
    """Return the first pronunciation found."""
    return next((found for word in candidates if (found := lookup(word))), None)
