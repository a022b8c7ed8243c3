"""Matrix products in full float32, on GPUs that round their factors to TF32 as well.

TF32 keeps 10 bits of a factor: next to what is loud, what is 60 dB softer is lost. Networks do not
notice, transforms of sound do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

LOW_BITS = 13  # of a float32 mantissa that TF32 leaves out


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """Return x (..., K) @ matrix (K, N), float32, with the gradient of x in full precision too."""
    if x.device.type != "cuda":
        return x @ matrix
    return _Product.apply(x, matrix)


class _Product(torch.autograd.Function):
    """x @ matrix of a constant matrix."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor) -> Tensor:
        ctx.save_for_backward(matrix)
        return exact(x, matrix)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        (matrix,) = ctx.saved_tensors
        return exact(gradients[0], matrix.T), None


def exact(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, float32 factors of any shapes, without TF32. Without a gradient.

    A compiler, whose graph cannot switch TF32 off, makes three products of it.
    """
    if a.device.type != "cuda":
        return a @ b
    if torch.compiler.is_compiling():
        return three_products(a, b)
    with without_tf32():  # one launch instead of nine
        return a @ b


@contextmanager
def without_tf32() -> Iterator[None]:
    """Have products keep all bits of float32 factors."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def three_products(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b, float32, by three products of factors that TF32 holds, the smallest first.

    A factor is the sum of its upper bits, which TF32 holds, and of the rest; the product of both
    rests, 2⁻²⁰ of the whole, is left out.
    """
    (upper_a, rest_a), (upper_b, rest_b) = _parts(a), _parts(b)
    return (rest_a @ upper_b + upper_a @ rest_b) + upper_a @ upper_b


def _parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split float32 values into those that TF32 holds and the rest: their sum is exact."""
    upper = (x.view(torch.int32) & -(1 << LOW_BITS)).view(torch.float32)
    return upper, x - upper
