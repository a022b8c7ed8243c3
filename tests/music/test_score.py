"""Scores: ticks and seconds, phrases, the network's inputs."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from melody_strategies import QUICK, scores, tempo_maps, ticks

from music.inputs import phrase_inputs
from music.score import Note, Score, Syllable, TempoMap, octaves_into_range
from text.symbols import EOS, WORD_BOUNDARY, is_vowel


@QUICK
@given(tempo_maps, st.integers(0, 10**6))
def test_a_tick_survives_seconds(tempo: TempoMap, tick: int) -> None:
    seconds = tempo.seconds_at(tick)
    assert round(tempo.tick_at(seconds)) == tick
    assert tempo.seconds_at(tempo.tick_at(seconds)) == pytest.approx(seconds, abs=1e-9)


def test_tempo_changes_are_heard() -> None:
    tempo = TempoMap(((0, 500_000), (960, 1_000_000)), 480)
    assert [tempo.seconds_at(tick) for tick in (0, 480, 960, 1440)] == [0.0, 0.5, 1.0, 2.0]
    assert tempo.bpm_at(0.5) == 120 and tempo.bpm_at(1.5) == 60
    assert TempoMap.constant(90).bpm_at(3.0) == pytest.approx(90, rel=1e-5)


@QUICK
@given(scores)
def test_inputs_are_ordered_and_inside_the_phrase(score: Score) -> None:
    start, end = max(0.0, score.syllables[0].onset - 0.3), score.duration + 0.2
    inputs = phrase_inputs(score, start, end)
    lengths = {len(getattr(inputs, name)) for name in ("pitch", "onset", "offset", "position")}
    assert lengths == {len(inputs.symbols)}
    assert all(
        0 <= a <= b + 1e-9 and b <= end - start + 1e-9
        for a, b in zip(inputs.onset, inputs.offset, strict=True)
    )
    assert all(a <= b + 1e-9 for a, b in pairwise(inputs.onset))
    assert inputs.symbols[-1] == EOS and inputs.offset[-1] == pytest.approx(end - start)
    phonemes = [phoneme for syllable in score.syllables for phoneme in syllable.phonemes]
    assert [s for s in inputs.symbols if s not in (EOS, WORD_BOUNDARY)] == phonemes
    assert inputs.symbols.count(WORD_BOUNDARY) == len(list(score.words())) - 1
    vowels = [k for k, symbol in enumerate(inputs.symbols) if is_vowel(symbol)]
    for k, syllable in zip(vowels, score.syllables, strict=True):
        assert inputs.onset[k] == pytest.approx(syllable.onset - start, abs=1e-6)
        assert inputs.offset[k] == pytest.approx(syllable.offset - start, abs=1e-6)
        assert inputs.pitch[k] == syllable.notes[0].pitch
        assert inputs.slur[k] == (len(syllable.notes) > 1)
    assert set(inputs.to_dict()) == {"pitch", "onset", "offset", "position", "slur", "notes"}


def test_consonants_stand_before_the_beat() -> None:
    word = Syllable("strong", ("S", "T", "R", "AO1", "NG"), 0, notes=(Note(60, 1.0, 2.0),))
    inputs = phrase_inputs(Score((word,)), 0.5, 2.2)
    assert inputs.onset[:4] == pytest.approx((0.26, 0.34, 0.42, 0.5))
    assert inputs.onset[4] == pytest.approx(1.42) and inputs.offset[4] == pytest.approx(1.5)
    assert inputs.position == (1, 2, 3, 4, 5, 0)
    with pytest.raises(ValueError, match="its notes last"):
        phrase_inputs(Score((word,)), 1.1, 2.2)


@QUICK
@given(scores, st.floats(0.05, 2.0), st.floats(1.0, 12.0))
def test_phrases_hold_every_syllable_once(score: Score, rest: float, longest: float) -> None:
    phrases = score.phrases(rest, longest)
    assert sum((phrase.syllables for phrase in phrases), ()) == score.syllables
    for phrase in phrases:
        assert phrase.syllables[0].starts_word or phrase is phrases[0]
        length = phrase.duration - phrase.syllables[0].onset
        assert length <= longest + 1e-9 or len(list(phrase.words())) == 1
        for left, right in pairwise(phrase.words()):
            assert right[0].onset - left[-1].offset < rest


@QUICK
@given(scores, st.integers(-12, 12), st.sampled_from((0.5, 0.8, 1.25, 2.0)))
def test_transposed_and_faster(score: Score, semitones: int, factor: float) -> None:
    assert score.transposed(semitones).transposed(-semitones) == score
    faster = score.faster(factor)
    assert ticks(faster) == ticks(score)
    assert faster.duration == pytest.approx(score.duration / factor, rel=1e-4)
    assert faster.text == score.text


def test_faults_are_named() -> None:
    note = Note(60, 0.0, 1.0)
    with pytest.raises(ValueError, match="overlap"):
        Score(
            (
                Syllable("a", ("AH0",), 0, notes=(note,)),
                Syllable("b", ("AH0",), 1, notes=(Note(62, 0.5, 1.5),)),
            )
        )
    with pytest.raises(ValueError, match="'la' has no note"):
        Score((Syllable("la", ("L", "AA1"), 0),))
    with pytest.raises(ValueError, match="no phoneme"):
        Syllable("", (), 0)
    for broken in ({"offset": 0.0}, {"pitch": 0}, {"pitch": 128}, {"onset": -1.0}):
        with pytest.raises(ValueError, match="expected"):
            dataclasses.replace(note, **broken)


def test_range_is_reported_and_met_by_octaves() -> None:
    notes = tuple(Note(p, k, k + 1.0) for k, p in enumerate((40, 60, 62)))
    score = Score((Syllable("la", ("L", "AA1"), 0, notes=notes),))
    assert [note.pitch for note in score.outside(48, 72)] == [40]
    assert octaves_into_range([84, 86], 55, 76) == -12
    assert octaves_into_range([60], 55, 76) == 0
