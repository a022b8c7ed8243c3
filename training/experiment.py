"""The contract between a training script and the trainer: `Experiment`, `Term`, `StepContext`."""

from __future__ import annotations

import argparse
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from hyperparams import Hyperparams
from utils import checkpoint, config
from utils.distributed import World
from utils.files import reading
from utils.seeds import derived_seed, torch_generator

# Knobs of a training section that decide which batch comes when: a resumed run keeps them.
FIXED_KNOBS = ("seed", "batch_frames", "batch_size", "segment_frames")


class NonFiniteLoss(FloatingPointError):
    """A loss or gradient became infinite or NaN; the last checkpoint is from before it."""


class TrainingBatch(Protocol):
    """What the trainer asks of a batch; `num_frames` is there where frames are the unit."""

    @property
    def ids(self) -> list[str]:
        """Names of the items, for error messages."""

    def to(self, device: torch.device) -> Any:
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
    return StepContext(step, torch_generator(seed, step, batch, "context"), device)


Network = TypeVar("Network", bound=nn.Module)
Batch = TypeVar("Batch", bound=TrainingBatch)


class Experiment(ABC, Generic[Network, Batch]):
    """One network, what it learns from, and what it is judged by: all that a script must write.

    hyperparams: all sections, stored in every checkpoint.
    model: its parameters train. The constructor builds it before it draws anything else, so that
        its initial weights depend on the seed alone.
    data: what the network needs of its corpus (symbols, statistics), stored in every checkpoint; a
        run whose `data` has changed cannot be resumed.
    """

    kind: ClassVar[str]  # one of checkpoint.KINDS; its training section is KIND_training
    structure: ClassVar[tuple[str, ...]]  # sections that a resumed run cannot change
    start: ClassVar[Any] = (0, 0)  # the position of a new run
    corpus_buffers: ClassVar[tuple[str, ...]] = ()  # of the model; --start-from leaves them alone
    growing: ClassVar[tuple[str, ...]] = ()  # of the model; --start-from fills their first rows
    unit: ClassVar[str] = "frames"  # of throughput; "windows" where an item of a batch is one
    descriptions: ClassVar[Mapping[str, str]] = {}  # of its scalars, for TensorBoard
    dynamic_shapes: ClassVar[bool | None] = None  # for torch.compile; True: each batch has its own

    hyperparams: Hyperparams
    model: Network
    data: dict[str, Any]
    # Trained by the same losses, and stored in what a run resumes from alone.
    discriminator: nn.Module | None = None

    @classmethod
    def add_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the flags that only this script has."""

    @classmethod
    @abstractmethod
    def from_arguments(
        cls, arguments: argparse.Namespace, hyperparams: Hyperparams, directory: Path, world: World
    ) -> Experiment[Network, Batch]:
        """Open the corpus of the command line and build the experiment for a run in `directory`.

        Raises ValueError and FileNotFoundError for what is wrong with the arguments or the corpus.
        """

    @abstractmethod
    def batches(
        self, position: Any, rank: int = 0, world_size: int = 1
    ) -> Iterator[tuple[Batch, Any]]:
        """Yield (the rank-th of every `world_size` batches, position after all of them), endlessly.

        A position is made of plain values; the stream from it on is a pure function of it.
        """

    @abstractmethod
    def loss(self, model: nn.Module, batch: Batch, context: StepContext) -> Mapping[str, Term]:
        """Return the terms of the loss Σ weight · total / count over a global batch.

        Totals and counts are summed over the ranks, and over accumulated batches where `counts`
        is given (without it the losses of accumulated batches are averaged). Call model(...), never
        its other methods, so that DistributedDataParallel sees the call.
        """

    def counts(self, batch: Batch) -> Mapping[str, float] | None:
        """Return the counts of `loss` without computing it, where they are known beforehand."""
        return None

    @abstractmethod
    def validate(self, model: Network) -> dict[str, float]:
        """Return scalars; `score`, smaller is better, decides which checkpoint is `best`."""

    def preview(self, model: Network, writer: SummaryWriter, step: int) -> None:
        """Write pictures and sounds to TensorBoard."""

    def unused_parameters(self) -> set[str]:
        """Name the parameters that no loss of this run reaches: ranks have nothing to share."""
        return set()

    def monitor(self, model: Network) -> dict[str, float]:
        """Return scalars of the model itself, logged beside the losses."""
        return {}


def starting_data(
    arguments: argparse.Namespace, directory: Path, kind: str
) -> dict[str, Any] | None:
    """Return the `data` of the weights that a run begins with; None without --start-from.

    A network knows no other scale than that of its training: a new corpus is brought to its
    statistics. A run that resumes keeps what it began with.
    """
    if arguments.start_from is None:
        return None
    last = directory / checkpoint.LAST
    source = last if last.is_file() else checkpoint.resolve(arguments.start_from, kind)
    with reading(source):
        return checkpoint.load(source, kind)["data"]


def compare(
    state: Mapping[str, Any], experiment: Experiment[Any, Any]
) -> tuple[list[str], list[str]]:
    """Return (what forbids to resume `state`, what has changed harmlessly), a line each.

    Forbidden: a change of the sections that shape the network, of FIXED_KNOBS, of the corpus. The
    rest of the training section may change; other sections do not concern the run, and what an
    earlier version did not store of its corpus forbids nothing.
    """
    hyperparams, section = experiment.hyperparams, f"{experiment.kind}_training"
    stored = config.from_dict(state["hyperparams"], type(hyperparams))
    forbidden, harmless = [], []
    for key, (before, now) in config.changed(stored, hyperparams).items():
        home, _, name = key.partition(".")
        if home in experiment.structure or (home == section and name in FIXED_KNOBS):
            forbidden.append(f"{key}: {before} in the checkpoint, {now} now")
        elif home == section:
            harmless.append(f"{key}: {before} -> {now}")
    forbidden += [
        f"data.{name}: another corpus, or prepared anew"
        for name, value in experiment.data.items()
        if name in state["data"] and not equal(value, state["data"][name])
    ]
    return forbidden, harmless


def equal(a: Any, b: Any) -> bool:
    """Compare plain values and tensors at any depth; a list equals a tuple of the same values."""
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        return (
            isinstance(a, Tensor)
            and isinstance(b, Tensor)
            and a.shape == b.shape
            and bool((a.cpu() == b.cpu()).all())
        )
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)
