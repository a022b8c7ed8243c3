"""Composed melodies against their accompaniments: the metrics by hand, the command for real."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

import evaluate
import prepare_data
from composer.harmony import Confidence, Harmony, Key
from evaluation.melody import (
    ROWS,
    Accompanied,
    judge_melodies,
    measure_melody,
    print_melodies,
)
from hyperparams import Hyperparams
from text.frontend import Pronouncer
from text.lyrics import parse_lyrics

C_MAJOR, D_MAJOR = 0, 2
ROOT = Path(__file__).resolve().parents[2]
RATE = 16000


def harmony(chords: list[int]) -> Harmony:
    """A chord per beat, two beats a second."""
    beats = np.arange(len(chords)) * 0.5
    confidence = Confidence(1.0, 1.0, 1.0, 1.0)
    return Harmony(beats, np.array(chords), 4, 0, Key(0, "major"), len(chords) * 0.5, confidence)


def strummed(root: int, seconds: float = 24.0) -> np.ndarray:
    """Triads over I, IV, V, I, struck twice a second: (S,)."""
    time = np.arange(int(seconds * RATE)) / RATE
    wav = np.zeros_like(time)
    for beat in range(int(2 * seconds)):
        chord = (0, 5, 7, 0)[beat // 4 % 4] + root
        begin = int(beat / 2 * RATE)
        here = time[begin:] - time[begin]
        for tone in (-12, 0, 4, 7):
            hertz = 440 * 2 ** ((60 + chord + tone - 69) / 12)
            wav[begin:] += np.sin(2 * np.pi * hertz * here) * np.exp(-6 * here)
    return 0.1 * wav


def test_measures_by_hand() -> None:
    notes = [(0.0, 0.5, 60), (0.5, 1.0, 64), (1.0, 1.5, 62), (1.6, 2.0, 67)]
    found = measure_melody(notes, harmony([C_MAJOR] * 4), [harmony([D_MAJOR] * 4)])
    assert found["chord_tones"] == pytest.approx(2 / 3)  # C and E, not D; the fourth is too late
    assert found["chord_tones_shuffled"] == pytest.approx(1 / 3)  # D alone
    assert found["leap"] == 5 and found["span"] == 7
    assert found["beat_deviation"] == [0, 0, 0]
    empty = measure_melody([], harmony([C_MAJOR] * 4), [])
    assert np.isnan(empty["chord_tones"]) and np.isnan(empty["span"])
    assert "chord_tones_shuffled" not in empty


def test_composed_melodies_fit_their_own_accompaniment(capsys: pytest.CaptureFixture) -> None:
    """Two songs a whole tone apart, and a third too short for the lyrics, which is reported."""
    lines = parse_lyrics("the morning light is breaking on the hill\nthe river carries all away")

    def song(name: str, root: int, seconds: float = 24.0) -> Accompanied:
        return Accompanied(name, strummed(root, seconds), RATE, [(0.0, 1.0, 60 + root)])

    readers = [lambda: song("a@0", 0), lambda: song("b@0", 2), lambda: song("c@0", 6, 4.5)]
    records = judge_melodies(readers, lines, Pronouncer(), Hyperparams().composer, 0)
    assert "too" in records[2]["fault"] or "fit" in records[2]["fault"]
    assert set(records[2]["rows"]) == {"written"}
    metrics = print_melodies(records)["metrics"]
    own, other = (
        metrics[name]["composed"]["value"] for name in ("chord_tones", "chord_tones_shuffled")
    )
    assert own["count"] == 2 and own["value"] > other["value"] + 20
    text = capsys.readouterr().out
    assert all(row in text for row in ROWS) and "shuffle control, composed" in text
    with pytest.raises(ValueError, match="one song alone"):
        judge_melodies(readers[:1], lines, Pronouncer(), Hyperparams().composer, 0)


def test_the_command_composes_for_a_corpus(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for number in range(4):
        folder = tmp_path / "songs" / f"song-{number}"
        folder.mkdir(parents=True)
        backing = strummed(3 * number)
        soundfile.write(folder / "accompaniment.wav", backing, RATE)
        soundfile.write(folder / "vocal.wav", 0.5 * np.roll(backing, 100), RATE)
    where = ["--feature-dir", str(tmp_path / "feature")]
    shares = ["--validation-share", "0", "--test-share", "0.9", "--workers", "0"]
    stems = ["stems", str(tmp_path / "songs"), "--name", "x", *shares, *where]
    assert prepare_data.main(stems) == 0
    path = tmp_path / "feature" / "x" / "index.json"
    index = json.loads(path.read_text())
    for item in index["items"]:
        item |= {"symbols": ["AA1"], "score": {"notes": [[0.0, 1.0, 60]]}}
    path.write_text(json.dumps(index))
    lyrics = ["--lyrics", str(ROOT / "examples" / "lyrics.txt")]
    out = ["--out", str(tmp_path / "out")]
    assert evaluate.main(["melody", "--data", "x", *where, *lyrics, *out]) == 0
    result = json.loads((tmp_path / "out" / "melody.json").read_text())
    own, other = (
        result["metrics"][name]["composed"]["value"]["value"]
        for name in ("chord_tones", "chord_tones_shuffled")
    )
    assert own > other and 0 < result["shuffle_control"]["composed"]["p_value"] <= 1
    assert "tones of the chord" in capsys.readouterr().out
