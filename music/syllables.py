"""Syllables of a text: pronounced, spelled in parts, and notes shared among them."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import TYPE_CHECKING

from music.score import Note, Syllable
from text.syllables import syllabify

if TYPE_CHECKING:
    from text.frontend import Pronouncer

NoteGroup = tuple[Note, ...]


def text_syllables(
    text: str,
    pronouncer: Pronouncer,
    first_word: int = 0,
    line: int = 0,
    line_number: int = 1,
    around: tuple[str, str] = ("", ""),
) -> tuple[list[Syllable], list[str]]:
    """Pronounce a text; returns its syllables without notes and the words that were guessed.

    Words are numbered from `first_word`; `line_number` is that of the file, for messages; `around`
    is the text before and after, which may decide on how a word is read.
    """
    syllables: list[Syllable] = []
    guessed: list[str] = []
    word_number = first_word
    for word in pronouncer.pronounce(text, line_number, around).words:
        parts = syllabify(word.phonemes)
        spellings = split_spelling(word.text, len(parts))
        for index, (phonemes, spelling) in enumerate(zip(parts, spellings, strict=True)):
            last = index == len(parts) - 1
            syllable = Syllable(spelling, phonemes, word_number, index == 0, last, line)
            syllables.append(syllable)
        word_number += bool(parts)
        if word.guessed:
            guessed.append(word.text)
    return syllables, guessed


def split_spelling(word: str, count: int) -> list[str]:
    """Split a written word into `count` parts at its groups of vowels; joined they are the word.

    English spelling is no sure guide: the last parts are empty when there are too few letters.
    """
    if count <= 1:
        return [word] * count
    nuclei = [match.start() for match in re.finditer(r"[aeiouy]+", word, re.IGNORECASE)]
    if len(nuclei) > count and re.search(r"[^aeiouy]e[sd]?$", word, re.IGNORECASE):
        nuclei.pop()  # a silent e
    cuts = []
    for left, right in pairwise(nuclei):
        vowels = re.match(r"[aeiouy]*", word[left:], re.IGNORECASE)
        consonants = right - left - (vowels.end() if vowels else 0)
        cuts.append(right - (consonants + 1) // 2 if consonants < 3 else right - 2)
    letters = [cut for cut in range(1, len(word)) if cut not in cuts]
    while len(cuts) < count - 1 and letters:
        cuts.append(letters.pop())
    cuts = sorted(cuts)[: count - 1]
    bounds = [0, *cuts, len(word)]
    parts = [word[start:end] for start, end in pairwise(bounds)]
    return parts + [""] * (count - len(parts))


def split_note(note: Note, count: int) -> list[Note]:
    """Split a note into `count` equal ones."""
    times = [note.onset + note.duration * k / count for k in range(count)] + [note.offset]
    return [Note(note.pitch, times[k], times[k + 1]) for k in range(count)]


def regroup(groups: list[NoteGroup], count: int) -> list[NoteGroup]:
    """Return the notes of a word in `count` groups, in order."""
    groups = list(groups)
    while len(groups) < count:
        index = max(range(len(groups)), key=lambda i: sum(note.duration for note in groups[i]))
        first, *rest = groups[index]
        groups[index : index + 1] = (
            [(first,), tuple(rest)] if rest else [(half,) for half in split_note(first, 2)]
        )
    if count and len(groups) > count:
        groups[count - 1 :] = [tuple(note for group in groups[count - 1 :] for note in group)]
    return groups[:count]
