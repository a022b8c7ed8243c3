"""Simulated drafts stand where the truth does; synthesis conditions as training does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny import TINY
from tiny_chain import SHAPED, rendered_phrase
from torch import Tensor

from inpainter.context import Context, ContextMaker, window_mel
from music.inputs import ScoreTracks
from singing.chain import linear_from_mel
from singing.inpaint import PlacedPhrase, condition_from, inpaint_ranges
from text.symbols import SYMBOL_TO_ID, SYMBOLS
from training.simulated_drafts import DraftSimulator, SimulatedContexts
from utils.audio import Features, frame_spectrum, griffin_lim
from utils.loading import Loaded, build_unet

HP = TINY
EXACT = replace(HP.diffusion, draft_phase=0.0, draft_gain=0.0)


def voices(samples: int = 8192) -> Tensor:
    """Two tones with harmonics that swell and fade, (2, S)."""
    time = torch.arange(samples) / HP.audio.sample_rate
    f0 = torch.tensor([[180.0], [260.0]])
    tones = sum(torch.sin(2 * torch.pi * k * f0 * time) / k for k in range(1, 8))
    return 0.1 * tones * (1.2 + torch.sin(2 * torch.pi * 3 * time))


def simulated(wav: Tensor, config: object = EXACT, seed: int = 0) -> Tensor:
    mel = window_mel(Features(HP.audio), wav)
    return DraftSimulator(HP.audio, config)(mel, wav, torch.Generator().manual_seed(seed))


def match(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of two waveforms (B, S) sample by sample, (B,)."""
    return torch.nn.functional.cosine_similarity(a, b, dim=1)


def test_it_begins_at_the_true_phases_and_griffin_lim_does_not() -> None:
    wav = voices()
    assert match(simulated(wav), wav).min() > 0.9
    linear = linear_from_mel(Features(HP.audio).mel(wav), HP.audio)
    assert (
        match(griffin_lim(linear, HP.audio, 4), wav[:, : linear.shape[1] * 256 - 256]).max() < 0.6
    )


def test_phases_that_are_off_move_it_away() -> None:
    wav = voices()
    shifted = [
        float(match(simulated(wav, replace(EXACT, draft_phase=spread)), wav).mean())
        for spread in (0.0, 1.0, 3.0)
    ]
    assert shifted[0] > shifted[1] > shifted[2]


def test_it_has_the_power_of_the_vocal_within_its_gain() -> None:
    wav = voices()
    torch.testing.assert_close(simulated(wav).norm(dim=1), wav.norm(dim=1))
    ratios = [
        simulated(wav, replace(EXACT, draft_gain=3.0), seed).norm(dim=1) / wav.norm(dim=1)
        for seed in range(8)
    ]
    decibels = 20 * torch.stack(ratios).log10()
    assert decibels.abs().max() <= 3.001 and decibels.max() > 1 > -1 > decibels.min()


@pytest.mark.parametrize("samples", [8192, 8191, 8000])
def test_any_length_and_silence(samples: int) -> None:
    wav = voices(samples)
    assert simulated(wav).shape == wav.shape
    wav[1] = 0.0
    made = simulated(wav)
    assert made[1].abs().max() == 0 and torch.isfinite(made).all()


def test_the_spectrum_is_that_of_the_features() -> None:
    wav = voices()
    magnitude = frame_spectrum(wav, HP.audio).abs().clamp_min(HP.audio.log_floor)
    torch.testing.assert_close(magnitude.log(), Features(HP.audio).linear(wav), atol=1e-3, rtol=0)


DATA = {
    "symbols": list(SYMBOLS),
    "context": list(Context.PARTS),
    "statistics": {"mel": {"mean": [-5.0] * 80, "std": [2.0] * 80}},
}
SONG = {
    "id": "song",
    "symbols": ["S", "IY1", "AA1"],
    "score": {
        "onset": [0.1, 0.2, 0.6],
        "offset": [0.2, 0.5, 1.4],
        "notes": [[0.1, 0.5, 60], [0.6, 1.4, 64]],
    },
}


def test_synthesis_conditions_the_network_exactly_as_training_does() -> None:
    """The same draft of the same place gives every part of the context the same bits."""
    hop, window = HP.audio.hop_length, SHAPED.window
    start, length = 2 * window, 4 * window
    tracks = ScoreTracks([SONG], SYMBOL_TO_ID)
    contexts = SimulatedContexts(ContextMaker(HP.audio, DATA), HP.audio, HP.diffusion, tracks)
    vocal = voices(window)[:1]
    generator = torch.Generator().manual_seed(0)
    trained = contexts(vocal, ["song"], torch.tensor([start]), generator)
    assert set(trained.present()) == set(Context.PARTS)

    # Synthesis: lines of a voice with another symbol table, laid over a song, in windows.
    table = list(reversed(SYMBOLS))
    symbols, pitch = tracks.window("song", 0.0, 1 / HP.audio.frame_rate, length // hop)
    other_ids = torch.tensor([table.index(symbol) for symbol in SYMBOLS])
    draft = torch.zeros(length)
    draft[start : start + window] = trained.wav[0]
    phrase = rendered_phrase(draft, other_ids[symbols], pitch)
    inpainter = Loaded(build_unet(SHAPED, len(SYMBOLS)).eval(), SHAPED, DATA, Path("x.pt"), 0)
    song = SimpleNamespace(vocal=torch.zeros(length), ranges=((0, length),))
    condition = condition_from([PlacedPhrase(phrase, 0)], draft, table, song, inpainter)
    seen: list[Context] = []
    inpainter.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    config = replace(SHAPED.inpainting, overlap=0, fade=0, batch_size=1)
    silence = torch.zeros(length)
    inpaint_ranges(inpainter, silence, silence, song.ranges, config, 0, condition, quiet=True)
    sung = seen[2]  # windows without overlap: the third begins at `start`
    assert set(sung.present()) == set(Context.PARTS) and len(seen) == 4
    for name, part in trained.present().items():
        scaled = part / SHAPED.diffusion.sigma_data if name == "wav" else part  # as D hands it on
        assert torch.equal(scaled, getattr(sung, name)), name


def test_a_condition_that_the_network_was_not_trained_with_is_left_out() -> None:
    wav = voices(2048)
    phoneme = torch.zeros(2, 8, dtype=torch.int64)
    maker = ContextMaker(HP.audio, DATA | {"context": ["mel"]})
    assert set(maker(wav, phoneme=phoneme, pitch=phoneme).present()) == {"mel"}
    assert not ContextMaker(HP.audio, DATA | {"context": []})(wav).present()
