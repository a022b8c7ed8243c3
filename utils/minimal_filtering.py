"""Convolutions along time by fewer products: minimal filtering, in float32 on a CPU.

Winograd 1980; Lavin and Gray 2015 (1509.09308), section 4.1: M outputs y of a kernel g of K taps
from a tile d of N = M + K - 1 inputs by N products instead of M K,
    y = Aᵀ [(G g) ⊙ (Bᵀ d)],
where A and G evaluate polynomials of M and K coefficients at N points, and B is the transposed
inverse of that for N coefficients (Toom and Cook). With C channels ⊙ becomes N matrix products.
N = 8: K = 5 takes 8 products instead of 20. float32 errs by 1e-6 of the result's deviation, where
direct products err by 2e-7.
Legend: B batch, T frames, C channels, O those of the result, b items and n tiles of a group.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from utils.kernels import slices

TILE = 8  # N: inputs of a tile
GROUP = 512  # frames that are transformed at a time: they fit a cache
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # N - 1, and infinity
FILTERED_KERNELS = range(3, 8)  # K that save products, and errors that stay as above
FILTERED_FRAMES = 256  # B T; fewer: the kernel's transform costs what products save
FILTERED_SAVING = 90  # products saved per value that is transformed; fewer are slower


def is_filtered(x: Tensor, weight: Tensor) -> bool:
    """Tell if a convolution of x (B, T, C) by weight (O, C, K) is faster by `minimal_filtering`.

    In float32 on a CPU; half precision has not the digits.
    """
    out, channels, kernel = weight.shape
    share = tile_outputs(kernel) * kernel / TILE  # M K / N
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and kernel in FILTERED_KERNELS
        and x.shape[0] * x.shape[1] >= FILTERED_FRAMES
        and x.shape[1] >= 2 * TILE  # of shorter items the last tile would be mostly empty
        and (share - 1) * channels * out / (channels + out) >= FILTERED_SAVING
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )


def tile_outputs(kernel: int) -> int:
    """Return M, the outputs of a tile."""
    return TILE - kernel + 1


def tiled_length(length: int, kernel: int) -> int:
    """Return the least T' >= length for which `minimal_filtering` makes T' outputs."""
    outputs = tile_outputs(kernel)
    return -(-length // outputs) * outputs


def minimal_filtering(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Convolve x (B, T' + K - 1, C) by weight (O, C, K) and add bias (O,): (B, T', O).

    T': of `tiled_length`.
    """
    made: Tensor = _MinimalFiltering.apply(x.contiguous(), weight, bias)
    return made


@cache
def _transforms(kernel: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return Aᵀ (M, N), G (N, K) and Bᵀ (N, N), float32."""
    points = torch.tensor(POINTS, dtype=torch.float64)

    def evaluation(coefficients: int) -> Tensor:  # (N, coefficients); the last row is infinity
        rows = torch.zeros(TILE, coefficients, dtype=torch.float64)
        rows[:-1] = points[:, None] ** torch.arange(coefficients)
        rows[-1, -1] = 1.0
        return rows

    a, g = evaluation(tile_outputs(kernel)), evaluation(kernel)
    b = torch.linalg.inv(evaluation(TILE))  # B
    return a.T.float().contiguous(), g.float(), b.T.float().contiguous()


class _MinimalFiltering(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        out, channels, kernel = weight.shape
        a_t, g, b_t = _transforms(kernel)
        outputs, tiles = _tiles(x, kernel)
        kernels = torch.mm(g, weight.reshape(-1, kernel).T).view(TILE, out, channels)
        ctx.kernel = kernel
        ctx.save_for_backward(x, kernels)
        made = x.new_empty(len(x), tiles * outputs, out)
        for items, first, number in _groups(len(x), tiles, GROUP // outputs):
            products = torch.bmm(
                _inputs(x, kernel, items, first, number, b_t), kernels.transpose(1, 2)
            )
            y = torch.mm(a_t, products.view(TILE, -1))
            y = y.view(outputs, -1, number, out).permute(1, 2, 0, 3)
            torch.add(y, bias, out=_outputs(made, outputs, items, first, number))
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, kernels = ctx.saved_tensors
        gradient, (_, out, channels) = gradients[0].contiguous(), kernels.shape
        a_t, g, b_t = _transforms(ctx.kernel)
        outputs, tiles = _tiles(x, ctx.kernel)
        to_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        to_kernels = torch.zeros_like(kernels)
        for items, first, number in _groups(len(x), tiles, GROUP // outputs):
            y = _outputs(gradient, outputs, items, first, number).permute(2, 0, 1, 3)
            products = torch.mm(a_t.T, y.reshape(outputs, -1)).view(TILE, -1, out)
            inputs = _inputs(x, ctx.kernel, items, first, number, b_t)
            to_kernels.baddbmm_(products.transpose(1, 2), inputs)
            if to_x is None:
                continue
            tile = torch.bmm(products, kernels, out=inputs)
            tile = torch.mm(b_t.T, tile.view(TILE, -1)).view(TILE, -1, number, channels)
            places = _places(to_x, ctx.kernel, items, first, number)
            for place, part in zip(places, tile, strict=True):
                place += part
        to_weight = torch.mm(to_kernels.view(TILE, -1).T, g).view(out, channels, ctx.kernel)
        return to_x, to_weight, gradient.sum((0, 1))


def _tiles(x: Tensor, kernel: int) -> tuple[int, int]:
    """Return the outputs M of a tile and the tiles of an item of x (B, T' + K - 1, C)."""
    outputs = tile_outputs(kernel)
    return outputs, (x.shape[1] - kernel + 1) // outputs


def _groups(batch: int, tiles: int, most: int) -> Iterator[tuple[slice, int, int]]:
    """Yield items, first tile and number of tiles of groups of `most` tiles or somewhat fewer."""
    together = max(1, most // tiles)
    for item in range(0, batch, together):
        for part in slices(tiles, most):
            yield slice(item, min(item + together, batch)), part.start, part.stop - part.start


def _places(x: Tensor, kernel: int, items: slice, first: int, number: int) -> Tensor:
    """Return the inputs of tiles of x (B, T' + K - 1, C), which overlap: a view (N, b, n, C)."""
    outputs, part = tile_outputs(kernel), x[items]
    item, row, channel = x.stride()
    sizes = (TILE, len(part), number, x.shape[2])
    strides = (row, item, outputs * row, channel)
    return part.as_strided(sizes, strides, part.storage_offset() + first * outputs * row)


def _inputs(x: Tensor, kernel: int, items: slice, first: int, number: int, b_t: Tensor) -> Tensor:
    """Return Bᵀ d of these tiles, (N, b n, C)."""
    tiles = _places(x, kernel, items, first, number)
    return torch.mm(b_t, tiles.reshape(TILE, -1)).view(TILE, -1, x.shape[2])


def _outputs(y: Tensor, outputs: int, items: slice, first: int, number: int) -> Tensor:
    """Return the outputs of tiles of y (B, T', O), a view (b, n, M, O)."""
    return y.unflatten(1, (-1, outputs))[items, first : first + number]
