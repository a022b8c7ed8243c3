"""Composed melodies: singable, fitting, repeatable, and where the lyrics say."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from backing import render_backing

from composer.compose import (
    LEAP,
    compose,
    distances,
    interval_class,
    log_share,
    read_table,
    rhyme,
    sample_rhythm,
    strength,
    stress_lift,
)
from composer.counts import CountedNote, WrittenSong, count_song, empty_table, read_written
from composer.harmony import Confidence, Harmony, Key, analyse, chord_tones
from composer.layout import Grid, PlacedLine, UnplacedLine, tempo_map
from hyperparams import Composer
from music.score import Score, text_syllables
from text.frontend import Pronouncer
from text.lyrics import parse_lyrics

SONGS = Path(__file__).parents[3] / "shared" / "data" / "lieder_en"
MINOR = 12
KNOBS = Composer(fill="rest")
LYRICS = parse_lyrics("""
[Verse 1]
The morning light is breaking on the hill
The river carries all our dreams away
I hear your voice, the world is holding still
And every word I never dared to say

[Chorus]
Oh, sing with me tonight
We are the burning light

[Verse 2]
The winter wind is knocking at the door
The fire is low and all the songs are sung
But I remember what we waited for
A summer when the two of us were young

[Chorus]
Oh, sing with me tonight
We are the burning light
""")


C_MAJOR = Key(0, "major")


def chord_tone_ratio(score: Score, harmony: Harmony, strong_only: bool = True) -> float:
    """Return the share of notes that are tones of the chord they begin on.

    `strong_only`: of the notes on downbeats and half bars. Notes over no chord are left out; the
    control is the same score with another song's harmony. nan without any note to judge.
    """
    grid = Grid(harmony, 0.0, 0.0)
    half = grid.slots_per_bar // 2 if harmony.metre == 4 else grid.slots_per_bar
    judged = []
    for note in score.notes:
        slot = grid.nearest(note.onset)
        tones = chord_tones(grid.chord(slot))
        if tones and not (strong_only and slot % half):
            judged.append(note.pitch % 12 in tones)
    return float(np.mean(judged)) if judged else float("nan")


def harmony_of(chords, tempo=100.0, metre=4, bars=48, key=C_MAJOR, lead=0.2, first=0):
    """A harmony made by hand: one chord per bar, the progression repeated."""
    count = bars * metre + first
    beats = lead + 60.0 / tempo * np.arange(count)
    index = np.maximum(0, (np.arange(count) - first) // metre) % len(chords)
    sure = Confidence(1.0, 1.0, 1.0, 1.0)
    duration = beats[-1] + 60.0 / tempo
    return Harmony(beats, np.array(chords)[index], metre, first, key, duration, sure)


POP = harmony_of([0, 7, 9 + MINOR, 5])
WALTZ = harmony_of([9 + MINOR, 2 + MINOR, 4, 9 + MINOR], 120.0, 3, 72, Key(9, "minor"), first=2)


@pytest.fixture(scope="module")
def pronouncer() -> Pronouncer:
    return Pronouncer()


@pytest.fixture(scope="module")
def scores(pronouncer) -> list[tuple[Harmony, Score]]:
    """Two songs, three seeds each."""
    return [
        (harmony, compose(LYRICS, harmony, pronouncer, KNOBS, seed).score)
        for harmony in (POP, WALTZ)
        for seed in range(3)
    ]


def lines_of(score: Score) -> list[list]:
    """The notes of each line."""
    lines: dict[int, list] = {}
    for syllable in score.syllables:
        lines.setdefault(syllable.line, []).extend(syllable.notes)
    return list(lines.values())


def shape(notes: list) -> list[tuple[int, float]]:
    """Pitches, and times from the first note."""
    return [(note.pitch, round(note.onset - notes[0].onset, 3)) for note in notes]


# -- singable -----------------------------------------------------------------------------------


def test_every_syllable_is_sung_once_within_range_and_song(scores, pronouncer):
    words = [part for line in LYRICS for part in text_syllables(line.text, pronouncer)[0]]
    for harmony, score in scores:
        assert [s.phonemes for s in score.syllables] == [part.phonemes for part in words]
        assert all(len(syllable.notes) == 1 for syllable in score.syllables)
        assert not score.outside(KNOBS.low, KNOBS.high)
        assert score.duration <= harmony.duration
        assert all(a.offset <= b.onset + 1e-9 for a, b in pairwise(score.notes))
        assert min(note.duration for note in score.notes) >= KNOBS.shortest - 1e-9
        assert max(syllable.word for syllable in score.syllables) + 1 == len(list(score.words()))


def test_leaps_are_bounded_and_recovered(scores):
    for _, score in scores:
        for notes in lines_of(score):
            intervals = [b.pitch - a.pitch for a, b in pairwise(notes)]
            assert max(map(abs, intervals)) <= KNOBS.max_leap
            for first, second in pairwise(intervals):
                assert abs(first) < LEAP or first * second <= 0


def test_there_is_breath_between_lines(scores):
    for _, score in scores:
        for before, after in pairwise(lines_of(score)):
            assert after[0].onset - before[-1].offset >= KNOBS.breath - 1e-9


def test_melodies_move_as_the_songs_counted_do(scores):
    counts = read_table()["interval"].sum(axis=0)
    intervals = np.concatenate(
        [np.diff([note.pitch for note in notes]) for _, s in scores for notes in lines_of(s)]
    )
    repeated = counts[12] / counts.sum()
    steps = (counts[10:15].sum() - counts[12]) / counts.sum()
    assert np.mean(intervals == 0) == pytest.approx(repeated, abs=0.12)
    assert np.mean((intervals != 0) & (np.abs(intervals) <= 2)) == pytest.approx(steps, abs=0.15)


def test_onsets_lie_on_the_grid_and_stresses_on_strong_places(scores):
    places: dict[int, Counter] = {0: Counter(), 1: Counter()}
    for harmony, score in scores:
        grid = Grid(harmony, KNOBS.breath, KNOBS.shortest)
        for word in score.words():
            for syllable in word:
                slot = grid.nearest(syllable.onset)
                assert grid.seconds(slot) == pytest.approx(syllable.onset, abs=1e-6)
                if len(word) > 1:
                    place = strength(slot % grid.slots_per_bar, harmony.metre)
                    places[min(syllable.stress, 1)][place] += 1
    strong = [places[stress][2] / places[stress].total() for stress in (0, 1)]
    assert strong[1] > strong[0] + 0.15


# -- fitting ------------------------------------------------------------------------------------


def test_strong_beats_carry_chord_tones_of_this_song_and_not_of_another(scores):
    for harmony, score in scores:
        assert chord_tone_ratio(score, harmony) >= 0.8
        others = []
        for shift in range(1, 12):
            chords = (harmony.chords % 12 + shift) % 12 + harmony.chords // 12 * 12
            others.append(chord_tone_ratio(score, replace(harmony, chords=chords)))
        assert chord_tone_ratio(score, harmony) >= np.mean(others) + 0.2


def test_it_fits_rendered_accompaniments(pronouncer):
    songs = [
        render_backing([2, 9, 11 + MINOR, 7], 104.0, bars=12, lead=0.3),
        render_backing([5 + MINOR, 1, 8, 3], 88.0, bars=12, lead=0.8, pattern="arpeggio"),
    ]
    truth = []
    for song in songs:
        key, duration = Key(0, "major"), len(song.wav) / song.sample_rate
        sure = Confidence(1.0, 1.0, 1.0, 1.0)
        truth.append(Harmony(song.beats, song.chords, 4, 0, key, duration, sure))
    for song, own, other in zip(songs, truth, truth[::-1], strict=True):
        heard = analyse(song.wav, song.sample_rate)
        score = compose(LYRICS[:4], heard, pronouncer, KNOBS, seed=1).score
        assert chord_tone_ratio(score, own) >= 0.8
        assert chord_tone_ratio(score, own) >= chord_tone_ratio(score, other) + 0.2
        onsets = np.array([note.onset for note in score.notes])
        sixteenths = (onsets - song.beats[0]) / (15.0 / song.tempo)
        assert np.abs(sixteenths - np.round(sixteenths)).max() * 15.0 / song.tempo < 0.03


# -- seeds, sections, knobs ---------------------------------------------------------------------


def test_a_seed_repeats_and_another_varies(scores, pronouncer):
    again = compose(LYRICS, POP, pronouncer, KNOBS, seed=0).score
    assert again == scores[0][1]
    assert len({tuple(score.notes) for _, score in scores}) == len(scores)


def test_a_chorus_returns_with_its_melody(scores):
    for _, score in scores[:3]:
        lines = lines_of(score)
        same = [shape(a) == shape(b) for a, b in zip(lines[4:6], lines[10:12], strict=True)]
        notes = [
            {pitch for pitch in shape(a)} & {pitch for pitch in shape(b)}
            for a, b in zip(lines[4:6], lines[10:12], strict=True)
        ]
        kept = sum(map(len, notes)) / sum(map(len, lines[4:6]))
        assert any(same) or kept >= 0.7


def test_range_and_density_steer(pronouncer):
    high = compose(LYRICS, POP, pronouncer, replace(KNOBS, low=64, high=79)).score
    assert not high.outside(64, 79)
    slow, fast = (
        compose(LYRICS[:4], POP, pronouncer, replace(KNOBS, density=density)).score
        for density in (0.8, 2.5)
    )
    typical = [np.median([note.duration for note in score.notes]) for score in (slow, fast)]
    assert typical[0] > 1.4 * typical[1]


def test_what_a_long_song_gets(pronouncer):
    by_fill = {
        fill: compose(LYRICS[:6], POP, pronouncer, replace(KNOBS, fill=fill)).score
        for fill in ("rest", "spread", "repeat")
    }
    once = len(by_fill["rest"].syllables)
    assert len(by_fill["spread"].syllables) == once
    assert by_fill["spread"].duration > by_fill["rest"].duration + 4
    assert len(by_fill["repeat"].syllables) >= 2 * once
    assert len(by_fill["repeat"].syllables) % once == 0


# -- time stamps --------------------------------------------------------------------------------


def test_stamped_lines_begin_at_their_stamps(pronouncer):
    lines = parse_lyrics(
        "[00:00.00] Early in the day\n[00:10.20] Sing with me tonight\nUnder every star\n"
        "[00:21.50] Hold on, my love\n[00:40.00] Sing with me tonight"
    )
    score = compose(lines, POP, pronouncer, KNOBS).score
    notes = lines_of(score)
    half = 60.0 / POP.tempo / 8
    for line, start in ((0, 0.0), (1, 10.2), (3, 21.5), (4, 40.0)):
        assert notes[line][0].onset == pytest.approx(start, abs=half + 1e-6)
    assert notes[1][-1].offset < notes[2][0].onset and notes[2][-1].offset < 21.5
    assert shape(notes[1])[0][0] and len(notes[1]) == len(notes[4])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[00:10.00] Hello\n[09:00.00] Goodbye", "line 2 starts at 540.00 s"),
        (
            "[00:10.00] one two three four five six\n[00:10.50] seven",
            "line 1: 6 syllables.*at most",
        ),
    ],
)
def test_impossible_stamps_are_refused(pronouncer, text, message):
    with pytest.raises(ValueError, match=message):
        compose(parse_lyrics(text), POP, pronouncer, KNOBS)


# -- bad input ----------------------------------------------------------------------------------


def test_too_many_words_say_how_many_fit(pronouncer):
    short = harmony_of([0, 5, 7, 0], bars=8)
    with pytest.raises(ValueError, match=r"too long: 12 lines .* The first (\d+) lines") as caught:
        compose(LYRICS, short, pronouncer, KNOBS)
    fits = int(str(caught.value).split("The first ")[1].split()[0])
    assert 0 < fits < 12
    compose(LYRICS[:fits], short, pronouncer, KNOBS)


def test_a_short_song_is_sung_faster(pronouncer):
    tight = harmony_of([0, 5, 7, 0], bars=16)
    score = compose(LYRICS, tight, pronouncer, KNOBS).score
    assert score.duration <= tight.duration


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 60, "high": 64}, "range 60 to 64"),
        ({"low": 90, "high": 140}, "range 90 to 140"),
        ({"density": 9.0}, "density 9"),
        ({"temperature": 0.0}, "temperature"),
        ({"fill": "loop"}, "rest, spread, repeat"),
    ],
)
def test_knobs_that_cannot_be_sung_are_refused(pronouncer, change, message):
    with pytest.raises(ValueError, match=message):
        compose(LYRICS[:2], POP, pronouncer, replace(KNOBS, **change))


def test_silence_gets_a_melody_in_the_default_key(pronouncer):
    silent = analyse(np.zeros(30 * 16000, np.float32), 16000)
    laid = compose(LYRICS[:4], silent, pronouncer, KNOBS)
    assert any("silent" in remark for remark in laid.remarks)
    in_key = [note.pitch % 12 in silent.key.scale for note in laid.score.notes]
    assert np.mean(in_key) > 0.75
    assert np.isnan(chord_tone_ratio(laid.score, silent))


# -- the parts ----------------------------------------------------------------------------------


def test_the_tempo_map_puts_beats_on_quarter_notes():
    for harmony in (POP, WALTZ):
        tempo = tempo_map(harmony)
        beats = [tempo.tick_at(time) / tempo.ticks_per_beat for time in harmony.beats[1:]]
        assert np.allclose(beats, np.arange(1, len(beats) + 1), atol=1e-3)


def test_rhymes(pronouncer):
    def sounds(text: str) -> tuple[str, ...]:
        return rhyme(text_syllables(text, pronouncer)[0])

    assert sounds("on the hill") == sounds("holding still")
    assert sounds("sing with me tonight") == sounds("burning light") != sounds("burning low")


@pytest.mark.parametrize("density", [0.7, 1.2, 2.0])
@pytest.mark.parametrize("metre", [3, 4])
def test_distances_have_the_mean_that_the_density_asks_for(density, metre):
    table = read_table()
    log_p = distances(table, metre, density)
    visits = table["duration"][str(metre)].sum(axis=1)
    mean = np.average(np.exp(log_p) @ np.arange(1, 17), weights=visits)
    assert np.allclose(np.exp(log_p).sum(axis=1), 1)
    assert mean == pytest.approx(4 / density, rel=0.01)


def test_rhythms_are_drawn_in_proportion_to_their_probability(pronouncer):
    grid = Grid(POP, KNOBS.breath, 0.1)
    knobs, table = replace(KNOBS, temperature=1.0), read_table()
    syllables = tuple(text_syllables("away", pronouncer)[0])
    phrase = PlacedLine(UnplacedLine(syllables, "", 0, 1), first=0, bar=0, end=5)
    stresses = [0, 1]
    step = distances(table, 4, 4 * 3 / 5)
    lift = stress_lift(table, stresses, 4)
    start, final = log_share(table["start"]["4"]), log_share(table["final_duration"])
    weights = {
        (a, b, c): np.exp(
            start[a] + lift[0, a] + step[a, b - a - 1] + lift[1, b] + final[c - b - 1]
        )
        for a in range(5)
        for b in range(a + 1, 5)
        for c in range(b + 1, 6)
    }
    rng = np.random.default_rng(0)
    drawn = Counter(
        tuple(sample_rhythm(phrase, stresses, grid, table, knobs, rng)) for _ in range(400)
    )
    total = sum(weights.values())
    distance = sum(abs(weights[path] / total - drawn[path] / 400) for path in weights) / 2
    assert set(drawn) <= set(weights) and distance < 0.12


def test_counting_a_song_by_hand(pronouncer):
    def note(onset, duration, pitch, text=None):
        return CountedNote(onset, duration, onset % 4, (4, 4), 0, pitch, text)

    voice = [note(0, 1, 60, "sing"), note(1, 1, 62, "the"), note(2, 2, 67, "song")]
    accompaniment = [(beat, 1, pitch) for beat in range(4) for pitch in (48, 64, 67)]
    table = empty_table()
    count_song(table, WrittenSong(voice, accompaniment), pronouncer)
    assert table["interval"].sum() == 2
    assert table["interval"][interval_class(0), 12 + 2] == 1
    assert table["interval"][interval_class(2), 12 + 5] == 1
    assert table["start"]["4"][0] == 1 and table["final_duration"][8 - 1] == 1
    assert table["duration"]["4"][0, 3] == table["duration"]["4"][4, 3] == 1
    assert table["chord"]["major"][2].tolist() == [1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0]
    assert table["final_degree"]["major"][7] == 1
    assert table["stress"].tolist() == [[0, 0, 0], [1, 0, 0], [0, 2, 0]]


@pytest.mark.skipif(not SONGS.is_dir(), reason=f"no songs in {SONGS}")
def test_the_table_holds_at_least_what_one_song_counts(pronouncer):
    table, whole = empty_table(), read_table()
    count_song(table, read_written(min(SONGS.glob("*.mxl"))), pronouncer)
    assert table["interval"].sum() > 20
    for name in ("interval", "range", "stress", "final_duration"):
        assert (table[name] <= whole[name] + 0.1).all()


def test_any_object_with_the_knobs_will_do(pronouncer):
    knobs = SimpleNamespace(**{name: getattr(KNOBS, name) for name in KNOBS.__dataclass_fields__})
    assert compose(LYRICS[:2], POP, pronouncer, knobs).score.notes
