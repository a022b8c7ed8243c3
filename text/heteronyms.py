"""Heteronyms: words whose neighbours decide on how they are read, by a small table of rules.

A word is read as its first rule says whose patterns match the words before it and after it, and
otherwise as the lexicon lists it. The rules look at three words on either side; they know that
"to", "don't" or "we" stand before verbs and "the" or "my" before nouns, and some phrases of songs.
What they cannot tell (a sentence's grammar) has one reading; {L AY1 V} in the line, or a user
lexicon, says another.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

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
BEING = r"(?:am|is|are|was|were|be|been|i'm|you're|he's|she's|it's|we're|they're|feel|feels|felt)"


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


def reading(word: str, before: Sequence[str], after: Sequence[str]) -> tuple[str, ...] | None:
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
