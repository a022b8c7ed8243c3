"""Checkpoints: the old file or the new one, nothing executable, and errors that say what to do."""

from __future__ import annotations

import pickle
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from utils import checkpoint


def make_state(step: int = 3, kind: str = "postnet", **changes: Any) -> dict[str, Any]:
    torch.manual_seed(step)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    return {
        "kind": kind,
        "version": checkpoint.VERSION,
        "step": step,
        "model": model.state_dict(),
        "ema": None,
        "optimizer": optimizer.state_dict(),
        "best": {"score": 0.5, "step": 2},
        "position": (1, 7),
        "hyperparams": {"postnet": {"width": 4}},
        "data": {"symbols": ["_", "a"], "statistics": {"mean": [0.0, 1.0]}},
        **changes,
    }


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    state = make_state()
    checkpoint.save(tmp_path / "postnet/a/last.pt", state)
    found = checkpoint.load(tmp_path / "postnet/a/last.pt", "postnet")
    assert {k: v for k, v in found.items() if k not in ("model", "optimizer")} == {
        k: v for k, v in state.items() if k not in ("model", "optimizer")
    }
    assert found["model"].keys() == state["model"].keys()
    assert all(torch.equal(found["model"][k], v) for k, v in state["model"].items())
    twin = torch.optim.AdamW(nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)).parameters())
    twin.load_state_dict(found["optimizer"])
    assert list(tmp_path.rglob("*.tmp")) == []


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_crash_while_saving_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, make_state(step=1))

    def crash(*arguments: Any) -> None:
        if moment == "write":
            arguments[1].write(b"half a file")
        raise KeyboardInterrupt

    target = {
        "write": "torch.save",
        "fsync": "utils.files.os.fsync",
        "replace": "utils.files.os.replace",
    }[moment]
    with monkeypatch.context() as patch:
        patch.setattr(target, crash)
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save(path, make_state(step=2))
    assert checkpoint.load(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.pt"]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"path": Path("x")}, "path"),
        ([1.0, np.float32(2.0)], r"\[1\]"),
        ({"inner": {"array": np.zeros(2)}}, "array"),
        ({(1, 2): 3}, "key"),
    ],
)
def test_only_tensors_and_plain_values_are_saved(tmp_path: Path, value: Any, where: str) -> None:
    with pytest.raises(ValueError, match=where):
        checkpoint.save(tmp_path / "last.pt", make_state(data=value))
    assert list(tmp_path.iterdir()) == []


def test_a_foreign_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    victim = tmp_path / "victim"

    class Attack:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (victim,))

    torch.save({"model": Attack()}, tmp_path / "attack.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Attack(), protocol=2))
    for name in ("attack.pt", "plain.pt"):
        with pytest.raises(ValueError, match=f"{name}.*not a checkpoint of this repository"):
            checkpoint.load(tmp_path / name)
    assert not victim.exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, share: float) -> None:
    path = tmp_path / "transformer" / "a" / "last.pt"
    checkpoint.save(path, make_state(kind="transformer"))
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"last\.pt"):
        checkpoint.load(path)


def test_a_flipped_bit_of_any_record_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "postnet" / "a" / "last.pt"
    checkpoint.save(path, make_state())
    content = path.read_bytes()
    random = np.random.default_rng(0)
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    tried = 0
    for name, record in records.items():
        start = content.find(record) if len(record) > 8 else -1
        if start < 0:
            continue
        tried += 1
        damaged = bytearray(content)
        damaged[start + int(random.integers(len(record)))] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"last\.pt.*damaged") as error:
            checkpoint.load(path)
        assert name in str(error.value)
    assert tried >= 6


def test_compressed_records_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "last.pt"
    checkpoint.save(path, make_state())
    with zipfile.ZipFile(path) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, record in records.items():
            archive.writestr(name, record)
    with pytest.raises(ValueError, match=r"last\.pt.*compressed"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("step", -1.5), ("step", None), ("version", "1"), ("model", None)),
        *(("model", {"a": 1}), ("ema", [1]), ("hyperparams", []), ("data", None), ("kind", 3)),
    ],
)
def test_an_entry_of_another_type_is_named(tmp_path: Path, key: str, value: Any) -> None:
    checkpoint.save(tmp_path / "last.pt", {**make_state(), key: value})
    with pytest.raises(ValueError, match=rf"last\.pt.*{key} "):
        checkpoint.load(tmp_path / "last.pt")
    assert checkpoint.stored_step(tmp_path / "last.pt") is None


def test_a_missing_checkpoint_lists_the_others_and_the_command(tmp_path: Path) -> None:
    checkpoint.save(tmp_path / "postnet/old/best.pt", make_state())
    state = make_state(step=12) | {"kind": "transformer"}
    checkpoint.save(tmp_path / "transformer/voice/best.pt", state)
    with pytest.raises(FileNotFoundError) as error:
        checkpoint.resolve("songs", "transformer", tmp_path)
    line = r"transformer/voice/best\.pt: transformer, step 12, \d+ seconds old, 0\.0 MiB"
    assert re.search(line, str(error.value))
    assert "postnet" not in str(error.value)  # of another kind
    assert "give one of these" in str(error.value)
    assert "python train_" not in str(error.value)
    with pytest.raises(FileNotFoundError, match=r"train_inpainter\.py --data NAME --run new"):
        checkpoint.load(tmp_path / "inpainter/new/best.pt", "inpainter")
    with pytest.raises(FileNotFoundError, match="no transformer checkpoints below") as error:
        checkpoint.resolve("songs", "transformer", tmp_path / "empty")
    assert "python train_transformer.py --data NAME --run songs" in str(error.value)


def test_resolve_prefers_best_and_takes_paths_and_names(tmp_path: Path) -> None:
    run = tmp_path / "postnet" / "a"
    checkpoint.save(run / "last.pt", make_state())
    assert checkpoint.resolve("a", "postnet", tmp_path) == run / "last.pt"
    checkpoint.save(run / "best.pt", make_state())
    for reference in ("a", run, run / "best.pt"):
        assert checkpoint.resolve(reference, "postnet", tmp_path) == run / "best.pt"


def test_a_step_of_a_run_can_be_named(tmp_path: Path) -> None:
    run = tmp_path / "postnet" / "a"
    for name, step in (("last.pt", 9), ("best.pt", 4), ("step-00000006.pt", 6)):
        checkpoint.save(run / name, make_state(step=step))
    for step, name in ((9, "last.pt"), (4, "best.pt"), (6, "step-00000006.pt")):
        for reference in ("a", run, run / "last.pt"):
            assert checkpoint.resolve(reference, "postnet", tmp_path, step) == run / name
            assert checkpoint.resolve(f"{reference}@{step}", "postnet", tmp_path) == run / name
    with pytest.raises(FileNotFoundError, match=r"of step 5(.|\n)*step-00000006\.pt: .*step 6"):
        checkpoint.resolve("a", "postnet", tmp_path, 5)


def test_other_kinds_versions_and_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "postnet/a/last.pt"
    checkpoint.save(path, make_state())
    with pytest.raises(ValueError, match=r"holds a postnet, expected a transformer(.|\n)*train_tr"):
        checkpoint.load(path, "transformer")
    checkpoint.save(path, make_state(version=checkpoint.VERSION + 1))
    with pytest.raises(ValueError, match="newer"):
        checkpoint.load(path)
    torch.save({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="found weight"):
        checkpoint.load(path)


def test_weights_that_do_not_fit_are_named_with_both_shapes() -> None:
    weights = nn.Linear(3, 4).state_dict()
    model = nn.Linear(3, 5)
    before = model.weight.clone()
    with pytest.raises(ValueError, match=r"weight is \(4, 3\), expected \(5, 3\)"):
        checkpoint.load_weights(model, weights, "a.pt")
    assert torch.equal(model.weight, before)
    with pytest.raises(ValueError, match=r"missing bias(.|\n)*unexpected gain"):
        checkpoint.load_weights(
            nn.Linear(3, 4), {"weight": weights["weight"], "gain": weights["bias"]}, "a.pt"
        )


def test_a_run_begins_with_what_fits_of_another_and_says_what_does_not(tmp_path: Path) -> None:
    path = tmp_path / "postnet/a/last.pt"
    checkpoint.save(path, make_state())
    grown = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    before = grown[2].weight.clone()
    (line,) = checkpoint.start_from(grown, path, "postnet")
    theirs = checkpoint.load(path, "postnet")["model"]
    assert all(torch.equal(grown.state_dict()[name], value) for name, value in theirs.items())
    assert torch.equal(grown[2].weight, before)
    assert "2 tensors, which begin untrained: 2" in line
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 200))
    with pytest.raises(ValueError, match=r"missing 2\.weight"):
        checkpoint.start_from(other, path, "postnet")


def test_exported_weights_are_the_average_in_half_precision(tmp_path: Path) -> None:
    state = make_state()
    ema = {k: v + 1 for k, v in state["model"].items()}
    ema["0.bias"] = torch.tensor([1e6, 1.0, 2.0, 3.0])
    checkpoint.save(tmp_path / "best.pt", {**state, "ema": ema})
    size = checkpoint.export_half(tmp_path / "best.pt", tmp_path / "demo" / "postnet.pt")
    assert size == (tmp_path / "demo" / "postnet.pt").stat().st_size
    found = checkpoint.load(tmp_path / "demo" / "postnet.pt", "postnet")
    assert found["ema"] is None and found["optimizer"] is None
    assert found["data"] == state["data"] and found["hyperparams"] == state["hyperparams"]
    assert found["model"]["0.weight"].dtype == torch.float16
    assert found["model"]["1.num_batches_tracked"].dtype == torch.int64
    assert torch.equal(found["model"]["0.bias"], ema["0.bias"])  # beyond float16: kept as it is
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    checkpoint.load_weights(model, checkpoint.weights(found), "postnet.pt")
    assert model[0].weight.dtype == torch.float32
    torch.testing.assert_close(model[0].weight, ema["0.weight"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("run", ["../x", "", "a/b", ".", "-x", "a b"])
def test_a_run_cannot_leave_its_folder(tmp_path: Path, run: str) -> None:
    with pytest.raises(ValueError, match="--run"):
        checkpoint.run_directory(tmp_path, "postnet", run)


def test_from_another_folder_the_weights_that_ship_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="cd there first"):
        checkpoint.load(Path("save/demo/transformer.pt"), "transformer")
