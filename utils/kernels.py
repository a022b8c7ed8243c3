"""Layers of module.py in forms that waste nothing.

Batches without padding, dropouts and zeros around sequences in one pass over memory, ConvNeXt
blocks in pieces that fit a cache, a GRU that compilers leave alone, products without TF32: each
equals the operations it stands for, gradients included.
Legend: B batch, T frames, C channels, I inner channels, K kernel, R positions of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

LOW_BITS = 13  # of a float32 mantissa that TF32 leaves out
PIECE = 512  # frames: a megabyte of 512 channels in float32; products of fewer rows are slower
EPSILON = 1e-5  # of the layer norm


# ---------------------------------------------------------------------------- without padding
# The items of a padded batch behind one another, in one row. Layers that look at one position, and
# convolutions, then spend nothing on padding; attention takes its queries, keys and values out of
# the row and puts its result back.


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


# ---------------------------------------------------------------------------- one pass over memory


def surrounded(x: Tensor, is_valid: Tensor, before: int, after: int) -> Tensor:
    """Return x · is_valid (B, T, C) between zeros: before + T + after positions, written once."""
    return _Surrounded.apply(x, is_valid, before, after)


class _Surrounded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, is_valid: Tensor, before: int, after: int) -> Tensor:
        ctx.save_for_backward(is_valid)
        ctx.before = before
        return _between_zeros(x, is_valid, before, after)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (is_valid,) = ctx.saved_tensors
        inside = gradients[0][:, ctx.before : ctx.before + is_valid.shape[1]]
        return inside * is_valid, None, None, None


def _between_zeros(x: Tensor, is_valid: Tensor, before: int, after: int) -> Tensor:
    """Return what `surrounded` does, without a gradient."""
    batch, length, channels = x.shape
    made = x.new_empty(batch, before + length + after, channels)
    made[:, :before] = 0.0
    made[:, before + length :] = 0.0
    torch.mul(x, is_valid, out=made[:, before : before + length])
    return made


def dropout_mask(x: Tensor, p: float) -> Tensor | None:
    """Draw a mask like x: 0 with probability p, else 1 / (1 − p). None where dropout is torch's.

    On a CPU one 64-bit draw serves eight values, with p rounded to a multiple of 1/256: torch draws
    one number per value, which is an eighth of a training step. A compiler draws in its own way.
    """
    threshold = round(p * 256)
    if x.device.type != "cpu" or torch.compiler.is_compiling() or threshold == 0:
        return None
    words = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
    octets = words.view(torch.uint8)[: x.numel()].view(x.shape)
    mask = torch.empty(x.shape, dtype=x.dtype)
    torch.ge(octets, threshold, out=mask)  # a tenth of the time of booleans made numbers
    return mask.mul_(256.0 / (256 - threshold))


def dropout(x: Tensor, p: float) -> Tensor:
    """Zero a share p of the values and scale up the rest, so that the mean stays."""
    mask = dropout_mask(x, p)
    return F.dropout(x, p) if mask is None else x * mask


def dropped_relu(x: Tensor, p: float) -> Tensor:
    """Return dropout(relu(x)); on a CPU no mask is kept for the backward pass."""
    mask = dropout_mask(x, p)
    return F.dropout(F.relu(x), p) if mask is None else _DroppedReLU.apply(x, mask)


def dropped_sum(x: Tensor, y: Tensor, p: float) -> Tensor:
    """Return x + dropout(y), on a CPU in one pass over memory."""
    mask = dropout_mask(y, p)
    return x + F.dropout(y, p) if mask is None else _DroppedSum.apply(x, y, mask)


class _DroppedReLU(torch.autograd.Function):
    """relu(x) · mask: its derivative is that of the mask where the result is positive."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor) -> Tensor:
        ctx.scale = mask.amax()
        made = x.relu().mul_(mask)
        ctx.save_for_backward(made)
        return made

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (made,) = ctx.saved_tensors
        return torch.ops.aten.threshold_backward(gradients[0], made, 0).mul_(ctx.scale), None


class _DroppedSum(torch.autograd.Function):
    """x + y · mask."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
        ctx.save_for_backward(mask)
        ctx.dtype = x.dtype
        return torch.addcmul(x, y, mask)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        gradient, (mask,) = gradients[0], ctx.saved_tensors
        return gradient.to(ctx.dtype), gradient.to(mask.dtype) * mask, None


def slices(length: int, most: int) -> Iterator[slice]:
    """Divide a length into parts of about equal size, none longer than `most`."""
    step = -(-length // -(-length // most)) if length else 1
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))


# ---------------------------------------------------------------------------- ConvNeXt
# A block along time in pieces that fit a CPU's cache, forward and backward: y = depthwise
# convolution of x, n = layer norm of y, x + W₂ gelu(W₁ n + b₁) + b₂. Operation by operation each
# result passes through memory, and ten of them wait there for the backward pass. Here a piece of
# PIECE frames goes through all of them at a time, and only x and W₁ n + b₁ are kept: the backward
# pass makes the rest again, which costs a thirtieth of the products.


class _ConvNext(torch.autograd.Function):
    """Map x (B, T, C) by a ConvNeXt block; is_valid (B, T, 1) of the dtype of x: 0 where padded.

    weights: depthwise (K, C), scale and shift (C,) of the layer norm, W₁ (I, C), b₁ (I,),
    W₂ (C, I), b₂ (C,). Products are made in the dtype of autocast, if that is on.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, is_valid: Tensor, *weights: Tensor) -> Tensor:
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        depthwise, scale, shift = (weight.detach() for weight in weights[:3])
        w1, b1, w2, b2 = (weight.detach().to(dtype) for weight in weights[3:])
        reach = len(depthwise) // 2
        padded = _between_zeros(x, is_valid, reach, reach)
        kept = (
            x.new_empty(*x.shape[:2], len(w1), dtype=dtype) if any(ctx.needs_input_grad) else None
        )
        made = torch.empty_like(x)
        with torch.autocast("cpu", enabled=False):
            for item, piece in _pieces(x):
                y = _convolved(padded[item], depthwise, piece)
                normed = F.layer_norm(y, y.shape[1:], scale, shift, EPSILON)
                place = None if kept is None else kept[item, piece]
                hidden = torch.addmm(b1, normed.to(dtype), w1.T, out=place)
                change = F.linear(_gelu(hidden)[0], w2, b2)
                torch.add(x[item, piece], change, out=made[item, piece])
        if kept is not None:
            ctx.save_for_backward(padded, is_valid, kept, depthwise, scale, shift, w1, w2)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        padded, is_valid, kept, depthwise, scale, shift, w1, w2 = ctx.saved_tensors
        gradient, dtype = gradients[0].contiguous(), kept.dtype
        to_x = gradient.clone()
        to_norm = torch.zeros(2, len(scale), dtype=padded.dtype)
        to_depthwise = torch.zeros_like(depthwise)
        to_w1, to_b1, to_w2 = (padded.new_zeros(part) for part in (w1.shape, len(w1), w2.shape))
        for item, piece in _pieces(gradient):
            y = _convolved(padded[item], depthwise, piece)
            n, mean, deviation = torch.native_layer_norm(y, y.shape[1:], scale, shift, EPSILON)
            hidden, change = kept[item, piece], gradient[item, piece].to(dtype)
            active, slope = _gelu(hidden, with_slope=True)
            _add_product(to_w2, change.T, active)
            # In the place of what is read no more.
            made = torch.mm(change, w2, out=hidden).mul_(slope)
            _add_product(to_w1, made.T, n.to(dtype))
            to_b1 += made.sum(0)
            to_y, *parts = torch.ops.aten.native_layer_norm_backward(
                (made @ w1).to(y.dtype),
                *(y, y.shape[1:], mean, deviation, scale, shift),
                [True, True, True],
            )
            for total, part in zip(to_norm, parts, strict=True):
                total += part
            for place, total in enumerate(to_depthwise):
                window = padded[item, piece.start + place : piece.stop + place]
                total += (window * to_y).sum(0)
            _add_to_input(to_x[item], is_valid[item], to_y, depthwise, piece.start)
        to_b2 = gradient.sum((0, 1))
        return to_x, None, to_depthwise, *to_norm, to_w1, to_b1, to_w2, to_b2


def _pieces(x: Tensor) -> Iterator[tuple[int, slice]]:
    """Yield the item and the frames of each piece of x (B, T, C)."""
    for item in range(x.shape[0]):
        for piece in slices(x.shape[1], PIECE):
            yield item, piece


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b to total, which has the digits to sum the products of many pieces."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def _convolved(padded: Tensor, depthwise: Tensor, piece: slice) -> Tensor:
    """Return the convolution (PIECE, C) of the frames `piece` of an item (T + K − 1, C)."""
    seen = padded[piece.start : piece.stop + len(depthwise) - 1]
    return _columns(F.conv2d(_image(seen), _image(depthwise).transpose(0, 1), groups=len(seen[0])))


def _add_to_input(
    to_x: Tensor, is_valid: Tensor, to_y: Tensor, depthwise: Tensor, start: int
) -> None:
    """Add to the gradient of an item (T, C) that through the frames of to_y (PIECE, C)."""
    weight, reach = _image(depthwise).transpose(0, 1), len(depthwise) // 2
    seen = _columns(F.conv_transpose2d(_image(to_y), weight, groups=len(to_y[0])))
    first = max(start - reach, 0)  # of what was seen, from start - reach to its end, in the item
    seen = seen[first - (start - reach) :][: len(to_x) - first]
    frames = slice(first, first + len(seen))
    to_x[frames].addcmul_(seen, is_valid[frames])


def _image(x: Tensor) -> Tensor:
    """Return x (T, C) as an image of one row whose channels lie side by side: (1, C, 1, T)."""
    return x[None].transpose(1, 2).unsqueeze(2)  # strides that torch takes for such


def _columns(image: Tensor) -> Tensor:
    """Return the columns (T, C) of an image (1, C, 1, T)."""
    return image[0, :, 0].T


def _gelu(x: Tensor, with_slope: bool = False) -> tuple[Tensor, Tensor]:
    """Return x σ(2u), which is GELU by the tanh of u = √(2/π) (x + 0.044715 x³), and its slope.

    The slope is made if asked for, else left empty.
    """
    double = 2 * math.sqrt(2 / math.pi)
    dtype, x = x.dtype, x.to(torch.promote_types(x.dtype, torch.float32))  # rounded once
    square = x * x
    offset = square.new_tensor(double)
    share = torch.add(offset, square, alpha=0.044715 * double).mul_(x).sigmoid_()
    made = x * share
    if with_slope:
        # σ + x σ (1 − σ) · 2u', where 2u' = double (1 + 3 · 0.044715 x²)
        torch.add(offset, square, alpha=3 * 0.044715 * double, out=square).mul_(made)
        square.addcmul_(square, share, value=-1.0).add_(share)
    return made.to(dtype), square


def convnext(x: Tensor, is_valid: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Apply a block to x (B, T, C) on a CPU, as `_ConvNext` does."""
    made: Tensor = _ConvNext.apply(x.contiguous(), is_valid, *weights)
    return made


# ---------------------------------------------------------------------------- GRU
# Compilers call it as it is. They would unroll it: a graph of thousands of operations for 200
# frames, minutes of compiling, and for each length anew.

# biases, one layer, no dropout, training (no dropout: alike), one direction, batch first
GRU_OPTIONS = (True, 1, 0.0, True, False, True)


def gru(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Run a GRU of one layer over x (B, T, D) from its first frame: (B, T, hidden), float32.

    weights: input, recurrence, and the biases of both, as nn.GRU has them. In float32 whatever
    autocast says: cuDNN would take bfloat16 for float16, whose gradients underflow.
    """
    with torch.autocast(x.device.type, enabled=False):
        if torch.compiler.is_compiling():
            return _opaque_gru(x.float(), *weights)
        return _gru(x.float(), weights)


@contextmanager
def _differentiable() -> Iterator[None]:
    """Let autograd see what happens inside of an operator, from which torch hides it."""
    with ExitStack() as stack:
        for key in ("AutogradFunctionality", "ADInplaceOrView"):
            guard = torch._C._SetExcludeDispatchKeyGuard(getattr(torch._C.DispatchKey, key), False)
            stack.enter_context(guard)
        yield


def _gru(x: Tensor, weights: list[Tensor]) -> Tensor:
    state = x.new_zeros(1, len(x), weights[1].shape[1])
    return torch.gru(x, state, weights, *GRU_OPTIONS)[0]


@torch.library.custom_op("toplainer::gru", mutates_args=())
def _opaque_gru(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _gru(x, [w_ih, w_hh, b_ih, b_hh]).contiguous()


@_opaque_gru.register_fake
def _(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:2], w_hh.shape[1])


@torch.library.custom_op("toplainer::gru_backward", mutates_args=())
def _opaque_gru_backward(
    gradient: Tensor, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of all inputs; the forward pass is made again."""
    with torch.enable_grad(), _differentiable():
        inputs = [part.detach().requires_grad_() for part in (x, w_ih, w_hh, b_ih, b_hh)]
        made = _gru(inputs[0], inputs[1:])
        gradients = torch.autograd.grad(made, inputs, gradient)
    # cuDNN returns views of one buffer; an operator's results may not share memory.
    a, b, c, d, e = (part.clone(memory_format=torch.contiguous_format) for part in gradients)
    return a, b, c, d, e


@_opaque_gru_backward.register_fake
def _(
    gradient: Tensor, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d, e = (torch.empty_like(part) for part in (x, w_ih, w_hh, b_ih, b_hh))
    return a, b, c, d, e


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gru_gradient(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate the backward pass of `_opaque_gru`."""
    _opaque_gru.register_autograd(backward, setup_context=_keep)
    return backward


@_gru_gradient
def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
    return _opaque_gru_backward(gradient, *ctx.saved_tensors)


# ---------------------------------------------------------------------------- without TF32
# Matrix products in full float32 on GPUs that round factors to TF32. That keeps 10 bits of a
# factor: next to what is loud, what is 60 dB softer is lost. Networks do not notice, transforms of
# sound do.


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
