"""Names of tracks and parts: which one the user means, and which one is likely the voice."""

from __future__ import annotations

import re
from collections.abc import Sequence

VOICE_WORDS = re.compile(
    r"\b(vocals?|voice|vox|voc|melod(y|ie|ia)|topline|lead ?vocals?|singer|singing|sung)\b"
)
NOT_LEADING = re.compile(r"\b(back(ing|ground|up)?|bgv?s?|bvs?|harmon\w*|choir|oohs|aahs|pad)\b")


def is_voice_name(name: str) -> bool:
    """Return whether a track or part is called a leading voice."""
    folded = name.lower().replace("_", " ")
    return bool(VOICE_WORDS.search(folded)) and not NOT_LEADING.search(folded)


def listed_parts(names: Sequence[str]) -> str:
    """Return names with the numbers by which they can be chosen."""
    return ", ".join(f"{number}: {name!r}" for number, name in enumerate(names, 1)) or "none"


def named(wanted: str, names: Sequence[str], place: str, kind: str = "track") -> int:
    """Return the index of the name that is wanted: by name in any case, part of it, or number.

    Numbers count from 1. Raises ValueError naming all of them.
    """
    folded, sought = [name.casefold() for name in names], wanted.strip().casefold()
    same = [index for index, name in enumerate(folded) if name == sought]
    within = [index for index, name in enumerate(folded) if sought and sought in name]
    if len(same) == 1:
        return same[0]
    if not same and sought.isdecimal() and 1 <= int(sought) <= len(names):
        return int(sought) - 1
    if not same and len(within) == 1:
        return within[0]
    several = f"several {kind}s are called" if len(same or within) > 1 else f"no {kind}"
    raise ValueError(f"{place}: {several} {wanted!r}; {kind}s with notes are {listed_parts(names)}")
