"""Words for transcribed notes: the recognised phonemes, or the syllables of given lyrics.

Shapes: T frames, K notes, N syllables.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np

from music.midi import save_midi, write_midi
from music.score import TICKS_PER_BEAT, Lyric, Melody, Note, Syllable, text_syllables
from text.frontend import Pronouncer
from text.lyrics import LyricLine
from text.symbols import VOWELS, syllabify
from transcription.labels import PHONEME_CLASSES, SILENCE, phoneme_class
from transcription.note_decoding import TranscribedNote
from transcription.transcribe import Transcribed

SHORTEST_PHONEME = 2  # frames; a shorter run is an error of the recogniser
ONSET_SLACK = 4  # frames that a vowel may begin before its note
VOWEL_SHARE = 0.6  # of a note, from its beginning, in which its vowel is looked for
FLOOR = 1e-3  # least probability of a vowel: one error of the recogniser decides nothing
MELISMA_COST = 1.5  # nats of a note that goes on with the syllable before it
SKIP_COST = 3.0  # nats of a syllable that gets no note of its own
UNSUNG_COST = 2.5  # nats of a note behind the end of the lyrics, which need not be the whole song's


class Run(NamedTuple):
    """Frames [first, last) in which one phoneme is the likeliest."""

    phoneme: str
    first: int
    last: int


def phoneme_runs(phoneme: np.ndarray) -> list[Run]:
    """Return the runs of the likeliest class of probabilities (T, 39), without short ones."""
    classes = phoneme.argmax(1)
    edges = np.flatnonzero(np.diff(classes)) + 1
    bounds = [0, *edges.tolist(), len(classes)]
    runs: list[Run] = []
    for first, last in pairwise(bounds):
        name = PHONEME_CLASSES[classes[first]]
        if last - first < SHORTEST_PHONEME:
            continue
        if runs and runs[-1].phoneme == name:
            runs[-1] = runs[-1]._replace(last=last)
        else:
            runs.append(Run(name, first, last))
    return runs


def note_phonemes(transcribed: Transcribed) -> list[tuple[str, ...]]:
    """Return the phonemes of each note (K,), empty where a note continues the vowel before it.

    A vowel belongs to the note it begins with; the consonants between two notes are parted
    as English syllables are, or at the silence between them.
    """
    notes, hop = transcribed.notes, transcribed.hop_seconds
    syllables: list[list[str]] = [[] for _ in notes]
    starts = np.array([note.onset / hop for note in notes])
    waiting: list[str] = []  # consonants since the last vowel or silence
    place, vowel = -1, ""  # the note of the last vowel, and the vowel where no silence followed
    for run in phoneme_runs(transcribed.phoneme.numpy()):
        if run.phoneme == SILENCE:
            if place >= 0:
                syllables[place] += waiting
                waiting = []
            vowel = ""
            continue
        if run.phoneme not in VOWELS:
            waiting.append(run.phoneme)
            continue
        here = int(np.searchsorted(starts, run.first + ONSET_SLACK, side="right")) - 1
        if here < 0:
            continue
        coda = syllabify((f"{vowel}1", *waiting, f"{run.phoneme}1"))[0][1:] if vowel else ()
        syllables[place] += coda
        syllables[here] += [*waiting[len(coda) :], run.phoneme]
        waiting, place, vowel = [], here, run.phoneme
    if place >= 0:
        syllables[place] += waiting
    return [tuple(syllable) for syllable in syllables]


def phoneme_melody(transcribed: Transcribed) -> Melody | None:
    """Return the notes with the phonemes of each as its lyric; None without notes."""
    lyrics = [
        Lyric(" ".join(phonemes)) if phonemes else None for phonemes in note_phonemes(transcribed)
    ]
    return _melody(transcribed.notes, lyrics)


def align_lyrics(
    transcribed: Transcribed, lines: Sequence[LyricLine], pronouncer: Pronouncer
) -> Melody | None:
    """Return the notes with the syllables of lyrics, each at its vowel; None without notes.

    Syllables stay in order. A note that repeats the vowel before it may go on with that syllable,
    and a syllable that no note was found for joins the one before it.
    """
    syllables: list[Syllable] = []
    for number, line in enumerate(lines):
        first_word = syllables[-1].word + 1 if syllables else 0
        syllables += text_syllables(line.text, pronouncer, first_word, number, line.line_number)[0]
    if not syllables or not transcribed.notes:
        return _melody(transcribed.notes, [None] * len(transcribed.notes))
    place = align_syllables(vowel_likelihood(transcribed, syllables))
    firsts = sorted(set(place))
    ends = dict(zip(firsts, [*firsts[1:], len(syllables)], strict=True))
    lyrics: list[Lyric | None] = []
    for index, here in enumerate(place):
        is_new = index == 0 or here > place[index - 1]
        lyrics.append(_lyric(syllables, here if index else 0, ends[here]) if is_new else None)
    return _melody(transcribed.notes, lyrics)


def vowel_likelihood(transcribed: Transcribed, syllables: Sequence[Syllable]) -> np.ndarray:
    """Return the log probability (K, N) of each vowel in the first frames of each note."""
    classes = [phoneme_class(syllable.phonemes[syllable.nucleus]) for syllable in syllables]
    probabilities = transcribed.phoneme.numpy()
    rows = []
    for note in transcribed.notes:
        first = round(note.onset / transcribed.hop_seconds)
        count = max(1, round(VOWEL_SHARE * (note.offset - note.onset) / transcribed.hop_seconds))
        rows.append(probabilities[first : first + count].mean(0)[classes])  # (N,)
    return np.log(np.array(rows) + FLOOR)


def align_syllables(likelihood: np.ndarray) -> list[int]:
    """Find the best syllable of each note, in order, by dynamic programming on (K, N).

    likelihood (K, N): log probabilities of `vowel_likelihood`.

    The best path: a note takes the next syllable, goes on with the last one (MELISMA_COST), or
    takes a later one (SKIP_COST for each left out, also at both ends). Notes behind the end of the
    lyrics (UNSUNG_COST) go on with the last one too, whatever their vowel.
    """
    notes, syllables = likelihood.shape
    number = np.arange(syllables)
    skipped = SKIP_COST * (syllables - 1 - number)  # behind each syllable
    best = likelihood[0] - SKIP_COST * number
    origins, ends = [], [best - skipped - UNSUNG_COST * (notes - 1)]
    for note, row in enumerate(likelihood[1:], start=1):
        # A path to n from m < n costs SKIP_COST (n - m - 1): a running maximum over m.
        level = best + SKIP_COST * number
        leader = np.maximum.accumulate(level)
        holder = np.maximum.accumulate(np.where(level >= leader, number, 0))
        moved = np.full(syllables, -np.inf)
        moved[1:] = leader[:-1] - SKIP_COST * (number[1:] - 1)
        stayed = best - MELISMA_COST
        source = np.append(0, holder[:-1])
        origins.append(np.where(moved > stayed, source, number))
        best = np.maximum(moved, stayed) + row
        ends.append(best - skipped - UNSUNG_COST * (notes - 1 - note))
    last, end = np.unravel_index(np.argmax(ends), (notes, syllables))
    place = [int(end)]
    for origin in reversed(origins[:last]):
        place.append(int(origin[place[-1]]))
    return place[::-1] + [int(end)] * (notes - 1 - int(last))


def _lyric(syllables: Sequence[Syllable], first: int, end: int) -> Lyric:
    """Join the syllables [first, end), which share a note, to one lyric."""
    text = ""
    for syllable in syllables[first:end]:
        text += (" " if text and syllable.starts_word else "") + syllable.text
    last, after = syllables[end - 1], syllables[end : end + 1]
    return Lyric(text, not last.ends_word, bool(after) and after[0].line != last.line)


def _melody(notes: Sequence[TranscribedNote], lyrics: Sequence[Lyric | None]) -> Melody | None:
    """Round the notes to semitones; None without notes."""
    if not notes:
        return None
    rounded = tuple(
        Note(min(max(round(note.midi), 1), 127), note.onset, note.offset) for note in notes
    )
    return Melody(rounded, tuple(lyrics))


def write_melody(melody: Melody | None, path: Path) -> None:
    """Write a melody as a MIDI file with lyrics; None as a file without notes."""
    if melody is not None:
        write_midi(melody, path)
        return
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT)
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("end_of_track")]))
    save_midi(file, path)
