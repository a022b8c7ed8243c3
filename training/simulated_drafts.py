"""True vocals as drafts would have them: what the inpainter hears in training beside the truth.

Shapes: B batch, S samples, T frames, M mels, F linear bins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from singing.chain import linear_from_mel, linear_of
from utils.audio import frame_spectrum, griffin_lim

if TYPE_CHECKING:
    from hyperparams import Audio, Diffusion
    from utils.loading import Loaded


class Redraft:
    """Mel → linear → waveform, as the chain does it, but begun at the phases of the true vocal.

    Griffin-Lim's own phases are arbitrary, so its waveform and the true one would not match sample
    by sample and a network could learn nothing from the first about the second. Begun near the true
    phases, few iterations leave the waveform where the truth is and give it Griffin-Lim's faults.
    At synthesis the draft's phases are the true ones by definition.
    """

    def __init__(self, audio: Audio, config: Diffusion, postnet: Loaded | None = None) -> None:
        """Without a PostNet the filterbank's pseudo-inverse makes the linear spectrogram."""
        self.audio, self.config, self.postnet = audio, config, postnet

    @torch.no_grad()
    def __call__(self, mel: Tensor, wav: Tensor, generator: torch.Generator) -> Tensor:
        """mel (B, T, M), natural logs, T = S // hop_length, of a draft of wav (B, S) → (B, S).

        A draft has the power of its window, but for up to `draft_gain` dB; its phases are off by a
        random spread per item.
        """
        batch, samples = wav.shape
        frames = 1 + samples // self.audio.hop_length
        linear, power = self.linear(mel)
        linear = F.pad(linear.transpose(1, 2), (0, frames - mel.shape[1]), mode="replicate")
        u = torch.rand(2, batch, generator=generator, device=generator.device).to(wav)
        shape = (batch, frames, self.audio.n_linear)
        noise = torch.randn(shape, generator=generator, device=generator.device).to(wav)
        shift = self.config.draft_phase * u[0, :, None, None] * noise
        spectrum = frame_spectrum(wav, self.audio)  # (B, T, F)
        made = griffin_lim(
            linear.transpose(1, 2),
            self.audio,
            self.config.draft_iterations,
            power=power,
            start=spectrum * torch.polar(torch.ones_like(shift), shift),
        )
        made = F.pad(made, (0, samples - made.shape[1]))
        gain = 10.0 ** (self.config.draft_gain * (2.0 * u[1] - 1.0) / 20.0)
        gain = gain * wav.norm(dim=1) / made.norm(dim=1).clamp_min(1e-6)
        return gain[:, None] * made

    def linear(self, mel: Tensor) -> tuple[Tensor, float]:
        """Log mel (B, T, M) → log linear (B, T, F), and the power that its magnitudes get."""
        if self.postnet is None:
            return linear_from_mel(mel, self.audio), 1.0
        return linear_of(self.postnet, mel), self.postnet.hyperparams.synthesis.magnitude_power
