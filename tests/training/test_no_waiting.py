"""A training step queues work for its device and reads nothing back: tensors without data prove it.

The transcriber's are in test_train_transcriber.py, the inpainter's in test_train_inpainter.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch._dynamo
from no_waiting import META, assert_unread, take_steps
from tiny import TINY
from toy_training import ToyExperiment, with_training

import prepare_data
from corpora.stores import open_features
from train_postnet import PostNetExperiment
from train_transformer import TransformerExperiment
from training.experiment import seeded_context
from training.launches import Launches
from training.trainer import Trainer
from utils import config

CLASSES = {"transformer": TransformerExperiment, "postnet": PostNetExperiment}


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


# Of a step of preset base, forward and backward in float32; products of attention one by one.
OPERATIONS = 1300


def test_a_step_has_no_more_operations_than_it_had(
    speech: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU launches each: an H200 was busy for 18 ms of a step of 87, waiting for the next one."""
    narrow = [f"transformer.{name}=32" for name in ("width", "postnet_width")]
    knobs = [*narrow, "transformer_training.batch_size=4"]
    hp = config.build("base", None, knobs, config.presets())
    counted: list[int] = []
    backward = Trainer._backward

    def counting(trainer: Trainer, *arguments: Any) -> Any:
        with Launches(META) as launches:
            made = backward(trainer, *arguments)
        counted.append(launches.counts.total())
        return made

    monkeypatch.setattr(Trainer, "_backward", counting)
    take_steps(TransformerExperiment(hp, open_features(speech, "x")), tmp_path / "run", 2)
    assert 0.9 * OPERATIONS < counted[-1] <= OPERATIONS, counted


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
