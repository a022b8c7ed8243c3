"""evaluate.py inpainting as a user runs it, at tiny size: every way, controls, interruption."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from tiny_chain import weights  # noqa: F401 (a fixture)

import evaluate
import prepare_data
from evaluation import inpainting as evaluation_inpainting
from evaluation.frechet import SpeechEmbedding
from evaluation.inpainting import InpaintingJudge
from evaluation.inpainting_rows import CONTROLS, INPAINTING_ROWS

RATE = 16000


@pytest.fixture
def command(weights: Path, tmp_path: Path) -> Callable[..., int]:  # noqa: F811
    """The `inpainting` command on a corpus of six short songs, with tiny networks."""
    torch.set_num_threads(1)
    songs = tmp_path / "songs"
    random = np.random.default_rng(0)
    for number in range(6):
        folder = songs / f"song-{number:02d}"
        folder.mkdir(parents=True)
        for name, level in (("vocal", 0.1), ("accompaniment", 0.05)):
            soundfile.write(folder / f"{name}.wav", level * random.standard_normal(2 * RATE), RATE)
    where = ["--feature-dir", str(tmp_path / "feature")]
    shares = ["--validation-share", "0.2", "--test-share", "0.5", "--workers", "0"]
    assert prepare_data.main(["stems", str(songs), "--name", "x", *shares, *where]) == 0

    def call(*rows: str) -> int:
        chain = ["--inpainter", str(weights / "inpainter.pt")]
        chain += ["--postnet", str(weights / "postnet.pt")]
        out = ["--out", str(tmp_path / "out"), "--device", "cpu"]
        size = ["--windows", "4", "--batch-size", "2"]
        return evaluate.main(
            ["inpainting", "--data", "x", *where, *chain, *out, *size, "--rows", *rows]
        )

    return call


def test_all_ways_floors_and_controls(
    command: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = {**INPAINTING_ROWS}
    for name in ("repaint", "draft_repaint", "gap_repaint"):
        few.pop(name)  # 390 evaluations each
    assert command(*few) == 0
    result = json.loads((tmp_path / "out" / "inpainting.json").read_text())
    rows = result["rows"]
    assert set(rows) == {*few, "silence", "other_vocal", "gap_silence", "gap_other_vocal"}
    assert all(len(row["distances"]) == 4 for row in rows.values())
    assert rows["default"]["evaluations"] == 20
    assert rows["gap_repaint_equal"]["evaluations"] == 21
    assert rows["draft_griffin_lim"]["evaluations"] == 0
    expected = {
        f"{worse} - {better}" for better, worse, _ in CONTROLS if {better, worse} <= {*rows}
    }
    assert set(result["controls"]) == expected
    assert all(0 < control["p_value"] <= 1 for control in result["controls"].values())
    assert (tmp_path / "out" / "inpainting.png").stat().st_size > 1000
    shown = capsys.readouterr().out
    assert "shuffled - default" in shown and "p = " in shown
    if result["embedding"] is None:
        assert "Fréchet distance not measured" in shown
    else:
        assert set(result["frechet_distance"]) == {
            "silence",
            "other_vocal",
            *(name for name in few if not name.startswith("gap")),
        }


def test_it_continues_and_takes_more_rows(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("gap") == 0
    out = tmp_path / "out"
    first = json.loads((out / "inpainting.json").read_text())["rows"]["gap"]
    judged = []
    judge = InpaintingJudge.judge

    def counted(self: InpaintingJudge, id: str) -> dict:
        judged.append(id)
        return judge(self, id)

    monkeypatch.setattr(InpaintingJudge, "judge", counted)
    assert command("gap", "gap_replacement") == 0
    assert judged == ["gap_replacement/0", "gap_replacement/1"]
    assert json.loads((out / "inpainting.json").read_text())["rows"]["gap"] == first


def test_other_windows_in_the_same_folder_are_judged_anew(
    command: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(self: SpeechEmbedding, wav: torch.Tensor, rate: int) -> np.ndarray:
        return wav.view(-1, 4).numpy()  # the windows here are too short for the real one

    monkeypatch.setattr(SpeechEmbedding, "__call__", short)
    few = ("--control-windows", "0", "--windows", "2")
    found = []
    for windows in ((), few, (*few, "--out", str(tmp_path / "new"))):
        assert command("default", "shuffled", *windows) == 0
        out = tmp_path / ("new" if "--out" in windows else "out")
        found.append(json.loads((out / "inpainting.json").read_text()))
    if found[0]["embedding"] is None:
        pytest.skip("the speech embedding is not installed")
    four, two, new = (result["frechet_distance"]["silence"] for result in found)
    assert two == new != four
    assert found[1]["frechet_difference"] == found[2]["frechet_difference"]
    assert set(found[0]["frechet_difference"]) == {"shuffled - default", "other_vocal - default"}


def test_an_unknown_row_is_refused(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("guess") == 2
    assert "choose from default" in capsys.readouterr().err


def test_distances_of_what_is_known() -> None:
    rows = {
        name: {"distances": [[level, 1.0]] * 3, "songs": list("abc"), "seconds": []}
        for name, level in (("default", 5.0), ("shuffled", 7.0))
    }
    found = evaluation_inpainting.controls(rows)
    test, meaning = found["shuffled - default"]
    assert test.difference.value == 2.0 and meaning == "the accompaniment is listened to"
