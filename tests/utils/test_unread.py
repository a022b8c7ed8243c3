"""Checkpoints read without their tensors: the same facts, the same refusals, nothing called."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from utils import checkpoint
from utils.checkpoint import Unread, load_facts, read_without_tensors

DEMO = Path(__file__).resolve().parents[2] / "save" / "demo"


def without_tensors(value: Any) -> Any:
    """The same nested values, tensors replaced by a mark."""
    if isinstance(value, (torch.Tensor, Unread)):
        return "tensor"
    if isinstance(value, dict):
        return {key: without_tensors(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_tensors(part) for part in value]
    return value


@pytest.mark.parametrize("kind", ["transformer", "inpainter", "postnet"])
def test_facts_are_those_that_torch_reads(kind: str) -> None:
    path = DEMO / f"{kind}.pt"
    facts, whole = read_without_tensors(path), checkpoint.load(path, kind)
    assert without_tensors(facts) == without_tensors(whole)
    assert load_facts(path, kind).data == whole["data"]


def test_every_type_of_tensor_stays_in_the_file(tmp_path: Path) -> None:
    kinds = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool]
    torch.save({str(k): torch.zeros(3, dtype=k) for k in kinds} | {"n": 1}, tmp_path / "a.pt")
    state = read_without_tensors(tmp_path / "a.pt")
    assert state.pop("n") == 1 and all(isinstance(value, Unread) for value in state.values())


class Bomb:
    """What a checkpoint of somebody else might hold."""

    def __reduce__(self) -> Any:
        return (Path.touch, (Path("exploded"),))


def test_nothing_in_a_checkpoint_is_called(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("bad.pt", "w") as archive:
        archive.writestr("bad/data.pkl", pickle.dumps({"kind": "transformer", "data": Bomb()}))
    with pytest.raises(pickle.UnpicklingError, match=r"touch|getattr"):
        read_without_tensors(Path("bad.pt"))
    with pytest.raises(ValueError, match=r"bad\.pt"):
        load_facts(Path("bad.pt"), "transformer")
    assert not Path("exploded").exists()


@pytest.mark.parametrize("damage", ["bit", "cut", "kind", "text"])
def test_what_load_refuses_is_refused(tmp_path: Path, damage: str) -> None:
    content = bytearray((DEMO / "postnet.pt").read_bytes())
    kind = "postnet"
    if damage == "bit":
        content[len(content) // 2] ^= 1
    elif damage == "cut":
        content = content[: len(content) // 2]
    elif damage == "text":
        content = bytearray(b"no checkpoint")
    else:
        kind = "transformer"
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    messages = []
    for read in (checkpoint.load, load_facts):
        with pytest.raises(ValueError, match=r"x\.pt") as caught:
            read(path, kind)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
