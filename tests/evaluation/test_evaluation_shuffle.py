"""The shuffle control tells a network that hears the accompaniment from one that does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TINY
from torch import Tensor, nn

from evaluation.shuffle import ALL, ShuffleJudge, lines, shuffle_tests
from inpainter.diffusion import ACCOMPANIMENT, VOCAL
from preprocess import StemBatch
from utils.loading import Loaded

HP = TINY
HP = replace(HP, unet=replace(HP.unet, draft_input=False, context_width=0))
SAMPLES = 512


class Copyist(nn.Module):
    """F that answers with D = (1 - share)·0 + share·the accompaniment that it is told."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = nn.Parameter(torch.tensor(share))

    def forward(self, x: Tensor, c_noise: Tensor, context: object = None) -> Tensor:
        data = HP.diffusion.sigma_data
        sigma = (4 * c_noise).exp()[:, None]  # (B, 1)
        ratio = (sigma / data).square() + 1
        noisy, accompaniment = x[:, VOCAL] * data * ratio.sqrt(), x[:, ACCOMPANIMENT] * data
        vocal = (self.share * accompaniment - noisy / ratio) * ratio.sqrt() / sigma
        return torch.stack([vocal, torch.zeros_like(vocal)], 1)


def batches(count: int = 6) -> list[StemBatch]:
    """Songs whose vocal is their accompaniment, two windows a batch."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(count):
        vocal = 0.1 * torch.randn(2, SAMPLES, generator=generator)
        other = 0.1 * torch.randn(2, SAMPLES, generator=generator)
        ids = [f"song{number}@0", f"song{number}b@0"]
        starts = torch.zeros(2, dtype=torch.long)
        lengths = torch.full((2,), SAMPLES)
        made.append(StemBatch(ids, starts, torch.stack([vocal, vocal], 1), lengths, other))
    return made


def judged(share: float) -> dict:
    loaded = Loaded(Copyist(share), HP, {}, Path("none"), 0)
    judge = ShuffleJudge(loaded, batches(), 0, None)
    return shuffle_tests([judge.judge(str(number)) for number in range(6)])


def test_who_listens_loses_by_a_shuffle() -> None:
    found = judged(1.0)["alone"]
    assert found[ALL].difference.low > 0.5 and found[ALL].p_value < 0.01
    assert len(found) == HP.diffusion.loss_bins + 1
    (line,) = lines({"alone": found}, 12)
    assert "12 windows: other - own +" in line


def test_who_does_not_listen_loses_nothing() -> None:
    found = judged(0.0)["alone"][ALL]
    assert found.difference.value == pytest.approx(0.0, abs=1e-6)
