"""Several processes train like one at the same global batch; devices are chosen, not assumed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import contour_ranks
import pytest
import torch
from torch import nn
from toy_training import make_trainer, with_training

from training.runlog import read_stats
from utils import checkpoint, distributed, flags

TOY = Path(__file__).with_name("toy_training.py")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def in_two_processes(script: Path, *arguments: Any) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
        *("--master-addr", "127.0.0.1", "--master-port", str(free_port())),
        *(script, *arguments),
    ]
    paths = os.pathsep.join(str(TOY.parents[depth]) for depth in (1, 2))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    subprocess.run(command, env=environment, check=True, timeout=600)


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_train_like_one_at_the_same_global_batch(tmp_path: Path) -> None:
    in_two_processes(TOY, tmp_path / "two", "--set", "postnet_training.steps=4")
    assert make_trainer(tmp_path / "one", with_training(accumulate=2, steps=4)).run() == 0
    two, one = (tmp_path / name / "postnet" / "toy" for name in ("two", "one"))
    lines = [read_stats(directory) for directory in (two, one)]
    assert len(lines[0]) == len(lines[1]) > 2
    for a, b in zip(*lines, strict=True):
        assert a["step"] == b["step"]
        assert a.keys() == b.keys()
        for name in a.keys() & {f"train/{part}" for part in ("loss", "l1", "l2", "gradient_norm")}:
            assert a[name] == pytest.approx(b[name], rel=1e-5)
    states = [checkpoint.load(directory / checkpoint.LAST) for directory in (two, one)]
    assert states[0]["position"] == states[1]["position"] == (8,)
    for part in ("model", "ema"):
        for name in ("inner.weight", "inner.bias", "outer.weight", "outer.bias"):
            torch.testing.assert_close(states[0][part][name], states[1][part][name])


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_a_rank_whose_batch_knows_no_contour_shares_its_gradient(tmp_path: Path) -> None:
    """One rank sings with a contour of its pitch, the other speaks: neither waits for the other."""
    in_two_processes(Path(contour_ranks.__file__), tmp_path / "gradients.pt")
    model = contour_ranks.network()
    for rank in (0, 1):
        (contour_ranks.loss(model, rank) / 2).backward()
    together = torch.load(tmp_path / "gradients.pt")
    assert together["contour.weight"].abs().max() > 0
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, atol=1e-5, rtol=1e-4)


def test_one_process_needs_no_group() -> None:
    world = distributed.World(torch.device("cpu"))
    values = torch.tensor([1.0, 2.0])
    assert world.is_main and torch.equal(world.sum(values), values)
    assert world.sum_numbers([1.0, 0.5]) == [1.0, 0.5]
    assert world.gather("x") == ["x"]
    world.barrier()
    distributed.close(world)


def test_devices_that_are_not_here_are_refused_with_those_that_are() -> None:
    assert flags.choose_device("cpu") == torch.device("cpu")
    assert flags.choose_device("auto").type == flags.available_devices()[0]
    for name in ("gpu", "cuda:99", "xla", ""):
        with pytest.raises(ValueError, match="--device"):
            flags.choose_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"available: auto, .*cpu"):
            flags.choose_device("cuda")
    assert "cpu (" in flags.describe_device(torch.device("cpu"))


def test_the_speed_of_bfloat16_is_measured_here() -> None:
    assert distributed.bfloat16_speed(torch.device("cpu")) > 0


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_parameters_without_gradients_are_left_out_of_the_exchange(tmp_path: Path) -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 2), "absent": nn.Embedding(4, 3)})
    model.forward = lambda x: model["used"](x)
    store = f"file://{tmp_path / 'store'}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=0, world_size=1)
    try:
        with pytest.raises(ValueError, match="no parameters"):
            distributed.shared(model, {"absent.bias"})
        shared = distributed.shared(model, {"absent.weight"})
        for _ in range(2):  # the second would wait for the gradients of `absent`
            shared(torch.ones(5, 3)).sum().backward()
        assert model["absent"].weight.grad is None and model["used"].weight.grad is not None
        assert distributed.unwrapped(shared) is model
    finally:
        torch.distributed.destroy_process_group()
