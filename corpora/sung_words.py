"""Words whose phonemes are timed, and notes that are heard or written, → a score.

A syllable's note begins with its vowel and lasts until the next vowel, or to the end of its
phonemes before a rest: as scores of songs are read (music/inputs.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from corpora.phoneme_labels import Phone, SungWord, spelling
from music.inputs import SHORT_REST
from music.score import Note, Score, Syllable, split_spelling
from text.symbols import syllabify
from utils.metrics import TimedNote, midi_of

SHORTEST_NOTE = 0.06  # s of a syllable that a note must sound to be one of its notes
SHORTEST_SYLLABLE = 0.04  # s
Span = tuple[float, float]


def lay_words(
    words: Sequence[SungWord], notes: Sequence[TimedNote], f0: np.ndarray, frame_seconds: float
) -> tuple[Score, list[list[Span]]]:
    """Return the score of words and, by syllable, onset and offset of each phoneme in s.

    notes: (onset s, offset s, MIDI). A syllable without one takes the pitch that is heard in it, F0
    (T,) in Hz; one that is whispered joins the note of the syllable before it. Raises ValueError
    where nothing has a pitch.
    """
    syllables, times = _syllables(words)
    starts = [_vowel_onset(s, t) for s, t in zip(syllables, times, strict=True)]
    laid: list[Syllable] = []
    pitch: int | None = None
    for index, (syllable, spans) in enumerate(zip(syllables, times, strict=True)):
        onset = max(starts[index], laid[-1].notes[-1].offset if laid else 0.0)
        offset = spans[-1][1]
        if index + 1 < len(starts) and times[index + 1][0][0] - offset < SHORT_REST:
            offset = starts[index + 1]
        offset = max(offset, onset + SHORTEST_SYLLABLE)
        own = _notes_within(notes, onset, offset)
        if not own:
            heard = _heard_pitch(f0, onset, offset, frame_seconds)
            pitch = heard if heard is not None else pitch
            if pitch is None:
                pitch = _next_pitch(notes, onset)
            own = [Note(pitch, onset, offset)]
        pitch = own[-1].pitch
        laid.append(replace(syllable, notes=tuple(own)))
    return Score(tuple(laid)), times


def _syllables(words: Sequence[SungWord]) -> tuple[list[Syllable], list[list[Span]]]:
    """Part words into syllables, without notes, and the times of their phonemes."""
    syllables: list[Syllable] = []
    times: list[list[Span]] = []
    for number, word in enumerate(words):
        parts = syllabify([phone.symbol for phone in word.phones])
        text = word.text or spelling([phone.symbol for phone in word.phones])
        texts = split_spelling(text, len(parts)) if text[:1] != "{" else [text] * len(parts)
        place = 0
        for index, (phonemes, written) in enumerate(zip(parts, texts, strict=True)):
            phones = word.phones[place : place + len(phonemes)]
            place += len(phonemes)
            last = index == len(parts) - 1
            syllables.append(Syllable(written, phonemes, number, index == 0, last))
            times.append([(phone.onset, phone.offset) for phone in phones])
    return syllables, times


def _vowel_onset(syllable: Syllable, spans: Sequence[Span]) -> float:
    return spans[syllable.nucleus][0]


def _notes_within(notes: Sequence[TimedNote], onset: float, offset: float) -> list[Note]:
    """Cut notes to a syllable; touching, from its onset to its offset."""
    inside = [
        (max(start, onset), min(end, offset), round(midi))
        for start, end, midi in notes
        if min(end, offset) - max(start, onset) >= min(SHORTEST_NOTE, 0.5 * (offset - onset))
        and 1 <= round(midi) <= 127
    ]
    merged: list[tuple[float, float, int]] = []
    for start, end, midi in sorted(inside):
        if merged and (merged[-1][2] == midi or start <= merged[-1][0] + SHORTEST_NOTE):
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]), merged[-1][2])
        else:
            merged.append((start, end, midi))
    bounds = [onset, *(start for start, _, _ in merged[1:]), offset]
    return [
        Note(midi, bounds[k], bounds[k + 1])
        for k, (_, _, midi) in enumerate(merged)
        if bounds[k + 1] > bounds[k]
    ]


def _heard_pitch(f0: np.ndarray, onset: float, offset: float, frame_seconds: float) -> int | None:
    """Return the median pitch of F0 (T,) in Hz in a span, rounded to MIDI; None without any."""
    first, last = round(onset / frame_seconds), round(offset / frame_seconds) + 1
    midi = midi_of(f0[first:last])
    midi = midi[~np.isnan(midi)]
    return int(min(max(round(float(np.median(midi))), 1), 127)) if len(midi) else None


def _next_pitch(notes: Sequence[TimedNote], time: float) -> int:
    """Return the pitch of the first note after a time; ValueError where there is none at all."""
    if not notes:
        raise ValueError("no note and no pitch is heard: is this singing?")
    rows = sorted((onset, midi) for onset, _, midi in notes)
    midi = next((midi for onset, midi in rows if onset >= time), rows[-1][1])
    return min(max(round(midi), 1), 127)


def join_by_lyrics(words: Sequence[SungWord], counts: Sequence[tuple[str, int]]) -> list[SungWord]:
    """Join labelled syllables, a word each, to the words of lyrics.

    counts: text and number of syllables of each word. Returns `words` as they are where the
    syllables of labels and lyrics are not equally many.
    """
    if sum(count for _, count in counts) != len(words):
        return list(words)
    joined, place = [], 0
    for text, count in counts:
        phones: list[Phone] = []
        for word in words[place : place + count]:
            phones += word.phones
        place += count
        if phones:
            joined.append(SungWord(text, tuple(phones)))
    return joined
