"""Beats, metre, chords and key of rendered accompaniments, against what was rendered."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from backing import SAMPLE_RATE, Backing, chord_at, render_backing

from composer.harmony import (
    NO_CHORD,
    Harmony,
    Key,
    analyse,
    chord_name,
    chord_tones,
    estimate_key,
    viterbi,
)

MINOR = 12
# name: chords, key, tempo, metre, pattern, lead-in
SONGS = {
    "pop": ([10, 5, 7 + MINOR, 3], "Bb major", 96.0, 4, "band", 0.4),
    "waltz": ([9 + MINOR, 2 + MINOR, 4, 9 + MINOR], "A minor", 132.0, 3, "band", 0.1),
    "broken": ([6, 3 + MINOR, 11, 1], "F# major", 84.0, 4, "arpeggio", 0.9),
    "held": ([4, 1 + MINOR, 9, 11], "E major", 108.0, 4, "pad", 0.2),
    "gaps": ([2, NO_CHORD, 7, 9], "D major", 120.0, 4, "band", 0.0),
}


@pytest.fixture(scope="module")
def analysed() -> dict[str, tuple[Backing, Harmony]]:
    songs = {}
    for name, (chords, _, tempo, metre, pattern, lead) in SONGS.items():
        backing = render_backing(chords, tempo, metre, bars=8, lead=lead, pattern=pattern)
        songs[name] = backing, analyse(backing.wav, backing.sample_rate)
    return songs


def chord_accuracy(backing: Backing, harmony: Harmony) -> float:
    """Share of the rendered beats in whose middle the right chord is named."""
    middles = backing.beats + 30.0 / backing.tempo
    return float(
        np.mean([chord_at(harmony, t) == c for t, c in zip(middles, backing.chords, strict=True)])
    )


@pytest.mark.parametrize("name", SONGS)
def test_chords_are_recognised(analysed, name):
    backing, harmony = analysed[name]
    assert chord_accuracy(backing, harmony) >= 0.95
    assert harmony.confidence.chord > 0.4


@pytest.mark.parametrize("name", SONGS)
def test_beats_and_bars_are_where_they_were_played(analysed, name):
    backing, harmony = analysed[name]
    assert harmony.tempo == pytest.approx(backing.tempo, rel=0.01)
    distance = np.abs(backing.beats[:, None] - harmony.beats[None]).min(axis=1)
    assert np.median(distance) < 0.025 and distance.max() < 0.05
    downbeats = backing.beats[backing.is_downbeat]
    found = harmony.beats[harmony.is_downbeat]
    assert np.abs(downbeats[:, None] - found[None]).min(axis=1).max() < 0.05
    assert harmony.metre == SONGS[name][3]


@pytest.mark.parametrize("name", SONGS)
def test_key(analysed, name):
    assert str(analysed[name][1].key) == SONGS[name][1]


@pytest.mark.parametrize("name", SONGS)
def test_beats_cover_the_audio(analysed, name):
    _, harmony = analysed[name]
    period = 60.0 / harmony.tempo
    assert (np.diff(harmony.beats) > 0).all()
    assert 0 <= harmony.beats[0] < 1.01 * period
    assert 0 < harmony.duration - harmony.beats[-1] < 1.3 * period
    assert len(harmony.chords) == len(harmony.beats) and not harmony.notes


def test_given_tempo_and_metre_are_kept():
    backing = render_backing([0, 5, 7, 0], 80.0, bars=8)
    harmony = analyse(backing.wav, backing.sample_rate, tempo=160.0, metre=3)
    assert harmony.tempo == pytest.approx(160.0, rel=0.02)
    assert harmony.metre == 3 and 0 <= harmony.first_downbeat < 3


def test_slower_playing_keeps_its_own_beats():
    halves = [render_backing([0, 5, 7, 0], tempo, bars=6, lead=0.0) for tempo in (90.0, 100.0)]
    cut = round(24 * 60.0 / 90.0 * SAMPLE_RATE)
    wav = np.concatenate([halves[0].wav[:cut], halves[1].wav])
    beats = np.concatenate([halves[0].beats, cut / SAMPLE_RATE + halves[1].beats])
    harmony = analyse(wav, SAMPLE_RATE)
    distance = np.abs(beats[:, None] - harmony.beats[None]).min(axis=1)
    assert np.median(distance) < 0.03 and np.mean(distance < 0.07) > 0.9


def test_silence_has_a_steady_grid_and_says_so():
    harmony = analyse(np.zeros(10 * SAMPLE_RATE, np.float32), SAMPLE_RATE)
    assert (harmony.chords == NO_CHORD).all()
    assert np.allclose(np.diff(harmony.beats), 0.6)
    assert harmony.key == Key(0, "major") and harmony.confidence.beat == 0
    assert any("no clear beat" in note for note in harmony.notes)
    assert any("silent" in note for note in harmony.notes)


def test_a_drone_has_a_chord_but_no_beat():
    time = np.arange(8 * SAMPLE_RATE) / SAMPLE_RATE
    tones = [np.sin(2 * np.pi * 220 * 2 ** (step / 12) * time) for step in (0, 3, 7)]
    harmony = analyse(0.2 * np.sum(tones, axis=0).astype(np.float32), SAMPLE_RATE, tempo=75.0)
    assert harmony.tempo == pytest.approx(75.0) and harmony.confidence.beat == 0
    assert "75 beats per minute" in harmony.notes[0]
    assert set(harmony.chords.tolist()) == {9 + MINOR}


@pytest.mark.parametrize(
    ("wav", "options", "message"),
    [
        (np.zeros(SAMPLE_RATE), {}, "1.00 s"),
        (np.zeros((2, 10 * SAMPLE_RATE)), {}, "mono"),
        (np.full(10 * SAMPLE_RATE, np.nan), {}, "not finite"),
        (np.zeros(10 * SAMPLE_RATE), {"tempo": 5.0}, "30 to 300"),
        (np.zeros(10 * SAMPLE_RATE), {"metre": 7}, "expected 4 or 3"),
    ],
)
def test_unusable_input_is_refused(wav, options, message):
    with pytest.raises(ValueError, match=message):
        analyse(wav, SAMPLE_RATE, **options)


def test_viterbi_is_the_best_of_all_paths():
    rng = np.random.default_rng(0)
    likelihood, change = 2 * rng.standard_normal((5, 4)), np.array([0.5, 0.1, 0.6, 0.1, 0.3])
    path, score = viterbi(likelihood, change)

    def total(states: tuple[int, ...]) -> float:
        steps = (
            np.log(change[k] / 3) if states[k] != states[k - 1] else np.log1p(-change[k])
            for k in range(1, 5)
        )
        return sum(steps) + sum(likelihood[k, state] for k, state in enumerate(states))

    best = max(product(range(4), repeat=5), key=total)
    assert tuple(path) == best and score == pytest.approx(total(best))


@pytest.mark.parametrize("tonic", range(12))
@pytest.mark.parametrize("mode", ["major", "minor"])
def test_key_of_a_cadence(tonic, mode):
    minor = MINOR * (mode == "minor")
    chords = np.array([tonic + minor, (tonic + 5) % 12 + minor, (tonic + 7) % 12, tonic + minor])
    chroma = np.array([[tone in chord_tones(int(chord)) for tone in range(12)] for chord in chords])
    assert estimate_key(chroma.astype(float), chords)[0] == Key(tonic, mode)


def test_names_and_tones():
    assert [chord_name(c) for c in (0, 21, NO_CHORD)] == ["C", "Am", "N"]
    assert chord_tones(21) == (9, 0, 4) and chord_tones(NO_CHORD) == ()
    assert Key(9, "minor").scale == (9, 11, 0, 2, 4, 5, 7)
