"""Interjections of songs in all their lengths: la, laaa, lalala, heyyy, yeahh, woo-oah, shalala.

Each pattern is a syllable that singers draw out; a word of several of them is their sequence.
"""

from __future__ import annotations

import re
from functools import cache

SYLLABLES = {  # pattern of a whole syllable: its sound
    r"la+h?": "L AA1",
    r"na+h?": "N AA1",
    r"da+h?": "D AA1",
    r"ba+h?": "B AA1",
    r"fa+h?": "F AA1",
    r"ra+h?": "R AA1",
    r"pa+h?": "P AA1",
    r"ha+h?": "HH AA1",
    r"ya+h": "Y AA1",
    r"ya{2,}": "Y AA1",
    r"tra+h?": "T R AA1",
    r"sha+h?": "SH AA1",
    r"a{2,}h*|ah+": "AA1",
    r"o{2,}h*": "UW1",
    r"oh+|o+ah+": "OW1",
    r"uh+": "AH1",
    r"eh+": "EH1",
    r"e+a+h+": "AE1",
    r"huh+": "HH AH1",
    r"du+h?|do{2,}h?": "D UW1",
    r"do{2,}p|du+p": "D UW1 P",
    r"lo{2,}": "L UW1",
    r"bo{2,}": "B UW1",
    r"ho{2,}": "HH UW1",
    r"wh?o{2,}h?(?!a)": "W UW1",
    r"wh?o+a+h*|wo+ah+|wo+h+": "W OW1",
    r"yo+h*": "Y OW1",
    r"ho+h?": "HH OW1",
    r"dum|du+m+": "D AH1 M",
    r"bum": "B AH1 M",
    r"bom+": "B AA1 M",
    r"di+": "D IY1",
    r"de{2,}": "D IY1",
    r"he+y+": "HH EY1",
    r"ay{2,}|a{2,}y+|e+y+": "EY1",
    r"ye+a+h+|ye+a{2,}|ye+h+": "Y AE1",
    r"whe{2,}|we{2,}": "W IY1",
    r"mm+|m+hm+": "AH1 M",
    r"hm+": "HH AH1 M",
    r"uh-?huh": "AH1 HH AH1",
    r"wo+w+": "W AW1",
    r"ow+": "AW1",
}
LONGEST = 40  # letters of a word that is taken for a row of them


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], tuple[str, ...]], ...]:
    return tuple((re.compile(p), tuple(sound.split())) for p, sound in SYLLABLES.items())


def drawn_out(word: str) -> tuple[str, ...] | None:
    """Return the phonemes of one interjection in any length: "heyy", "woooah"; else None."""
    for pattern, sound in _patterns():
        if pattern.fullmatch(word):
            return sound
    return None


def row(word: str) -> tuple[str, ...] | None:
    """Return the phonemes of several interjections written as one word: "lalala"; else None."""
    if len(word) > LONGEST:
        return None
    best: list[tuple[str, ...] | None] = [(), *[None] * len(word)]  # of the first letters
    for end in range(1, len(word) + 1):
        for start in range(end - 1, -1, -1):
            head = best[start]
            if head is not None and end - start > 1 and (sound := drawn_out(word[start:end])):
                best[end] = (*head, *sound)
                break
    found = best[-1]
    return found if found and len(found) > 1 and drawn_out(word) is None else None
