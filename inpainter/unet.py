"""UNet1d: the inpainter's network F, levels between the two ends of a front end.

The front end of waveforms, their MDCT, is here; that of mels is in mel_unet.py.

Shapes: B batch, C channels, S samples, P positions (samples / stride of the front end), W width of
the noise level's embedding, N coefficients of a position, K spectra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inpainter.blocks import (
    Bottleneck1d,
    DownLevel,
    NoiseEmbedding,
    SelfAttention,
    TransformerBlock1d,
    UpLevel,
)
from inpainter.context import Context, ContextEncoder
from inpainter.spectral import ModifiedCosineTransform, NoiseShape, SpectralPatch, SpectralUnpatch

if TYPE_CHECKING:
    import hyperparams

Film = tuple[Tensor, Tensor]  # scale and shift (B, C, 1, P)


class UNet1d(nn.Module):
    """F of the inpainter's denoiser: the 1-d U-Net of Moûsai's first releases (2301.11757).

    Strided levels of residual blocks that the noise level modulates, attention in the deep levels,
    skips scaled by 2^-1/2; the context scales and shifts one position per hop. What the levels
    read, and how their output becomes a signal again, is the front end of a subclass (`encode` and
    `decode`), one for each kind of signal.
    """

    def __init__(
        self,
        hp: hyperparams.UNet,
        hop_length: int = 256,
        n_mels: int = 80,
        num_phonemes: int = 1,
        num_pitches: int = 128,
        sigma_data: float = 0.1,
    ) -> None:
        """hop_length: samples between two context frames; sigma_data: of the denoiser."""
        super().__init__()
        self.signal_channels = hp.signal_channels
        self.in_channels = hp.signal_channels * (2 if hp.mask_input else 1)
        self.draft_input = hp.draft_input
        self.read_channels = self.in_channels + (2 if hp.draft_input else 0)
        self.hop_length, self.stride, self.sigma_data = hop_length, hp.stride, sigma_data
        self.noise_shape: NoiseShape | None = None
        noise_width = hp.noise_width or hp.channels
        self.mapping_width = 4 * noise_width
        widths = [hp.channels * m for m in hp.multipliers]
        levels = range(len(hp.factors))
        self.noise_embedding = NoiseEmbedding(noise_width)
        self.downs = nn.ModuleList(self.down_level(hp, i, widths) for i in levels)
        attention = SelfAttention(widths[-1], hp.attention_heads, hp.attention_head_width)
        self.bottleneck = Bottleneck1d(
            widths[-1],
            hp.groups,
            self.mapping_width,
            attention if hp.bottleneck_attention else None,
        )
        self.ups = nn.ModuleList(self.up_level(hp, i, widths) for i in reversed(levels))
        self.context, self.context_level = None, None
        if hp.context_width:
            self.context_level = hp.level_of_stride(hop_length)
            self.context_pool = max(1, hp.first_stride // hop_length)  # frames per position
            width = widths[self.context_level + 1]
            self.context = ContextEncoder(
                hp.context_width,
                (width, width),
                n_mels,
                num_phonemes,
                num_pitches,
                has_places=bool(hp.mel),
            )

    def down_level(self, hp: hyperparams.UNet, level: int, widths: list[int]) -> DownLevel:
        """Build a level of the way down; widths: channels before the levels and of each."""
        return DownLevel(
            widths[level],
            widths[level + 1],
            hp.factors[level],
            hp.downsample_kernel_multiplier,
            hp.num_blocks[level],
            hp.groups,
            self.mapping_width,
            transformer(hp, level, widths),
        )

    def up_level(self, hp: hyperparams.UNet, level: int, widths: list[int]) -> UpLevel:
        """Build a level of the way up; its attention takes a skip of its own."""
        return UpLevel(
            widths[level + 1],
            widths[level],
            hp.factors[level],
            hp.num_blocks[level] + hp.attentions[level],
            hp.groups,
            self.mapping_width,
            transformer(hp, level, widths),
        )

    def encode(
        self, x: Tensor, draft: Tensor, c_noise: Tensor, mapping: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Encode what the levels read (B, C, 1, P), and what `decode` needs besides.

        x (B, C_in, S): scaled signal and mask, padded; draft (B, 2 or 0, S): its waveform and 1
        where there is one; c_noise (B,) and mapping (B, W): the noise level.
        """
        raise NotImplementedError(f"{type(self).__name__} has no front end")

    def decode(self, x: Tensor, mapping: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        """Decode the levels' output (B, C, 1, P) to F (B, C, S); state: from `encode`."""
        raise NotImplementedError(f"{type(self).__name__} has no front end")

    def forward(self, x: Tensor, c_noise: Tensor, context: Context | None = None) -> Tensor:
        """Compute F (B, C, S) of x (B, C_in, S) and c_noise (B,).

        x is the scaled signal and, with `mask_input`, its mask behind it, 1 = known (C_in = 2C).
        context has T = ceil(S / hop_length) frames, and its waveform, in the scale of the signal,
        S samples; None means that every part is missing. Any S: what the strides do not divide is
        padded with known silence and cropped again. ValueError for another number of channels, or
        a context of another size.
        """
        if x.shape[1] != self.in_channels:
            raise ValueError(
                f"the U-Net got {x.shape[1]} channels, expected {self.in_channels}: "
                f"{self.signal_channels} of the signal"
                + (" and as many of its mask" if self.in_channels > self.signal_channels else "")
            )
        samples = x.shape[2]
        film_down, film_up = self.films(context, len(x), samples)
        x = self.pad(x)
        draft = self.draft(context, x, samples) if self.draft_input else x[:, :0]
        mapping = self.noise_embedding(c_noise).to(x.dtype)
        x, state = self.encode(x, draft, c_noise, mapping)
        x = self.walk(x, mapping, film_down, film_up)
        return self.decode(x, mapping, state)[:, :, :samples].contiguous()

    def walk(
        self, x: Tensor, mapping: Tensor, film_down: Film | None, film_up: Film | None
    ) -> Tensor:
        """Walk down and up the levels with skips: x (B, C, 1, P) → the same shape."""
        before = self.context_level == -1  # the context enters before the levels
        if film_down is not None and before:
            x = torch.addcmul(film_down[1], x, film_down[0] + 1)
        first, skips = x, []
        for level, down in enumerate(self.downs):
            x, level_skips = down(x, mapping, film_down if level == self.context_level else None)
            skips.append(level_skips)
        x = self.bottleneck(x, mapping)
        for level, up in zip(reversed(range(len(self.ups))), self.ups, strict=True):
            x = up(x, skips.pop(), mapping, film_up if level == self.context_level else None)
        x = x + first
        if film_up is not None and before:
            x = torch.addcmul(film_up[1], x, film_up[0] + 1)
        return x

    def pad(self, x: Tensor) -> Tensor:
        """Pad x (B, C, S) to the next multiple of the stride with silence, marked as known."""
        missing = -x.shape[2] % self.stride
        if not missing:
            return x
        signal = F.pad(x[:, : self.signal_channels], (0, missing))
        mask = F.pad(x[:, self.signal_channels :], (0, missing), value=1.0)
        return torch.cat([signal, mask], dim=1)

    def draft(self, context: Context | None, x: Tensor, samples: int) -> Tensor:
        """Stack the draft's waveform and 1 where there is one, (B, 2, S) of x (B, C, S), padded."""
        if context is None or context.wav is None:
            return x.new_zeros(len(x), 2, x.shape[2])
        wav = context.wav
        if wav.shape != (len(x), samples):
            raise ValueError(
                f"context.wav is {tuple(wav.shape)}: expected {len(x)} items of {samples} samples, "
                "as many as the signal has"
            )
        draft = torch.stack([wav.to(x.dtype), torch.ones_like(wav, dtype=x.dtype)], dim=1)
        if "wav" in context.is_dropped:
            draft = torch.where(context.is_dropped["wav"][:, None, None], 0.0, draft)
        return F.pad(draft, (0, x.shape[2] - samples))

    def films(
        self, context: Context | None, batch: int, samples: int
    ) -> tuple[Film | None, Film | None]:
        """Compute the context's scales and shifts, for the way down and the way up."""
        present = [] if context is None else list(context.present())
        if "wav" in present and not self.draft_input:
            raise ValueError(
                "the context has the waveform of a draft, but this network takes none "
                "(unet.draft_input = false): leave it out, or train a network that does"
            )
        if self.context is None:
            frames = [name for name in present if name != "wav"]
            if frames:
                raise ValueError(
                    f"the context has {', '.join(frames)}, but this network takes none "
                    "(unet.context_width = 0): use a preset with a context"
                )
            return None, None
        num_frames = -(-samples // self.hop_length)
        padded = -(-samples // self.stride) * self.stride // self.hop_length
        down, up = self.context(context or Context(), batch, num_frames, padded - num_frames)
        if self.context_pool == 1:
            return down, up
        return self.pooled(down), self.pooled(up)

    def pooled(self, film: Film) -> Film:
        """Average the frames (B, C, 1, T) of a scale and a shift over each position."""
        scale, shift = (F.avg_pool2d(part, (1, self.context_pool)) for part in film)
        return scale, shift


def transformer(hp: hyperparams.UNet, level: int, widths: list[int]) -> TransformerBlock1d | None:
    """Build the attention of a level, None where it has none."""
    if not hp.attentions[level]:
        return None
    return TransformerBlock1d(
        widths[level + 1], hp.attention_heads, hp.attention_head_width, hp.attention_multiplier
    )


class SpectralUNet1d(UNet1d):
    """The U-Net on the MDCT of waveforms, its noise in the spectral envelope of a draft."""

    def __init__(self, hp: hyperparams.UNet, *args: Any, **kwargs: Any) -> None:
        """hp.mdct: samples per position; the others as UNet1d."""
        super().__init__(hp, *args, **kwargs)
        self.transform = ModifiedCosineTransform(hp.mdct)
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
