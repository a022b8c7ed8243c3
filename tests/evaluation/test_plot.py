"""plot.py as a user runs it, and the help of the scripts that judge and draw."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import plot
import prepare_data
from evaluation import gaussian_posterior

PNG = b"\x89PNG"


def test_pictures_of_an_item_and_of_its_run(
    weights: Path,
    speech_corpus: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.set_num_threads(1)
    where = ["--feature-dir", str(tmp_path / "feature")]
    shares = ["--validation-share", "0.3", "--test-share", "0.2", "--workers", "0"]
    assert (
        prepare_data.main(["ljspeech", str(speech_corpus()), "--name", "x", *shares, *where]) == 0
    )
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.pt").write_bytes((weights / "transformer.pt").read_bytes())
    line = {"step": 1, "time": 0.0, "train/loss": 0.5, "alpha/encoder": 1.0}
    (run / "stats.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    command = ["pictures", "--data", "x", *where, "--checkpoint", str(run)]
    assert plot.main([*command, "--out", str(tmp_path / "png")]) == 0
    made = {path.stem: path for path in (tmp_path / "png").iterdir()}
    attention = {"attention_cross", "attention_encoder", "attention_decoder"}
    assert set(made) == {*attention, "mel", "alphas", "learning_curves"}
    assert all(path.read_bytes().startswith(PNG) for path in made.values())
    capsys.readouterr()
    assert plot.main([*command, "--item", "99"]) == 2
    assert re.search(r"--item 99: the validation split has items 0 to \d", capsys.readouterr().err)


def test_samplers_are_measured_and_drawn(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two rows of the table and one curve: all of them take seconds, and have a test elsewhere."""
    monkeypatch.setattr(gaussian_posterior, "TABLE", gaussian_posterior.TABLE[2:4])
    curves = {"Euler": ("conditional", "euler", {}, (4, 8))}
    monkeypatch.setattr(gaussian_posterior, "CURVES", curves)
    assert plot.main(["samplers", "--out", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    errors = [float(error) for error in re.findall(r"DPM\+\+ 2M, \d+ \| \d+ \| (\S+)", table)]
    assert len(errors) == 2 and errors[1] < errors[0] < 0.01
    assert (tmp_path / "samplers.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("script", ["evaluate", "plot", "transcribe", "benchmark"])
def test_help_opens_with_an_example(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        importlib.import_module(script).main(["--help"])
    shown = capsys.readouterr().out
    assert left.value.code == 0 and f"\n    python {script}.py" in shown
    options = shown[shown.index("options:") :]
    for flag in re.findall(r"^  (--\S+)", options, re.M):
        section = re.split(r"^  -", options[options.index(f"  {flag}") + 4 :], flags=re.M)[0]
        assert "default" in section or flag == "--out", flag
