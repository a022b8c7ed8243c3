"""Notes, levels, onsets and wrong lyrics on hand-made cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from corpora.records import song_of
from evaluation.score_metrics import note_track, onset_deviations, sound_of, wrong_lyrics
from utils.metrics import frame_distance, mel_level


def test_note_track() -> None:
    pitch, is_note = note_track([(0.1, 0.3, 60), (0.3, 0.4, 62)], 6, 0.1)
    assert pitch.tolist() == [0, 60, 60, 62, 0, 0]
    assert is_note.tolist() == (pitch > 0).tolist()
    empty, none = note_track([], 3, 0.1)
    assert not empty.any() and not none.any()
    assert note_track([(0, 1, 60)], 0, 0.1)[0].shape == (0,)


def test_level_is_of_power_and_moves_by_decibels() -> None:
    mel = np.random.default_rng(0).normal(-3, 1, (50, 80))
    assert mel_level(mel + math.log(2)) - mel_level(mel) == pytest.approx(20 * math.log10(2))
    flat = np.zeros((4, 10))
    assert mel_level(flat) == pytest.approx(10)
    with pytest.raises(ValueError, match="at least one frame"):
        mel_level(np.zeros((0, 80)))


def test_frame_distance() -> None:
    a = np.zeros((5, 3))
    assert frame_distance(a, a) == 0
    assert frame_distance(a + 2, np.zeros((9, 3))) == 2
    with pytest.raises(ValueError):
        frame_distance(a[:0], a)


def test_onset_deviations_are_of_sung_vowels() -> None:
    symbols = ["M", "AY1", " ", "OW1", "~"]
    score = {"onset": [0.1, 0.2, 0.5, 0.5, 0.9], "pitch": [60, 60, 0, 62, 0]}
    heard = [0.1, 0.25, 0.0, 0.46, 0.0]
    assert onset_deviations(heard, score, symbols) == pytest.approx([0.05, -0.04])
    assert onset_deviations(heard, {**score, "pitch": [0] * 5}, symbols) == []


def test_wrong_lyrics_are_alike_in_length_and_of_other_songs() -> None:
    items = [
        {"id": "a@0.000", "symbols": ["M", "AY1", "~"]},
        {"id": "a@1.001", "symbols": ["S", "OW1", "~"]},  # the same song
        {"id": "b@0.000", "symbols": ["M", "AY2", ",", "~"]},  # sounds the same
        {"id": "c@0.000", "symbols": ["S", "OW1", "N", "G", "~"]},
        {"id": "d@0.000", "symbols": ["G", "OW1", "~"]},
        {"id": "e@0.000", "symbols": ["G", "OW0", "~"]},  # as d
        {"id": "f@0.000", "symbols": ["~"]},  # nothing
    ]
    assert wrong_lyrics(items[0], items, 4) == [("G", "OW1", "~"), ("S", "OW1", "N", "G", "~")]
    assert wrong_lyrics(items[0], items, 1) == [("G", "OW1", "~")]
    assert wrong_lyrics(items[0], items[:1], 4) == []


def test_names() -> None:
    assert sound_of(["HH", "AY1", " ", "M", "OW0", "~"]) == ("HH AY", "M OW")
    assert song_of("songbook/lc12@3.004") == "lc12" and song_of("LJ001-0002") == "LJ001-0002"
