"""What steps have measured, left on the device until it is read: a step does not wait for a GPU."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from training.experiment import Term
    from utils.distributed import World


@dataclass(frozen=True)
class BatchMeasures:
    """Terms of one batch of a rank: totals, counts, divisors; its frames without padding."""

    names: list[str]
    weights: list[float]
    totals: list[Tensor | float]
    counts: list[Tensor | float]
    divisors: list[float | None]  # of the global batch; None: the term's own count
    frames: float


@dataclass(frozen=True)
class StepMeasures:
    """What one optimiser step measured; numbers when it was read, else scalars on the device."""

    step: int  # before the update
    ids: list[str]
    batches: list[BatchMeasures]
    norm: Tensor | float


@dataclass
class Ledger:
    """Measures of the steps since the last reading."""

    steps: list[StepMeasures] = field(default_factory=list)

    def read(self, world: World) -> list[StepMeasures]:
        """Return the steps with numbers, summed over the ranks, and forget them.

        One wait for the device and one exchange, however many steps there are.
        """
        steps, self.steps = self.steps, []
        flat = [
            value
            for step in steps
            for batch in step.batches
            for value in (*batch.totals, *batch.counts, batch.frames)
        ]
        on_device = [v for v in (*flat, *(s.norm for s in steps)) if isinstance(v, Tensor)]
        numbers = iter(_numbers(on_device))
        local = [next(numbers) if isinstance(v, Tensor) else float(v) for v in flat]
        norms = [next(numbers) if isinstance(s.norm, Tensor) else s.norm for s in steps]
        summed = iter(world.sum_numbers(local))

        def take(count: int) -> list[Tensor | float]:
            return list(itertools.islice(summed, count))

        return [
            StepMeasures(
                step.step,
                step.ids,
                [
                    BatchMeasures(
                        batch.names,
                        batch.weights,
                        take(len(batch.names)),
                        take(len(batch.names)),
                        batch.divisors,
                        next(summed),
                    )
                    for batch in step.batches
                ],
                norm,
            )
            for step, norm in zip(steps, norms, strict=True)
        ]


def _numbers(scalars: list[Tensor]) -> list[float]:
    """Read scalars of one device with one wait, as float64 where the device has it."""
    if not scalars:
        return []
    dtype = torch.float32 if scalars[0].device.type == "mps" else torch.float64
    return torch.stack([scalar.to(dtype) for scalar in scalars]).tolist()


def measures_of(
    terms: Mapping[str, Term], divisors: Mapping[str, float] | None, frames: float
) -> BatchMeasures:
    """Collect what a batch's loss has measured, without a look at a value."""
    return BatchMeasures(
        list(terms),
        [term.weight for term in terms.values()],
        [term.total.detach() for term in terms.values()],
        [c.detach() if isinstance(c := term.count, Tensor) else c for term in terms.values()],
        [None if divisors is None else divisors[name] for name in terms],
        frames,
    )
