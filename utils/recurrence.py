"""A GRU that compilers call as it is.

They would unroll it: a graph of thousands of operations for 200 frames, minutes of compiling, and
for each length anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

# biases, one layer, no dropout, training (no dropout: alike), one direction, batch first
OPTIONS = (True, 1, 0.0, True, False, True)


def gru(x: Tensor, weights: list[Tensor]) -> Tensor:
    """Run a GRU of one layer over x (B, T, D) from its first frame: (B, T, hidden), float32.

    weights: input, recurrence, and the biases of both, as nn.GRU has them. In float32 whatever
    autocast says: cuDNN would take bfloat16 for float16, whose gradients underflow.
    """
    with torch.autocast(x.device.type, enabled=False):
        if torch.compiler.is_compiling():
            return _opaque(x.float(), *weights)
        return _run(x.float(), weights)


@contextmanager
def _differentiable() -> Iterator[None]:
    """Let autograd see what happens inside of an operator, from which torch hides it."""
    with ExitStack() as stack:
        for key in ("AutogradFunctionality", "ADInplaceOrView"):
            guard = torch._C._SetExcludeDispatchKeyGuard(getattr(torch._C.DispatchKey, key), False)
            stack.enter_context(guard)
        yield


def _run(x: Tensor, weights: list[Tensor]) -> Tensor:
    state = x.new_zeros(1, len(x), weights[1].shape[1])
    return torch.gru(x, state, weights, *OPTIONS)[0]


@torch.library.custom_op("toplainer::gru", mutates_args=())
def _opaque(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return _run(x, [w_ih, w_hh, b_ih, b_hh]).contiguous()


@_opaque.register_fake
def _(x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
    return x.new_empty(*x.shape[:2], w_hh.shape[1])


@torch.library.custom_op("toplainer::gru_backward", mutates_args=())
def _opaque_backward(
    gradient: Tensor, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of all inputs; the forward pass is made again."""
    with torch.enable_grad(), _differentiable():
        inputs = [part.detach().requires_grad_() for part in (x, w_ih, w_hh, b_ih, b_hh)]
        made = _run(inputs[0], inputs[1:])
        gradients = torch.autograd.grad(made, inputs, gradient)
    a, b, c, d, e = (part.contiguous() for part in gradients)
    return a, b, c, d, e


@_opaque_backward.register_fake
def _(
    gradient: Tensor, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    a, b, c, d, e = (torch.empty_like(part) for part in (x, w_ih, w_hh, b_ih, b_hh))
    return a, b, c, d, e


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _gradient_of_opaque(backward: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate the backward pass of `_opaque`."""
    _opaque.register_autograd(backward, setup_context=_keep)
    return backward


@_gradient_of_opaque
def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
    return _opaque_backward(gradient, *ctx.saved_tensors)
