"""Text underlay: pronounced syllables laid on the notes of a melody.

Two cases: a melody that has its own lyrics (`sing`), and plain or timed lyrics for a melody without
any (`lay_lyrics`). Either way every syllable is sung once, in order: where notes outnumber
syllables they become melismas, where syllables outnumber notes these are split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from music.score import (
    INLINE,
    TOLERANCE,
    Lyric,
    Melody,
    Note,
    Score,
    Syllable,
    Underlay,
    text_syllables,
)
from text.normalize import HYPHENS, without_pictures
from text.remarks import listed, remark

if TYPE_CHECKING:
    from text.frontend import Pronouncer
    from text.lyrics import LyricLine


NoteGroup = tuple[Note, ...]


def split_note(note: Note, count: int) -> list[Note]:
    """Split a note into `count` equal ones."""
    times = [note.onset + note.duration * k / count for k in range(count)] + [note.offset]
    return [replace(note, onset=times[k], offset=times[k + 1]) for k in range(count)]


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


MIN_SYLLABLE_SECONDS = 0.07  # about 14 syllables a second: nobody sings faster
LINE_REST = 0.25  # a rest of this length separates lines for certain
STAMP_SLACK = 0.25  # s; a note this much before a line's time stamp belongs to the line
CONTEXT = 3  # words on either side that decide on a heteronym
LONG_MELISMA = 10  # notes from which a held syllable is remarked
LONG_HOLD = 6.0  # s from which it is


# -- a melody with its own lyrics -------------------------------------------------------------


def sing(melody: Melody, pronouncer: Pronouncer) -> Underlay:
    """Pronounce the lyrics that a melody carries and return its score.

    Where a word is pronounced with more syllables than are written, its longest notes are shared;
    with fewer, the last takes the rest. Raises ValueError when nothing can be pronounced.
    """
    syllables: list[Syllable] = []
    guessed: list[str] = []
    remarks = [*melody.remarks, *_unsung_remarks(melody)]
    wordless: list[str] = []
    line = 0
    words = list(_written_words(melody))
    spellings = [_spelling([lyric.text for lyric, _ in word], pronouncer) for word in words]
    ends = [any(lyric.ends_line for lyric, _ in word) for word in words]
    for index, (written, (spelling, signs)) in enumerate(zip(words, spellings, strict=True)):
        number = syllables[-1].word + 1 if syllables else 0
        around = _around([text for text, _ in spellings], ends, index)
        wordless += signs
        try:
            parts, guesses = _word_syllables(written, spelling, number, line, pronouncer, around)
        except ValueError as error:
            start = written[0][1][0].onset
            why = str(error).removeprefix("line 1: ")  # a melody's words have no lines
            raise ValueError(f"the word {spelling!r} at {start:.2f} s: {why}") from error
        guessed += guesses
        if not parts:
            wordless.append(f"{spelling!r} at {written[0][1][0].onset:.2f} s")
        groups = regroup([notes for _, notes in written], len(parts))
        syllables += [replace(part, notes=notes) for part, notes in zip(parts, groups, strict=True)]
        line += ends[index]
    if wordless:
        text = f"{listed(list(dict.fromkeys(wordless)))}: nothing to pronounce"
        remarks.append(remark("not sung", text))
    if not syllables:
        raise ValueError("the melody carries no word that can be pronounced")
    remarks += [*held_remarks(syllables), *hurried_remarks(syllables)]
    score = Score(tuple(syllables), melody.tempo, melody.meters, melody.title)
    return Underlay(score, tuple(dict.fromkeys(guessed)), tuple(remarks))


def _unsung_remarks(melody: Melody) -> list[str]:
    """Return remarks on the notes that no word stands on."""
    remarks = []
    for notes in melody.unworded():
        span = f"from {notes[0].onset:.2f} s to {notes[-1].offset:.2f} s"
        some = "1 note" if len(notes) == 1 else f"{len(notes)} notes"
        if notes[0] is melody.notes[0]:
            text = f"{some} before the first word, {span}, left out"
        else:
            text = f"{some} without a word behind a rest, {span}, left out"
        remarks.append(remark("not sung", text))
    return remarks


def held_remarks(syllables: Sequence[Syllable]) -> list[str]:
    """Return remarks on syllables that are held very long, over one note or many."""
    return [
        remark(
            "held",
            f"{part.text!r} from {part.onset:.2f} s over {len(part.notes)} notes, "
            f"{part.offset - part.onset:.1f} s",
        )
        for part in syllables
        if len(part.notes) >= LONG_MELISMA or part.offset - part.onset >= LONG_HOLD
    ]


def hurried_remarks(syllables: Sequence[Syllable]) -> list[str]:
    """Return a remark on syllables that have too little time to be sung, if there are any."""
    hurried = [s for s in syllables if s.offset - s.onset < MIN_SYLLABLE_SECONDS - TOLERANCE]
    if not hurried:
        return []
    some = "syllable has" if len(hurried) == 1 else "syllables have"
    first = hurried[0]
    return [
        f"{len(hurried)} {some} less than {MIN_SYLLABLE_SECONDS} s, the first one {first.text!r} "
        f"at {first.onset:.2f} s: nobody sings so fast, is the tempo right?"
    ]


def _written_words(melody: Melody) -> Iterator[list[tuple[Lyric, NoteGroup]]]:
    """Yield the written syllables of each word with their notes.

    Where syllables of two words share a note (elision), it is split between them.
    """
    word: list[tuple[Lyric, NoteGroup]] = []
    for lyric, notes in melody.groups():
        is_inline = lyric.text.startswith(INLINE)
        pieces = [lyric.text] if is_inline else lyric.text.split() or [lyric.text]
        for index, (piece, group) in enumerate(
            zip(pieces, regroup([notes], len(pieces)), strict=True)
        ):
            is_last = index == len(pieces) - 1
            word.append((Lyric(piece, lyric.continues, lyric.ends_line and is_last), group))
            if not (is_last and lyric.continues):
                yield word
                word = []
    if word:
        yield word


def _spelling(parts: Sequence[str], pronouncer: Pronouncer) -> tuple[str, list[str]]:
    """Return a word in one, and the pictures (♪, ♥) that were taken out of it.

    Hyphens that only part syllables ("glo-" "-ri-" "-a") are dropped where that gives a listed
    word, or where the parts are none.
    """
    spelling, signs = without_pictures("".join(parts).replace("}{", " "))
    bare = re.sub(rf"[{HYPHENS}]+", "", spelling)
    if len(parts) == 1 or bare == spelling:
        return spelling, signs
    known = pronouncer.is_known
    pieces = [piece for piece in re.split(rf"[{HYPHENS}]+", spelling) if piece]
    is_compound = not known(bare) and all(known(piece) for piece in pieces)
    return (spelling.strip(HYPHENS) if is_compound else bare), signs


def _around(spellings: Sequence[str], ends: Sequence[bool], index: int) -> tuple[str, str]:
    """Return the text of up to CONTEXT words before and after a word in its line."""
    first, last = index, index
    while first > 0 and index - first < CONTEXT and not ends[first - 1]:
        first -= 1
    while last + 1 < len(spellings) and last - index < CONTEXT and not ends[last]:
        last += 1
    return " ".join(spellings[first:index]), " ".join(spellings[index + 1 : last + 1])


def _word_syllables(
    written: Sequence[tuple[Lyric, NoteGroup]],
    spelling: str,
    number: int,
    line: int,
    pronouncer: Pronouncer,
    around: tuple[str, str],
) -> tuple[list[Syllable], list[str]]:
    """Return the syllables of a written word, as yet without notes, and what was guessed."""
    if not any(character.isalnum() for character in spelling):
        return [], []
    parts, guessed = text_syllables(spelling, pronouncer, number, line, around=around)
    if len(parts) == len(written):
        texts = (lyric.text for lyric, _ in written)
        parts = [replace(part, text=text) for part, text in zip(parts, texts, strict=True)]
    return parts, guessed


# -- lyrics for a melody without words ----------------------------------------------------------


def lay_lyrics(lines: Sequence[LyricLine], melody: Melody, pronouncer: Pronouncer) -> Underlay:
    """Lay lyrics on a melody: lines end at rests, time stamps (LRC) are kept, every note is used.

    With stamps, notes before the first stamped line are left out unless unstamped lines stand
    there, and so are those behind the time at which a line ends. Raises ValueError when no word can
    be pronounced, when the lyrics are too long for the melody, or when a stamped line finds no
    note.
    """
    sung, guessed = _pronounced(lines, pronouncer)
    remarks = list(melody.remarks)
    laid: list[Syllable] = []
    for start, end, members in _stamped_sections(sung):
        notes, left_out = _section_notes(melody, start, end, members)
        if left_out:
            text = (
                f"{len(left_out)} notes behind the end of line {members[-1][0].line_number} at "
                f"{members[-1][0].end:.2f} s"
            )
            remarks.append(remark("not sung", text))
        spoken = [parts for _, parts in members]
        for parts, part_notes in zip(spoken, _lines_to_notes(members, notes), strict=True):
            laid += _lay_line(parts, part_notes)
    unsung = sum(note.onset < laid[0].onset for note in melody.notes)
    if unsung:
        remarks.append(remark("not sung", f"{unsung} notes before the first time stamp left out"))
    remarks += [*held_remarks(laid), *hurried_remarks(laid)]
    score = Score(tuple(laid), melody.tempo, melody.meters, melody.title)
    return Underlay(score, tuple(dict.fromkeys(guessed)), tuple(remarks))


PronouncedLine = tuple["LyricLine", list[Syllable]]


def _pronounced(
    lines: Sequence[LyricLine], pronouncer: Pronouncer
) -> tuple[list[PronouncedLine], list[str]]:
    """Return the lines that have syllables, with these, and the words that were guessed."""
    sung: list[PronouncedLine] = []
    guessed: list[str] = []
    for line in lines:
        first_word = sung[-1][1][-1].word + 1 if sung else 0
        parts, guesses = text_syllables(
            line.text, pronouncer, first_word, len(sung), line.line_number
        )
        guessed += guesses
        if parts:
            sung.append((line, parts))
    if not sung:
        raise ValueError("the lyrics hold no word that can be pronounced; expected words to sing")
    return sung, guessed


def _stamped_sections(
    sung: Sequence[PronouncedLine],
) -> Iterator[tuple[float, float, list[PronouncedLine]]]:
    """Yield (start, end, lines) from one time stamp to the next; all of it without stamps."""
    sections: list[tuple[float, list[PronouncedLine]]] = []
    for line, parts in sung:
        if line.start is not None or not sections:
            sections.append((-1.0 if line.start is None else line.start, []))
        sections[-1][1].append((line, parts))
    ends = [start for start, _ in sections[1:]] + [float("inf")]
    for (start, members), end in zip(sections, ends, strict=True):
        yield start, end, members


def _section_notes(
    melody: Melody, start: float, end: float, members: Sequence[PronouncedLine]
) -> tuple[list[Note], list[Note]]:
    """Return the notes of a section's lines, and those that are left out behind the lines' end.

    An end that leaves too little time for the syllables is passed over.
    """
    notes = [n for n in melody.notes if start - STAMP_SLACK <= n.onset < end - STAMP_SLACK]
    line_end = members[-1][0].end
    if line_end is None:
        return notes, []
    kept = [
        replace(n, offset=min(n.offset, max(line_end, n.onset + MIN_SYLLABLE_SECONDS)))
        for n in notes
        if n.onset < line_end - STAMP_SLACK
    ]
    needed = sum(len(parts) for _, parts in members) * MIN_SYLLABLE_SECONDS
    if sum(note.duration for note in kept) < needed:
        return notes, []
    return kept, notes[len(kept) :]


def _lines_to_notes(members: Sequence[PronouncedLine], notes: Sequence[Note]) -> list[list[Note]]:
    """Share notes among lines, in order: the cheapest division by dynamic programming.

    A line should have about as many notes as syllables, end at a rest, and span none.
    """
    sizes = [len(parts) for _, parts in members]
    count = len(notes)
    numbers = ", ".join(str(line.line_number) for line, _ in members[:4])
    if not count:
        start = members[0][0].start
        raise ValueError(
            f"line {numbers}: no note of the melody starts at its time"
            + (f" ({start:.2f} s)" if start is not None else "")
        )
    onsets, offsets = (np.array([getattr(n, k) for n in notes]) for k in ("onset", "offset"))
    breath = np.clip((onsets[1:] - offsets[:-1]) / LINE_REST, 0.0, 1.0)
    breath = np.concatenate([[1.0], breath, [1.0]])  # before note k; the ends are free
    rests = np.concatenate([[0.0], np.cumsum(breath[1:-1]), [0.0]])  # rests up to note k
    sounding = np.concatenate([[0.0], np.cumsum(offsets - onsets)])
    cost = np.full((len(sizes) + 1, count + 1), np.inf)  # lines done, notes used
    origin = np.zeros(cost.shape, dtype=int)
    cost[0, 0] = 0.0
    for line, size in enumerate(sizes):
        for end in range(1, count + 1):
            starts = np.arange(end)
            excess = (end - starts - size) / size
            fit = np.where(excess > 0, excess, 3.0 * excess) ** 2
            inside = rests[end - 1] - rests[starts]
            total = cost[line, :end] + fit + 0.5 * inside + 1.5 * (1.0 - breath[end])
            total[sounding[end] - sounding[starts] < size * MIN_SYLLABLE_SECONDS] = np.inf
            origin[line + 1, end] = best = int(np.argmin(total))
            cost[line + 1, end] = total[best]
    if not np.isfinite(cost[-1, count]):
        raise ValueError(
            f"the lyrics are too long for the melody: {sum(sizes)} syllables in {len(sizes)} lines "
            f"(from line {numbers}) on {count} notes that sound for {sounding[-1]:.1f} s; sing "
            "fewer lines, or give a longer melody"
        )
    ends = [count]
    for line in range(len(sizes), 1, -1):
        ends.insert(0, int(origin[line, ends[0]]))
    return [list(notes[start:end]) for start, end in pairwise([0, *ends])]


def _lay_line(parts: Sequence[Syllable], notes: Sequence[Note]) -> list[Syllable]:
    """Lay the syllables of a line on its notes, all of which are used."""
    if len(notes) < len(parts):
        pieces = np.ones(len(notes), dtype=int)
        durations = np.array([note.duration for note in notes])
        for _ in range(len(parts) - len(notes)):
            pieces[int(np.argmax(durations / pieces))] += 1
        notes = [
            part for n, k in zip(notes, pieces.tolist(), strict=True) for part in split_note(n, k)
        ]
    groups = _melismas(parts, notes)
    return [replace(part, notes=group) for part, group in zip(parts, groups, strict=True)]


def _melismas(parts: Sequence[Syllable], notes: Sequence[Note]) -> list[NoteGroup]:
    """Share notes among no more syllables, in order: melismas on stressed and last syllables.

    A melisma prefers short notes and small steps, and never gladly spans a rest.
    """
    count, extra = len(parts), len(notes) - len(parts)
    joins = [0.0] * len(notes)  # cost of slurring note k to the one before
    for k in range(1, len(notes)):
        rest = max(0.0, notes[k].onset - notes[k - 1].offset)
        leap = abs(notes[k].pitch - notes[k - 1].pitch)
        joins[k] = 0.5 + notes[k].duration + 0.05 * leap + 8.0 * min(1.0, rest / LINE_REST)
    cost = np.full((count + 1, len(notes) + 1), np.inf)  # syllables done, notes used
    origin = np.zeros(cost.shape, dtype=int)
    cost[0, 0] = 0.0
    for index, part in enumerate(parts):
        reluctance = 1.0 if part.stress else 1.5
        reluctance *= 0.8 if index == count - 1 else 1.0
        for start in range(index, index + extra + 1):
            slurred = 0.0
            for end in range(start + 1, index + extra + 2):
                slurred += joins[end - 1] if end - 1 > start else 0.0
                total = cost[index, start] + reluctance * slurred * (end - start) ** 0.5
                if total < cost[index + 1, end]:
                    cost[index + 1, end], origin[index + 1, end] = total, start
    bounds = [len(notes)]
    for index in range(count, 0, -1):
        bounds.insert(0, int(origin[index, bounds[0]]))
    return [tuple(notes[bounds[k] : bounds[k + 1]]) for k in range(count)]
