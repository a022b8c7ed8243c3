"""The trainer: whatever interrupts it, the run ends as if nothing had."""

from __future__ import annotations

import json
import logging
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toy_training import (
    Toy,
    ToyBatch,
    ToyHyperparams,
    loss_terms,
    make_batch,
    make_trainer,
    with_training,
)

from hyperparams import Training
from training.experiment import NonFiniteLoss, StepContext, Term
from training.optimizer import MovingAverage, build_optimizer, learning_rate
from training.runlog import read_stats
from utils import checkpoint, distributed

TOY = Path(__file__).with_name("toy_training.py")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of the toy, trained in one go."""
    directory = tmp_path_factory.mktemp("uninterrupted")
    assert make_trainer(directory).run() == 0
    return directory / "postnet" / "toy"


def timeless(directory: Path) -> list[dict[str, float]]:
    """Lines of stats.jsonl without what depends on the clock."""
    clock = ("time", "train/seconds_per_step", "train/frames_per_second", "train/memory_gib")
    return [{k: v for k, v in line.items() if k not in clock} for line in read_stats(directory)]


def assert_same_run(directory: Path, other: Path) -> None:
    """Both runs ended with the same weights, averages, optimiser, best and statistics."""
    for name in (checkpoint.LAST, checkpoint.BEST):
        a, b = checkpoint.load(directory / name), checkpoint.load(other / name)
        assert a["step"] == b["step"] and a["best"] == b["best"]
        assert a["position"] == b["position"]
        for part in ("model", "ema"):
            assert all(torch.equal(tensor, b[part][key]) for key, tensor in a[part].items())
    states = [
        checkpoint.load(d / checkpoint.LAST)["optimizer"]["state"] for d in (directory, other)
    ]
    for index, state in states[0].items():
        assert all(torch.equal(v, states[1][index][k]) for k, v in state.items())
    assert timeless(directory) == timeless(other)


class Crash(Exception):
    """Stands for a power cut in the middle of a step."""


@pytest.mark.parametrize("crashes", [(0,), (1,), (2,), (5,), (11,), (3, 4, 9)])
def test_a_run_that_crashes_ends_like_one_that_does_not(
    tmp_path: Path, uninterrupted: Path, crashes: tuple[int, ...]
) -> None:
    for crash in crashes:

        def crashing(
            model: nn.Module, batch: Any, context: StepContext, crash: int = crash
        ) -> Mapping[str, Term]:
            if context.step == crash:
                raise Crash
            return loss_terms(model, batch, context)

        with pytest.raises(Crash):
            make_trainer(tmp_path, loss=crashing).run()
    assert make_trainer(tmp_path).run() == 0
    assert_same_run(tmp_path / "postnet" / "toy", uninterrupted)


def test_kill_9_at_a_random_step_changes_nothing(tmp_path: Path, uninterrupted: Path) -> None:
    process = subprocess.Popen([sys.executable, TOY, tmp_path, "--slow", "0.1"])
    last = tmp_path / "postnet" / "toy" / checkpoint.LAST
    deadline = time.monotonic() + 300
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(random.uniform(0.0, 1.1))  # anywhere in the twelve steps
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert checkpoint.load(last)["step"] < 12
    assert make_trainer(tmp_path).run() == 0
    assert_same_run(last.parent, uninterrupted)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("step", [3, 7])  # step 4 and 8 end here: 4 and 8 validate
def test_signals_finish_the_step_and_save(
    tmp_path: Path, uninterrupted: Path, number: int, code: int, step: int
) -> None:
    def interrupted(model: nn.Module, batch: Any, context: StepContext) -> Mapping[str, Term]:
        if context.step == step:
            os.kill(os.getpid(), number)
        return loss_terms(model, batch, context)

    handler = signal.getsignal(number)
    assert make_trainer(tmp_path, loss=interrupted).run() == code
    assert signal.getsignal(number) is handler
    directory = tmp_path / "postnet" / "toy"
    assert checkpoint.load(directory / checkpoint.LAST)["step"] == step + 1
    assert make_trainer(tmp_path).run() == 0
    assert_same_run(directory, uninterrupted)


def test_a_finished_run_does_nothing_and_more_steps_continue_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_trainer(tmp_path, with_training(steps=4)).run()
    directory = tmp_path / "postnet" / "toy"
    before = (directory / checkpoint.LAST).read_bytes(), timeless(directory)
    make_trainer(tmp_path, with_training(steps=4)).run()
    assert before == ((directory / checkpoint.LAST).read_bytes(), timeless(directory))
    caplog.set_level(logging.INFO)
    make_trainer(tmp_path, with_training(steps=8, learning_rate=0.5)).run()
    assert "postnet_training.steps: 4 -> 8" in caplog.text
    state = checkpoint.load(directory / checkpoint.LAST)
    assert state["step"] == 8
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(0.5 * (3 / 8) ** 0.5)


def test_validation_and_preview_do_not_influence_training(
    tmp_path: Path, uninterrupted: Path
) -> None:
    def noisy(*_: Any) -> dict[str, float]:
        torch.rand(100)
        return {"score": 1.0}

    make_trainer(tmp_path, validate=noisy, preview=noisy).run()
    a, b = (checkpoint.load(d / checkpoint.LAST) for d in (tmp_path / "postnet/toy", uninterrupted))
    assert all(torch.equal(tensor, b["ema"][key]) for key, tensor in a["ema"].items())


def test_the_order_of_a_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []

    def record(name: str, result: Any = None) -> Any:
        return lambda *_: events.append(name) or result

    def stepping(model: nn.Module, batch: Any, context: StepContext) -> Mapping[str, Term]:
        events.append("step")
        return loss_terms(model, batch, context)

    save = checkpoint.save
    monkeypatch.setattr(
        "utils.checkpoint.save",
        lambda path, state: (events.append(f"save {path.name}"), save(path, state)),
    )
    knobs = with_training(steps=2, log_every=1, validate_every=1, save_every=1, keep_every=2)
    # Step 2 is kept for good, as a whole; step 1 is only one of the last validated ones.
    make_trainer(
        tmp_path,
        knobs,
        loss=stepping,
        validate=record("validate", {"score": 1.0}),
        preview=record("preview"),
        monitor=record("log", {"alpha/encoder": 1.0}),
    ).run()
    turn = ["step", "log", "validate", "preview", "save last.pt"]
    untrained = ["validate", "preview", "save last.pt"]
    first = [*turn[:-1], "save best.pt", "save step-00000001.pt", "save last.pt"]
    assert events == [*untrained, *first, *turn[:-1], "save step-00000002.pt", "save last.pt"]


def test_a_kill_between_two_files_loses_neither(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of `step-N.pt` and `last.pt` was not written yet, the resumed run writes it."""
    knobs = with_training(steps=3, save_every=1, keep_every=2)
    save = checkpoint.save

    def killed(path: Path, state: Mapping[str, Any]) -> None:
        if state["step"] == 2 and path.name == killed_at:
            raise KeyboardInterrupt
        save(path, state)

    for killed_at in ("step-00000002.pt", "last.pt"):
        directory = tmp_path / killed_at
        with monkeypatch.context() as patch:
            patch.setattr("utils.checkpoint.save", killed)
            with pytest.raises(KeyboardInterrupt):
                make_trainer(directory, knobs).run()
        assert make_trainer(directory, knobs).run() == 0
        assert checkpoint.load(directory / "postnet/toy/step-00000002.pt")["step"] == 2


def test_what_a_killed_run_left_is_swept_when_it_resumes(tmp_path: Path) -> None:
    make_trainer(tmp_path, with_training(steps=1)).run()
    left = tmp_path / "postnet" / "toy" / ".last.pt.4711.tmp"
    left.write_bytes(b"half a checkpoint")
    own = left.with_name("notes.tmp")
    own.write_text("mine")
    make_trainer(tmp_path, with_training(steps=2)).run()
    assert not left.exists() and own.exists()


@pytest.mark.parametrize("entry", ["progress", "optimizer", "position", "best"])
def test_a_checkpoint_without_an_entry_is_named_and_not_resumed(tmp_path: Path, entry: str) -> None:
    trainer = make_trainer(tmp_path, with_training(steps=1))
    trainer.run()
    state = checkpoint.load(trainer.last)
    for changed in ({k: v for k, v in state.items() if k != entry}, {**state, entry: [[]]}):
        checkpoint.save(trainer.last, changed)
        if entry in ("position",) and entry in changed:
            continue  # its form is the experiment's own
        with pytest.raises(ValueError, match=r"last\.pt"):
            make_trainer(tmp_path, with_training(steps=2))


def test_best_follows_the_score_and_ignores_nan(tmp_path: Path) -> None:
    scores = iter([3.0, float("nan"), 1.0, 2.0])
    knobs = with_training(steps=3, validate_every=1)
    trainer = make_trainer(tmp_path, knobs, validate=lambda _: {"score": next(scores)})
    trainer.run()
    assert trainer.best == {"score": 1.0, "step": 2}
    state = checkpoint.load(tmp_path / "postnet/toy/best.pt")
    assert state["step"] == 2 and state["optimizer"] is None


def test_the_last_validated_steps_stay_and_no_other_file_goes(tmp_path: Path) -> None:
    """Also where the run is resumed; a step kept for good by an earlier setting is left alone."""
    directory = tmp_path / "postnet" / "toy"
    make_trainer(tmp_path, with_training(steps=4, validate_every=1, keep=2, keep_every=2)).run()
    assert steps_in(directory) == [1, 2, 3, 4]
    assert checkpoint.load(directory / checkpoint.numbered(3))["optimizer"] is None
    assert checkpoint.load(directory / checkpoint.numbered(2))["optimizer"] is not None
    make_trainer(tmp_path, with_training(steps=7, validate_every=1, keep=2)).run()
    assert steps_in(directory) == [2, 4, 6, 7]
    kept = checkpoint.load(directory / checkpoint.numbered(7))
    last = checkpoint.load(directory / checkpoint.LAST)
    assert all(torch.equal(tensor, last["ema"][name]) for name, tensor in kept["ema"].items())


def steps_in(directory: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("step-")) for path in directory.glob("step-*.pt"))


@pytest.mark.parametrize(("speed", "chosen"), [(0.01, "float32"), (2.0, "bfloat16")])
def test_a_run_keeps_the_precision_that_it_began_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speed: float, chosen: str
) -> None:
    """auto takes the faster one; on another machine the same command goes on as it began."""
    monkeypatch.setattr(distributed, "bfloat16_speed", lambda device: speed)
    trainer = make_trainer(tmp_path, with_training(steps=2, precision="auto"))
    assert trainer.precision == chosen and trainer.run() == 0
    monkeypatch.setattr(distributed, "bfloat16_speed", lambda device: 1 / speed)
    resumed = make_trainer(tmp_path, with_training(steps=4, precision="auto"))
    assert resumed.precision == chosen and resumed.run() == 0
    whole = make_trainer(tmp_path / "whole", with_training(steps=4, precision=chosen))
    whole.run()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor)


def test_a_slow_precision_is_taken_when_asked_for_and_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(distributed, "bfloat16_speed", lambda device: 0.02)
    trainer = make_trainer(tmp_path, with_training(steps=1, precision="bfloat16"))
    assert trainer.precision == "bfloat16" and trainer.run() == 0
    (warning,) = (r.message for r in caplog.records if r.levelno == logging.WARNING)
    assert "slow here: bfloat16 products take 50 times as long" in warning


def test_validation_sees_the_average_and_gives_the_weights_back(tmp_path: Path) -> None:
    seen: list[torch.Tensor] = []
    trainer = make_trainer(
        tmp_path, validate=lambda model: seen.append(model.inner.weight.detach().clone()) or {}
    )
    trainer.run()
    assert torch.equal(seen[-1], trainer.average.tensors["inner.weight"])
    assert not torch.equal(seen[-1], trainer.model.inner.weight)


def test_a_loss_that_is_not_finite_stops_naming_step_items_and_terms(tmp_path: Path) -> None:
    def exploding(model: nn.Module, batch: ToyBatch, context: StepContext) -> Mapping[str, Term]:
        terms = loss_terms(model, batch, context)
        if context.step == 5:
            return {**terms, "l2": replace(terms["l2"], total=terms["l2"].total * float("inf"))}
        return terms

    trainer = make_trainer(tmp_path, loss=exploding)
    with pytest.raises(
        NonFiniteLoss, match=r"step 5: l1 = .*, l2 = inf; items: item-5-0, item-5-1"
    ):
        trainer.run()
    state = checkpoint.load(trainer.last)
    assert state["step"] == 4
    assert all(torch.isfinite(tensor).all() for tensor in state["model"].values())


def test_a_gradient_that_is_not_finite_stops_too(tmp_path: Path) -> None:
    def steep(model: nn.Module, batch: ToyBatch, context: StepContext) -> Mapping[str, Term]:
        zero = model(batch.x).sum() * 0.0
        return {"root": Term(torch.sqrt(zero), 1.0)}  # finite value, infinite slope

    with pytest.raises(NonFiniteLoss, match="step 0: gradient norm = nan"):
        make_trainer(tmp_path, loss=steep, counts=lambda batch: None).run()


def test_fresh_refuses_a_run_that_exists(tmp_path: Path) -> None:
    make_trainer(tmp_path, with_training(steps=1), fresh=True).run()
    with pytest.raises(ValueError, match=r"Leave --fresh out to resume it(.|\n)*rm -r"):
        make_trainer(tmp_path, fresh=True)


def test_two_processes_cannot_train_the_same_run(tmp_path: Path) -> None:
    first = make_trainer(tmp_path)
    with pytest.raises(ValueError, match="is being trained by another process"):
        make_trainer(tmp_path)
    assert first.run() == 0
    assert make_trainer(tmp_path).run() == 0


def test_another_network_data_order_or_corpus_cannot_be_resumed(tmp_path: Path) -> None:
    make_trainer(tmp_path, with_training(steps=1)).run()
    wide = replace(ToyHyperparams(), postnet=Toy(width=9))
    cases: list[tuple[ToyHyperparams, dict[str, Any], str]] = [
        (wide, {}, r"postnet\.width: 8 in the checkpoint, 9 now"),
        (with_training(steps=1, seed=1), {}, r"postnet_training\.seed: 0 .*, 1 now"),
        (with_training(steps=1), {"data": {"symbols": ["_"]}}, r"data\.symbols: another corpus"),
    ]
    for hyperparams, changes, message in cases:
        with pytest.raises(ValueError, match=message):
            make_trainer(tmp_path, hyperparams, **changes)


def test_accumulated_batches_have_the_loss_and_gradient_of_one_large_batch(tmp_path: Path) -> None:
    class Pair(ToyBatch):
        """Two batches as one."""

    def pair(
        position: tuple[int], rank: int, world_size: int
    ) -> Iterator[tuple[ToyBatch, tuple[int]]]:
        index = position[0]
        while True:
            a, b = make_batch(index), make_batch(index + 1)
            x, mask = torch.cat([a.x, b.x]), torch.cat([a.is_padding, b.is_padding])
            yield Pair([*a.ids, *b.ids], x, mask), (index + 2,)
            index += 2

    def quiet(model: nn.Module, batch: ToyBatch, context: StepContext) -> Mapping[str, Term]:
        difference = (model(batch.x) - batch.x.flip(1)) * ~batch.is_padding[..., None]
        return {"l1": Term(difference.abs().sum(), batch.num_frames)}

    def count(batch: ToyBatch) -> dict[str, float]:
        return {"l1": batch.num_frames}

    knobs = replace(with_training(steps=3, accumulate=2, log_every=1), postnet=Toy(dropout=0.0))
    same = {"loss": quiet, "counts": count}
    two = make_trainer(tmp_path / "two", knobs, **same)
    knobs = replace(with_training(steps=3, log_every=1), postnet=Toy(dropout=0.0))
    one = make_trainer(tmp_path / "one", knobs, batches=pair, **same)
    two.run(), one.run()
    for name, tensor in one.model.named_parameters():
        torch.testing.assert_close(two.model.get_parameter(name), tensor)
    for a, b in zip(timeless(one.directory), timeless(two.directory), strict=True):
        for key in ("train/loss", "train/l1", "train/gradient_norm"):
            assert a.get(key, 0.0) == pytest.approx(b.get(key, 0.0), rel=1e-5)


def test_tensorboard_and_stats_hold_the_same_scalars(uninterrupted: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(uninterrupted))
    events.Reload()
    for line in read_stats(uninterrupted):
        for name, value in line.items():
            if name not in ("step", "time"):
                found = {event.step: event.value for event in events.Scalars(name)}
                assert found[line["step"]] == pytest.approx(value, rel=1e-5)
    assert json.loads((uninterrupted / "stats.jsonl").read_text().splitlines()[-1])["step"] == 12
    texts = {tag: events.Tensors(tag)[-1].tensor_proto.string_val[0].decode() for tag in TEXTS}
    assert "width: 8" in texts["hyperparameters/text_summary"]
    assert "| validation/score | smaller is better" in texts["scalars/text_summary"]


TEXTS = ("hyperparameters/text_summary", "scalars/text_summary")


def test_tensorboard_charts_training_and_validation_of_a_loss_together(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

    make_trainer(tmp_path, with_training(steps=3), validate=lambda _: {"l1": 1.0, "x": 2.0}).run()
    events = EventAccumulator(str(tmp_path / "postnet" / "toy"))
    events.Reload()
    content = events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0]
    (category,) = Layout.FromString(content).category
    charts = {chart.title: list(chart.multiline.tag) for chart in category.chart}
    assert charts == {"l1": ["train/l1", "validation/l1"]}


@pytest.mark.parametrize(
    "knob", [{"precision": "bfloat16"}, {"clip_norm": 0.0}, {"ema_decay": 0.0}]
)
def test_knobs_train_and_resume(tmp_path: Path, knob: dict[str, Any]) -> None:
    make_trainer(tmp_path, with_training(steps=3, **knob)).run()
    resumed = make_trainer(tmp_path, with_training(steps=6, **knob))
    assert resumed.step == 3 and resumed.run() == 0
    whole = make_trainer(tmp_path / "whole", with_training(steps=6, **knob))
    whole.run()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[name], tensor)


def test_a_compiled_model_trains_and_is_saved_like_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Path
) -> None:
    compiled: list[nn.Module] = []
    compile_ = torch.compile

    def traced(model: nn.Module, dynamic: bool | None) -> Any:
        compiled.append(model)
        return compile_(model, backend="eager")  # the same graph without a C++ compiler

    monkeypatch.setattr("training.trainer.torch.compile", traced)
    trainer = make_trainer(tmp_path, with_training(compile=True))
    assert trainer.run() == 0 and compiled == [trainer.model]
    assert_same_run(tmp_path / "postnet" / "toy", uninterrupted)


@pytest.mark.parametrize("schedule", ["noam", "cosine", "constant"])
def test_learning_rates_rise_to_their_peak_and_never_after(schedule: str) -> None:
    training = Training(steps=1000, warmup_steps=100, learning_rate=2e-3, schedule=schedule)
    rates = [learning_rate(step, training) for step in range(1000)]
    assert max(rates) == pytest.approx(2e-3) and rates.index(max(rates)) == 99
    assert all(a < b for a, b in pairwise(rates[:100]))
    assert all(a >= b for a, b in pairwise(rates[99:]))
    assert rates[0] == pytest.approx(2e-5)
    expected = {"noam": 2e-3 * 0.1**0.5, "cosine": 0.0, "constant": 2e-3}[schedule]
    assert rates[-1] == pytest.approx(expected, abs=1e-9)
    assert learning_rate(0, replace(training, warmup_steps=0)) > 0


def test_only_matrices_decay() -> None:
    model = nn.ModuleDict(
        {
            "embedding": nn.Embedding(5, 4),
            "linear": nn.Linear(4, 4),
            "norm": nn.LayerNorm(4),
            "convolution": nn.Conv1d(4, 4, 3),
        }
    )
    optimizer = build_optimizer(model, Training(weight_decay=0.1))
    decayed = {id(p) for p in optimizer.param_groups[0]["params"]}
    assert decayed == {id(model["linear"].weight), id(model["convolution"].weight)}
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 7


def test_the_moving_average_is_the_weighted_sum_it_says() -> None:
    model = nn.BatchNorm1d(1)
    average = MovingAverage(model, 0.5)
    expected = 1.0
    for step, value in enumerate([2.0, 5.0, -3.0, 7.0], start=1):
        with torch.no_grad():
            model.weight.fill_(value)
            model.num_batches_tracked.fill_(step)
        average.update(model, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert float(average.tensors["weight"]) == pytest.approx(expected)
    assert int(average.tensors["num_batches_tracked"]) == 4
    with pytest.raises(RuntimeError), average.applied(model):
        assert float(model.weight.detach()) == pytest.approx(expected)
        raise RuntimeError
    assert float(model.weight.detach()) == 7.0


def test_lines_say_how_long_it_took_and_will_take(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is no terminal; of an own unit, as its experiment names it."""
    caplog.set_level(logging.INFO)
    trainer = make_trainer(tmp_path)
    trainer.experiment.unit = "windows"  # type: ignore[misc]
    assert trainer.run() == 0
    line = r"step \d+ of \d+: loss [\d.]+, [\d.,]+ windows/s, \d\d:\d\d elapsed, \d\d:\d\d to go"
    said = [record.message for record in caplog.records if " elapsed" in record.message]
    assert said and all(re.fullmatch(line, text) for text in said)
    assert said[-1].endswith(", 00:00 to go")
    stats = read_stats(trainer.directory)
    assert any("train/windows_per_second" in row for row in stats)
    assert not any("train/frames_per_second" in row for row in stats)


def test_the_rest_of_a_resumed_run_is_reckoned_from_its_own_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(tmp_path)
    trainer._release()
    trainer._began = 1000.0, trainer.training.steps - 6
    trainer.step = trainer.training.steps - 4
    monkeypatch.setattr(time, "monotonic", lambda: 1130.0)  # 65 s a step, four to go
    assert trainer._progress() == "02:10 elapsed, 04:20 to go"
