"""Forced alignment: what lies between phonemes, resumption, refusals, and one real recording."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from corpora import phoneme_times
from corpora.phoneme_times import AlignmentTask, align
from corpora.stores import read_phoneme_times
from text.frontend import Pronouncer
from text.symbols import word_spans

RECORDINGS = Path(__file__).parents[2].parent / "shared" / "data" / "LJSpeech-1.1"


def test_what_is_no_phoneme_fills_the_time_between() -> None:
    times = [None, (0.2, 0.5), None, None, (0.7, 1.0), None]
    filled = phoneme_times._filled(times, duration=1.4)
    assert filled["onset"] == [0.0, 0.2, 0.5, 0.6, 0.7, 1.0]
    assert filled["offset"] == [0.2, 0.5, 0.6, 0.7, 1.0, 1.4]


def test_words_are_the_runs_of_phonemes() -> None:
    symbols = ["W", "IH1", "N", "D", ",", " ", "B", "L", "OW1", "~"]
    assert word_spans(symbols) == [(0, 3), (6, 8)]
    assert word_spans([" ", "~"]) == []


def test_a_foreign_file_is_refused(tmp_path: Path) -> None:
    assert read_phoneme_times(tmp_path) == {}
    (tmp_path / phoneme_times.PHONEME_TIMES).write_text(json.dumps([1, 2]))
    with pytest.raises(ValueError, match="align"):
        read_phoneme_times(tmp_path)


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings of LJ Speech beside the project")
def test_a_real_recording_is_aligned_in_order() -> None:
    pytest.importorskip("pocketsphinx")
    symbols = Pronouncer().pronounce("in being comparatively modern.").symbols
    wav = RECORDINGS / "wavs" / "LJ001-0002.wav"
    id, times = align(AlignmentTask("LJ001-0002", wav, symbols))
    assert id == "LJ001-0002" and isinstance(times, dict)
    onset, offset = times["onset"], times["offset"]
    assert len(onset) == len(offset) == len(symbols)
    assert all(a <= b for a, b in zip(onset, offset, strict=True))
    assert all(b <= c + 1e-6 for b, c in zip(offset[:-1], onset[1:], strict=True))
    assert offset[-1] == pytest.approx(1.9, abs=0.05)
    first, last = word_spans(symbols)[2]  # "comparatively": the longest word, 0.41 s to 1.27 s
    assert onset[first] == pytest.approx(0.41, abs=0.05)
    assert offset[last] == pytest.approx(1.27, abs=0.05)


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="no recordings of LJ Speech beside the project")
def test_a_recording_that_does_not_fit_its_text_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pocketsphinx")
    text = "a much longer sentence than the recording can hold " * 4
    symbols = Pronouncer().pronounce(text).symbols
    wav = RECORDINGS / "wavs" / "LJ001-0002.wav"
    id, reason = align(AlignmentTask("LJ001-0002", wav, symbols))
    assert id == "LJ001-0002" and isinstance(reason, str)
