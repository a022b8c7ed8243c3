"""A training step queues work for its device and reads nothing back: tensors without data prove it.

On the device `meta` a tensor has a shape but no values: whatever would wait for a GPU, such as
item(), cpu(), bool(), tolist() or a mask of a data-dependent size, raises there. Tensors of the
host keep theirs.
"""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from tiny import TINY
from torch.overrides import TorchFunctionMode
from toy_training import ToyExperiment, with_training

import prepare_data
from corpora.stores import open_features
from train_postnet import PostNetExperiment
from train_transformer import TransformerExperiment
from training.batching import fed
from training.experiment import Experiment, seeded_context
from training.runlog import Interruption
from training.trainer import Trainer
from utils import config, distributed

META = torch.device("meta")
CLASSES = {"transformer": TransformerExperiment, "postnet": PostNetExperiment}


@pytest.fixture(autouse=True)
def autocast_of_meta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let code that switches autocast off do so on a device that has none."""
    autocast = torch.autocast

    def of_device(device_type: str, *arguments: Any, **options: Any) -> Any:
        return (
            nullcontext() if device_type == "meta" else autocast(device_type, *arguments, **options)
        )

    monkeypatch.setattr(torch, "autocast", of_device)


class NoCopies(TorchFunctionMode):
    """Raise where a tensor of the host is copied to the device while the step waits for it."""

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        options, name = kwargs or {}, getattr(function, "__name__", "")
        made = function(*args, **options)
        if not isinstance(made, torch.Tensor) or made.device != META:
            return made
        assert name not in ("tensor", "as_tensor") or isinstance(args[0], torch.Tensor), name
        if name == "to" and args[0].device.type == "cpu":
            assert options.get("non_blocking"), f"a copy of {tuple(made.shape)} is waited for"
        return made


def take_steps(experiment: Experiment[Any, Any], directory: Path, count: int) -> Trainer:
    """Take steps on the device without data; return the trainer, its ledger unread."""
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


@pytest.fixture
def speech(tmp_path: Path, speech_corpus) -> Path:
    shares = ["--validation-share", "0.25", "--test-share", "0.1", "--workers", "0"]
    where = ["--feature-dir", str(tmp_path / "feature")]
    corpus = str(speech_corpus(10))
    assert prepare_data.main(["ljspeech", corpus, "--name", "x", *shares, *where]) == 0
    return tmp_path / "feature"


@pytest.mark.parametrize("kind", CLASSES)
def test_a_step_reads_nothing_from_its_device(kind: str, speech: Path, tmp_path: Path) -> None:
    knobs = ("batch_frames=200", "ema_decay=0.9", "accumulate=2")
    hp = config.build("t", None, [f"{kind}_training.{knob}" for knob in knobs], {"t": TINY})
    trainer = take_steps(CLASSES[kind](hp, open_features(speech, "x")), tmp_path / "run", 2)
    assert_unread(trainer, 2)


def test_counts_that_only_the_loss_knows_stay_on_the_device(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(ToyExperiment, "counts", lambda self, batch: None)
    trainer = take_steps(ToyExperiment(with_training()), tmp_path / "run", 2)
    assert_unread(trainer, 2)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_corpus_compiles_to_few_graphs_without_a_break(kind: str, speech: Path) -> None:
    knobs = (
        "batch_frames=300",
        "segment_frames=0" if kind == "transformer" else "segment_frames=32",
    )
    layers = ("encoder_prenet_layers", "decoder_layers", "postnet_layers", "guided_layers")
    small = [f"transformer.{name}=1" for name in layers]
    changes = [*small, *(f"{kind}_training.{knob}" for knob in knobs)]
    hp = config.build("t", None, changes, {"t": TINY})
    experiment = CLASSES[kind](hp, open_features(speech, "x"))
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    dynamic = experiment.dynamic_shapes
    model = torch.compile(experiment.model.train(), backend="eager", dynamic=dynamic)
    shapes = set()
    for step, (batch, _) in zip(range(4), experiment.batches((0, 0)), strict=False):
        shapes.add(tuple(batch.mel.shape))
        experiment.loss(model, batch, seeded_context(0, step, 0, torch.device("cpu")))
    assert len(shapes) >= (2 if kind == "transformer" else 1)
    assert counters["stats"]["unique_graphs"] <= (2 if kind == "transformer" else 1)
    assert not counters["graph_break"]
