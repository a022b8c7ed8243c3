"""Takes that perform: drawn note by note, sung as drawn, and the others as they always were."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import prepare_data
from corpora import singer as singer_file
from corpora.accompanist import missing_program
from corpora.singer import Manner, Singer, missing_packages
from corpora.stores import FeatureStore
from corpora.sung_takes import contour_of, sing_arrangement
from corpora.takes import arrange, performed, take_of
from music.inputs import collate_scores
from music.notation import parse_notation
from music.score import Note
from music.underlay import sing
from text.frontend import Pronouncer
from utils.metrics import f0_track

TUNE = """
title: Tune
tempo: 80
notes: "C" C4*2 E4*2 | "F" A4*3 F4 | "C" G4*4 | z*4 | "G" D4*2 E4*2 | "C" C4*4 |
words: Take the long road home, and tell them.
"""
needs_voice = pytest.mark.skipif(bool(missing_packages()), reason=str(missing_packages()))
needs_accompanist = pytest.mark.skipif(bool(missing_program()), reason=str(missing_program()))


def tune() -> tuple:
    song = parse_notation(TUNE)
    return song, sing(song.melody, Pronouncer()).score


def test_a_performance_leaves_the_rest_of_a_take_alone() -> None:
    plain, own = (take_of("a-song", 2, 0, 2, performance) for performance in (False, True))
    assert dataclasses.replace(own, manner=plain.manner) == plain
    assert own == take_of("a-song", 2, 0, 2, True) != take_of("a-song", 3, 0, 2, True)
    quiet = ("drift_cents", "note_dynamics", "phrase_dynamics", "breath_seconds")
    assert all(getattr(plain.manner, name) == 0 for name in quiet)
    manners = [take_of("a-song", n, 0, 2, True).manner for n in range(60)]
    depths = [manner.vibrato_cents for manner in manners]
    assert min(depths) < 10 and max(depths) > 45
    assert 0.4 < np.mean([manner.breath_seconds > 0 for manner in manners]) < 0.95


def test_notes_are_drawn_around_the_manner() -> None:
    song, score = tune()
    take = take_of("x", 1, 0, 1, performance=True)
    manner = dataclasses.replace(take.manner, vibrato_cents=30.0, note_dynamics=3.0)
    arrangement = arrange(song, score, take, 60.0)
    drawn = [performed(arrangement, dataclasses.replace(manner, seed=s)) for s in range(40)]
    assert drawn[0] == performed(arrangement, dataclasses.replace(manner, seed=0)) != drawn[1]
    styles = [note.style for one in drawn for note in one.score.notes]
    moved = [s.vibrato_cents for s in styles if s and s.vibrato_cents]
    assert np.median(moved) == pytest.approx(30, rel=0.15) and np.std(np.log(moved)) > 0.25
    assert 0.05 < np.mean([s.vibrato_cents == 0 for s in styles]) < 0.3
    velocities = [s.velocity for s in styles]
    assert np.std(40 * np.log10(velocities)) == pytest.approx(3.0, rel=0.3)
    for one in drawn[:3]:
        notes = one.score.notes
        assert [(n.pitch, n.onset) for n in notes] == [
            (n.pitch, n.onset) for n in arrangement.score.notes
        ]
        assert all(n.style and n.style.glide_seconds <= n.duration / 2 + 1e-9 for n in notes)


def test_the_plain_pitch_curve_is_the_one_it_was() -> None:
    """Takes without a performance are rendered bit by bit as before: curves by convolution."""
    score = tune()[1]
    manner = Manner(vibrato_cents=12.0, glide_seconds=0.09)
    plain = singer_file._pitch_curve(score, 20, 700, manner)
    notes = score.notes
    times = (np.arange(700) - 20) / singer_file.FRAME_RATE + notes[0].onset
    onsets = np.array([note.onset for note in notes])
    current = np.clip(np.searchsorted(onsets, times, side="right") - 1, 0, len(notes) - 1)
    pitch = np.array([note.pitch for note in notes], float)[current]
    kernel = np.hanning(2 * 4 + 3)[1:-1]
    pitch = np.convolve(np.pad(pitch, 4, mode="edge"), kernel / kernel.sum(), "valid")
    age = np.maximum(0.0, times - onsets[current])
    swell = np.clip((age - 0.25) / 0.25, 0.0, 1.0)
    vibrato = 12.0 / 100 * np.sin(2 * np.pi * 5.5 * age)
    assert np.array_equal(plain, 440.0 * 2 ** ((pitch + swell * vibrato - 69) / 12))
    drifting = singer_file._pitch_curve(score, 20, 700, dataclasses.replace(manner, drift_cents=5))
    cents = 1200 * np.log2(drifting / plain)
    inner = np.array([min(abs(t - onsets)) > 0.1 for t in times]) & (times > onsets[0])
    assert 2 < np.std(cents[inner]) < 10


def test_a_contour_is_the_pitch_above_the_note() -> None:
    notes = [Note(60, 1.0, 2.0), Note(64, 2.0, 3.0)]
    f0 = np.full(200, 440.0 * 2 ** ((60.5 - 69) / 12))
    contour = contour_of([(0.9, f0)], notes, 0.5, 3.0)
    assert contour["rate"] == 80.0 and len(contour["cents"]) == 200
    cents = np.array(contour["cents"])
    assert (
        (cents[:39] == 0).all() and (cents[41:119] == 50).all() and (cents[121:198] == -350).all()
    )
    score = {"pitch": [60], "onset": [0.5], "offset": [1.5], "position": [1], "slur": [0]}
    score |= {"notes": [[0.5, 1.5, 60]], "contour": contour}
    plain = {name: value for name, value in score.items() if name != "contour"}
    batch = collate_scores([score, plain, None], 1, 160, 0.016)
    assert batch is not None and batch.frame_contour is not None
    assert batch.frame_contour[0, 50].tolist() == [0.5, 1.0]  # 0.8 s
    assert batch.frame_contour[0, 158].tolist() == [0.0, 0.0]  # behind its end
    assert batch.frame_contour[1:].abs().max() == 0
    own = collate_scores([plain, None], 1, 160, 0.016)
    assert own is not None and own.frame_contour is None
    assert batch.select(0, 1, 20).frame_contour.shape == (1, 20, 2)
    assert own.select(0, 1, 20).frame_contour is None


@needs_voice
def test_what_is_drawn_is_sung() -> None:
    song, score = tune()
    take = take_of("x", 0, 0, 1, performance=True)
    manner = dataclasses.replace(
        take.manner, vibrato_cents=45.0, drift_cents=0.0, breath_seconds=0.4, breath_level=-14.0
    )
    take = dataclasses.replace(take, manner=manner)
    arrangement = performed(arrange(song, score, take, 60.0), manner)
    sung = sing_arrangement(arrangement, take, Singer(), 16000)
    heard = f0_track(sung.wav, 16000, 160).numpy()
    times = np.arange(len(heard)) / 100
    asked = np.zeros(len(heard))
    for begin, f0 in sung.curves:
        places = (times - begin) * 80
        inside = (places >= 0) & (places < len(f0))
        asked[inside] = np.interp(places[inside], np.arange(len(f0)), f0)
    held = (heard > 0) & (asked > 0)
    for note in arrangement.score.notes:
        held &= np.abs(times - note.onset) > 0.1
    cents = 1200 * np.log2(heard[held] / asked[held])
    assert np.median(np.abs(cents)) < 10 and held.sum() > 200
    rest = slice(round(arrangement.phrases[0].duration * 16000), sung.wav.shape[0])
    end = round((arrangement.phrases[1].syllables[0].onset - 0.15) * 16000)
    breath = sung.wav[end - 3200 : end]
    assert breath.std() > 0.01 and rest.start < end - 3200
    assert sung.neutral[end - 3200 : end].std() < 1e-3 * sung.neutral.std()
    loud = dataclasses.replace(manner, phrase_dynamics=12.0)
    swelled = sing_arrangement(arrangement, dataclasses.replace(take, manner=loud), Singer(), 16000)
    torch.testing.assert_close(swelled.neutral, sung.neutral, atol=1e-4, rtol=0)
    assert not torch.allclose(swelled.wav, sung.wav, atol=1e-2)


@needs_voice
@needs_accompanist
def test_a_songbook_stores_its_contours(tmp_path: Path) -> None:
    songs = tmp_path / "scores"
    songs.mkdir()
    (songs / "tune.song").write_text(TUNE)
    command = ["songbook", str(songs), "--feature-dir", str(tmp_path), "--workers", "1"]
    command += ["--validation-share", "0", "--test-share", "0"]
    assert prepare_data.main([*command, "--name", "moved", "--performance"]) == 0
    items = FeatureStore(tmp_path / "moved").index["items"]
    assert len(items) == 2
    for item in items:
        contour = item["score"]["contour"]
        assert 5 < np.abs(contour["cents"]).max() < 1300
        seconds = max(item["score"]["offset"])
        assert len(contour["cents"]) == pytest.approx(80 * seconds, abs=2)
