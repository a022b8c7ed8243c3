"""Training steps on the device `meta`, whose tensors have shapes but no values.

Whatever would wait for a GPU, such as item(), cpu(), bool(), tolist() or a mask of a data-dependent
size, raises there. Tensors of the host keep theirs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode

from training.batching import fed
from training.experiment import Experiment
from training.runlog import Interruption
from training.trainer import Trainer
from utils import distributed

META = torch.device("meta")


@contextmanager
def autocast_of_meta() -> Iterator[None]:
    """Let code that switches autocast off do so on a device that has none."""
    autocast = torch.autocast

    def of_device(device_type: str, *arguments: Any, **options: Any) -> Any:
        return (
            nullcontext() if device_type == "meta" else autocast(device_type, *arguments, **options)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "autocast", of_device)
        yield


class NoReading(TorchFunctionMode):
    """Raise where a value is read from a tensor: on a GPU the step would wait there."""

    READS = ("item", "cpu", "tolist", "numpy", "__bool__", "__int__", "__float__", "__index__")

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        assert name not in self.READS, f"{name} of a tensor of shape {tuple(args[0].shape)}"
        return function(*args, **(kwargs or {}))


class NoCopies(TorchFunctionMode):
    """Raise where a tensor of the host is copied to the device while the step waits for it.

    By `to`, or as an index of a tensor of the device.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        options, name = kwargs or {}, getattr(function, "__name__", "")
        if name in ("__getitem__", "__setitem__") and args[0].device == META:
            parts = args[1] if isinstance(args[1], tuple) else (args[1],)
            for part in parts:  # numbers are passed on, lists and tensors copied
                is_passed = part is None or part is Ellipsis or isinstance(part, (int, slice))
                on_device = isinstance(part, torch.Tensor) and part.device == META
                assert is_passed or on_device, f"an index of the host is waited for: {part}"
        made = function(*args, **options)
        if not isinstance(made, torch.Tensor) or made.device != META:
            return made
        assert name not in ("tensor", "as_tensor") or isinstance(args[0], torch.Tensor), name
        if name == "to" and args[0].device.type == "cpu":
            assert options.get("non_blocking"), f"a copy of {tuple(made.shape)} is waited for"
        return made


def take_steps(experiment: Experiment[Any, Any], directory: Path, count: int) -> Trainer:
    """Take steps on the device without data; return the trainer, its ledger unread."""
    with autocast_of_meta():
        trainer = Trainer(experiment, directory, distributed.World(META))
        stream = fed(experiment.batches(experiment.start), META)
        batches = iter(list(itertools.islice(stream, count * trainer.training.accumulate)))
        with NoCopies():
            for _ in range(count):
                trainer._step(batches, Interruption())
        trainer._release()
    return trainer


def assert_unread(trainer: Trainer, count: int) -> None:
    assert trainer.step == count and [step.step for step in trainer.ledger.steps] == [*range(count)]
    assert not trainer.meter.steps
    with pytest.raises(RuntimeError, match="meta"):  # what a log would do
        trainer._account()
