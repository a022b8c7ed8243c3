"""The bfloat16 copies of weights that autocast makes, all at once.

Autocast casts every weight of a product as it comes, and the gradient of each on its way back: two
launches for each of them, a tenth of those of a step. The values are the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# Layers whose weights are factors of products, or added to these, and nothing else.
OF_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)


class RoundedWeights:
    """Lends a model rounded copies of the weights that its products take; see `lent`."""

    def __init__(self, model: nn.Module, dtype: torch.dtype = torch.bfloat16) -> None:
        self.dtype = dtype
        self.places = [
            (module, name, parameter)
            for module in model.modules()
            if isinstance(module, OF_PRODUCTS)
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.requires_grad and parameter.dtype == torch.float32
        ]

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Have the layers compute with copies; gradients, also later, are those of the weights.

        For forward passes under autocast: beside float32 outside of it a layer would fail.
        """
        weights = [parameter for _, _, parameter in self.places]
        copies = _Rounded.apply(self.dtype, *weights) if weights else ()
        try:
            for (module, name, _), copy in zip(self.places, copies, strict=True):
                module._parameters[name] = copy
            yield
        finally:
            for module, name, parameter in self.places:
                module._parameters[name] = parameter


class _Rounded(torch.autograd.Function):
    """Copy float32 tensors to another type, and their gradients back, in one pass each."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype, *weights: Tensor) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        copies = [torch.empty_like(weight, dtype=dtype) for weight in weights]
        torch._foreach_copy_(copies, list(weights))
        return tuple(copies)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        given = [gradient for gradient in gradients if gradient is not None]
        made = [torch.empty_like(gradient, dtype=torch.float32) for gradient in given]
        if given:
            torch._foreach_copy_(made, given)
        left = iter(made)
        return None, *(None if gradient is None else next(left) for gradient in gradients)
