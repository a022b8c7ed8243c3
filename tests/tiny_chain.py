"""Tiny networks with random weights and made-up music: the command line of synthesis in seconds."""

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
from torch import nn

import synthesis
from hyperparams import Hyperparams
from singing import output as song_output
from singing.chain import attention_health
from singing.voice import Phrase, RenderedPhrase
from text.symbols import SYMBOLS
from utils import checkpoint, config
from utils.loading import build_postnet, build_transformer, build_unet

OTHER_RATE = replace(TINY, audio=replace(TINY.audio, sample_rate=22050))
# What ships, small: an MDCT, noise in the shape of the draft, one look with a draft.
SHAPED = replace(
    TINY,
    unet=replace(
        TINY.unet,
        mdct=512,
        noise_exponent=0.55,
        multipliers=(1, 1),
        factors=(2,),
        num_blocks=(1,),
        attentions=(True,),
    ),
    inpainting=replace(TINY.inpainting, num_steps=2, draft_steps=1, draft_share=0.5),
)
STATISTICS = {"mel": (-5.0, 2.0, 80), "linear": (-5.0, 2.0, 513)}
WINDOW = TINY.window  # 0.512 s
Run = Callable[..., int]


def save(path: Path, kind: str, network: nn.Module, hp: Hyperparams, **data: Any) -> None:
    standard = {k: {"mean": [m] * n, "std": [s] * n} for k, (m, s, n) in STATISTICS.items()}
    statistics = {"vocal": 0.1, "accompaniment": 0.1, "both": 0.1, **standard}
    data = {"corpus": "none", "symbols": list(SYMBOLS), "statistics": statistics, **data}
    state = {"kind": kind, "version": checkpoint.VERSION, "step": 3, "model": network.state_dict()}
    checkpoint.save(path, {**state, "hyperparams": config.to_dict(hp), "data": data})


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny networks with random weights, as training would leave them."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    for hp, end in ((TINY, ""), (OTHER_RATE, "-22050")):
        network = build_unet(hp, len(SYMBOLS))
        with torch.no_grad():  # what starts at zero would hide the input and the context
            network.output.weight.normal_(std=0.1)
            network.context.to_film.weight.normal_(std=0.3)
        told = {"loudness": -18.0, "context": ["mel", "phoneme", "pitch", "voicing"]}
        save(folder / f"inpainter{end}.pt", "inpainter", network, hp, **told)
    network = build_unet(SHAPED, len(SYMBOLS))
    with torch.no_grad():
        network.spectral_unpatch.output.weight.normal_(std=0.1)
        network.context.to_film.weight.normal_(std=0.3)
    parts = ["mel", "phoneme", "pitch", "voicing", "wav"]
    save(folder / "shaped.pt", "inpainter", network, SHAPED, loudness=-18.0, context=parts)
    transformer = build_transformer(TINY, len(SYMBOLS))
    with torch.no_grad():
        transformer.to_stop.bias.fill_(20.0)  # ends at the shortest that the text allows
    save(folder / "transformer.pt", "transformer", transformer, TINY)
    save(folder / "singer.pt", "transformer", transformer, TINY, pitch_range=[50, 74])
    save(folder / "postnet.pt", "postnet", build_postnet(TINY), TINY)
    return folder


@pytest.fixture
def run(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """main() with the tiny networks and --out tmp_path/out; flags after the first win.

    Their presets stand in hyperparams.py, as those of every network do. No inpainter on mels ships.
    """
    for name, hyperparams in (("tiny", TINY), ("shaped", SHAPED)):
        monkeypatch.setitem(config.presets(), name, hyperparams)
    monkeypatch.setattr(synthesis, "MEL_INPAINTER", tmp_path / "nowhere.pt")

    def call(*flags: object, out: str = "out") -> int:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        names = {"checkpoint": "transformer", "postnet": "postnet", "inpainter": "inpainter"}
        files = [x for f, name in names.items() for x in (f"--{f}", weights / f"{name}.pt")]
        argv = [*files, "--out", tmp_path / out, "--device", "cpu", *flags]
        try:
            return synthesis.main([str(part) for part in argv])
        finally:
            torch.set_num_threads(threads)

    return call


@pytest.fixture
def sing(run: Run, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """A song that must succeed, in two steps; returns its report."""

    def call(*flags: object, out: str = "out") -> dict[str, Any]:
        assert run("--steps", 2, *flags, out=out) == 0
        return json.loads((tmp_path / out / "report.json").read_text())

    return call


@pytest.fixture
def no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of the time of a tiny song; one test looks at the picture."""
    monkeypatch.setattr(song_output, "write_picture", lambda path, *rest: path.write_bytes(b"png"))


def music(seconds: float, rate: int = 16000, channels: int = 1, hertz: float = 220.0) -> np.ndarray:
    """(S, C) of a chord with noise, each channel a little different."""
    time = np.arange(round(seconds * rate)) / rate
    random = np.random.default_rng(channels)
    waves = [
        sum(0.1 * np.sin(2 * np.pi * k * hertz * time + c) for k in (1, 1.25, 1.5))
        for c in range(channels)
    ]
    return np.stack(waves, 1) + 0.01 * random.standard_normal((len(time), channels))


def rendered_phrase(
    wav: torch.Tensor,
    symbols: torch.Tensor,
    pitch: torch.Tensor | None = None,
    number: int = 1,
    start: float | None = 0.0,
) -> RenderedPhrase:
    """A phrase (S,) that reads symbols and notes (T,); what its decoding left is made up."""
    alignment = torch.ones(len(symbols), 1)
    return RenderedPhrase(
        Phrase("la", number, ("L", "AA1"), ("la",), ((0, 1),), (), start=start),
        wav=wav,
        mel=torch.zeros(len(symbols), 1),
        symbols=symbols,
        pitch=pitch,
        attention=[],
        health=attention_health(alignment.numpy(), ((0, 0),)),
        ended_by="durations",
        seed=0,
    )


def write(path: Path, wav: np.ndarray, rate: int = 16000, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, wav, rate, subtype=subtype)
    return path


def integers(path: Path) -> np.ndarray:
    return soundfile.read(path, dtype="int32", always_2d=True)[0]
