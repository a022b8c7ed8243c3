"""Kernels equal the operations they stand for; nothing leaks from one item of a row to the next."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor

from module import Dropout, MaskedConv, PaddedGRU
from utils.kernels import (
    LOW_BITS,
    Ragged,
    dropout,
    dropped_relu,
    dropped_sum,
    packed,
    product,
    ragged,
    three_products,
    unpacked,
    without_tf32,
)


@pytest.mark.parametrize("gap", [0, 2])
def test_a_row_holds_every_valid_position_once(gap: int) -> None:
    lengths = torch.tensor([4, 7, 1])
    rows = Ragged(lengths, 7, gap)
    x = torch.randn(3, 7, 5, requires_grad=True)
    row = rows.pack(x)
    assert row.shape == (1, 12 + 2 * gap, 5)
    expected = torch.cat([item[:n] for item, n in zip(x, lengths.tolist(), strict=True)])
    assert torch.equal(row[~rows.is_padding], expected)
    assert not row[rows.is_padding].any() and int(rows.is_padding.sum()) == 2 * gap
    assert rows.position[~rows.is_padding[0]].tolist() == [*range(4), *range(7), 0]
    back = rows.unpack(row)
    is_valid = torch.arange(7) < lengths[:, None]
    assert torch.equal(back, x * is_valid[..., None])
    back.backward(torch.ones_like(back))  # of padding too: it must not arrive anywhere
    assert torch.equal(x.grad, is_valid[..., None].expand_as(x).float())


@pytest.mark.parametrize("causal", [False, True])
def test_a_convolution_along_the_row_sees_one_item(causal: bool) -> None:
    torch.manual_seed(0)
    conv = MaskedConv(5, 6, 5, causal)
    lengths = torch.tensor([9, 3, 12])
    is_padding = torch.arange(12) >= lengths[:, None]
    x = torch.randn(3, 12, 5)
    rows = Ragged(lengths, 12, gap=max(conv.pad))
    weights = torch.randn(3, 12, 6) * ~is_padding[..., None]
    results = []
    for run in (
        lambda v: conv(v, is_padding),
        lambda v: rows.unpack(conv(rows.pack(v), rows.is_padding)),
    ):
        own = x.clone().requires_grad_()
        conv.zero_grad()
        made = run(own) * ~is_padding[..., None]
        (made * weights).sum().backward()
        results.append((made, own.grad, conv.conv.weight.grad.clone()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_there_is_no_row_where_nothing_is_padded_or_lengths_are_unknown() -> None:
    assert ragged(torch.tensor([5, 5]), 5) is None
    assert ragged(torch.tensor([5, 4]), 5) is not None
    assert ragged(torch.tensor([5, 4], device="meta"), 5) is None
    x = torch.randn(2, 5, 3)
    assert packed(None, x) is x and unpacked(None, x) is x


def test_dropout_in_one_pass_is_dropout() -> None:
    """With the same draw: values and gradients; about a share p is dropped, the mean stays."""
    x, y, gradient = torch.randn(3, 40, 65).unbind()
    plain = {
        dropped_relu: lambda a, _, p: dropout(torch.relu(a), p),
        dropped_sum: lambda a, b, p: a + dropout(b, p),
    }
    for fused, reference in plain.items():
        found = []
        for run in (fused, reference):
            a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
            torch.manual_seed(3)
            made = run(a, 0.4) if run is dropped_relu else run(a, b, 0.4)
            made.backward(gradient)
            found.append((made, a.grad, b.grad))
        for ours, theirs in zip(*found, strict=True):
            if theirs is not None:
                torch.testing.assert_close(ours, theirs)
    kept = dropout(torch.ones(100_000), 0.1)
    assert kept.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (kept == 0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    layer = Dropout(0.4).eval()
    assert torch.equal(layer.relu(x), torch.relu(x)) and torch.equal(layer.added(x, y), x + y)


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


def test_gradients_that_share_a_buffer_leave_the_operator_as_copies(monkeypatch) -> None:
    """As cuDNN makes them: all weights' gradients are views of one."""
    torch.manual_seed(0)
    gru, grad = PaddedGRU(12, 8).train(), torch.autograd.grad
    x, lengths = torch.randn(3, 10, 12), torch.tensor([10, 5, 7])
    expected = values_and_gradients(gru, x, lengths, list(gru.parameters()))

    def sharing(*arguments: Any) -> tuple[Tensor, ...]:
        made = grad(*arguments)
        flat = torch.cat([part.flatten() for part in made])
        parts = flat.split([part.numel() for part in made])
        return tuple(part.view_as(like) for part, like in zip(parts, made, strict=True))

    torch._dynamo.reset()
    compiled = torch.compile(gru, backend="aot_eager", fullgraph=True)
    made = compiled(x.requires_grad_(), lengths)
    weights = torch.arange(made.numel(), dtype=torch.float32).view_as(made).cos()
    monkeypatch.setattr(torch.autograd, "grad", sharing)
    (made * weights).sum().backward()
    for a, b in zip(expected[2:], gru.parameters(), strict=True):
        torch.testing.assert_close(b.grad, a, rtol=1e-4, atol=1e-5)


# Products of TF32 parts are those of float32, where TF32 alone loses what is soft.


def as_tf32(x: Tensor) -> Tensor:
    return (x.view(torch.int32) & -(1 << LOW_BITS)).view(torch.float32)


def tf32_product(a: Tensor, b: Tensor) -> Tensor:
    """What a GPU's matrix units make of float32 factors."""
    return torch.matmul(as_tf32(a).double(), as_tf32(b).double()).float()


def test_three_products_of_rounded_factors_are_exact(monkeypatch) -> None:
    """Each of the three is computed as a GPU would: factors rounded, sums in full."""
    generator = torch.Generator().manual_seed(0)
    loud = torch.randn(2, 5000, generator=generator).unfold(-1, 1024, 512)
    matrix = torch.randn(1024, 64, generator=generator)
    exact = loud.double() @ matrix.double()
    scale = exact.abs().max()
    rounded = (tf32_product(loud, matrix) - exact).abs().max() / scale
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "__matmul__", tf32_product)
        made = three_products(loud, matrix)
    error = (made - exact).abs().max() / scale
    assert rounded > 1e-4 and error < 2e-6  # -116 dB


def test_a_product_has_the_gradient_of_its_factor() -> None:
    x = torch.randn(3, 4, 5, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(5, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: product(x, matrix), (x,))


def test_tf32_is_left_out_and_comes_back() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        with without_tf32():
            assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
