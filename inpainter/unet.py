"""UNet1d: the inpainter's network F, its blocks, and levels between the two ends of a front end.

The front end of waveforms, their MDCT, is in spectral.py; that of mels in mel_unet.py. Signals are
pictures one row high, (B, C, 1, S), because only pictures may keep their channels side by side in
memory (`as_row`); attention takes them as (B, S, C).

Shapes: B batch, C channels, S samples, P positions (samples / stride of the front end), W width of
the noise level's embedding.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inpainter.context import Context, ContextEncoder

if TYPE_CHECKING:
    import hyperparams

Layer = TypeVar("Layer", bound=nn.Module)
Film = tuple[Tensor, Tensor]  # scale and shift (B, C, 1, P)


def as_row(x: Tensor) -> Tensor:
    """Reshape x (B, C, S) → (B, C, 1, S), in the memory order that convolutions are fastest in.

    In half precision, and on a GPU, that is channels side by side; in float32 on a CPU it is not.
    """
    is_half = x.dtype != torch.float32 or torch.is_autocast_enabled("cpu")
    if is_half or x.device.type != "cpu":
        return x[:, :, None].contiguous(memory_format=torch.channels_last)
    return x[:, :, None].contiguous()


def zeroed(layer: Layer) -> Layer:
    """Set all parameters of a layer to zero, and return it."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class Conv1d(nn.Conv1d):
    """nn.Conv1d, weights and all, of signals (B, C, 1, S)."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve x (B, C_in, 1, S) → (B, C_out, 1, S')."""
        weight = self.weight[:, :, None]  # (C_out, C_in, 1, K)
        return F.conv2d(x, weight, self.bias, (1, *self.stride), (0, *self.padding))


class ConvTranspose1d(nn.ConvTranspose1d):
    """nn.ConvTranspose1d, weights and all, of signals (B, C, 1, S)."""

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]  # the stride says the size
        """Convolve x (B, C_in, 1, S) → (B, C_out, 1, S')."""
        return F.conv_transpose2d(
            x,
            self.weight[:, :, None],  # (C_in, C_out, 1, K)
            self.bias,
            (1, *self.stride),
            (0, *self.padding),
            (0, *self.output_padding),
        )


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu and He 2018); its kernels sum in float32 whatever the type."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise x (B, C, ...) of any float type → the same shape and type."""
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if not (x.is_cuda and torch.is_autocast_enabled("cuda")):
            # Autocast of a GPU brings all to float32 by itself: no cast there and back.
            weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        if torch.is_grad_enabled() and not x.requires_grad:
            # Side by side, torch 2.11 writes a gradient of x that nobody asked for, into nothing.
            x = x.contiguous()
        return F.group_norm(x, self.num_groups, weight, bias, self.eps)


class NoiseEmbedding(nn.Module):
    """c_noise → a vector that every residual block reads: learned Fourier features and an MLP."""

    def __init__(self, width: int) -> None:
        """width: features of the sinusoids, twice the number of frequencies; output 4 * width."""
        super().__init__()
        self.frequencies = nn.Parameter(torch.randn(width // 2))
        self.project = nn.Linear(width + 1, 4 * width)
        self.mapping = nn.Sequential(
            nn.Linear(4 * width, 4 * width), nn.GELU(), nn.Linear(4 * width, 4 * width), nn.GELU()
        )

    def forward(self, c_noise: Tensor) -> Tensor:
        """Embed c_noise (B,) → (B, 4 * width); phases in float32, for noise levels lie close."""
        c_noise = c_noise.float()[:, None]  # (B, 1)
        phase = 2 * math.pi * c_noise * self.frequencies  # (B, width / 2)
        features = torch.cat([c_noise, phase.sin(), phase.cos()], dim=1)
        return F.silu(self.mapping(F.gelu(self.project(features))))


class ResidualBlock1d(nn.Module):
    """Two normalised convolutions; the noise level scales and shifts between them."""

    def __init__(self, in_channels: int, out_channels: int, groups: int, mapping: int) -> None:
        """groups: of both normalisations; mapping: width of the noise embedding."""
        super().__init__()
        self.norm1 = GroupNorm(groups, in_channels)
        self.conv1 = Conv1d(in_channels, out_channels, 3, padding=1)
        self.scale_shift = nn.Linear(mapping, 2 * out_channels)
        self.norm2 = GroupNorm(groups, out_channels)
        self.conv2 = Conv1d(out_channels, out_channels, 3, padding=1)
        same = in_channels == out_channels
        self.shortcut = nn.Identity() if same else Conv1d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        """Transform x (B, C_in, 1, S), mapping (B, W) → (B, C_out, 1, S)."""
        h = self.conv1(F.silu(self.norm1(x)))
        film = self.scale_shift(mapping)[:, :, None, None]
        scale, shift = film.chunk(2, dim=1)  # (B, C_out, 1, 1)
        h = torch.addcmul(shift, self.norm2(h), scale + 1)
        return self.conv2(F.silu(h)) + self.shortcut(x)


class SelfAttention(nn.Module):
    """Normalised multi-head self-attention with a normalised output, without positions."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, bias=False)
        self.to_query = nn.Linear(width, heads * head_width, bias=False)
        self.to_key_value = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.project = nn.Linear(heads * head_width, width, bias=False)
        self.project_norm = nn.LayerNorm(width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Attend: x (B, S, C) → (B, S, C); the residual sum is the caller's."""
        x = self.norm(x)
        query, key, value = (
            y.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, H, S, D)
            for y in (self.to_query(x), *self.to_key_value(x).chunk(2, dim=2))
        )
        y = F.scaled_dot_product_attention(query, key, value)
        return self.project_norm(self.project(y.transpose(1, 2).flatten(2)))  # (B, S, C)


class TransformerBlock1d(nn.Module):
    """Self-attention and a position-wise network, each with its residual sum."""

    def __init__(self, width: int, heads: int, head_width: int, multiplier: int) -> None:
        """multiplier: inner width of the position-wise network, in widths."""
        super().__init__()
        self.attention = SelfAttention(width, heads, head_width)
        self.norm1 = nn.LayerNorm(width, bias=False)
        self.linear1 = nn.Linear(width, multiplier * width, bias=False)
        self.norm2 = nn.LayerNorm(multiplier * width, bias=False)
        self.linear2 = nn.Linear(multiplier * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Transform x (B, C, 1, S) → (B, C, 1, S)."""
        x = x.squeeze(2).transpose(1, 2)  # (B, S, C)
        x = self.attention(x) + x
        h = F.gelu(self.linear1(self.norm1(x)))
        x = self.linear2(self.norm2(h)) + x
        return as_row(x.transpose(1, 2))


class Bottleneck1d(nn.Module):
    """Two residual blocks; the attention between them replaces the signal, it is not added."""

    def __init__(
        self, channels: int, groups: int, mapping: int, attention: nn.Module | None
    ) -> None:
        super().__init__()
        self.before = ResidualBlock1d(channels, channels, groups, mapping)
        self.attention = attention
        self.after = ResidualBlock1d(channels, channels, groups, mapping)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        """Transform x (B, C, 1, S), mapping (B, W) of the noise level → (B, C, 1, S)."""
        x = self.before(x, mapping)
        if self.attention is not None:
            x = as_row(self.attention(x.squeeze(2).transpose(1, 2)).transpose(1, 2))
        return self.after(x, mapping)


class DownLevel(nn.Module):
    """Strided convolution, residual blocks, attention; what each block gives is also a skip."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: int,
        kernel_multiplier: int,
        num_blocks: int,
        groups: int,
        mapping: int,
        transformer: nn.Module | None,
    ) -> None:
        super().__init__()
        self.downsample = Conv1d(
            in_channels,
            out_channels,
            factor * kernel_multiplier + 1,
            stride=factor,
            padding=factor * (kernel_multiplier // 2),
        )
        self.blocks = nn.ModuleList(
            ResidualBlock1d(out_channels, out_channels, groups, mapping) for _ in range(num_blocks)
        )
        self.transformer = transformer

    def forward(
        self,
        x: Tensor,
        mapping: Tensor,
        film: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Go down: x (B, C_in, 1, S) → (B, C_out, 1, S / factor) and the skips of that shape.

        mapping (B, W) of the noise level; film: the context's scale and shift (B, C_out, 1,
        S / factor) each.
        """
        x = self.downsample(x)
        if film is not None:
            x = torch.addcmul(film[1], x, film[0] + 1)
        skips = []
        for block in self.blocks:
            x = block(x, mapping)
            skips.append(x)
        if self.transformer is not None:
            x = self.transformer(x)
            skips.append(x)
        return x, skips


class UpLevel(nn.Module):
    """Residual blocks that each take one skip, attention, transposed convolution."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        factor: int,
        num_blocks: int,
        groups: int,
        mapping: int,
        transformer: nn.Module | None,
        skip_scale: float = 2**-0.5,
    ) -> None:
        super().__init__()
        self.skip_scale = skip_scale
        self.blocks = nn.ModuleList(
            ResidualBlock1d(2 * in_channels, in_channels, groups, mapping)
            for _ in range(num_blocks)
        )
        self.transformer = transformer
        self.upsample = ConvTranspose1d(
            in_channels,
            out_channels,
            2 * factor,
            stride=factor,
            padding=factor // 2 + factor % 2,
            output_padding=factor % 2,
        )

    def forward(
        self,
        x: Tensor,
        skips: list[Tensor],
        mapping: Tensor,
        film: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """Go up: x (B, C_in, 1, S), skips of the same shape → (B, C_out, 1, S * factor).

        mapping (B, W) of the noise level; film: the context's scale and shift (B, C_in, 1, S) each.
        """
        if film is not None:
            x = torch.addcmul(film[1], x, film[0] + 1)
        for block, skip in zip(self.blocks, reversed(skips), strict=True):
            x = block(torch.cat([x, skip * self.skip_scale], dim=1), mapping)
        if self.transformer is not None:
            x = self.transformer(x)
        return self.upsample(x)


# ---------------------------------------------------------------------------- network


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
        films = self.context(context or Context(), batch, num_frames, padded - num_frames)
        down, up = ((as_row(scale), as_row(shift)) for scale, shift in films)
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
