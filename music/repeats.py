"""The order in which measures are played: repeats, voltas, da capo, dal segno, coda, fine."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_MEASURES = 5000  # of an unfolded song


@dataclass
class MeasureMarks:
    """The signs of one measure that change what is played after it."""

    forward: bool = False  # a repeat starts here
    backward: int = 0  # a repeat ends here: how often the section is played in all; 0 = none
    endings: frozenset[int] = frozenset()  # voltas: the passes in which the measure is played
    ending_stops: bool = False
    segno: bool = False
    coda: bool = False
    to_coda: bool = False
    da_capo: bool = False
    dal_segno: bool = False
    fine: bool = False
    in_words: str = ""  # a jump that is written in words alone


DA_CAPO = re.compile(r"(?<![a-z.])d\.?\s?c\.?(?![a-z])|\bda\s+capo\b", re.IGNORECASE)
DAL_SEGNO = re.compile(r"(?<![a-z.])d\.?\s?s\.?(?![a-z])|\bdal?\s+segno\b", re.IGNORECASE)


def read_words(words: str, marks: MeasureMarks) -> None:
    """Read the jumps that a direction says in words: D.C. al Fine, D.S., To Coda, Coda, Fine."""
    text = " ".join(words.split()).strip(" .")
    folded = text.casefold()
    if re.search(r"\bto\s+coda\b", folded) or folded == "al coda":
        marks.to_coda = True
    elif DA_CAPO.search(text):
        marks.da_capo, marks.in_words = True, text
    elif DAL_SEGNO.search(text):
        marks.dal_segno, marks.in_words = True, text
    elif folded == "coda":
        marks.coda = True
    elif folded == "fine":
        marks.fine = True


def play_order(marks: Sequence[MeasureMarks]) -> list[int]:
    """Return the measures' numbers, from 0, in the order they sound.

    After da capo or dal segno repeats are not taken again and the last voltas are played. Raises
    ValueError when the song would have more than MOST_MEASURES measures.
    """
    order: list[int] = []
    index = section = 0
    current_pass, jumped = 1, False
    while index < len(marks):
        mark = marks[index]
        if mark.forward and index != section:
            section, current_pass = index, 1
        matters = mark.endings or mark.backward or mark.ending_stops
        last = _last_pass(marks, section, index) if matters else 1
        if mark.endings and (last if jumped else current_pass) not in mark.endings:
            index += 1
            continue
        order.append(index)
        if len(order) > MOST_MEASURES:
            raise ValueError(f"with its repeats the song has more than {MOST_MEASURES} measures")
        if jumped and mark.fine:
            break
        if jumped and mark.to_coda:
            coda = next((k for k in range(len(marks)) if marks[k].coda and k > index), None)
            if coda is not None:
                index = section = coda
                current_pass = 1
                continue
        if mark.backward and not jumped and current_pass < max(mark.backward, last):
            index, current_pass = section, current_pass + 1
            continue
        if (mark.da_capo or mark.dal_segno) and not jumped:
            jumped, current_pass = True, 1
            segno = (k for k in range(index + 1) if marks[k].segno)
            index = section = 0 if mark.da_capo else next(segno, 0)
            continue
        index += 1
        if mark.backward or (mark.ending_stops and (jumped or current_pass >= last)):
            section, current_pass = index, 1
    return order


def _last_pass(marks: Sequence[MeasureMarks], section: int, index: int) -> int:
    """Return the highest pass that the voltas of the section around `index` name; 1 without any."""
    first = section
    while first < len(marks) and not marks[first].endings:
        if first > index and (marks[first].forward or marks[first - 1].backward):
            return 1
        first += 1
    numbers = {1}
    for mark in marks[first:]:
        if not mark.endings:
            break
        numbers |= mark.endings
    return max(numbers)
