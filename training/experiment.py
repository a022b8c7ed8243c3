"""What a training script and the trainer say to each other: batches, loss terms, randomness."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from utils.seeds import derived_seed, torch_generator


class NonFiniteLoss(FloatingPointError):
    """A loss or gradient became infinite or NaN; the last checkpoint is from before it."""


class Batch(Protocol):
    """What the trainer asks of a batch; `num_frames`, where present, is the unit of throughput."""

    ids: list[str]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on `device`."""


@dataclass(frozen=True)
class Term:
    """One part of a loss: the sum over elements, how many there are, and its weight."""

    total: Tensor  # scalar, with gradient
    count: Tensor | float
    weight: float = 1.0


@dataclass(frozen=True)
class StepContext:
    """What a loss may know besides model and batch; its generator is on the CPU."""

    step: int
    generator: torch.Generator
    device: torch.device
    training: bool = True


def seeded_context(seed: int, step: int, batch: int, device: torch.device) -> StepContext:
    """Seed the global generators (dropout) of all devices for a batch, and one of its own."""
    torch.manual_seed(derived_seed(seed, step, batch, "global"))
    generator = torch_generator(seed, step, batch, "context")
    return StepContext(step, generator, device)
