"""Padded batches without their padding: the items of a batch behind one another, in one row.

Layers that look at one position, and convolutions, then spend nothing on padding; attention takes
its queries, keys and values out of the row and puts its result back.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Ragged:
    """Where the positions of a padded batch (B, T) lie in one row (1, R).

    Between two items lie `gap` empty positions, `is_padding` (1, R): a convolution that looks no
    further sees an item as it would alone. `position` (R,): place of each in its item.
    """

    def __init__(self, lengths: Tensor, size: int, gap: int) -> None:
        time = torch.arange(size, device=lengths.device)
        is_valid = time < lengths[:, None]  # (B, T)
        ends = (lengths + gap).cumsum(0)  # (B,)
        row = ends[:, None] - (lengths[:, None] + gap) + time  # (B, T)
        valid = is_valid.flatten().nonzero()[:, 0]  # places in the flattened batch
        self.shape = is_valid.shape
        self.to_row = valid.new_zeros(int(ends[-1]) - gap)  # (R,) places in the batch
        self.to_row[row[is_valid]] = valid
        empty = torch.ones_like(self.to_row, dtype=torch.bool)
        empty[row[is_valid]] = False
        self.is_padding = empty[None]
        self.position = self.to_row % size
        self.gaps = empty.nonzero()[:, 0]
        self.to_batch = torch.where(is_valid, row, 0).flatten()  # (B · T,) places in the row
        self.padded = (~is_valid).flatten().nonzero()[:, 0]

    def pack(self, x: Tensor) -> Tensor:
        """Take the items out of a padded batch: (B, T, …) → (1, R, …), zeros in the gaps."""
        moved = self.to_row, self.gaps, self.to_batch, self.padded
        return _Moved.apply(x.reshape(-1, *x.shape[2:]), *moved)[None]

    def unpack(self, x: Tensor) -> Tensor:
        """Lay the items out as a padded batch: (1, R, …) → (B, T, …), zeros where padded."""
        moved = self.to_batch, self.padded, self.to_row, self.gaps
        return _Moved.apply(x[0], *moved).view(*self.shape, *x.shape[2:])


def ragged(lengths: Tensor, size: int, gap: int = 0) -> Ragged | None:
    """Return where the items of a padded batch lie in one row; None where nothing is gained.

    That is without padding; on a GPU, which would have to be waited for to know the lengths; and
    under a compiler, whose graph is for any lengths.
    """
    if lengths.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    return Ragged(lengths, size, gap) if bool((lengths < size).any()) else None


def packed(rows: Ragged | None, x: Tensor) -> Tensor:
    """Return x (B, T, …) in the row, or as it is without one."""
    return x if rows is None else rows.pack(x)


def unpacked(rows: Ragged | None, x: Tensor) -> Tensor:
    """Return x of the row as a padded batch, or as it is without a row."""
    return x if rows is None else rows.unpack(x)


class _Moved(torch.autograd.Function):
    """Move rows to other places; the gradient takes the way back, which is as fast."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, places: Tensor, empty: Tensor, back: Tensor, back_empty: Tensor
    ) -> Tensor:
        ctx.save_for_backward(back, back_empty)
        return _selected(x, places, empty)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return _selected(gradients[0], *ctx.saved_tensors), None, None, None, None


def _selected(x: Tensor, places: Tensor, empty: Tensor) -> Tensor:
    """Return x (n, …) at places (m,), zeros at those that are `empty`."""
    made = x.index_select(0, places)
    return made.index_fill_(0, empty, 0) if len(empty) else made
