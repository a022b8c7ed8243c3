"""How many processes make batches where nobody chose."""

from __future__ import annotations

import os
import shutil
import sys
from types import SimpleNamespace

import pytest
import torch

from hyperparams import Training
from training import batching
from training.batching import SHARED_BYTES, workers_for

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
    with pytest.raises(ValueError, match="expected -1, 0 or more"):
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
