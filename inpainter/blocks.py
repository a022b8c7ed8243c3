"""Blocks of the 1-d U-Net.

Signals are pictures one row high, (B, C, 1, S), because only pictures may keep their channels side
by side in memory (`as_row`); attention takes them as (B, S, C).
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Layer = TypeVar("Layer", bound=nn.Module)


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
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
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
