"""Songs with the legacy project's weights, from the shell: --preset published, at tiny size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from tiny import TINY

import synthesis
from legacy import weights as published
from singing import output as song_output
from text.symbols import SYMBOLS
from utils import checkpoint, config
from utils.loading import build_postnet, build_transformer, build_unet

torch.set_num_threads(1)
PUBLISHED = replace(
    config.preset("legacy"),
    unet=replace(TINY.unet, mask_input=False, draft_input=False, context_width=0, output_kernel=0),
    inpainter_training=TINY.inpainter_training,
    transformer=TINY.transformer,
    postnet=TINY.postnet,
)
RATE = PUBLISHED.audio.sample_rate


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a song, where --preset published means a tiny network; pictures are empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(config.presets(), "legacy", PUBLISHED)
    monkeypatch.setattr(song_output, "write_picture", lambda path, *rest: path.write_bytes(b"png"))
    random = np.random.default_rng(0)
    soundfile.write("song.wav", 0.1 * random.standard_normal(RATE), RATE)
    return tmp_path


@pytest.fixture
def download(workplace: Path) -> Path:
    """The legacy project's file with random weights, where its README says."""
    path = workplace / "save" / published.INPAINTER_PATH
    path.parent.mkdir(parents=True)
    torch.manual_seed(0)
    published.write_inpainter(path, build_unet(PUBLISHED, 0).state_dict(), step=195_000)
    return path


@pytest.fixture
def run(workplace: Path) -> Callable[..., int]:
    def call(*flags: str) -> int:
        common = ["--accompaniment", "song.wav", "--preset", "published", "--device", "cpu"]
        return synthesis.main([*common, *flags])

    return call


def report_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("method", ["repaint", "replacement", "mcg", "guided"])
def test_a_song_by_every_method_of_the_joint_model(
    run: Callable[..., int], workplace: Path, download: Path, method: str
) -> None:
    assert run("--method", method, "--steps", "2") == 0
    report = report_of(workplace)
    assert report["inpainter"]["step"] == 195_000
    found = {name: report["inpainting"][name] for name in ("method", "sigma_min", "rho", "step")}
    expected = {"method": method, "sigma_min": 1e-4, "rho": 9.0, "step": "dpm2_ancestral"}
    assert found == expected
    vocal, rate = soundfile.read(workplace / "out" / "vocal.wav")
    assert (len(vocal), rate) == (RATE, RATE) and vocal.std() > 0


def test_weights_are_converted_once_and_the_download_is_not_needed_again(
    run: Callable[..., int], workplace: Path, download: Path
) -> None:
    flags = ("--steps", "2", "--set", "inpainting.num_resamples=1")
    assert run(*flags) == 0
    first = (workplace / "out" / "vocal.wav").read_bytes()
    assert (workplace / "save/inpainter/published/best.pt").is_file()
    download.unlink()
    assert run(*flags) == 0
    assert (workplace / "out" / "vocal.wav").read_bytes() == first
    own = ["--accompaniment", "song.wav", "--device", "cpu", *flags]
    assert synthesis.main([*own, "--inpainter", "save/inpainter/published/best.pt"]) == 0
    assert (workplace / "out" / "vocal.wav").read_bytes() == first


def test_a_draft_of_lyrics_can_be_what_it_starts_from(
    run: Callable[..., int], workplace: Path, download: Path
) -> None:
    standard = {
        k: {"mean": [-5.0] * n, "std": [2.0] * n} for k, n in (("mel", 80), ("linear", 513))
    }
    transformer = build_transformer(PUBLISHED, len(SYMBOLS))
    with torch.no_grad():
        transformer.to_stop.bias.fill_(20.0)  # ends at the shortest that the text allows
    for kind, network in (("transformer", transformer), ("postnet", build_postnet(PUBLISHED))):
        state = {"kind": kind, "version": checkpoint.VERSION, "step": 3}
        state["model"] = network.state_dict()
        state["hyperparams"] = config.to_dict(PUBLISHED)
        state["data"] = {"corpus": "none", "symbols": list(SYMBOLS), "statistics": standard}
        checkpoint.save(workplace / f"{kind}.pt", state)
    flags = ("--lyrics", "oh", "--checkpoint", "transformer.pt", "--postnet", "postnet.pt")
    assert run(*flags, "--steps", "4", "--strength", "0.5") == 0
    assert [line["text"] for line in report_of(workplace)["lines"]] == ["oh"]
    assert run(*flags, "--steps", "4") == 2  # it hears no lyrics: only the start can tell it


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--method", "conditional"], ["sees no mask", "--method repaint, mcg"]),
        (["--inpainter", "x.pt"], ["--preset published and --inpainter x.pt", "one of the two"]),
        (["--method", "magic"], ["'magic' is not one of", "repaint"]),
    ],
)
def test_it_refuses(
    run: Callable[..., int],
    workplace: Path,
    download: Path,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    words: list[str],
) -> None:
    assert run(*flags) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said
    assert not (workplace / "out").exists()


def test_a_missing_or_broken_download_says_where_it_is_expected(
    run: Callable[..., int], workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("save") / published.INPAINTER_PATH
    assert run() == 2
    assert str(path) in capsys.readouterr().err
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<html>Sign in</html>")
    assert run() == 2
    said = capsys.readouterr().err
    assert "a web page" in said and str(path) in said
    assert not (workplace / "save" / "inpainter").exists()
