"""Discriminators: each side learns by its own losses alone, in one backward pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TINY
from torch import nn

from training.adversary import WaveformDiscriminator, adversarial_losses
from training.optimizer import Adversary
from utils.distributed import World

SAMPLES = 4096


def discriminator(channels: int = 4) -> WaveformDiscriminator:
    torch.manual_seed(0)
    return WaveformDiscriminator(channels)


def tones(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    f0 = 100 + 200 * torch.rand(count, 1, generator=generator)
    time = torch.arange(SAMPLES) / 16000
    return 0.1 * sum(torch.sin(2 * torch.pi * f0 * k * time) / k for k in range(1, 12))


def test_generator_and_discriminator_learn_by_their_own_losses() -> None:
    network, real = discriminator(), tones(2, 0)
    gain = nn.Parameter(torch.tensor(0.5))
    losses = adversarial_losses(network, gain * tones(2, 1), real)
    weights = list(network.parameters())
    for loss in (losses.adversarial, losses.features):
        (own,) = torch.autograd.grad(loss, gain, retain_graph=True)
        assert own.abs() > 0
        reached = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True)
        assert all(gradient is None for gradient in reached)
    assert torch.autograd.grad(
        losses.discriminator, gain, retain_graph=True, allow_unused=True
    ) == (None,)
    reached = torch.autograd.grad(losses.discriminator, weights)
    assert all(gradient.abs().sum() > 0 for gradient in reached)


def test_features_of_the_same_sound_are_no_distance_apart() -> None:
    real = tones(3, 0)
    losses = adversarial_losses(discriminator(), real.clone(), real)
    assert losses.features.item() < 1e-6
    louder = adversarial_losses(discriminator(), 2 * real, real)
    assert 0.05 < louder.features.item() < 1  # relative: of the order of the level's change


def test_it_learns_to_tell_noise_from_tones() -> None:
    network = discriminator(8)
    adversary = Adversary(network, replace(TINY.postnet_training, learning_rate=3e-3))
    noise = torch.Generator().manual_seed(2)
    first = last = 0.0
    for step in range(25):
        made = 0.05 * torch.randn(4, SAMPLES, generator=noise)
        loss = adversarial_losses(network, made, tones(4, step)).discriminator
        adversary.optimizer.zero_grad()
        loss.backward()
        adversary.optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last < 0.3 < first
    with torch.no_grad():
        scores = [
            torch.cat([part[-1].flatten(1) for part in network(wav)], 1).mean().item()
            for wav in (tones(4, 99), 0.05 * torch.randn(4, SAMPLES, generator=noise))
        ]
    assert scores[0] - scores[1] > 0.5


def test_an_item_is_judged_as_it_is_alone() -> None:
    network, wavs = discriminator(), tones(3, 0)
    with torch.no_grad():
        both, alone = network(wavs), network(wavs[1:2])
    for many, one in zip(both, alone, strict=True):
        for a, b in zip(many, one, strict=True):
            torch.testing.assert_close(a[1:2], b, atol=1e-5, rtol=1e-4)


def test_ranks_average_its_gradients() -> None:
    class Pair(World):
        """Another rank whose gradients are three times ours."""

        def sum(self, values: torch.Tensor) -> torch.Tensor:
            return values + 3 * values

    adversary = Adversary(discriminator(), TINY.postnet_training)
    adversarial_losses(adversary.network, tones(2, 1), tones(2, 0)).discriminator.backward()
    own = [parameter.grad.clone() for parameter in adversary.network.parameters()]
    adversary.exchange(Pair(torch.device("cpu"), size=2))
    for before, parameter in zip(own, adversary.network.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, 2 * before)


def test_a_run_without_a_discriminator_is_not_gone_on_with() -> None:
    adversary = Adversary(discriminator(), TINY.postnet_training)
    with pytest.raises(ValueError, match="no discriminator"):
        adversary.load(None, Path("last.pt"))
    adversary.load(adversary.state(), Path("last.pt"))
