"""Weights rounded at once give what autocast gives, bit by bit, in every network that trains."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from test_cuda import CPU, SIZES, awakened, experiment_of, features, inpainter_loss
from torch import Tensor

from training.experiment import seeded_context
from training.optimizer import RoundedWeights

__all__ = ["features"]  # a fixture


def loss_and_gradients(kind: str, features: Path, at_once: bool) -> tuple[float, dict[str, Tensor]]:
    """A step's under autocast, of weights away from zero."""
    experiment = experiment_of(kind, features, CPU)
    network = awakened(experiment.model).train()
    before = dict(network.named_parameters())
    batch = next(iter(experiment.batches((0, 0))))[0]
    lent = RoundedWeights(network).lent() if at_once else nullcontext()
    with torch.autocast("cpu", dtype=torch.bfloat16), lent:
        if kind == "inpainter":
            loss = inpainter_loss(experiment, batch, CPU, bfloat16=True)
        else:
            terms = experiment.loss(network, batch, seeded_context(0, 3, 0, CPU))
            parts = [t.weight * t.total / float(t.count) for t in terms.values() if float(t.count)]
            loss = torch.stack([part.float() for part in parts]).sum()
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter is before[name]
    return loss.item(), {n: p.grad for n, p in network.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", SIZES)
def test_a_step_is_that_of_autocast(kind: str, features: Path) -> None:
    (loss, gradients), (other_loss, others) = (
        loss_and_gradients(kind, features, at_once) for at_once in (False, True)
    )
    assert loss == other_loss and gradients.keys() == others.keys()
    rounded = 0
    for name, gradient in gradients.items():
        assert others[name].dtype == torch.float32
        torch.testing.assert_close(others[name], gradient, rtol=0.01, atol=1e-4)
        rounded += bool(torch.equal(others[name], gradient))
    assert rounded >= 0.9 * len(gradients)  # the rest: sums of a weight's uses


def test_weights_come_back_after_a_failure() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.LayerNorm(3))
    before = dict(model.named_parameters())
    with pytest.raises(RuntimeError, match="out of memory"), RoundedWeights(model).lent():
        assert model[0].weight.dtype == torch.bfloat16 and model[1].weight.dtype == torch.float32
        raise RuntimeError("out of memory")
    assert all(parameter is before[name] for name, parameter in model.named_parameters())
