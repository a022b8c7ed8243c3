"""Normalisation: a written line to spoken words, in lower case, with the punctuation that is heard.

What comes out holds words of a-z and apostrophes (joined by hyphens: "forty-two"), spelled letters
with full stops ("u.s.a."), phonemes in braces, and the marks , . ? ! ; : ... and " - " for a dash.
The result is a fixed point: normalising it again changes nothing. Case plays no part, so that
lyrics in capitals read like any other: "US" is the pronoun, "U.S." the country.
"""

from __future__ import annotations

import html
import re
import unicodedata

from text.amounts import AMOUNT_RULES, Rule
from text.numbers import cardinal, ordinal

HYPHENS = "-‐‑"
REPLACEMENTS = {
    **dict.fromkeys("‘’‚‛ʼʻʹ′`´＇", "'"),
    **dict.fromkeys("“”„‟«»‹›″＂「」『』", '"'),
    **dict.fromkeys("‐‑⁃", "-"),
    **dict.fromkeys("‒–", "–"),  # between numbers "to", elsewhere a dash
    **dict.fromkeys("—―⸺⸻", " -- "),
    **{"、": ", ", "。": ". "},
    **{"−": "-", "⁄": "/", "∕": "/", "…": "...", "•": " ", "·": " ", "†": " ", "‡": " "},
    **{"™": "", "®": "", "©": "", "¿": "", "¡": "", "\u00ad": ""},
    **{"½": " 1/2", "¼": " 1/4", "¾": " 3/4", "⅓": " 1/3", "⅔": " 2/3", "⅛": " 1/8"},
    **{"⅜": " 3/8", "⅝": " 5/8", "⅞": " 7/8", "⅕": " 1/5", "⅙": " 1/6"},
    **{"²": " squared", "³": " cubed"},
    **{sign: sign for sign in "°£€¥¢₹"},
    **{
        "×": " times ",
        "÷": " divided by ",
        "±": " plus or minus ",
        "≈": " about ",
        "№": " number ",
    },
    **{"§": " section ", "¶": " ", "♯": " sharp", "♭": " flat", "♮": " natural"},
    **{"ß": "ss", "ẞ": "SS", "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ø": "o", "Ø": "O"},
    **{"ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ð": "th", "Ð": "TH", "þ": "th", "Þ": "TH"},
    **{"ı": "i", "ħ": "h", "Ħ": "H", "ŋ": "ng", "Ŋ": "NG", "ŧ": "t", "Ŧ": "T"},
}


def fold(line: str, line_number: int = 1) -> str:
    """Return `line` in lower case with accents, typographic signs and ligatures folded to ASCII.

    Only £ € ¥ ¢ ₹ ° and the en dash stay beyond ASCII: the normaliser reads them. Any other
    character raises ValueError naming the line, the character and its Unicode name.
    """
    return "".join(_fold_character(character, line_number) for character in line).lower()


def _fold_character(character: str, line_number: int) -> str:
    """Return what one character folds to, possibly nothing."""
    if character in REPLACEMENTS:
        return REPLACEMENTS[character]
    if character.isascii() and character.isprintable():
        return character
    if character.isspace():
        return " "
    if unicodedata.category(character) in ("Cf", "Mn"):  # format characters, combining accents
        return ""
    folded = ""
    for part in unicodedata.normalize("NFKD", character):
        if unicodedata.category(part) == "Mn":
            continue
        folded += REPLACEMENTS.get(part, part)
    if not folded or not folded.isascii() or not folded.isprintable():
        if unicodedata.category(character).startswith("P"):  # brackets, stops of other scripts
            return " "
        raise ValueError(unpronounceable(character, line_number))
    return folded


def without_pictures(text: str) -> tuple[str, list[str]]:
    """Return `text` without signs that are seen and not said, and these: notes, hearts, emoji."""
    signs = [character for character in text if _is_picture(character)]
    if not signs:
        return text, []
    kept = "".join(" " if _is_picture(character) else character for character in text)
    return kept, [sign for sign in signs if unicodedata.category(sign).startswith("S")]


def _is_picture(character: str) -> bool:
    """Return whether a character is a symbol beyond those that the normaliser reads."""
    if character.isascii() or character in REPLACEMENTS:
        return False
    code = ord(character)
    joiner = 0xFE00 <= code <= 0xFE0F or 0xE0020 <= code <= 0xE007F or code == 0x20E3
    if unicodedata.category(character) in ("Sm", "Sc"):  # arrows, but not full-width + = $
        return not unicodedata.normalize("NFKD", character).isascii()
    return joiner or unicodedata.category(character) in ("So", "Sk", "Co")


def unpronounceable(character: str, line_number: int) -> str:
    """Return the message about a character that no English reader could say."""
    name = unicodedata.name(character, "a control character or unassigned")
    return (
        f"line {line_number}: cannot pronounce {character!r} (U+{ord(character):04X} {name}). "
        "Remove it, spell it with English letters, or write its sound as ARPAbet in braces, "
        "for example {HH AH0 L OW1}"
    )


INLINE = re.compile(r"\{[^{}]*\}")
LONGEST_LINE = 10_000  # characters; ten minutes of speech
PLACE = "{}"  # stands for inline phonemes while the words around them are written out
ACRONYM = r"[a-z](?:\.[a-z])+\.?(?![a-z])"

ABBREVIATIONS = {  # with a full stop, in any case
    "mr": "mister",
    "mrs": "missus",
    "ms": "ms",
    "messrs": "messieurs",
    "jr": "junior",
    "sr": "senior",
    "co": "company",
    "ltd": "limited",
    "inc": "incorporated",
    "corp": "corporation",
    "bros": "brothers",
    "dept": "department",
    "ft": "fort",
    "ave": "avenue",
    "blvd": "boulevard",
    "rd": "road",
    "etc": "et cetera",
    "vs": "versus",
    "feat": "featuring",
    "esq": "esquire",
    "mss": "manuscripts",
    "viz": "namely",
    "approx": "approximately",
    "feb": "february",
    "apr": "april",
    "sept": "september",
    "oct": "october",
    "nov": "november",
}
TITLES = {  # with a full stop, in front of a name
    "prof": "professor",
    "gen": "general",
    "col": "colonel",
    "capt": "captain",
    "cmdr": "commander",
    "lt": "lieutenant",
    "sgt": "sergeant",
    "maj": "major",
    "rev": "reverend",
    "hon": "honorable",
    "gov": "governor",
    "sen": "senator",
    "rep": "representative",
    "mt": "mount",
}
BEFORE_NUMBER = {"no": "number", "nos": "numbers", "vol": "volume", "ch": "chapter", "p": "page"}
BEFORE_NUMBER |= {"pp": "pages", "fig": "figure", "op": "opus", "pt": "part", "sec": "section"}
BEFORE_NUMBER |= {"art": "article", "mar": "march", "jun": "june", "jul": "july", "ca": "circa"}
BEFORE_NUMBER |= {"jan": "january", "aug": "august", "dec": "december"}  # else perhaps a name
ALWAYS = {"mr": "mister", "mrs": "missus", "messrs": "messieurs", "vs": "versus"}  # also without

TEXTED = {  # letters with a number that is said as part of the word
    **{"gr8": "great", "h8": "hate", "l8r": "later", "m8": "mate", "sk8": "skate", "w8": "wait"},
    **{"sk8r": "skater", "sk8er": "skater", "str8": "straight", "b4": "before"},
    **{"4ever": "forever", "4eva": "forever", "2gether": "together", "2nite": "tonight"},
    **{"2day": "today", "2morrow": "tomorrow", "2night": "tonight"},
    **{"any1": "anyone", "every1": "everyone", "some1": "someone"},
}

REIGNING = (
    "henry|charles|louis|george|edward|richard|james|william|elizabeth|john|paul|pius|benedict|"
    "gregory|leo|clement|innocent|alexander|nicholas|frederick|philip|ferdinand|francis|peter|"
    "catherine|mary|napoleon|robert|david|malcolm|otto|albert|leopold|gustav|christian|wilhelm|"
    "urban|boniface|sixtus|julius|adrian|eugene|martin|stephen|ivan|ramses|rameses|cosimo"
)
COUNTED = "chapter|part|volume|act|scene|book|section|article|canto|psalm|war|number|opus|figure"
ROMAN_NUMERALS = (
    *("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii", "xiii", "xiv"),
    *("xv", "xvi", "xvii", "xviii", "xix", "xx", "xxi", "xxii", "xxiii", "xxiv"),
)
ROMAN = {numeral: value for value, numeral in enumerate(ROMAN_NUMERALS, start=1)}
ANY_ROMAN = "|".join(sorted(ROMAN, key=len, reverse=True))
NOT_PRONOUN = r"(?:(?<=\bi)(?=[.,;:!?)\]])|(?<!\bi))"  # "part i" only before a stop


def _regnal(match: re.Match[str]) -> str:
    return f"{match[1]} the {ordinal(ROMAN[match[2]])}"


def _counted(match: re.Match[str]) -> str:
    return f"{match[1]} {cardinal(ROMAN[match[2]])}"


def _either(table: dict[str, str], tail: str) -> Rule:
    """Return the rule that writes out the table's keys where `tail` follows."""
    names = "|".join(sorted(table, key=len, reverse=True))
    return re.compile(rf"(?<![\w'-])({names}){tail}"), lambda match: table[match[1]]


WORD_RULES: tuple[Rule, ...] = (
    (re.compile(r"(?<![\w.])([a-z])\. +(?=[a-z]\.(?![\w.]))"), r"\1."),  # J. F. K.
    (re.compile(r"(?<![\w.])([b-hj-z])\. +(?=[a-z])"), r"\1 "),  # an initial: J. Smith
    (re.compile(r"\.(?=(?:com|org|net|edu|gov|io)\b)"), " dot "),
    (re.compile(r"\bph\.\s?d\b\.?"), "p.h.d."),
    (re.compile(r"(?<![\w'-])dr\.?(?=\s+[a-z])"), "doctor"),
    (re.compile(r"(?<=[a-z] )dr\."), "drive"),
    (re.compile(r"(?<=[a-z] )st\.(?=\s*(?:[,;:!?)]|$))"), "street"),
    (re.compile(r"(?<![\w'-])st\.?(?=\s+[a-z])"), "saint"),
    _either(BEFORE_NUMBER, r"\.(?=\s*\d)"),
    _either(TITLES, r"\.(?=\s+[a-z])"),
    _either(ABBREVIATIONS, r"\.(?!\w)"),
    _either(ALWAYS, r"(?![\w'.-])"),
    (re.compile(r"(?<=\d(?:st|nd|rd|th) )ave\b\.?"), "avenue"),
    _either(TEXTED, r"(?![\w'-])"),
    (
        re.compile(rf"\b(?!malcolm x\b)({REIGNING}) (?:the )?({ANY_ROMAN})\b(?!'){NOT_PRONOUN}"),
        _regnal,
    ),
    (re.compile(rf"\b((?:{COUNTED})s?) ({ANY_ROMAN})\b(?!'){NOT_PRONOUN}"), _counted),
    (
        re.compile(r"(?<![\w'.-])(ii|iii|vii|viii|xii|xiii|xiv|xv|xvi|xvii|xviii|xix)(?![\w'-])"),
        lambda match: cardinal(ROMAN[match[1]]),
    ),
)
SIGN_RULES: tuple[Rule, ...] = (
    (re.compile(r"''+"), " "),
    (re.compile(r"(?<=[a-z])'n'(?=[a-z])"), " 'n "),
    (re.compile(r"#(?=\s*[a-z])"), " hashtag "),
    (re.compile(r"==+"), " "),
    (re.compile(r"(?<=[a-z])~(?=[a-z])"), "-"),
    (re.compile(r"(?<![\w'])w/o(?!\w)"), "without "),
    (re.compile(r"(?<![\w'])w/"), "with "),
    (re.compile(r"(?<=[a-z])\$(?=[a-z])"), "s"),  # Ke$ha
    (re.compile(r"&"), " and "),
    (re.compile(r"@"), " at "),
    (re.compile(r"%"), " percent "),
    (re.compile(r"\+"), " plus "),
    (re.compile(r"="), " equals "),
    (re.compile(r"£"), " pounds "),
    (re.compile(r"€"), " euros "),
    (re.compile(r"¥"), " yen "),
    (re.compile(r"¢"), " cents "),
    (re.compile(r"₹"), " rupees "),
    (re.compile(r"\$"), " dollars "),
    (re.compile(r"°"), " degrees "),
    (re.compile(r"[\"_\\^*~#</>]"), " "),
    (re.compile(r"[)\]\s]+$"), ""),
    (re.compile(r"[()\[\]|]"), " , "),
    (re.compile(r"–|--+"), " - "),
)
PAUSES = ("?", "!", ".", "...", ";", ":", ",", "-")  # of several in a row the first one here stays
TOKEN = re.compile(
    rf"\{{[^{{}}]*\}}|{ACRONYM}|'*[a-z]+(?:['-]+[a-z]+)*'*|\.\.+|[.,?!;:]|(?<![a-z'])-+|-+(?![a-z'])"
)


def normalise(line: str, line_number: int = 1) -> str:
    """Return the spoken form of one line; "" when it holds no word.

    Phonemes in braces stay as they are, in capitals. Raises ValueError, naming the line, for a
    character that cannot be read, a brace without its partner, or a line that is far too long. The
    rules run until nothing changes: taking a quote away may uncover an abbreviation.
    """
    if len(line) > LONGEST_LINE:
        raise ValueError(
            f"line {line_number}: {len(line)} characters; expected at most {LONGEST_LINE} in a line"
        )
    line = unescaped(line)
    inline = INLINE.findall(line)
    text = INLINE.sub(PLACE, line)
    for brace in "{}":
        if text.count(brace) > len(inline):
            raise ValueError(
                f"line {line_number}: a {brace!r} without its partner; phonemes are written as "
                "{HH AH0 L OW1}"
            )
    before, text = None, fold(text, line_number)
    while text != before:
        before = text
        for pattern, replacement in (*WORD_RULES, *AMOUNT_RULES, *SIGN_RULES):
            text = pattern.sub(replacement, text)
        text = _tidy(text)
    for written in inline:
        text = text.replace(PLACE, "{" + " ".join(written[1:-1].upper().split()) + " }", 1)
    return text.replace(" }", "}")


def _tidy(text: str) -> str:
    """Return words parted by one space, with one mark at most after each and none in front."""
    words: list[str] = []
    pause = ""
    for token in TOKEN.findall(text):
        mark = "..." if token.startswith("..") else "-" if set(token) == {"-"} else token
        if mark in PAUSES:
            pause = min(pause or mark, mark, key=PAUSES.index)
            continue
        if words and pause:
            words[-1] += " -" if pause == "-" else pause
        words.append(_acronym(token))
        pause = ""
    if words and pause:
        words[-1] += " -" if pause == "-" else pause
    return " ".join(words)


def _acronym(token: str) -> str:
    """Return spelled letters with their last full stop; other tokens as they are."""
    return token.rstrip(".") + "." if "." in token and not token.startswith("{") else token


def tokens(normalised: str) -> list[str]:
    """Return the words, spelled letters, inline phonemes and marks of a normalised line."""
    return TOKEN.findall(normalised)


ENTITY = re.compile(r"&(?:#\d{1,7}|#x[0-9a-fA-F]{1,6}|[a-zA-Z]{2,31}[0-9]{0,2});")
LINE_BREAK_TAG = re.compile(r"<\s*br\s*/?\s*>", re.IGNORECASE)
HEART = re.compile(r"(?<![\w<])</?3(?!\d)")
OTHER_TAG = re.compile(r"</?\s*(?:b|i|u|em|strong|p|div|span|font|v|c)\b[^<>]*>", re.IGNORECASE)


def unescaped(text: str) -> str:
    """Return text with the entities and tags of web pages, and "<3", taken for what they mean."""
    text = OTHER_TAG.sub("", LINE_BREAK_TAG.sub("\n", text))
    text = ENTITY.sub(lambda match: html.unescape(match[0]).replace("\u00a0", " "), text)
    return HEART.sub("♥", text)
