"""Front end of the legacy inpainter: neighbouring samples of the waveform become channels.

The preset `legacy` is that network parameter for parameter (101,575,520): see legacy/weights.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from inpainter.unet import Conv1d, ResidualBlock1d, UNet1d, as_row, zeroed

if TYPE_CHECKING:
    import hyperparams

# Modules in the order in which optimiser states of older runs number their parameters.
ORDER = ("noise_embedding", "patches", "downs", "bottleneck", "ups", "unpatches", "context")


class PatchBlock(nn.Module):
    """Residual block, then `factor` neighbouring samples become channels."""

    def __init__(self, in_channels: int, out_channels: int, factor: int, mapping: int) -> None:
        super().__init__()
        self.factor = factor
        groups = math.gcd(factor, in_channels)
        self.block = ResidualBlock1d(in_channels, out_channels // factor, groups, mapping)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        """Patch x (B, C_in, 1, S) → (B, C_out, 1, S / factor).

        Sample p of channel c becomes channel c * factor + p.
        mapping (B, W): the noise level's embedding.
        """
        x = self.block(x, mapping).squeeze(2)
        x = x.unflatten(2, (-1, self.factor))  # (B, C_out / factor, S / factor, factor)
        return x.transpose(2, 3).flatten(1, 2)[:, :, None]  # (B, C_out, 1, S / factor)


class UnpatchBlock(nn.Module):
    """Inverse of `PatchBlock`: channels become neighbouring samples, then the block."""

    def __init__(self, in_channels: int, out_channels: int, factor: int, mapping: int) -> None:
        super().__init__()
        self.factor = factor
        groups = math.gcd(factor, out_channels)
        self.block = ResidualBlock1d(in_channels // factor, out_channels, groups, mapping)

    def forward(self, x: Tensor, mapping: Tensor) -> Tensor:
        """Unpatch x (B, C_in, 1, S) → (B, C_out, 1, S * factor)."""
        x = x.squeeze(2).unflatten(1, (-1, self.factor))  # (B, C_in / factor, factor, S)
        x = x.transpose(2, 3).flatten(2, 3)  # (B, C_in / factor, S * factor)
        return self.block(x[:, :, None], mapping)


class PatchUNet1d(UNet1d):
    """The U-Net on patches of the waveform, with an optional last convolution."""

    def __init__(self, hp: hyperparams.UNet, *args: Any, **kwargs: Any) -> None:
        """hp.patch_blocks, hp.patch_factor, hp.output_kernel; the others as UNet1d."""
        super().__init__(hp, *args, **kwargs)
        factor, blocks = hp.patch_factor, range(hp.patch_blocks)
        out_channels = self.read_channels if hp.output_kernel else hp.signal_channels
        patched = [*(self.read_channels * factor**i for i in blocks), hp.channels]
        unpatched = [hp.channels, *(out_channels * factor**i for i in reversed(blocks))]
        self.patches = nn.ModuleList(
            PatchBlock(patched[i], patched[i + 1], factor, self.mapping_width) for i in blocks
        )
        self.unpatches = nn.ModuleList(
            UnpatchBlock(unpatched[i], unpatched[i + 1], factor, self.mapping_width) for i in blocks
        )
        for name in ORDER:
            if name in self._modules:
                self._modules[name] = self._modules.pop(name)
        self.output: nn.Module = nn.Identity()
        if hp.output_kernel:
            kernel = hp.output_kernel
            self.output = zeroed(
                Conv1d(out_channels, hp.signal_channels, kernel, padding=kernel // 2)
            )

    def encode(
        self, x: Tensor, draft: Tensor, c_noise: Tensor, mapping: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Patch signal, mask and draft: (B, C_in, S) → (B, C, 1, P); `decode` needs nothing."""
        x = torch.cat([x, draft], dim=1)[:, :, None]  # (B, C_in, 1, S)
        for patch in self.patches:
            x = patch(x, mapping)
        return as_row(x.squeeze(2)), ()

    def decode(self, x: Tensor, mapping: Tensor, state: tuple[Tensor, ...]) -> Tensor:
        """Undo the patches: (B, C, 1, P) → (B, C, S)."""
        for unpatch in self.unpatches:
            x = unpatch(x, mapping)
        return self.output(x).squeeze(2)
