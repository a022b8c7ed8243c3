"""Takes: one written song sung in several keys, tempi and colours, each a function of a seed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from corpora.singer import Manner
from music.inputs import breaths
from music.score import Note, Score, octaves_into_range
from music.song import Backing, Song
from utils.seeds import numpy_generator

VOICE_RANGE = (50, 72)  # MIDI, D3 to C5: where the voice is itself
SYLLABLE_SECONDS = (0.30, 0.50)  # the median syllable is brought in here before a take's own tempo
PROGRAMS = (0, 0, 1, 4, 6, 11, 19, 24, 25, 26, 46, 48)  # pianos, mallets, organ, guitars, strings
INTRODUCTION_SECONDS = 6.0  # longest accompaniment before the first word
CLOSE_SECONDS = 1.5  # accompaniment after the last note


@dataclass(frozen=True)
class Take:
    """How one take differs from what is written."""

    number: int
    key: int  # semitones, voice and accompaniment
    tempo: float  # factor
    programs: tuple[int, ...]  # General MIDI, one for each part of the accompaniment
    velocity: int
    swell: float  # of the velocities, over some bars
    swell_seconds: float
    balance: float  # dB of the accompaniment against the voice
    manner: Manner


def take_of(song_id: str, number: int, seed: int, num_parts: int) -> Take:
    """Return the take `number` of a song with `num_parts` accompanying parts.

    Take 0 keeps the written key; every other takes its own key and tempo.
    """
    generator = numpy_generator(seed, song_id, number)
    key = int(generator.integers(-4, 5))
    tempo = float(np.exp(generator.uniform(-0.16, 0.16)))
    programs = generator.choice(PROGRAMS, max(1, num_parts)).tolist()
    return Take(
        number,
        key if number else 0,
        tempo if number else 1.0,
        tuple(programs),
        int(generator.integers(60, 96)),
        float(generator.uniform(0, 16)),
        float(generator.uniform(4, 12)),
        float(generator.uniform(-5.0, 1.0)),
        Manner(
            vibrato_cents=float(generator.uniform(5, 25)),
            vibrato_rate=float(generator.uniform(5.0, 6.2)),
            vibrato_delay=float(generator.uniform(0.2, 0.4)),
            glide_seconds=float(generator.uniform(0.06, 0.11)),
            breathiness=float(generator.uniform(-0.3, 0.3)),
            seed=int(generator.integers(2**31)),
        ),
    )


@dataclass(frozen=True)
class Arrangement:
    """A take's voice, breath by breath, and its accompaniment, on one axis in seconds."""

    phrases: tuple[Score, ...]
    backing: tuple[Backing, ...]
    duration: float

    @property
    def score(self) -> Score:
        """The whole voice."""
        syllables = tuple(syllable for phrase in self.phrases for syllable in phrase.syllables)
        return dataclasses.replace(self.phrases[0], syllables=syllables)


def arrange(song: Song, score: Score, take: Take, seconds: float) -> Arrangement:
    """Bring a song into the voice's range and into singable tempo, and cut it to `seconds`.

    `score` is the sung melody of the song. It ends after a phrase; the introduction is shortened.
    """
    factor = take.tempo * _tempo_factor(score)
    median = int(np.median([note.pitch for note in score.notes])) + take.key
    octaves = octaves_into_range([n.pitch + take.key for n in score.notes], *VOICE_RANGE)
    if not VOICE_RANGE[0] <= median + octaves <= VOICE_RANGE[1]:
        octaves = octaves_into_range([median], *VOICE_RANGE)
    voice = score.transposed(take.key + octaves).faster(factor)
    first = voice.syllables[0].onset
    shift = -max(0.0, first - INTRODUCTION_SECONDS)
    lead_in = max(0.0, 1.0 - first)  # room for the consonants before the first note
    shift += lead_in
    tempo = score.tempo.scaled(factor)

    def moved(time: float) -> float:
        return score.tempo.carried(time, tempo) + shift

    phrases = breaths(voice.shifted(shift))
    kept = [p for p in phrases if p.duration + CLOSE_SECONDS <= seconds] or phrases[:1]
    end = kept[-1].duration + CLOSE_SECONDS
    backing = []
    for part, program in zip(song.backing, take.programs, strict=True):
        notes = []
        for note in part.notes:
            onset, offset = max(0.0, moved(note.onset)), min(end, moved(note.offset))
            if offset > onset + 0.02 and 1 <= note.pitch + take.key <= 127:
                notes.append(Note(note.pitch + take.key, onset, offset))
        backing.append(Backing(part.name, program, tuple(notes)))
    return Arrangement(tuple(kept), tuple(backing), end)


def _tempo_factor(score: Score) -> float:
    """Return the factor that brings the median syllable into SYLLABLE_SECONDS."""
    median = float(np.median([s.offset - s.onset for s in score.syllables]))
    low, high = SYLLABLE_SECONDS
    return median / min(max(median, low), high)
