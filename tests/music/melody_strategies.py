"""Random melodies, lyrics and scores for the properties of music/.

A case is a number of notes and a seed: quick to generate, and it shrinks to fewer notes.
"""

from __future__ import annotations

from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from music.score import Lyric, Melody, Meter, Note, Score, Syllable, TempoMap
from text.symbols import CONSONANTS, STRESSED_VOWELS

QUICK = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
LETTERS = "abcdefghijklmnopqrstuvwxyzéö'"


def random_tempo(random: Random) -> TempoMap:
    ticks = sorted(random.sample(range(1, 20_000), random.randint(0, 4)))
    changes = tuple((tick, random.randint(150_000, 2_000_000)) for tick in [0, *ticks])
    return TempoMap(changes, random.choice((96, 480, 960, 1021)))


def random_melody(count: int, seed: int, with_lyrics: bool = True) -> Melody:
    random = Random(seed)
    tempo = random_tempo(random)
    beat = tempo.ticks_per_beat
    tick, notes, lyrics = random.randint(0, 2000), [], []
    for _ in range(count):
        end = tick + random.randint(beat // 4, 4 * beat)
        notes.append(Note(random.randint(40, 90), tempo.seconds_at(tick), tempo.seconds_at(end)))
        tick = end + random.choice((0, 0, 0, 1, beat // 2, 2 * beat))
        ends_line = random.random() < 0.3
        continues = not ends_line and random.random() < 0.5
        text = "".join(random.choices(LETTERS, k=random.randint(1, 6)))
        sung = with_lyrics and (not lyrics or random.random() < 0.7)
        lyrics.append(Lyric(text, continues, ends_line) if sung else None)
    if with_lyrics:  # after the last syllable no word goes on
        last = max(k for k, lyric in enumerate(lyrics) if lyric)
        lyrics[last] = Lyric(lyrics[last].text, False, lyrics[last].ends_line)
    meters = random.choice(((), (Meter(0, 3, 4), Meter(960, 6, 8))))
    return Melody(tuple(notes), tuple(lyrics), tempo, meters)


def random_score(count: int, seed: int) -> Score:
    random = Random(seed + 1)
    melody = random_melody(count, seed)
    syllables, word, starts = [], 0, True
    for lyric, notes in melody.groups():
        before, after = (random.choices(CONSONANTS, k=random.randint(0, 3)) for _ in range(2))
        phonemes = (*before, random.choice(STRESSED_VOWELS), *after)
        ends = not lyric.continues
        syllables.append(Syllable(lyric.text, phonemes, word, starts, ends, 0, notes))
        word, starts = word + ends, ends
    return Score(tuple(syllables), melody.tempo, melody.meters)


COUNTS, SEEDS = st.integers(1, 30), st.integers(0, 2**32)
tempo_maps = st.builds(lambda seed: random_tempo(Random(seed)), SEEDS)
melodies = st.builds(random_melody, COUNTS, SEEDS)
wordless_melodies = st.builds(random_melody, COUNTS, SEEDS, st.just(False))
scores = st.builds(random_score, COUNTS, SEEDS)


def ticks(melody: Melody | Score) -> list[tuple[int, int, int]]:
    """Return (onset, offset, pitch) of every note in ticks."""
    at = melody.tempo.tick_at
    return [(round(at(n.onset)), round(at(n.offset)), n.pitch) for n in melody.notes]
