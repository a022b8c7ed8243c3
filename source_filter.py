"""PostNet with a source: mel and F0 → two filters, for a pulse train and for noise → waveform.

The source-filter model of speech (Fant 1960) with learned filters, as in the neural source-filter
vocoders (Wang et al. 2019, 1904.12088): F0 is exact, so harmonics are sharp up to the Nyquist
frequency and vibrato of a few cents survives, neither of which a mel can carry.

Legend: B batch, T frames, M mels, F linear bins, S samples, D width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from module import padding_mask
from utils.audio import frame_spectrum, inverse_spectrum

if TYPE_CHECKING:
    import hyperparams

TYPICAL_F0 = 220.0  # Hz, where the network's pitch input is 0
DILATIONS = (1, 2, 1, 4, 1)  # frames, of the blocks in turn
SPREAD = 4.0  # nepers that an output of 1 moves a filter: the first layers begin near the base
NOISE_BELOW = 1.5  # nepers under the base where the noise filter begins
RANGE = (-12.0, 8.0)  # nepers of a filter, between the floor of the features and full scale
GAIN_RANGE = (-6.0, 2.0)  # nepers of the pulses' gain in time
HIGHEST = 0.49  # of the sample rate: harmonics end below it


@dataclass(frozen=True)
class Filters:
    """What the sources go through: complex gains of the pulses, real ones of the noise.

    With k subframes in a frame the noise has k times the frames and about a k-th of the bins, and
    the pulses a gain of their own at its times: a window of 64 ms smears the burst of a plosive.
    """

    harmonic: Tensor  # (B, T, F)
    noise: Tensor  # (B, k·T, (F − 1)/k + 1)
    gain: Tensor | None = None  # (B, k·T) of the pulses; None with k = 1

    @property
    def subframes(self) -> int:
        """Noise filters in a frame, k."""
        return self.noise.shape[1] // self.harmonic.shape[1]


class SourceBlock(nn.Module):
    """A ConvNeXt block (Liu et al. 2022, 2201.03545) along time: (B, D, T) → (B, D, T)."""

    def __init__(self, width: int, inner: int, dilation: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(
            width, width, 7, padding=3 * dilation, dilation=dilation, groups=width
        )
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, inner)
        self.narrow = nn.Linear(inner, width)
        self.scale = nn.Parameter(torch.full((width,), 0.2))  # blocks begin as small corrections

    def forward(self, x: Tensor) -> Tensor:
        """X (B, D, T)."""
        y = self.norm(self.depthwise(x).transpose(1, 2))  # (B, T, D)
        y = self.scale * self.narrow(F.gelu(self.widen(y)))
        return x + y.transpose(1, 2)


class SourcePostNet(nn.Module):
    """Mel and F0 → filters of a pulse train and of noise."""

    def __init__(self, hp: hyperparams.Postnet, n_mels: int, n_linear: int) -> None:
        super().__init__()
        self.embed = nn.Conv1d(n_mels + 1, hp.width, 7, padding=3)
        self.blocks = nn.ModuleList(
            SourceBlock(hp.width, hp.source_inner, DILATIONS[k % len(DILATIONS)])
            for k in range(hp.source_blocks)
        )
        self.norm = nn.LayerNorm(hp.width)
        self.subframes = k = hp.source_subframes
        noise = k * ((n_linear - 1) // k + 1)
        self.sizes = (n_linear, noise, n_linear, n_linear, k if k > 1 else 0)
        self.to_filters = nn.Linear(hp.width, sum(self.sizes))
        nn.init.normal_(self.to_filters.weight, std=0.01)
        nn.init.zeros_(self.to_filters.bias)

    def forward(
        self, mel: Tensor, f0: Tensor, base: Tensor, mel_lengths: Tensor | None = None
    ) -> Filters:
        """Mel (B, T, M) standardised, f0 (B, T) in Hz, above 0 everywhere, mel_lengths (B,).

        base (B, T, F): natural log magnitudes that the filters begin from, the pseudo-inverse of
        the mel.
        """
        x = torch.cat([mel, (f0 / TYPICAL_F0).log()[..., None]], 2).transpose(1, 2)  # (B, M + 1, T)
        is_padding = None if mel_lengths is None else padding_mask(mel_lengths, mel.shape[1])
        x = _silent(self.embed(_silent(x, is_padding)), is_padding)  # (B, D, T)
        for block in self.blocks:
            x = _silent(block(x), is_padding)
        parts = self.to_filters(self.norm(x.transpose(1, 2))).float().split(self.sizes, 2)
        harmonic = (base + SPREAD * parts[0]).clamp(*RANGE).exp()  # (B, T, F)
        fine = _noise_base(base, self.subframes)
        noise = (fine + SPREAD * parts[1].reshape(fine.shape)).clamp(*RANGE).exp()
        phase = torch.atan2(parts[2], parts[3] + 0.1)  # 0 at the start: a pulse
        gain = None
        if self.subframes > 1:
            gain = (SPREAD * parts[4].flatten(1)).clamp(*GAIN_RANGE).exp()  # (B, k·T)
        return Filters(torch.polar(harmonic, phase), noise, gain)


def base_filters(base: Tensor, subframes: int = 1) -> Filters:
    """Return the filters that an untrained network begins with, from log magnitudes (B, T, F)."""
    harmonic = torch.polar(base.clamp(*RANGE).exp(), torch.zeros_like(base))
    return Filters(harmonic, _noise_base(base, subframes).clamp(*RANGE).exp())


def _noise_base(base: Tensor, subframes: int) -> Tensor:
    """Map log magnitudes (B, T, F) to those that noise begins from: (B, k·T, (F − 1)/k + 1).

    Between frames linearly; of each k bins the mean. A window a k-th as long hears noise √k times
    as quiet.
    """
    k = subframes
    if k == 1:
        return base - NOISE_BELOW
    after = torch.cat([base[:, 1:], base[:, -1:]], 1)
    share = torch.arange(k, device=base.device)[:, None] / k  # (k, 1)
    fine = torch.lerp(base[:, :, None], after[:, :, None], share).flatten(1, 2)  # (B, k·T, F)
    coarse = F.avg_pool1d(fine, k + 1, k, k // 2, count_include_pad=False)
    return coarse - NOISE_BELOW - 0.5 * math.log(k)


def _silent(x: Tensor, is_padding: Tensor | None) -> Tensor:
    """Zero the padding of (B, D, T): an item does not depend on what it is padded with."""
    return x if is_padding is None else x.masked_fill(is_padding[:, None], 0.0)


def pulse_train(f0: Tensor, audio: hyperparams.Audio) -> Tensor:
    """All harmonics of f0 (B, T) in Hz as cosines of amplitude 1: (B, S), S = hop · (T − 1).

    Σ cos kφ, k = 1 … K, in closed form (the Dirichlet kernel): sin((K + ½)φ) / (2 sin ½φ) − ½. K
    follows F0, so that nothing lies above HIGHEST: no aliasing.
    """
    samples = audio.hop_length * (f0.shape[1] - 1)
    fine = F.interpolate(f0.double()[:, None], samples + 1, mode="linear", align_corners=True)[
        :, 0, :samples
    ]  # (B, S)
    phase = 2 * math.pi * (fine / audio.sample_rate).cumsum(1)
    count = (HIGHEST * audio.sample_rate / fine).floor()
    half = 2 * (phase / 2).sin()
    is_peak = half.abs() < 2e-3
    kernel = ((count + 0.5) * phase).sin() / torch.where(is_peak, 1.0, half)
    return (torch.where(is_peak, count + 0.5, kernel) - 0.5).float()


def render(
    filters: Filters, f0: Tensor, audio: hyperparams.Audio, generator: torch.Generator
) -> Tensor:
    """Send pulses of f0 (B, T) and noise through their filters: (B, S), S = hop · (T − 1)."""
    device, k = filters.noise.device, filters.subframes
    amplitude = audio.win_length / 4  # of a cosine's peak under the Hann window
    pulses = frame_spectrum(pulse_train(f0, audio), audio) / amplitude  # (B, T, F)
    filtered = filters.harmonic * pulses
    shaping = filters.noise[:, : k * (f0.shape[1] - 1) + 1]
    parts = torch.randn(2, *shaping.shape, generator=generator, device=generator.device).to(device)
    noise = shaping * torch.complex(parts[0], parts[1]) / math.sqrt(2)
    if k == 1:
        return inverse_spectrum(filtered + noise, audio)
    voiced = inverse_spectrum(filtered, audio)
    if filters.gain is not None:
        gain = filters.gain[:, None, : noise.shape[1]]
        steps = F.interpolate(gain, voiced.shape[1] + 1, mode="linear", align_corners=True)
        voiced = voiced * steps[:, 0, :-1]
    return voiced + inverse_spectrum(noise, _divided(audio, k))


def _divided(audio: hyperparams.Audio, subframes: int) -> hyperparams.Audio:
    """Return frames that are a k-th as long and follow at a k-th of the hop."""
    sizes = (audio.n_fft, audio.win_length, audio.hop_length)
    n_fft, win_length, hop_length = (size // subframes for size in sizes)
    return replace(audio, n_fft=n_fft, win_length=win_length, hop_length=hop_length)
