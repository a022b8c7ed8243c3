"""Hear a take: its notes and sounds, where and how fast it is sung, which parts are made anew.

Shapes: S samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from composer.compose import NARROWEST
from composer.harmony import Harmony
from music.score import Note, Syllable
from singing.song import SongAudio
from text.symbols import is_vowel

if TYPE_CHECKING:
    from hyperparams import Composer
    from utils.metrics import TimedNote

Range = tuple[int, int]  # samples [start, stop)
HEARD = "heard"  # a melody's source: what the take has there
AROUND = 5.0  # s of a take heard on either side of a part
BEFORE = 20.0  # s of a take before its end that a continuation goes by
FEWEST_NOTES = 4  # of a take that say where and how fast it is sung
SHORTEST_NOTE = 0.05  # s of a note within a part that is sung again
SHORTEST_SOUND = 0.03  # s; what is shorter is taken for a slip of the transcriber
JOINED = 0.08  # s at most between two notes of a melisma
UNHEARD_VOWEL = "AA1"  # of a note on which no vowel is heard


@dataclass(frozen=True)
class TakeTranscript:
    """What a recording sings: notes, and the symbol of each frame."""

    notes: tuple[TimedNote, ...]  # onset s, offset s, MIDI number
    symbols: tuple[str, ...]  # "" = silence
    hop_seconds: float


Hear = Callable[[Tensor, int], TakeTranscript]  # waveform (S,), its rate in Hz


def like_the_take(
    song: SongAudio,
    stop: int,
    harmony: Harmony,
    knobs: Composer,
    hear: Hear | None,
    sample_rate: int,
) -> tuple[Composer, tuple[str, ...]]:
    """Fit a composed melody that follows sample `stop` to range and pace of the take before it."""
    start = max(0, stop - round(BEFORE * sample_rate))
    if hear is None or stop - start < sample_rate:
        return knobs, ()
    notes = hear(song.vocal[start:stop], sample_rate).notes
    if len(notes) < FEWEST_NOTES:
        return knobs, ()
    pitches = np.array([pitch for _, _, pitch in notes])
    low, high = (round(float(edge)) for edge in np.quantile(pitches, [0.05, 0.95]))
    while high - low < NARROWEST:
        low, high = low - 1, high + 1
    beats = (notes[-1][1] - notes[0][0]) * harmony.tempo / 60.0
    density = min(4.0, max(0.25, len(notes) / max(beats, 1.0)))
    text = (
        f"the take is sung on MIDI {low} to {high}, {density:.2f} notes a beat: so is what "
        "follows it"
    )
    return replace(knobs, low=low, high=high, density=density), (text,)


def heard_notes(
    song: SongAudio, ranges: Sequence[Range], hear: Hear, sample_rate: int
) -> list[TimedNote]:
    """Hear the notes (s of the song) that a take has in ranges of samples."""
    notes: list[TimedNote] = []
    for start, stop in ranges:
        begin = max(0, start - round(AROUND * sample_rate))
        heard = hear(song.vocal[begin : stop + round(AROUND * sample_rate)], sample_rate)
        moved = [(a + begin / sample_rate, b + begin / sample_rate, m) for a, b, m in heard.notes]
        # Of a note that reaches into the part only what is sung there.
        notes += [
            (max(a, start / sample_rate), min(b, stop / sample_rate), m)
            for a, b, m in moved
            if min(b, stop / sample_rate) - max(a, start / sample_rate) > SHORTEST_NOTE
        ]
    return notes


def parts_of(song: SongAudio, sample_rate: int) -> tuple[list[Range], list[Range]]:
    """Return the ranges of samples in which a take sings, and those behind its end."""
    if song.recording is None:
        return [], []
    end = song.recording.seconds
    inside, behind = [], []
    for start, stop in song.regions:  # s; one may reach over the take's end
        if start < end:
            inside.append(
                (math.floor(start * sample_rate), math.ceil(min(stop, end) * sample_rate))
            )
        if stop > end:
            behind.append(
                (math.floor(max(start, end) * sample_rate), math.ceil(stop * sample_rate))
            )
    return inside, behind


@dataclass(frozen=True)
class HeardSound:
    """A stretch of one symbol, "" = silence, in s."""

    symbol: str
    start: float
    stop: float


def heard_sounds(heard: TakeTranscript) -> list[HeardSound]:
    """Return the stretches of equal symbols of a transcript, the shortest left out."""
    sounds, step = [], heard.hop_seconds
    for symbol, frames in groupby(enumerate(heard.symbols), key=lambda pair: pair[1]):
        places = [index for index, _ in frames]
        start, stop = (places[0] - 0.5) * step, (places[-1] + 0.5) * step
        if stop - start >= SHORTEST_SOUND:
            sounds.append(HeardSound(symbol, start, stop))
    return sounds


def heard_syllables(heard: TakeTranscript, begin: float = 0.0) -> list[Syllable]:
    """Return a syllable, a word of its own, for every note of a transcript.

    Its vowel is the one that sounds longest in the note, its consonants those since the vowel
    before; consonants in front of a silence end the syllable before them. A note that goes on with
    the vowel before, and without a consonant between, is sung on the syllable before.
    begin: s of the song at which the transcript begins.
    """
    sounds = heard_sounds(heard)
    nuclei = [_nucleus(sounds, note) for note in heard.notes]
    syllables: list[Syllable] = []
    taken = 0  # sounds that belong to a syllable
    for (onset, offset, midi), place in zip(heard.notes, nuclei, strict=True):
        note = Note(round(midi), onset + begin, offset + begin)
        between = sounds[taken:place] if place is not None else []
        coda, initial = _parted(between)
        vowel = UNHEARD_VOWEL if place is None else sounds[place].symbol
        if syllables and coda:
            before = syllables[-1]
            syllables[-1] = replace(before, phonemes=(*before.phonemes, *coda))
        goes_on = (
            syllables
            and not (coda or initial)
            and note.onset - syllables[-1].offset <= JOINED
            and (place is None or syllables[-1].phonemes[-1] == vowel)
        )
        if goes_on:
            syllables[-1] = replace(syllables[-1], notes=(*syllables[-1].notes, note))
        else:
            syllables.append(spelled((*initial, vowel), note))
        taken = taken if place is None else max(taken, place + 1)
    if syllables:
        coda, _ = _parted([*sounds[taken:], HeardSound("", 0.0, 0.0)])
        syllables[-1] = replace(syllables[-1], phonemes=(*syllables[-1].phonemes, *coda))
    return [replace(s, text=_spelling(s.phonemes), word=i) for i, s in enumerate(syllables)]


def spelled(phonemes: Sequence[str], *notes: Note) -> Syllable:
    """Return a syllable of these phonemes on notes, a word of its own, written in braces."""
    return Syllable(_spelling(phonemes), tuple(phonemes), 0, notes=notes)


def _spelling(phonemes: Sequence[str]) -> str:
    return f"{{{' '.join(phonemes)}}}"


def _nucleus(sounds: Sequence[HeardSound], note: TimedNote) -> int | None:
    """Return the place of the vowel that sounds longest within a note; None: there is none."""
    shares = {
        place: min(sound.stop, note[1]) - max(sound.start, note[0])
        for place, sound in enumerate(sounds)
        if is_vowel(sound.symbol)
    }
    best = max(shares, key=lambda place: shares[place], default=None)
    return best if best is not None and shares[best] > 0 else None


def _parted(sounds: Sequence[HeardSound]) -> tuple[list[str], list[str]]:
    """Part the consonants between two vowels: those before the first silence, and the rest.

    Without a silence all belong to the vowel behind them. Vowels that no note was found for are
    left out.
    """
    silences = [place for place, sound in enumerate(sounds) if not sound.symbol]
    first = silences[0] if silences else 0
    parts = sounds[:first], sounds[first:]
    coda, initial = (
        [s.symbol for s in part if s.symbol and not is_vowel(s.symbol)] for part in parts
    )
    return coda, initial
