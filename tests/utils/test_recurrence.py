"""A GRU under a compiler: one graph whatever the length, the same values and gradients."""

from __future__ import annotations

import torch
import torch._dynamo
from torch import Tensor

from module import PaddedGRU


def values_and_gradients(gru, x: Tensor, lengths: Tensor, parameters) -> list[Tensor]:
    x = x.clone().requires_grad_()
    made = gru(x, lengths)
    weights = torch.arange(made.numel(), dtype=torch.float32).view_as(made).cos()
    return [made, *torch.autograd.grad((made * weights).sum(), [x, *parameters])]


def test_a_compiled_gru_is_one_small_graph_with_the_same_gradients() -> None:
    torch.manual_seed(0)
    gru = PaddedGRU(12, 8).train()
    parameters = list(gru.parameters())
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    compiled = torch.compile(gru, backend="aot_eager", fullgraph=True, dynamic=True)
    for frames in (40, 25):
        x, lengths = torch.randn(3, frames, 12), torch.tensor([frames, frames // 2, 7])
        expected = values_and_gradients(gru, x, lengths, parameters)
        found = values_and_gradients(compiled, x, lengths, parameters)
        for a, b in zip(expected, found, strict=True):
            torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
    assert counters["stats"]["unique_graphs"] == 1
    assert counters["stats"]["calls_captured"] < 100  # not an operation for each frame
