"""Data augmentation of the transcriber: pitch and tempo, room, accompaniment, noise, gain.

Shapes: B batch, S samples. Everything random comes from one generator on the CPU.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from hyperparams import Transcriber

SILENT_POWER = 1e-8  # mean square under which a signal is silence (-80 dB)
REVERB_DECAY = math.log(1000)  # nepers (60 dB) within the reverberation time


@dataclass(frozen=True)
class Augmented:
    """Augmented windows; time t of a window maps to song time start + rate · t."""

    wav: Tensor  # (B, S)
    rate: Tensor  # (B,)


def source_samples(samples: int, knobs: Transcriber) -> int:
    """Return how many samples of a song a window of `samples` takes at most."""
    return math.ceil(samples * 2 ** (knobs.shift_max / 12)) + 3


def augment(
    vocal: Tensor,
    accompaniment: Tensor,
    samples: int,
    sample_rate: int,
    knobs: Transcriber,
    generator: torch.Generator,
) -> Augmented:
    """Make windows of `samples` from stems (B, S'), S' = `source_samples`.

    Resample vocal and accompaniment together; then reverberate the vocal, mix, add noise, apply a
    gain. A probability of 0 leaves that step out.
    """
    if vocal.shape[1] < source_samples(samples, knobs):
        raise ValueError(
            f"{vocal.shape[1]} samples per stem: a window of {samples} may take "
            f"{source_samples(samples, knobs)}"
        )
    batch = len(vocal)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator)

    def chosen(probability: float) -> Tensor:
        return torch.rand(batch, generator=generator) < probability

    semitones = torch.where(
        chosen(knobs.shift_probability), uniform(-knobs.shift_max, knobs.shift_max), 0.0
    )
    in_room, seconds = chosen(knobs.reverb_probability), uniform(knobs.reverb_min, knobs.reverb_max)
    level = uniform(knobs.reverb_level - 20, knobs.reverb_level)
    is_mixed, balance = chosen(knobs.mix_probability), uniform(knobs.mix_min, knobs.mix_max)
    is_noisy, ratio = chosen(knobs.noise_probability), uniform(knobs.noise_min, knobs.noise_max)
    gain = uniform(-knobs.gain_max, knobs.gain_max)

    rate = 2 ** (semitones.double() / 12)  # (B,)
    wav = resample_by(vocal, rate, samples)
    if in_room.any():
        rows = chosen_rows(in_room, wav.device)
        impulses = room_impulses(seconds[in_room], level[in_room], sample_rate, generator)
        wav[rows] = convolve(wav[rows], impulses.to(wav.device, non_blocking=True))
    if is_mixed.any():
        rows = chosen_rows(is_mixed, wav.device)
        backing = resample_by(accompaniment[rows], rate[is_mixed], samples)
        wav[rows] = add_at(wav[rows], backing, balance[is_mixed])
    if is_noisy.any():
        rows = chosen_rows(is_noisy, wav.device)
        noise = torch.randn(len(rows), samples, generator=generator)
        noise = noise.to(wav.device, non_blocking=True)
        wav[rows] = add_at(wav[rows], noise, ratio[is_noisy])
    return Augmented(wav * decibels(gain).to(wav.device, non_blocking=True)[:, None], rate)


def chosen_rows(is_chosen: Tensor, device: torch.device) -> Tensor:
    """Return the numbers of the rows of a host's mask (B,) on a device, which is not waited for.

    A mask of the host as an index of a device's tensor would be: it is copied on the way.
    """
    return is_chosen.nonzero()[:, 0].to(device, non_blocking=True)


def resample_by(wav: Tensor, rate: Tensor, samples: int) -> Tensor:
    """Resample wav (B, S') to play at `rate` (B,) from its first sample: (B, samples).

    Cubic (Catmull-Rom) interpolation without a filter: what aliases lies above 6 kHz at the rates
    of a few semitones, which is small in a voice. A rate of 1 copies.
    """
    played = wav[:, :samples].clone()
    moved = torch.nonzero(rate != 1)[:, 0].tolist()
    time = torch.arange(samples, dtype=torch.float64)
    for row in moved:
        place = time * float(rate[row])
        left = place.long()
        t = (place - left).float().to(wav.device, non_blocking=True)
        left = left.to(wav.device, non_blocking=True)
        a, b, c, d = (wav[row, (left + k).clamp_min(0)] for k in (-1, 0, 1, 2))  # (S,) each
        slope = c - a
        square = 2 * a - 5 * b + 4 * c - d
        cube = 3 * (b - c) + d - a
        played[row] = b + 0.5 * t * (slope + t * (square + t * cube))
    return played


def room_impulses(
    seconds: Tensor, level: Tensor, sample_rate: int, generator: torch.Generator
) -> Tensor:
    """Draw room impulse responses (B, S): exponentially decaying noise after the direct sound.

    seconds: until the noise has fallen by 60 dB; level: dB of its energy against the direct sound.
    """
    time = torch.arange(math.ceil(float(seconds.max()) * sample_rate)) / sample_rate  # (S,)
    noise = torch.randn(len(seconds), len(time), generator=generator)
    tail = noise * torch.exp(-REVERB_DECAY * time / seconds[:, None])
    tail *= (time <= seconds[:, None]).float()
    energy = tail.square().sum(1, keepdim=True).clamp_min(SILENT_POWER)
    tail *= decibels(level)[:, None] / energy.sqrt()
    tail[:, 0] = 1.0  # the direct sound
    return tail


def convolve(wav: Tensor, impulses: Tensor) -> Tensor:
    """Convolve wav (B, S) with impulses (B, L), cut to (B, S)."""
    size = 1 << (wav.shape[1] + impulses.shape[1] - 1).bit_length()
    spectrum = torch.fft.rfft(wav, size) * torch.fft.rfft(impulses, size)
    return torch.fft.irfft(spectrum, size)[:, : wav.shape[1]]


def add_at(wav: Tensor, other: Tensor, balance: Tensor) -> Tensor:
    """Return wav + other (B, S), the first `balance` (B,) dB louder; wav where one is silent."""
    powers = [signal.square().mean(1) for signal in (wav, other)]
    both_sound = (powers[0] > SILENT_POWER) & (powers[1] > SILENT_POWER)
    gain = decibels(balance).to(wav.device, non_blocking=True)
    scale = (powers[0] / powers[1].clamp_min(SILENT_POWER)).sqrt() / gain
    return wav + other * torch.where(both_sound, scale, 1.0)[:, None]


def decibels(level: Tensor) -> Tensor:
    """Return the amplitude factor of a level in dB."""
    return 10 ** (level / 20)
