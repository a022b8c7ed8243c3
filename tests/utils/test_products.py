"""Products of TF32 parts are those of float32, where TF32 alone loses what is soft."""

from __future__ import annotations

import torch
from torch import Tensor

from utils.kernels import LOW_BITS, product, three_products, without_tf32


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
