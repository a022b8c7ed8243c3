"""Spectral front end: the MDCT, noise shaped by a draft, spectral patches (B, C, K, T)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inpainter.unet import Conv1d, ResidualBlock1d, UNet1d, as_row, zeroed
from utils.kernels import product

if TYPE_CHECKING:
    import hyperparams

KAISER_BETA = 4.0 * math.pi  # of the MDCT's windows: what is loud stays out of bands far away
LEAST_POWER = 1e-5  # of a draft, in units of σ_data²: what is softer is silence
NOISE_BOUND = 6.0  # standard deviations of the noise: what a spectral gain works on stays within


class ModifiedCosineTransform(nn.Module):
    """Signal ↔ N real coefficients for every N samples, orthogonal (MDCT, Princen & Bradley 1986).

    Frame p of 2N samples is centred on the p-th stretch of N, under a Kaiser-Bessel-derived window;
    the outer halves of the first and the last frame begin and end with the signal. So S samples
    make S coefficients, white noise stays white, and the transform's transpose is its inverse.
    It computes in full float32 whatever autocast says, and without TF32: what is 80 dB softer than
    its neighbour counts.
    """

    waves: Tensor  # (2, N, 2N) cosines and sines
    window: Tensor  # (2N,)
    edge: Tensor  # (N,)

    def __init__(self, size: int) -> None:
        """size: N."""
        super().__init__()
        self.size = size
        n = torch.arange(2 * size, dtype=torch.float64)[None] + 0.5
        k = torch.arange(size, dtype=torch.float64)[:, None] + 0.5
        phase = torch.pi / size * (n + size / 2) * k
        waves = (2 / size) ** 0.5 * torch.stack([phase.cos(), phase.sin()])
        rise = torch.kaiser_window(size + 1, False, KAISER_BETA, dtype=torch.float64).cumsum(0)
        rise = (rise[:-1] / rise[-1]).sqrt()
        window = torch.cat([rise, rise.flip(0)])
        edge = (torch.arange(size) >= size // 2).float()  # the signal's start within a frame
        self.register_buffer("waves", waves.float(), persistent=False)  # (2, N, 2N)
        self.register_buffer("window", window.float(), persistent=False)  # (2N,)
        self.register_buffer("edge", edge, persistent=False)  # (N,)

    def windows(self, count: int) -> Tensor:
        """Return the windows of all frames, (P, 2N)."""
        windows = self.window.repeat(count, 1)
        windows[0, : self.size] = self.edge
        windows[-1, self.size :] = self.edge.flip(0)
        return windows

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (..., S), S a multiple of N → coefficients (..., P, N), P = S / N."""
        with torch.autocast(x.device.type, enabled=False):
            return product(self.frames(x), self.waves[0].T)

    def with_power(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the coefficients and the power around each, (..., P, N) both.

        The mean of the squares of cosine and sine: a steady tone's coefficients come and go with
        its phase, their power stays.
        """
        with torch.autocast(x.device.type, enabled=False):
            frames = self.frames(x)
            cosine, sine = (product(frames, wave.T) for wave in self.waves)
            return cosine, 0.5 * (cosine.square() + sine.square())

    def frames(self, x: Tensor) -> Tensor:
        """Cut windowed frames (..., P, 2N) of x (..., S), float32."""
        half = self.size // 2
        frames = F.pad(x.float(), (half, half)).unfold(-1, 2 * self.size, self.size)
        return frames * self.windows(frames.shape[-2])

    def inverse(self, coefficients: Tensor) -> Tensor:
        """Transform back: coefficients (..., P, N) → x (..., S), float32."""
        with torch.autocast(coefficients.device.type, enabled=False):
            frames = product(coefficients.float(), self.waves[0])
            frames = frames * self.windows(frames.shape[-2])
            first, second = frames.split(self.size, dim=-1)  # (..., P, N) each
            wav = F.pad(first, (0, 0, 0, 1)) + F.pad(second, (0, 0, 1, 0))  # (..., P + 1, N)
            half = self.size // 2
            return wav.flatten(-2)[..., half:-half]


class NoiseShape(nn.Module):
    """Shape noise like the expected vocal: Σ = σ²·L·Lᵀ, L = Wᵀ·diag(G)·W, W the MDCT.

    White noise hides what is soft long before what is loud, so a white process makes the soft parts
    last, in few levels and under the errors of the loud ones. Noise with the envelope of the draft
    (SpecGrad, 2203.16749) brings every coefficient to the same signal-to-noise ratio at every
    level. With p the draft's power around a coefficient, in units of σ_data²,

        G² = gain·p^exponent + floor,

    the mean power of the true coefficient where a draft says p: an exponent below 1, for a draft
    errs. Without a draft G² is the mean power of the vocals trained on, one value per coefficient.
    """

    mean_power: Tensor  # (N,) of the vocals trained on

    def __init__(
        self,
        transform: ModifiedCosineTransform,
        stride: int,
        exponent: float,
        gain: float,
        floor: float,
    ) -> None:
        """stride: windows are padded to its multiples, as the network's."""
        super().__init__()
        self.transform = transform
        self.stride, self.exponent, self.gain, self.floor = stride, exponent, gain, floor
        self.register_buffer("mean_power", torch.ones(transform.size))  # white until measured

    def power(self, x: Tensor) -> Tensor:
        """Return the power (..., P, N) of x (..., S) in units of σ_data."""
        return self.transform.with_power(self.pad(x))[1]

    def measure(self, vocals: Tensor) -> None:
        """Take the mean power of vocals (B, S), in units of σ_data, for all without a draft."""
        self.mean_power.copy_(self.power(vocals).mean((0, 1)) + self.floor)

    def gains(self, power: Tensor, has_draft: Tensor | None = None) -> Tensor:
        """Return G (B, 1, P, N) of drafts' power; has_draft (B,) bool, False = no draft."""
        gains = (self.gain * power.pow(self.exponent) + self.floor).sqrt()
        if has_draft is None:
            return gains
        return torch.where(has_draft[:, None, None, None], gains, self.mean_power.sqrt())

    def forward(self, x: Tensor, gains: Tensor) -> Tensor:
        """Shape the first channel, the vocal, of x (B, C, S): L·x; with 1 / G it is L⁻¹·x."""
        vocal = self.transform.inverse(gains * self.transform(self.pad(x[:, :1])))
        return torch.cat([vocal[..., : x.shape[-1]].to(x.dtype), x[:, 1:]], dim=1)

    def pad(self, x: Tensor) -> Tensor:
        """Pad with silence to the next multiple of the stride."""
        return F.pad(x, (0, -x.shape[-1] % self.stride))


class SpectralPatch(nn.Module):
    """Stack spectra and marks of each frame, then residual blocks.

    The blocks read coefficients in units of the noise, compressed: those of the noise have variance
    1 at every level, a loud voice is a few times that, and neither hides the other. Of a draft they
    read the level of each band: what its phases mean, only a coefficient's own neighbours tell.
    """

    MARKS = 16  # values that a mark has in a frame

    def __init__(
        self,
        signals: int,
        marks: int,
        out_channels: int,
        size: int,
        num_blocks: int,
        groups: int,
        mapping: int,
    ) -> None:
        """signals, marks: channels of each, a draft among them; size: N of the spectra."""
        super().__init__()
        self.size = size
        widths = [signals * size + marks * self.MARKS] + [out_channels] * num_blocks
        self.blocks = nn.ModuleList(
            ResidualBlock1d(a, b, groups, mapping) for a, b in pairwise(widths)
        )

    def forward(self, spectra: Tensor, power: Tensor, marks: Tensor, mapping: Tensor) -> Tensor:
        """Encode the spectra (B, C, P, N), in units of the noise → (B, C_out, 1, P).

        power (B, 1 or 0, P, N): of a draft in units of σ_data²; marks (B, M, S) in [0, 1]; mapping
        (B, W): of the noise level.
        """
        marks = F.avg_pool1d(marks, self.size // self.MARKS)  # (B, M, P·16)
        marks = marks.unflatten(2, (-1, self.MARKS))
        parts = (spectra.asinh(), 0.25 * (power + LEAST_POWER).log(), marks)
        rows = torch.cat([part.transpose(1, 2).flatten(2) for part in parts], dim=2)
        x = as_row(rows.transpose(1, 2))  # (B, K·N + M·16, 1, P)
        for block in self.blocks:
            x = block(x, mapping)
        return x


class SpectralUnpatch(nn.Module):
    """Residual blocks, then for every coefficient an offset and the weights of its sources.

    A denoiser shrinks the coefficients of the noisy signal, takes over those of a draft, and adds
    what is missing: all of it begins at zero. In units of the noise the weights lie between -1
    (nothing is left) and 0 (all is kept) at every level; a source is bounded, for a coefficient far
    above the noise needs next to no change, and must not make a small error of its weight a large
    one. What the levels know of a frame decides the weights coarsely; whether a coefficient stands
    out of the noise is seen around it, where convolutions over time and frequency look.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        sources: int,
        size: int,
        num_blocks: int,
        groups: int,
        mapping: int,
        width: int,
        dilations: Sequence[int],
    ) -> None:
        """sources: spectra that a coefficient may be taken from, the draft's among them.

        width: channels of the convolutions over time and frequency; dilations: of those that look
        farther.
        """
        super().__init__()
        self.terms = (1 + sources, out_channels, size)
        self.blocks = nn.ModuleList(
            ResidualBlock1d(in_channels, in_channels, groups, mapping) for _ in range(num_blocks)
        )
        self.output = Conv1d(in_channels, math.prod(self.terms), 1)
        terms = (1 + sources) * out_channels
        seen = 2 * (out_channels + sources - 1)
        self.look = nn.ModuleList(
            nn.Conv2d(a, b, 3, padding=1)
            for a, b in ((terms + seen, width), (width, width), (width, terms))
        )
        self.far = nn.ModuleList(
            nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)
            for dilation in dilations
        )
        for convolutions in (self.look, self.far):
            for part in convolutions.parameters():
                if part.ndim == 4:  # twice as fast on a CPU
                    part.data = part.data.contiguous(memory_format=torch.channels_last)
        for layer in (self.output, self.look[-1], *self.far):
            zeroed(layer)

    def forward(self, x: Tensor, mapping: Tensor, spectra: Tensor, power: Tensor) -> Tensor:
        """Weigh the sources: x (B, C_in, 1, P) → coefficients (B, C_out, P, N) of the output.

        mapping (B, W) of the noise level; spectra (B, C_out + 1 or 0, P, N): of the noisy signal
        and a draft, noise = 1; power, of the same shape: theirs, whatever the phase.
        """
        for block in self.blocks:
            x = block(x, mapping)
        rows = self.output(x).squeeze(2).transpose(1, 2)  # (B, P, outputs)
        rows = rows.unflatten(2, (-1, self.terms[-1])).transpose(1, 2)  # (B, terms, P, N)
        h = torch.cat([rows, spectra.asinh().to(rows.dtype), power.log1p().to(rows.dtype)], dim=1)
        h = h.contiguous(memory_format=torch.channels_last)
        for layer in self.look[:-1]:
            h = F.silu(layer(h))
        for layer in self.far:
            h = h + layer(F.silu(h))
        rows = rows + self.look[-1](h)
        total, *weights = rows.float().unflatten(1, self.terms[:2]).unbind(1)  # (B, C_out, P, N)
        spectra = NOISE_BOUND * (spectra / NOISE_BOUND).tanh()
        sources = spectra.tensor_split([self.terms[1]], dim=1)
        for weight, source in zip(weights, sources, strict=False):  # without a draft, one source
            total = torch.addcmul(total, weight, source)
        return total


class SpectralUNet1d(UNet1d):
    """The U-Net on the MDCT of waveforms, its noise in the spectral envelope of a draft."""

    def __init__(self, hp: hyperparams.UNet, *args: Any, **kwargs: Any) -> None:
        """hp.mdct: samples per position; the others as UNet1d."""
        super().__init__(hp, *args, **kwargs)
        self.transform = ModifiedCosineTransform(hp.mdct)
        self.noise_shape: NoiseShape | None = None
        if hp.noise_exponent:
            self.noise_shape = NoiseShape(
                self.transform, hp.stride, hp.noise_exponent, hp.noise_gain, hp.noise_floor
            )
        sizes = (hp.mdct, hp.mdct_blocks, hp.groups, self.mapping_width)
        signals = hp.signal_channels + hp.draft_input
        self.spectral_patch = SpectralPatch(
            signals, self.read_channels - signals, hp.channels, *sizes
        )
        self.spectral_unpatch = SpectralUnpatch(
            hp.channels,
            hp.signal_channels,
            2 if hp.draft_input else 1,  # noisy signal; draft
            *sizes,
            hp.mdct_width,
            hp.mdct_dilations,
        )

    def encode(
        self, x: Tensor, draft: Tensor, c_noise: Tensor, mapping: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Encode what the levels read (B, C, 1, P) by the MDCT, and what `decode` needs besides.

        That is the spectra of noisy signal and draft in units of the noise, their power
        (B, K, P, N), and the gains of the noise (B, C, P, N).
        With these units D = c_skip·x̃ + c_out·F is a shrunk x̃ for F = −weight·(c_skip/c_out)·x̃,
        and is the draft y for F = y/c_out - …: c_skip/c_out = c_in·σ_data/σ, 1/c_out =
        √(1 + σ_data²/σ²) in the units of the network's input (EDM table 1).
        """
        ratio = self.sigma_data * (-4.0 * c_noise.float()).exp()[:, None, None, None]  # σ_data / σ
        signal, marks = x.tensor_split([self.signal_channels], dim=1)
        wav, has_draft = draft[:, :1], draft[:, 1:]
        noisy, noisy_power = self.transform.with_power(signal)
        drafted, drafted_power = self.transform.with_power(wav)
        gains = torch.ones_like(noisy)  # 1 = white
        if self.noise_shape is not None:
            gains[:, :1] = self.noise_shape.gains(drafted_power, has_draft[:, 0, 0] > 0)
        own = ratio / gains
        of_draft = (1.0 + ratio.square()).sqrt() / gains[:, : wav.shape[1]]
        spectra = torch.cat([own * noisy, of_draft * drafted], dim=1)
        power = torch.cat([own.square() * noisy_power, of_draft.square() * drafted_power], dim=1)
        marks = torch.cat([marks, has_draft], dim=1)
        x = self.spectral_patch(spectra[:, : self.signal_channels], drafted_power, marks, mapping)
        return x, (spectra, power, gains)

    def decode(self, x: Tensor, mapping: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        """Weigh the spectra, and transform back: (B, C, 1, P) → (B, C, S)."""
        spectra, power, gains = state
        return self.transform.inverse(gains * self.spectral_unpatch(x, mapping, spectra, power))
