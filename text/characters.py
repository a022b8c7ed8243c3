"""Characters: Unicode folded to the few signs that the normaliser reads, or refused by name."""

from __future__ import annotations

import unicodedata

HYPHENS = "-‐‑"
REPLACEMENTS = {
    **dict.fromkeys("‘’‚‛ʼʻʹ′`´＇", "'"),
    **dict.fromkeys("“”„‟«»″＂", '"'),
    **dict.fromkeys("‐‑⁃", "-"),
    **dict.fromkeys("‒–", "–"),  # between numbers "to", elsewhere a dash
    **dict.fromkeys("—―⸺⸻", " -- "),
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
    return joiner or unicodedata.category(character) in ("So", "Sk", "Co")


def unpronounceable(character: str, line_number: int) -> str:
    """Return the message about a character that no English reader could say."""
    name = unicodedata.name(character, "a control character or unassigned")
    return (
        f"line {line_number}: cannot pronounce {character!r} (U+{ord(character):04X} {name}). "
        "Remove it, spell it with English letters, or write its sound as ARPAbet in braces, "
        "for example {HH AH0 L OW1}"
    )
