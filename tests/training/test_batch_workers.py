"""How many processes make batches where nobody chose."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hyperparams import Training
from training import batching
from training.batching import SHARED_BYTES, workers_for

ROOT = Path(__file__).resolve().parents[2]
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path) -> pytest.MonkeyPatch:
    """A machine of 16 cores with plenty of shared memory."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(batching, "SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=SHARED_BYTES))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    return monkeypatch


@pytest.mark.usefixtures("machine")
def test_processes_make_the_batches_of_a_gpu_alone() -> None:
    workers, line = workers_for(Training(), CUDA)
    assert workers == 4 and "by 4 processes" in line
    assert workers_for(Training(), CPU) == (0, "")
    assert workers_for(Training(corpus_on_device=True), CUDA) == (0, "")
    for chosen in (0, 2):
        for device in (CPU, CUDA):
            assert workers_for(Training(batch_workers=chosen), device) == (chosen, "")
    with pytest.raises(ValueError, match="expected -1 or more"):
        Training(batch_workers=-2)


def test_a_thread_makes_them_where_processes_would_fail_or_wait(
    machine: pytest.MonkeyPatch,
) -> None:
    machine.setenv("LOCAL_WORLD_SIZE", "8")
    assert workers_for(Training(), CUDA)[0] == 1  # a core each, beside those of eight ranks
    machine.setattr(os, "cpu_count", lambda: 1)
    assert workers_for(Training(), CUDA)[0] == 0
    machine.setattr(os, "cpu_count", lambda: 64)
    machine.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**26))
    workers, line = workers_for(Training(), CUDA)
    assert workers == 0 and "64 MiB free" in line and "--shm-size" in line


ERROR_IN_A_WORKER = """
import sys
from training.batching import made_ahead

def stream(part):
    for number in range(part[0], 40, part[1]):
        if number == 7 and sys.argv[1] == "worker":
            raise FileNotFoundError("mel/x.npy: no such file")
        yield number

batches = made_ahead(stream, 2, 2)
for number in batches:
    if number == 5 and sys.argv[1] == "training":
        raise OSError("no room on the disk")
"""


@pytest.mark.parametrize(
    ("where", "said"), [("worker", "mel/x.npy: no such file"), ("training", "no room on the disk")]
)
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere no processes make batches")
def test_an_error_ends_the_workers_and_is_said_as_it_is(where: str, said: str) -> None:
    """They ignore the signal by which multiprocessing ends its processes."""
    command = [sys.executable, "-c", ERROR_IN_A_WORKER, where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith(f"Error: {said}")
    assert "worker process" not in done.stderr


@pytest.mark.parametrize(
    "knob",
    [{"accumulate": 0}, {"clip_norm": -1.0}, {"adam_beta1": 1.0}, {"learning_rate": math.nan}],
)
def test_numbers_that_train_nothing_are_refused(knob: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(knob))} = "):
        Training(**knob)
