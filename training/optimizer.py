"""Learning rates, optimiser groups, moving averages of weights, their bfloat16 copies."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from utils.checkpoint import load_weights

if TYPE_CHECKING:
    from hyperparams import Training
    from utils.distributed import World

# Layers whose weights are factors of products, or added to these, and nothing else.
OF_PRODUCTS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d)


def learning_rate(step: int, training: Training) -> float:
    """Return the learning rate of the step that follows `step` finished ones: a pure function.

    Every schedule rises linearly to its peak over the warm-up. Then `noam` falls as 1/sqrt(step)
    (Vaswani et al. 2017, section 5.3, scaled to its peak), `cosine` falls to 0 at the last step
    (Loshchilov & Hutter 2017), and `constant` stays.
    """
    peak, warmup = training.learning_rate, training.warmup_steps
    ordinal = step + 1
    if ordinal <= warmup:
        return peak * ordinal / warmup
    if training.schedule == "noam":
        return peak * math.sqrt(max(warmup, 1) / ordinal)
    if training.schedule == "cosine":
        progress = min(1.0, (ordinal - warmup) / max(1, training.steps - warmup))
        return peak * 0.5 * (1.0 + math.cos(math.pi * progress))
    return peak


def build_optimizer(model: nn.Module, training: Training) -> torch.optim.AdamW:
    """Return AdamW (Loshchilov & Hutter 2019) that decays all but biases, norms, embeddings."""
    embeddings = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        for parameter in module.parameters(recurse=False)
    }
    parameters = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in parameters if p.ndim >= 2 and id(p) not in embeddings]
    kept = [p for p in parameters if p.ndim < 2 or id(p) in embeddings]
    groups = [
        {"params": decayed, "weight_decay": training.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    return AdamW(
        [group for group in groups if group["params"]],
        lr=training.learning_rate,
        betas=(training.adam_beta1, training.adam_beta2),
        eps=training.adam_epsilon,
        fused=parameters[0].device.type in ("cuda", "cpu"),
    )


class AdamW(torch.optim.AdamW):
    """AdamW of torch without torch's compiler.

    Optimisers load it only to tell it to leave them alone: 1.2 s of processor time and 120 MB. What
    they wrap for that is called as it is; a version of torch that wraps nothing changes nothing.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        for method in vars(torch.optim.Optimizer).values():
            plain = getattr(method, "__wrapped__", None)  # what torch._disable_dynamo was given
            if plain is not None and not hasattr(plain, "__dynamo_disable"):
                setattr(plain, "__dynamo_disable", plain)
        super().__init__(*arguments, **options)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update the weights, as torch.optim.AdamW does."""
        return inspect.unwrap(torch.optim.AdamW.step)(self, closure)


def resume_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take over stored moments; rates and the like stay those of today's hyperparameters."""
    groups = [dict(group) for group in optimizer.param_groups]
    optimizer.load_state_dict(state)
    for group, current in zip(optimizer.param_groups, groups, strict=True):
        group.update({k: v for k, v in current.items() if k != "params"})


class Adversary:
    """A discriminator and its optimiser: its loss is one of the terms that the model learns by."""

    def __init__(self, network: nn.Module, training: Training) -> None:
        self.network, self.optimizer = network, build_optimizer(network, training)

    def exchange(self, world: World) -> None:
        """Average the gradients over the ranks: it is not wrapped as the model is."""
        if world.size == 1:
            return
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        flat = world.sum(torch.cat([gradient.flatten() for gradient in gradients])) / world.size
        parts = flat.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def state(self) -> dict[str, Any]:
        """Return what a run needs to go on."""
        return {"model": self.network.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load(self, state: Any, source: Path) -> None:
        """Take over a stored state; ValueError where the checkpoint has none that fits."""
        if not isinstance(state, dict) or {"model", "optimizer"} - set(state):
            raise ValueError(
                f"{source} has no discriminator to go on with; begin another run with --run NAME"
            )
        load_weights(self.network, state["model"], source)
        resume_optimizer(self.optimizer, state["optimizer"])


class MovingAverage:
    """Exponential moving average of a model's weights; its buffers are copied.

    The decay warms up as (1 + step) / (10 + step), so that early weights are soon forgotten.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"ema_decay = {decay}: expected 0 < decay < 1, or 0 for no average")
        self.decay = decay
        self.tensors = {name: t.detach().clone() for name, t in model.state_dict().items()}
        self._model = model
        self._pairs = self._paired(model)

    def _paired(self, model: nn.Module) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Return the averages and their weights, and the copies and their buffers."""
        weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
        averaged: list[list[Tensor]] = [[], []]
        copied: list[list[Tensor]] = [[], []]
        for name, tensor in model.state_dict().items():
            pair = averaged if name in weights and tensor.is_floating_point() else copied
            pair[0].append(self.tensors[name])
            pair[1].append(tensor)
        return averaged, copied

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move towards the weights of `model` after its step number `step` (from 1)."""
        if model is not self._model:
            self._model, self._pairs = model, self._paired(model)
        share = 1.0 - min(self.decay, (1.0 + step) / (10.0 + step))
        averaged, copied = self._pairs
        means, weights = averaged
        torch._foreach_lerp_(means, weights, share)  # all weights in one launch of a GPU
        for average, buffer in zip(*copied, strict=True):
            average.copy_(buffer)

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take over stored averages of the same model."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """Lend the averaged weights to `model` and give its own back bit for bit."""
        own = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        model.load_state_dict(self.tensors)
        try:
            yield
        finally:
            model.load_state_dict(own)


# ---------------------------------------------------------------------------- bfloat16 copies
# Autocast casts every weight of a product as it comes, and the gradient of each on its way back:
# two launches for each of them, a tenth of those of a step. Here all at once; the values are equal.


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
