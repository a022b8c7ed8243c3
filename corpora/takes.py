"""Takes: one written song sung in several keys, tempi and colours, each a function of a seed.

With performances, every take also sings its notes in its own way: vibrato, glides, loudness.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from corpora.singer import Manner
from music.inputs import breaths
from music.score import VELOCITY, Note, NoteStyle, Score, octaves_into_range
from music.song import Backing, Song
from utils.seeds import numpy_generator

VOICE_RANGE = (50, 72)  # MIDI, D3 to C5: where the voice is itself
SYLLABLE_SECONDS = (0.30, 0.50)  # the median syllable is brought in here before a take's own tempo
PROGRAMS = (0, 0, 1, 4, 6, 11, 19, 24, 25, 26, 46, 48)  # pianos, mallets, organ, guitars, strings
INTRODUCTION_SECONDS = 6.0  # longest accompaniment before the first word
BREATHING_SHARE = 0.7  # of performing takes that are heard to breathe
STRAIGHT_SHARE = 0.15  # of their notes that have no vibrato
NOTE_SPREAD = np.array([0.4, 0.05, 0.3, 0.5])  # log (std) of depth, rate, delay, glide of notes
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


def take_of(
    song_id: str, number: int, seed: int, num_parts: int, performance: bool = False
) -> Take:
    """Return the take `number` of a song with `num_parts` accompanying parts.

    Take 0 keeps the written key; every other takes its own key and tempo. performance: the manner
    is drawn from wider ranges, with loudness, drift and breaths.
    """
    generator = numpy_generator(seed, song_id, number)
    key = int(generator.integers(-4, 5))
    tempo = float(np.exp(generator.uniform(-0.16, 0.16)))
    programs = generator.choice(PROGRAMS, max(1, num_parts)).tolist()
    take = Take(
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
    if not performance:
        return take
    own = numpy_generator(seed, song_id, number, "performance")
    return dataclasses.replace(take, manner=performing(take.manner, own))


def performing(manner: Manner, generator: np.random.Generator) -> Manner:
    """Return a manner with a performance of its own, from nearly straight to very moved."""
    breathes = generator.random() < BREATHING_SHARE
    return dataclasses.replace(
        manner,
        vibrato_cents=float(generator.uniform(0, 60)),
        vibrato_rate=float(generator.uniform(4.5, 6.8)),
        vibrato_delay=float(generator.uniform(0.05, 0.5)),
        glide_seconds=float(generator.uniform(0.04, 0.2)),
        drift_cents=float(generator.uniform(0, 8)),
        note_dynamics=float(generator.uniform(0, 3)),
        phrase_dynamics=float(generator.uniform(0, 5)),
        breath_seconds=float(generator.uniform(0.15, 0.45)) if breathes else 0.0,
        breath_level=float(generator.uniform(-24, -12)),
    )


def performed(arrangement: Arrangement, manner: Manner) -> Arrangement:
    """Return an arrangement whose notes say how they are sung, drawn around a manner."""
    generator = numpy_generator(manner.seed, "notes")
    loudness = 0.0  # dB; a slow walk: neighbours are alike

    def styled(note: Note) -> Note:
        nonlocal loudness
        loudness = 0.7 * loudness + 0.7 * manner.note_dynamics * generator.standard_normal()
        straight = generator.random() < STRAIGHT_SHARE
        spread = np.exp(generator.standard_normal(4) * NOTE_SPREAD)
        style = NoteStyle(
            velocity=int(np.clip(round(VELOCITY * 10 ** (loudness / 40)), 1, 127)),
            vibrato_cents=0.0 if straight else float(min(100, manner.vibrato_cents * spread[0])),
            vibrato_rate=float(np.clip(manner.vibrato_rate * spread[1], 3.0, 9.0)),
            vibrato_delay=float(min(1.0, manner.vibrato_delay * spread[2])),
            glide_seconds=float(min(note.duration / 2, 0.5, manner.glide_seconds * spread[3])),
        )
        return dataclasses.replace(note, style=style)

    phrases = tuple(
        dataclasses.replace(
            phrase,
            syllables=tuple(
                dataclasses.replace(part, notes=tuple(styled(note) for note in part.notes))
                for part in phrase.syllables
            ),
        )
        for phrase in arrangement.phrases
    )
    return dataclasses.replace(arrangement, phrases=phrases)


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
