"""UNet1d: the inpainter's network F, from the waveform to the waveform (B, C, S)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inpainter.blocks import (
    Bottleneck1d,
    Conv1d,
    DownLevel,
    NoiseEmbedding,
    PatchBlock,
    SelfAttention,
    TransformerBlock1d,
    UnpatchBlock,
    UpLevel,
    as_row,
)
from inpainter.context import Context, ContextEncoder
from inpainter.spectral import ModifiedCosineTransform, NoiseShape, SpectralPatch, SpectralUnpatch

if TYPE_CHECKING:
    import hyperparams


class UNet1d(nn.Module):
    """F of the inpainter's denoiser: the 1-d U-Net of Moûsai's first releases (2301.11757).

    Patches of the waveform, strided levels of residual blocks that the noise level modulates,
    attention in the deep levels, skips scaled by 2^-1/2. The preset `published` is the network of
    the earlier system, parameter for parameter; the others add the mask as input, the per-frame
    context where one position is one hop, and a last convolution that starts at zero.
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
        """hop_length in samples: distance of two context frames; sigma_data: of the denoiser."""
        super().__init__()
        self.signal_channels = hp.signal_channels
        self.in_channels = hp.signal_channels * (2 if hp.mask_input else 1)
        self.draft_input = hp.draft_input
        read_channels = self.in_channels + (2 if hp.draft_input else 0)
        self.hop_length = hop_length
        self.stride = hp.stride
        out_channels = read_channels if hp.output_kernel else hp.signal_channels
        noise_width = hp.noise_width or hp.channels
        factor, mapping = hp.patch_factor, 4 * noise_width
        patch_blocks = 0 if hp.mdct else hp.patch_blocks
        widths = [hp.channels * m for m in hp.multipliers]

        def transformer(level: int) -> TransformerBlock1d | None:
            if not hp.attentions[level]:
                return None
            return TransformerBlock1d(
                widths[level + 1],
                hp.attention_heads,
                hp.attention_head_width,
                hp.attention_multiplier,
            )

        self.noise_embedding = NoiseEmbedding(noise_width)
        patched = [read_channels * factor**i for i in range(patch_blocks)] + [hp.channels]
        self.patches = nn.ModuleList(
            PatchBlock(patched[i], patched[i + 1], factor, mapping) for i in range(patch_blocks)
        )
        self.downs = nn.ModuleList(
            DownLevel(
                widths[i],
                widths[i + 1],
                hp.factors[i],
                hp.downsample_kernel_multiplier,
                hp.num_blocks[i],
                hp.groups,
                mapping,
                transformer(i),
            )
            for i in range(len(hp.factors))
        )
        attention = SelfAttention(widths[-1], hp.attention_heads, hp.attention_head_width)
        self.bottleneck = Bottleneck1d(
            widths[-1],
            hp.groups,
            mapping,
            attention if hp.bottleneck_attention else None,
        )
        self.ups = nn.ModuleList(
            UpLevel(
                widths[i + 1],
                widths[i],
                hp.factors[i],
                hp.num_blocks[i] + hp.attentions[i],
                hp.groups,
                mapping,
                transformer(i),
            )
            for i in reversed(range(len(hp.factors)))
        )
        unpatched = [hp.channels] + [
            out_channels * factor**i for i in reversed(range(patch_blocks))
        ]
        self.unpatches = nn.ModuleList(
            UnpatchBlock(unpatched[i], unpatched[i + 1], factor, mapping)
            for i in range(patch_blocks)
        )
        self.context_level = None
        self.context = None
        if hp.context_width:
            self.context_level = hp.level_of_stride(hop_length)
            self.context_pool = max(1, hp.first_stride // hop_length)  # frames per position
            width = widths[self.context_level + 1]
            self.context = ContextEncoder(
                hp.context_width, (width, width), n_mels, num_phonemes, num_pitches
            )
        self.mdct, self.sigma_data = bool(hp.mdct), sigma_data
        self.noise_shape = None
        if hp.mdct:
            self.transform = ModifiedCosineTransform(hp.mdct)
            if hp.noise_exponent:
                self.noise_shape = NoiseShape(
                    self.transform, hp.stride, hp.noise_exponent, hp.noise_gain, hp.noise_floor
                )
            sizes = (hp.mdct, hp.mdct_blocks, hp.groups, mapping)
            signals = hp.signal_channels + hp.draft_input
            self.spectral_patch = SpectralPatch(
                signals, read_channels - signals, hp.channels, *sizes
            )
            self.spectral_unpatch = SpectralUnpatch(
                hp.channels,
                hp.signal_channels,
                2 if hp.draft_input else 1,  # noisy signal; draft
                *sizes,
                hp.mdct_width,
                hp.mdct_dilations,
            )
        self.output = nn.Identity()
        if hp.output_kernel and not hp.mdct:
            kernel = hp.output_kernel
            self.output = Conv1d(out_channels, hp.signal_channels, kernel, padding=kernel // 2)
            nn.init.zeros_(self.output.weight)
            nn.init.zeros_(self.output.bias)

    def forward(self, x: Tensor, c_noise: Tensor, context: Context | None = None) -> Tensor:
        """x (B, C_in, S), c_noise (B,) → F (B, C, S).

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

        if self.mdct:
            x, spectra, power, gains = self.read_spectra(x, draft, c_noise, mapping)
        else:
            x = torch.cat([x, draft], dim=1)[:, :, None]  # (B, C_in, 1, S)
            for patch in self.patches:
                x = patch(x, mapping)
            x = as_row(x.squeeze(2))
        if film_down is not None and self.context_level < 0:
            x = torch.addcmul(film_down[1], x, film_down[0] + 1)
        first, skips = x, []
        for level, down in enumerate(self.downs):
            x, level_skips = down(x, mapping, film_down if level == self.context_level else None)
            skips.append(level_skips)
        x = self.bottleneck(x, mapping)
        for level, up in zip(reversed(range(len(self.ups))), self.ups, strict=True):
            x = up(x, skips.pop(), mapping, film_up if level == self.context_level else None)
        x = x + first
        if film_up is not None and self.context_level < 0:
            x = torch.addcmul(film_up[1], x, film_up[0] + 1)
        if self.mdct:
            spectrum = gains * self.spectral_unpatch(x, mapping, spectra, power)
            return self.transform.inverse(spectrum)[:, :, :samples]
        for unpatch in self.unpatches:
            x = unpatch(x, mapping)
        return self.output(x).squeeze(2)[:, :, :samples].contiguous()

    def read_spectra(
        self, x: Tensor, draft: Tensor, c_noise: Tensor, mapping: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """x (B, C_in, S), draft and its mark (B, 2 or 0, S), c_noise (B,) and mapping (B, W) of the
        noise level → what the levels read (B, C, 1, P), spectra of noisy signal and draft in units
        of the noise, their power (B, K, P, N), and the gains of the noise (B, C, P, N), 1 = white.

        With these units D = c_skip·x̃ + c_out·F is a shrunk x̃ for F = −weight·(c_skip/c_out)·x̃,
        and is the draft y for F = y/c_out - …: c_skip/c_out = c_in·σ_data/σ, 1/c_out =
        √(1 + σ_data²/σ²) in the units of the network's input (EDM table 1).
        """
        ratio = self.sigma_data * (-4.0 * c_noise.float()).exp()[:, None, None, None]  # σ_data / σ
        signal, marks = x.tensor_split([self.signal_channels], dim=1)
        wav, has_draft = draft[:, :1], draft[:, 1:]
        noisy, noisy_power = self.transform.with_power(signal)
        drafted, drafted_power = self.transform.with_power(wav)
        gains = torch.ones_like(noisy)
        if self.noise_shape is not None:
            gains[:, :1] = self.noise_shape.gains(drafted_power, has_draft[:, 0, 0] > 0)
        own = ratio / gains
        of_draft = (1.0 + ratio.square()).sqrt() / gains[:, : wav.shape[1]]
        spectra = torch.cat([own * noisy, of_draft * drafted], dim=1)
        power = torch.cat([own.square() * noisy_power, of_draft.square() * drafted_power], dim=1)
        marks = torch.cat([marks, has_draft], dim=1)
        x = self.spectral_patch(spectra[:, : self.signal_channels], drafted_power, marks, mapping)
        return x, spectra, power, gains

    def pad(self, x: Tensor) -> Tensor:
        """x (B, C, S) → the next multiple of the stride; padding is silence, marked as known."""
        missing = -x.shape[2] % self.stride
        if not missing:
            return x
        signal = F.pad(x[:, : self.signal_channels], (0, missing))
        mask = F.pad(x[:, self.signal_channels :], (0, missing), value=1.0)
        return torch.cat([signal, mask], dim=1)

    def draft(self, context: Context | None, x: Tensor, samples: int) -> Tensor:
        """The draft's waveform, and 1 where there is one: (B, 2, S) of x (B, C, S), padded."""
        wav = None if context is None else context.wav
        if wav is None:
            return x.new_zeros(len(x), 2, x.shape[2])
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
    ) -> tuple[tuple[Tensor, Tensor] | None, ...]:
        """Scale and shift (B, C, 1, T) at one frame per hop, for the way down and the way up."""
        told = [] if context is None else list(context.present())
        if "wav" in told and not self.draft_input:
            raise ValueError(
                "the context has the waveform of a draft, but this network takes none "
                "(unet.draft_input = false): leave it out, or train a network that does"
            )
        if self.context is None:
            frames = [name for name in told if name != "wav"]
            if frames:
                raise ValueError(
                    f"the context has {', '.join(frames)}, but this network takes none "
                    "(unet.context_width = 0): use a preset with a context"
                )
            return None, None
        frames = -(-samples // self.hop_length)
        padded = -(-samples // self.stride) * self.stride // self.hop_length
        films = self.context(context or Context(), batch, frames, padded - frames)
        if self.context_pool == 1:
            return tuple(films)
        window = (1, self.context_pool)
        return tuple(tuple(F.avg_pool2d(part, window) for part in film) for film in films)
