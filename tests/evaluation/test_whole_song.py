"""The cost of a whole song: its files, and a run of the real command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import benchmark
from evaluation.whole_song import write_example
from text.lyrics import read_lyrics
from utils.audio import read_audio


def test_the_example_is_repeated_to_the_length(tmp_path: Path) -> None:
    assert write_example(tmp_path, 100.0) == 18
    wav, rate = read_audio(tmp_path / "backing.wav")
    assert wav.shape == (2, 100 * rate) and wav[:, -rate:].abs().max() > 0.01
    assert (wav[:, : 30 * rate] - wav[:, round(32.5 * rate) :][:, : 30 * rate]).abs().max() == 0
    starts = [line.start for line in read_lyrics(tmp_path / "lyrics.lrc")]
    assert starts[0] == 4.0 and max(starts) == 89.0


def test_a_short_song_is_sung_and_timed(capsys: pytest.CaptureFixture) -> None:
    assert benchmark.main(["--song", "0.15", "--device", "cpu", "--threads", "1"]) == 0
    said = capsys.readouterr().out
    found = re.search(r"a song of 9 s, 1 lines: ([\d.]+) s of processor time \(([\d.]+) of", said)
    assert found and 1 < float(found[1]) < 60 and "on the clock, peak" in said


def test_a_length_out_of_bounds_is_refused(capsys: pytest.CaptureFixture) -> None:
    assert benchmark.main(["--song", "900"]) == 2
    assert "expected 0.1 to 60 minutes" in capsys.readouterr().err
