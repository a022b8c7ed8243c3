"""A redrafted vocal stands where the truth does and has a draft's faults."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import TINY
from torch import Tensor

from singing.chain import linear_from_mel, window_mel
from training.simulated_drafts import Redraft
from utils.audio import Features, frame_spectrum, griffin_lim

HP = TINY
EXACT = replace(HP.diffusion, draft_phase=0.0, draft_gain=0.0)


def voices(samples: int = 8192) -> Tensor:
    """Two tones with harmonics that swell and fade, (2, S)."""
    time = torch.arange(samples) / HP.audio.sample_rate
    f0 = torch.tensor([[180.0], [260.0]])
    tones = sum(torch.sin(2 * torch.pi * k * f0 * time) / k for k in range(1, 8))
    return 0.1 * tones * (1.2 + torch.sin(2 * torch.pi * 3 * time))


def redrafted(wav: Tensor, config: object = EXACT, seed: int = 0) -> Tensor:
    mel = window_mel(Features(HP.audio), wav)
    return Redraft(HP.audio, config)(mel, wav, torch.Generator().manual_seed(seed))


def match(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of two waveforms (B, S) sample by sample, (B,)."""
    return torch.nn.functional.cosine_similarity(a, b, dim=1)


def test_it_begins_at_the_true_phases_and_griffin_lim_does_not() -> None:
    wav = voices()
    assert match(redrafted(wav), wav).min() > 0.9
    linear = linear_from_mel(Features(HP.audio).mel(wav), HP.audio)
    assert (
        match(griffin_lim(linear, HP.audio, 4), wav[:, : linear.shape[1] * 256 - 256]).max() < 0.6
    )


def test_phases_that_are_off_move_it_away() -> None:
    wav = voices()
    shifted = [
        float(match(redrafted(wav, replace(EXACT, draft_phase=spread)), wav).mean())
        for spread in (0.0, 1.0, 3.0)
    ]
    assert shifted[0] > shifted[1] > shifted[2]


def test_it_has_the_power_of_the_vocal_within_its_gain() -> None:
    wav = voices()
    torch.testing.assert_close(redrafted(wav).norm(dim=1), wav.norm(dim=1))
    ratios = [
        redrafted(wav, replace(EXACT, draft_gain=3.0), seed).norm(dim=1) / wav.norm(dim=1)
        for seed in range(8)
    ]
    decibels = 20 * torch.stack(ratios).log10()
    assert decibels.abs().max() <= 3.001 and decibels.max() > 1 > -1 > decibels.min()


@pytest.mark.parametrize("samples", [8192, 8191, 8000])
def test_any_length_and_silence(samples: int) -> None:
    wav = voices(samples)
    assert redrafted(wav).shape == wav.shape
    wav[1] = 0.0
    made = redrafted(wav)
    assert made[1].abs().max() == 0 and torch.isfinite(made).all()


def test_the_spectrum_is_that_of_the_features() -> None:
    wav = voices()
    magnitude = frame_spectrum(wav, HP.audio).abs().clamp_min(HP.audio.log_floor)
    torch.testing.assert_close(magnitude.log(), Features(HP.audio).linear(wav), atol=1e-3, rtol=0)
