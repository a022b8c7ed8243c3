"""Loading: a checkpoint whose entries do not fit together is named, before it costs memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_chain import weights

from utils import checkpoint
from utils.loading import load_network

__all__ = ["weights"]  # a fixture
resource = pytest.importorskip("resource")  # not on Windows
CPU = torch.device("cpu")


def changed(source: Path, target: Path, section: str, **values: Any) -> Path:
    """Write a copy of a checkpoint with other values in an entry, `section` as `a.b`."""
    state = checkpoint.load(source)
    entry = state
    for name in section.split("."):
        entry = entry[name]
    entry.update(values)
    checkpoint.save(target, state)
    return target


@pytest.mark.parametrize(
    ("knob", "value"),
    [("width", 10**9), ("encoder_layers", 10**8), ("decoder_layers", 10**8)],
)
def test_sizes_that_the_file_does_not_hold_are_refused_without_memory(
    weights: Path, tmp_path: Path, knob: str, value: int
) -> None:
    path = tmp_path / "large.pt"
    state = checkpoint.load(weights / "singer.pt")
    assert knob in state["hyperparams"]["transformer"], "the knob exists"
    changed(weights / "singer.pt", path, "hyperparams.transformer", **{knob: value})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"large\.pt"):
        load_network(path, "transformer", CPU)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB


@pytest.mark.parametrize(
    "values",
    [{"symbols": None}, {"symbols": [1, 2]}, {"statistics": None}, {"statistics": {"mel": [0.0]}}],
)
def test_data_of_another_form_is_named(
    weights: Path, tmp_path: Path, values: dict[str, Any]
) -> None:
    path = changed(weights / "singer.pt", tmp_path / "odd.pt", "data", **values)
    with pytest.raises(ValueError, match=r"odd\.pt"):
        load_network(path, "transformer", CPU)
