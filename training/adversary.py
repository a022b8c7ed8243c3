"""Discriminators of waveforms and their losses, for what a spectral distance averages away.

Spectrogram discriminators at several resolutions (Jang et al. 2021, 2106.07889, section 2.3) that
see complex spectra (Défossez et al. 2022, 2210.13438, section 3.4), least-squares objectives (Mao
et al. 2017, 1611.04076, eq. 9) and feature matching (Kumar et al. 2019, 1910.06711, eq. 4).

Legend: B batch, S samples, T frames, F bins, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

WINDOWS = (256, 512, 1024)  # samples, of the spectra that they look at: consonants to harmonics
DILATIONS = (1, 2, 4)  # frames, of the convolutions that halve the bins
SLOPE = 0.2  # of the rectifiers below zero
COMPRESSION = 0.3  # exponent of a magnitude: quiet parts count too
QUIETEST = 1e-4  # magnitude under which a spectrum is not raised any more


class SpectrogramDiscriminator(nn.Module):
    """Waveforms (B, S) → a score of every patch of their complex spectrum: 1 real, 0 made."""

    def __init__(self, window: int, channels: int) -> None:
        super().__init__()
        self.size = window
        self.window: Tensor
        self.register_buffer("window", torch.hann_window(window), persistent=False)
        convolutions = [nn.Conv2d(2, channels, (3, 9), padding=(1, 4))]
        convolutions += [
            nn.Conv2d(channels, channels, (3, 9), (1, 2), (dilation, 4), (dilation, 1))
            for dilation in DILATIONS
        ]
        convolutions += [nn.Conv2d(channels, channels, 3, padding=1)]
        self.convolutions = nn.ModuleList(map(weight_norm, convolutions))
        self.score = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, wav: Tensor) -> list[Tensor]:
        """Return the features of every layer, (B, C, T, F / 2ⁿ) each, the scores last."""
        with torch.autocast(wav.device.type, enabled=False):
            spectrum = torch.stft(
                wav.float(), self.size, self.size // 4, window=self.window, return_complex=True
            )
            gain = spectrum.abs().clamp_min(QUIETEST) ** (COMPRESSION - 1)
            x = torch.view_as_real(spectrum * gain).permute(0, 3, 2, 1)  # (B, 2, T, F)
        features = []
        for convolution in self.convolutions:
            x = F.leaky_relu(convolution(x), SLOPE)
            features.append(x)
        return [*features, self.score(x)]


class WaveformDiscriminator(nn.Module):
    """One `SpectrogramDiscriminator` per resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(SpectrogramDiscriminator(size, channels) for size in WINDOWS)

    def forward(self, wav: Tensor) -> list[list[Tensor]]:
        """Map waveforms (B, S) to the features of each part, scores last."""
        return [part(wav) for part in self.parts]


@dataclass(frozen=True)
class AdversarialLosses:
    """Means over the batch, scalars."""

    adversarial: Tensor  # of the generator: how far its waveforms are from passing as real
    features: Tensor  # of the generator: distance of features, relative to their size
    discriminator: Tensor  # of the discriminator


def adversarial_losses(
    discriminator: WaveformDiscriminator, made: Tensor, real: Tensor
) -> AdversarialLosses:
    """Compare waveforms (B, S) of a generator, with gradients, with real ones.

    The generator's losses reach no weight of the discriminator, and the discriminator's loss
    reaches no generator: one backward pass of their sum trains both.
    """
    frozen = {name: weight.detach() for name, weight in discriminator.named_parameters()}
    seen: list[list[Tensor]] = torch.func.functional_call(discriminator, frozen, (made,))
    judged = discriminator(torch.cat([real, made.detach()]))
    adversarial, features, own = (made.new_zeros(()) for _ in range(3))
    for mine, both in zip(seen, judged, strict=True):
        adversarial = adversarial + (1 - mine[-1].float()).square().mean()
        of_real, of_made = both[-1].float().chunk(2)
        own = own + (1 - of_real).square().mean() + of_made.square().mean()
        for feature, pair in zip(mine[:-1], both[:-1], strict=True):
            true = pair.detach()[: len(real)].float()
            distance = (feature.float() - true).abs().mean() / true.abs().mean().clamp_min(1e-6)
            features = features + distance / len(mine[:-1])
    parts = len(seen)
    return AdversarialLosses(adversarial / parts, features / parts, own / parts)
