"""AdamW without torch's compiler: the same updates, and nothing of it loaded."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import TINY
from torch import nn

from training import trainer
from training.optimizer import AdamW, build_optimizer

UPDATE = """
import sys, torch
from tiny import TINY
from training.optimizer import build_optimizer
network = torch.nn.Linear(4, 4)
optimizer = build_optimizer(network, TINY.transformer_training)
for _ in range(2):
    optimizer.zero_grad(set_to_none=True)
    network(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
sys.exit("torch._dynamo" in sys.modules)
"""


def test_updates_are_those_of_torch() -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 3))
    theirs = copy.deepcopy(ours)
    own = build_optimizer(ours, TINY.transformer_training)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim == 2]},
        {"params": [p for p in theirs.parameters() if p.ndim < 2]},
    ]
    for group, like in zip(groups, own.param_groups, strict=True):
        group |= {name: like[name] for name in ("lr", "betas", "eps", "weight_decay")}
    plain = torch.optim.AdamW(groups, fused=True)
    assert isinstance(own, AdamW)
    for _ in range(3):
        x = torch.randn(4, 5)
        for network, optimizer in ((ours, own), (theirs, plain)):
            optimizer.zero_grad()
            network(x).square().sum().backward()
            optimizer.step()
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(a, b) and a.requires_grad


def test_an_update_does_not_load_the_compiler() -> None:
    root = Path(trainer.__file__).parents[1]
    path = os.pathsep.join([str(root), str(root / "tests")])
    done = subprocess.run([sys.executable, "-c", UPDATE], env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 0


def test_few_prepared_products_are_kept_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in trainer.KEPT_PRODUCTS:
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    monkeypatch.setenv("LRU_CACHE_CAPACITY", "7")
    with pytest.raises(SystemExit):
        trainer.train(trainer.Experiment, "Train nothing.", ["--help"])
    assert os.environ["LRU_CACHE_CAPACITY"] == "7"
    assert os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] == "128"
