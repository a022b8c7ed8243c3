"""Ranks whose batches are of different kinds: one knows contours of pitch, the other is speech.

Run by a test in two processes: python contour_ranks.py GRADIENTS.pt
"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

import torch
from tiny import TINY
from torch import Tensor, nn

from music.inputs import ScoreBatch
from network import TransformerTTS
from utils import distributed

FRAMES, N_MELS, NUM_SYMBOLS = 24, 20, 30
STEPS = 2  # the second would wait for gradients that the first did not bring


def network() -> TransformerTTS:
    """Return a network that is told contours and voices."""
    torch.manual_seed(0)
    hp = replace(TINY.transformer, contour=True, voices=1)
    return TransformerTTS(hp, NUM_SYMBOLS, N_MELS, 0.016).eval()


def batch(rank: int) -> dict[str, Any]:
    """Return the inputs of a rank: rank 0 sings and knows its pitch, rank 1 speaks."""
    generator = torch.Generator().manual_seed(rank)
    score = None
    if rank == 0:
        edges = torch.linspace(0, FRAMES * 0.016, 7).expand(2, -1)
        interval = torch.stack([edges[:, :-1], edges[:, 1:]], -1)
        pitch, place = torch.full((2, 6), 60), torch.ones(2, 6, dtype=torch.long)
        frames = torch.full((2, FRAMES), 60), torch.zeros(2, FRAMES)
        contour = torch.randn(2, FRAMES, 2, generator=generator)
        score = ScoreBatch(pitch, interval[..., 0], place, place, interval, *frames, contour)
    return {
        "symbols": torch.randint(1, NUM_SYMBOLS, (2, 6), generator=generator),
        "symbol_lengths": torch.tensor([6, 4]),
        "history": torch.randn(2, FRAMES, N_MELS, generator=generator),
        "mel_lengths": torch.tensor([FRAMES, 19]),
        "score": score,
        "keep": torch.ones(2, FRAMES // TINY.transformer.reduction_factor, 2, 16),
        "voice": torch.zeros(2, dtype=torch.long),
    }


def loss(model: nn.Module, rank: int) -> Tensor:
    """Return a loss that reaches every output."""
    out = model(**batch(rank))
    values = (out.mel, out.mel_before, out.stop_logits, out.log_durations, out.onset_shifts)
    return sum((value.square().mean() for value in values), torch.zeros(()))


def main(path: str) -> None:
    """Share gradients over some steps; write those of the last."""
    world = distributed.start("cpu")
    model = network()
    shared = distributed.shared(model, set())
    for _ in range(STEPS):
        model.zero_grad()
        loss(shared, world.rank).backward()
    if world.is_main:
        torch.save({name: p.grad for name, p in model.named_parameters()}, path)
    world.barrier()
    distributed.close(world)


if __name__ == "__main__":
    main(sys.argv[1])
