"""A training run of seconds, with everything that could break exact resumption: dropout, EMA,
batches of unequal length, a buffer, a generator in the loss, two terms and a validation.

Run by the tests in processes of its own: python toy_training.py SAVE_DIR --set training.knob=value
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hyperparams import Audio, Training
from training.experiment import Experiment, StepContext, Term
from training.trainer import Trainer
from utils import config, distributed
from utils.checkpoint import run_directory


@dataclass(frozen=True)
class Toy:
    """Section of the network."""

    width: int = 8
    dropout: float = 0.3


@dataclass(frozen=True)
class ToyHyperparams:
    """What a trainer of kind `postnet` asks for."""

    audio: Audio = field(default_factory=Audio)
    postnet: Toy = field(default_factory=Toy)
    postnet_training: Training = field(
        default_factory=lambda: Training(
            steps=12,
            learning_rate=1e-2,
            warmup_steps=3,
            weight_decay=0.1,
            ema_decay=0.9,
            log_every=3,
            validate_every=4,
            save_every=2,
            precision="float32",
        )
    )


@dataclass(frozen=True)
class ToyBatch:
    """x (B, T, 4), is_padding (B, T)."""

    ids: list[str]
    x: Tensor
    is_padding: Tensor

    @property
    def num_frames(self) -> int:
        """Frames that are not padding."""
        return int((~self.is_padding).sum())

    def to(self, device: torch.device) -> ToyBatch:
        """Return the batch on `device`."""
        return replace(self, x=self.x.to(device), is_padding=self.is_padding.to(device))


class ToyModel(nn.Module):
    """x (B, T, 4) → (B, T, 4), with a buffer that follows the data."""

    def __init__(self, section: Toy) -> None:
        super().__init__()
        self.inner = nn.Linear(4, section.width)
        self.outer = nn.Linear(section.width, 4)
        self.dropout = section.dropout
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def forward(self, x: Tensor) -> Tensor:
        """Return a guess of `x` reversed in time."""
        if self.training:
            self.calls += 1
        return self.outer(F.dropout(torch.tanh(self.inner(x)), self.dropout, self.training))


def make_batch(index: int) -> ToyBatch:
    """Return batch number `index` of the endless stream: a pure function, lengths unequal."""
    generator = torch.Generator().manual_seed(index)
    lengths = torch.randint(2, 9, (3,), generator=generator)
    x = torch.randn(3, 8, 4, generator=generator)
    is_padding = torch.arange(8) >= lengths[:, None]
    return ToyBatch([f"item-{index}-{row}" for row in range(3)], x, is_padding)


def loss_terms(model: nn.Module, batch: ToyBatch, context: StepContext) -> dict[str, Term]:
    """Return masked L1 and L2 distances to the noisy reversed input."""
    is_known = ~batch.is_padding[..., None]
    noise = torch.randn(batch.x.shape, generator=context.generator)
    noise = noise.to(context.device, non_blocking=True)
    difference = (model(batch.x) - batch.x.flip(1) - 0.1 * noise) * is_known
    count = is_known.sum() * 4
    return {
        "l1": Term(difference.abs().sum(), count),
        "l2": Term(difference.square().sum(), is_known.sum(), weight=0.5),
    }


class ToyExperiment(Experiment[ToyModel, ToyBatch]):
    """x → x reversed in time."""

    kind = "postnet"
    structure = ("audio", "postnet")
    start = (0,)

    def __init__(self, hyperparams: ToyHyperparams) -> None:
        torch.manual_seed(0)
        self.hyperparams, self.model = hyperparams, ToyModel(hyperparams.postnet)
        self.data = {"symbols": ["_", "a"], "statistics": {"mean": [0.0, 1.0]}}

    @classmethod
    def from_arguments(cls, arguments, hyperparams, directory, world) -> ToyExperiment:
        """Build the toy."""
        return cls(hyperparams)

    def batches(
        self, position: tuple[int], rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[ToyBatch, tuple[int]]]:
        """Yield the rank-th of every `world_size` batches after `position`."""
        index = position[0]
        while True:
            yield make_batch(index + rank), (index + world_size,)
            index += world_size

    def loss(self, model: nn.Module, batch: ToyBatch, context: StepContext) -> dict[str, Term]:
        """Return `loss_terms`."""
        return loss_terms(model, batch, context)

    def counts(self, batch: ToyBatch) -> dict[str, float]:
        """Return the counts of `loss_terms`."""
        return {"l1": batch.num_frames * 4, "l2": batch.num_frames}

    def validate(self, model: nn.Module) -> dict[str, float]:
        """Return the error on a batch that is never trained; uses global randomness on purpose."""
        batch = make_batch(10**6)
        torch.rand(7)
        return {"score": float((model(batch.x) - batch.x.flip(1)).abs().mean())}


def make_trainer(
    save_dir: Path,
    hyperparams: ToyHyperparams | None = None,
    world: distributed.World | None = None,
    fresh: bool = False,
    **changes: object,
) -> Trainer:
    """Return a trainer of the toy; `changes` replace parts of its experiment."""
    experiment = ToyExperiment(hyperparams or ToyHyperparams())
    for name, value in changes.items():
        assert hasattr(experiment, name), name
        setattr(experiment, name, value)
    directory = run_directory(save_dir, "postnet", "toy")
    return Trainer(
        experiment, directory, world or distributed.World(torch.device("cpu")), fresh=fresh
    )


def with_training(**knobs: object) -> ToyHyperparams:
    """Return the toy's hyperparameters with training knobs replaced."""
    base = ToyHyperparams()
    return replace(base, postnet_training=replace(base.postnet_training, **knobs))


def main() -> int:
    """Train as the command line says; --slow sleeps in every step, so that a test can kill it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("save_dir", type=Path)
    parser.add_argument("--set", dest="assignments", action="append", default=[])
    parser.add_argument("--slow", type=float, default=0.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    hyperparams = config.build("toy", None, arguments.assignments, {"toy": ToyHyperparams()})
    world = distributed.start("cpu")

    def slow_loss(*parts: object) -> dict[str, Term]:
        time.sleep(arguments.slow)
        return loss_terms(*parts)

    trainer = make_trainer(arguments.save_dir, hyperparams, world, loss=slow_loss)
    code = trainer.run()
    distributed.close(world)
    return code


if __name__ == "__main__":
    sys.exit(main())
