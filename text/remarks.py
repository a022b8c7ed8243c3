"""Remarks for the user: what is not sung, held, repeated, changed or guessed.

A remark is one line that begins with its kind, "not sung: 2 lyrics at no note"; readers collect
them, and `remark_block` shows all of them together at the end of a run.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

REMARK_KINDS = ("not sung", "held", "repeated", "guessed", "changed")
OTHER = "note"  # the kind of a remark that names none
MOST_NAMED = 20  # lost words that are listed one by one
BLOCK_WIDTH = 96  # characters


def remark(kind: str, text: str) -> str:
    """Return a remark of one of `REMARK_KINDS`."""
    assert kind in REMARK_KINDS, kind
    return f"{kind}: {text}"


def listed(names: Sequence[str], most: int = MOST_NAMED) -> str:
    """Return names in a row, at most `most` of them and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def grouped(remarks: Iterable[str]) -> dict[str, list[str]]:
    """Return the remarks by kind, each once, in the order of `REMARK_KINDS`, others last."""
    groups: dict[str, list[str]] = {kind: [] for kind in (*REMARK_KINDS, OTHER)}
    for line in dict.fromkeys(remarks):
        kind, colon, text = line.partition(": ")
        if colon and kind in REMARK_KINDS:
            groups[kind].append(text)
        else:
            groups[OTHER].append(line)
    return {kind: texts for kind, texts in groups.items() if texts}


def remark_block(remarks: Iterable[str], title: str = "please note") -> str:
    """Return all remarks as one framed block of text; "" without any."""
    groups = grouped(remarks)
    if not groups:
        return ""
    indent = max(map(len, REMARK_KINDS)) + 2
    lines = [f"--- {title} ".ljust(BLOCK_WIDTH, "-")]
    for kind, texts in groups.items():
        for number, text in enumerate(texts):
            lines += textwrap.wrap(
                text,
                BLOCK_WIDTH,
                initial_indent=("" if number else kind).ljust(indent),
                subsequent_indent=" " * indent,
                break_on_hyphens=False,
            )
    return "\n".join([*lines, "-" * BLOCK_WIDTH])
