"""Augmentation: a pure function of its generator, each step what it says it is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from training.augmentation import (
    add_at,
    augment,
    convolve,
    resample_by,
    room_impulses,
    source_samples,
)
from training.experiment import seeded_context
from utils import config
from utils.metrics import f0_track

KNOBS = replace(config.preset("base").transcriber, shift_max=4.0)
OFF = replace(
    KNOBS,
    shift_probability=0.0,
    reverb_probability=0.0,
    mix_probability=0.0,
    noise_probability=0.0,
    gain_max=0.0,
)
RATE, SAMPLES = 16000, 8000


def stems(batch: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    size = source_samples(SAMPLES, KNOBS)
    return tuple(0.1 * torch.randn(batch, size, generator=generator) for _ in range(2))


def run(knobs, step: int = 0, batch: int = 8):
    generator = seeded_context(0, step, 0, torch.device("cpu")).generator
    return augment(*stems(batch), SAMPLES, RATE, knobs, generator)


def test_the_same_seed_and_step_give_the_same_windows() -> None:
    first, again, other = run(KNOBS), run(KNOBS), run(KNOBS, step=1)
    assert torch.equal(first.wav, again.wav) and torch.equal(first.rate, again.rate)
    assert not torch.equal(first.wav, other.wav) and not torch.equal(first.rate, other.rate)
    assert first.wav.shape == (8, SAMPLES) and torch.isfinite(first.wav).all()


def test_without_any_step_the_vocal_stays_and_its_source_too() -> None:
    vocal, accompaniment = stems()
    kept = vocal.clone()
    made = augment(vocal, accompaniment, SAMPLES, RATE, OFF, torch.Generator().manual_seed(0))
    assert torch.equal(made.wav, vocal[:, :SAMPLES]) and (made.rate == 1).all()
    augment(vocal, accompaniment, SAMPLES, RATE, KNOBS, torch.Generator().manual_seed(0))
    assert torch.equal(vocal, kept)


@pytest.mark.parametrize("name", ["shift", "reverb", "mix", "noise"])
def test_a_probability_is_the_share_of_windows_that_change(name: str) -> None:
    plain = stems(64)[0][:, :SAMPLES]
    half = run(replace(OFF, **{f"{name}_probability": 0.5}), batch=64).wav
    share = (half != plain).any(1).float().mean()
    assert 0.3 < share < 0.7
    every = run(replace(OFF, **{f"{name}_probability": 1.0}), batch=64).wav
    assert (every != plain).any(1).all()


def test_gain_is_uniform_in_decibels_and_noise_at_its_ratio() -> None:
    plain = stems(64)[0][:, :SAMPLES]
    made = run(replace(OFF, gain_max=12.0), batch=64).wav
    gain = 20 * (made.square().mean(1) / plain.square().mean(1)).sqrt().log10()
    assert gain.abs().max() <= 12.01 and gain.std() > 5
    noisy = run(replace(OFF, noise_probability=1.0, noise_min=20.0, noise_max=20.0), batch=8).wav
    noise = noisy - stems()[0][:, :SAMPLES]
    ratio = 10 * (stems()[0][:, :SAMPLES].square().mean(1) / noise.square().mean(1)).log10()
    torch.testing.assert_close(ratio, torch.full((8,), 20.0), atol=0.01, rtol=0)


@pytest.mark.parametrize("semitones", [-4.0, -0.3, 0.0, 1.0, 4.0])
def test_played_faster_sounds_higher_and_sooner(semitones: float) -> None:
    """A sine with a click of silence: pitch and place of its end follow the rate."""
    time = torch.arange(source_samples(RATE, KNOBS)) / RATE
    wav = torch.sin(2 * math.pi * 200 * time) * (time < 0.5)
    rate = torch.tensor([2 ** (semitones / 12)], dtype=torch.float64)
    played = resample_by(wav[None], rate, RATE)[0]
    f0 = f0_track(played, RATE, 320)
    middle = f0[5:15]
    assert (1200 * (middle / (200 * rate)).log2()).abs().max() < 5
    end = int(torch.nonzero(played.abs() > 0.05).max()) / RATE
    assert abs(end - 0.5 / float(rate)) < 0.005


def test_rates_stay_within_the_window_that_was_read() -> None:
    made = run(replace(OFF, shift_probability=1.0), batch=64)
    highest = 2 ** (KNOBS.shift_max / 12)
    assert made.rate.max() <= highest and made.rate.min() >= 1 / highest
    assert (SAMPLES - 1) * highest + 2 < source_samples(SAMPLES, KNOBS)
    with pytest.raises(ValueError, match="may take"):
        augment(
            torch.zeros(1, SAMPLES),
            torch.zeros(1, SAMPLES),
            SAMPLES,
            RATE,
            OFF,
            torch.Generator(),
        )


def test_rooms_fall_by_sixty_decibels_and_keep_the_direct_sound() -> None:
    seconds, level = torch.tensor([0.5, 1.0]), torch.tensor([-6.0, -12.0])
    rooms = room_impulses(seconds, level, RATE, torch.Generator().manual_seed(0))
    assert (rooms[:, 0] == 1).all()
    energy = 10 * rooms[:, 1:].square().sum(1).log10()
    torch.testing.assert_close(energy, level, atol=0.3, rtol=0)
    early, late = rooms[1, 800:1600].square().mean(), rooms[1, 8800:9600].square().mean()
    assert abs(10 * (early / late).log10() - 30) < 2  # half a second of one of 60 dB
    assert not rooms[0, RATE // 2 + 1 :].any()


def test_convolution_is_convolution() -> None:
    generator = torch.Generator().manual_seed(0)
    wav, impulse = (torch.randn(2, size, generator=generator) for size in (300, 50))
    expected = torch.nn.functional.conv1d(
        wav[None], impulse.flip(1)[:, None], padding=49, groups=2
    )[0, :, :300]
    torch.testing.assert_close(convolve(wav, impulse), expected, atol=1e-4, rtol=0)


def test_a_balance_is_the_ratio_of_powers_and_silence_stays() -> None:
    vocal, backing = stems(4)
    balance = torch.tensor([-3.0, 0.0, 10.0, 20.0])
    added = add_at(vocal, backing, balance) - vocal
    ratio = 10 * (vocal.square().mean(1) / added.square().mean(1)).log10()
    torch.testing.assert_close(ratio, balance, atol=0.01, rtol=0)
    quiet = torch.zeros_like(vocal)
    assert torch.equal(add_at(quiet, backing, balance), backing)
    assert torch.equal(add_at(vocal, quiet, balance), vocal)
