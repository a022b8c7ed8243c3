"""The transcriber as a judge: entropies of known answer, the earlier weights from the shell."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny import PUBLISHED_TRANSCRIBER

import evaluate
from legacy import weights as published
from transcription.transcribe import build_transcriber, phoneme_entropies, with_knobs
from utils import config

torch.set_num_threads(1)
SILENCE = 38


def certain(classes: list[int]) -> torch.Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), 39) * 1e3


def test_entropies_of_known_distributions() -> None:
    found = phoneme_entropies(certain([0, 1, 2, 3, SILENCE, SILENCE]).float())
    assert found.accuracy == pytest.approx(0.0, abs=1e-9)
    assert found.variety == pytest.approx(2.0)  # four phonemes, equally often
    assert found.sung == pytest.approx(4 / 6)
    flat = torch.zeros(5, 39)
    flat[:, 7] = 1e-6
    found = phoneme_entropies(flat)
    assert found.accuracy == pytest.approx(math.log2(39), rel=1e-6)
    assert (found.variety, found.sung) == (0.0, 1.0)


def test_silent_frames_count_for_nothing() -> None:
    quiet = phoneme_entropies(certain([SILENCE] * 4).float())
    assert (quiet.accuracy, quiet.variety, quiet.sung) == (None, None, 0.0)
    torch.manual_seed(0)
    logits = torch.randn(50, 39)
    longer = torch.cat([logits, certain([SILENCE] * 30).float()])
    first, second = phoneme_entropies(logits), phoneme_entropies(longer)
    assert (first.accuracy, first.variety) == pytest.approx((second.accuracy, second.variety))


@pytest.fixture
def download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The earlier transcriber's file with random weights, where its README says, and a wav."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / published.TRANSCRIBER_PATH
    path.parent.mkdir(parents=True)
    knobs = published.transcriber_knobs(PUBLISHED_TRANSCRIBER, path)
    torch.manual_seed(0)
    weights = build_transcriber(with_knobs(config.preset("base"), knobs)).state_dict()
    renamed = published.to_legacy(weights, "transcriber")
    torch.save({"config": PUBLISHED_TRANSCRIBER, "model_state_dict": renamed}, path)
    soundfile.write("a.wav", 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    return path


def test_the_earlier_weights_judge_a_recording(
    download: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate.main(["phonemes", "a.wav", "--device", "cpu"]) == 0
    first = capsys.readouterr().out
    assert "a.wav" in first and "save/transcriber/published/best.pt" in first
    download.unlink()  # converted once
    assert evaluate.main(["phonemes", "a.wav", "--device", "cpu"]) == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no file at"),
        (b"", "is empty"),
        (b"<html>Quota exceeded</html>", "a web page"),
        (b"\x80\x02half", "a file that begins"),
        ("half", "cut off or half-downloaded"),
        ({"step": 1, "model": {}}, "found a dict of step, model"),
        ({"config": PUBLISHED_TRANSCRIBER, "model_state_dict": {}}, "missing lang_model"),
    ],
)
def test_a_file_that_is_not_it_is_named(
    download: Path, capsys: pytest.CaptureFixture[str], content: object, message: str
) -> None:
    whole = download.read_bytes()
    if content is None:
        download.unlink()
    elif content == "half":
        download.write_bytes(whole[: len(whole) // 2])
    elif isinstance(content, bytes):
        download.write_bytes(content)
    else:
        torch.save(content, download)
    assert evaluate.main(["phonemes", "a.wav", "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    assert message in said and str(published.TRANSCRIBER_PATH) in said
    assert not Path("save").exists()
