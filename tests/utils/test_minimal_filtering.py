"""Minimal filtering is a convolution, gradients included, and left out where it does not pay."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from module import MaskedConv
from utils import minimal_filtering as room
from utils.minimal_filtering import (
    FILTERED_KERNELS,
    TILE,
    is_filtered,
    minimal_filtering,
    tiled_length,
)


@pytest.mark.parametrize("kernel", FILTERED_KERNELS)
@pytest.mark.parametrize("piece", [16, 512])
def test_minimal_filtering_is_a_convolution(kernel: int, piece: int, monkeypatch) -> None:
    """Results and gradients err by 1e-6 of their size, however tiles are grouped."""
    monkeypatch.setattr(room, "GROUP", piece)
    torch.manual_seed(0)
    batch, channels, out = 5, 24, 40
    frames = tiled_length(50, kernel)
    assert frames - 50 < TILE - kernel + 1
    x = torch.randn(batch, frames + kernel - 1, channels, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(out, channels, kernel, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(out, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(batch, frames, out, dtype=torch.float64)
    made = F.conv1d(x.transpose(1, 2), weight, bias).transpose(1, 2)
    expected = made, *torch.autograd.grad(made, (x, weight, bias), upstream)

    ours = [part.detach().float().requires_grad_() for part in (x, weight, bias)]
    made = minimal_filtering(*ours)
    found = made, *torch.autograd.grad(made, ours, upstream.float())
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        assert (a - b).norm() <= 3e-6 * b.norm()
    assert not minimal_filtering(ours[0].detach(), *ours[1:]).isnan().any()  # no gradient of x


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("frames", [256, 257])
def test_a_wide_convolution_is_filtered_in_training_alone(frames: int, causal: bool) -> None:
    torch.manual_seed(0)
    conv = MaskedConv(128, 128, 5, causal)
    is_padding = torch.rand(2, frames) > 0.7
    x = torch.randn(2, frames, 128, requires_grad=True)
    upstream = torch.randn(2, frames, 128)
    assert is_filtered(x, conv.conv.weight)
    assert not is_filtered(x[:1, :255], conv.conv.weight)
    assert not is_filtered(x[:, :256].reshape(32, -1, 128)[:, :15], conv.conv.weight)
    assert not is_filtered(x.bfloat16(), conv.conv.weight.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert not is_filtered(x, conv.conv.weight)
    trained = conv(x, is_padding)
    assert trained._base is not None  # what tiles made, without the rest of the last
    assert "MinimalFiltering" in trained._base.grad_fn.name()
    gradient = torch.autograd.grad(trained, (x, *conv.parameters()), upstream)
    alone = conv.eval()(x, is_padding)
    expected = torch.autograd.grad(alone, (x, *conv.parameters()), upstream)
    assert trained.shape == alone.shape
    for a, b in zip((trained, *gradient), (alone, *expected), strict=True):
        assert (a - b).norm() <= 3e-6 * b.norm()
    (reach,) = torch.autograd.grad(conv(x)[0, 128].sum(), x)
    heard = reach[0].abs().sum(1).nonzero()[:, 0].tolist()
    assert heard == list(range(124, 129) if causal else range(126, 131))  # no other, exactly
