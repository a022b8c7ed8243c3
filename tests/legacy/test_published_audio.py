"""The legacy project's audio: splits, levels, faults by index, files that are none."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import prepare_data
from corpora.songs import LOUDNESS, SongTask, make_song
from corpora.stores import StemStore
from hyperparams import Audio
from legacy.songs import FILES, SAMPLE_RATE, read_published

torch.set_num_threads(1)
SIZE = 2 * SAMPLE_RATE


def song(seed: int, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """A tone and plucks with its onsets, (S,) each, normalised as the earlier files are."""
    generator = torch.Generator().manual_seed(seed)
    time = torch.arange(size) / SAMPLE_RATE
    pulse = torch.exp(-6 * (time % 0.5))
    vocal = 0.4 * pulse * torch.sin(2 * torch.pi * (200 + 40 * seed) * time)
    return vocal, 0.3 * pulse * torch.randn(size, generator=generator)


def content(*seeds: int) -> list[list[Tensor]]:
    songs = [song(seed) for seed in seeds]
    return [[vocal for vocal, _ in songs], [guitar for _, guitar in songs]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve songs to train on and two to test on, as the earlier project has them."""
    directory = tmp_path / "published"
    directory.mkdir()
    torch.save(content(*range(12)), directory / FILES["train"])
    torch.save(content(20, 21), directory / FILES["test"])
    return directory


@pytest.fixture
def prepare(folder: Path, tmp_path: Path) -> Callable[..., int]:
    def run(*arguments: str) -> int:
        where = ["--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
        return prepare_data.main(["published", str(folder), *arguments, *where])

    return run


def index_of(tmp_path: Path) -> dict[str, Any]:
    return json.loads((tmp_path / "feature/published/index.json").read_text(encoding="utf-8"))


def change(path: Path, role: int, index: int, value: Any) -> None:
    lists = torch.load(path, weights_only=True)
    lists[role][index] = value
    torch.save(lists, path)


def test_a_stems_corpus_like_any_other(prepare: Callable[..., int], tmp_path: Path) -> None:
    assert prepare("--validation-share", "0.4") == 0
    items = index_of(tmp_path)["items"]
    assert [item["id"] for item in items[:2]] == ["train-0000", "train-0001"]
    by_split = {
        name: {item["id"] for item in items if item["split"] == name}
        for name in ("train", "validation", "test")
    }
    assert by_split["test"] == {"test-0000", "test-0001"}
    assert by_split["train"] and by_split["validation"]
    assert sum(map(len, by_split.values())) == 14
    store = StemStore(tmp_path / "feature" / "published")
    for item in items[:3]:
        number = int(item["id"][-4:])
        expected = torch.stack(song(number)) * 10 ** (item["gain"] / 20)
        assert (store.window(item["id"], 0, SIZE) - expected).abs().max() < 1 / 32768
    check = ["check", "published", "--feature-dir", str(tmp_path / "feature"), "--workers", "0"]
    assert prepare_data.main(check) == 0


def test_nothing_is_made_twice(
    prepare: Callable[..., int], tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    assert prepare() == 0
    first = index_of(tmp_path)
    capsys.readouterr()
    assert prepare() == 0
    assert "0 made, 14 kept" in capsys.readouterr().out
    assert index_of(tmp_path) == first
    change(folder / FILES["train"], 0, 3, song(30)[0])
    assert prepare() == 0
    assert "1 made, 13 kept" in capsys.readouterr().out


def test_a_song_survives_the_way_to_a_worker(folder: Path, tmp_path: Path) -> None:
    pair = read_published(folder)[0][3]
    task = SongTask(pair, tmp_path, Audio(), LOUDNESS, None)
    sent = pickle.dumps(task)
    assert len(sent) < 2 * 4 * SIZE + 10_000  # its own samples, not the file's
    made = []
    for name in ("here", "there"):
        directory = tmp_path / name
        (directory / "stems").mkdir(parents=True)
        made.append(make_song(replace(pickle.loads(sent), directory=directory)).record)
    assert made[0] == made[1] == make_song(replace(task, directory=tmp_path / "here")).record


@pytest.mark.parametrize(
    ("role", "value", "message"),
    [
        (
            0,
            song(5, SIZE + 7)[0],
            r"\[0\]\[5\] has 32007 samples, train_norm\.pt\[1\]\[5\] has 320",
        ),
        (0, torch.zeros(0), r"vocal train_norm\.pt\[0\]\[5\] is empty"),
        (
            1,
            torch.zeros(2, SIZE),
            r"guitar train_norm\.pt\[1\]\[5\] is a torch.float32 tensor \(2,",
        ),
        (1, torch.zeros(SIZE, dtype=torch.int16), r"\[1\]\[5\] is a torch.int16 tensor"),
        (1, torch.zeros(1).expand(10**12), r"\[1\]\[5\] claims 1000000000000 samples, more than"),
        (0, "song.wav", r"\[0\]\[5\] is str song.wav, expected a float tensor"),
        (0, None, r"\[0\]\[5\] is NoneType"),
        (0, torch.full((SIZE,), torch.nan), r"\[0\]\[5\]: 32000 samples are NaN"),
        (1, torch.full((SIZE,), torch.inf), r"\[1\]\[5\]: 32000 samples are NaN or infinite"),
        (0, torch.zeros(SIZE), "train-0005: vocal: silent"),
    ],
)
def test_faults_are_reported_by_index_and_left_out(
    prepare: Callable[..., int],
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    role: int,
    value: Any,
    message: str,
) -> None:
    torch.save(content(*range(6)), folder / FILES["train"])
    change(folder / FILES["train"], role, 5, value)
    assert prepare() == 0
    assert "train-0005" not in {item["id"] for item in index_of(tmp_path)["items"]}
    out = capsys.readouterr().out
    assert "skipped: 1 items" in out
    assert re.search(message, out), out
    assert prepare("--strict") == 1
    assert "train-0005" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"step": 3, "model": {}}, "found a dict, a dict of step, model"),
        ([[torch.zeros(9)]], "found a list of 1"),
        ([torch.zeros(9), torch.zeros(9)], r"\[0\] is a torch.float32 tensor \(9,\)"),
        ([[torch.zeros(9)], []], "1 vocals and 0 guitars"),
        ([[], []], "both lists are empty"),
    ],
)
def test_other_content_is_described(folder: Path, value: Any, message: str) -> None:
    torch.save(value, folder / FILES["test"])
    with pytest.raises(ValueError, match=message) as error:
        read_published(folder)
    assert str(folder / FILES["test"]) in str(error.value)


def test_a_missing_file_says_where_it_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert prepare_data.main(["published"]) == 1
    error = capsys.readouterr().err
    assert "feature/inpainting/mackenzie_unet_diffusion_inpainter_audio/train_norm.pt" in error
    assert "README" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_half_a_download_is_named(folder: Path, share: float) -> None:
    path = folder / FILES["train"]
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match="cut off or half-downloaded") as error:
        read_published(folder)
    assert str(path) in str(error.value) and "audio" in str(error.value)


def test_a_web_page_and_an_empty_file_are_named(folder: Path) -> None:
    path = folder / FILES["test"]
    path.write_bytes(b"<!DOCTYPE html><html>Virus scan warning</html>")
    with pytest.raises(ValueError, match="a web page"):
        read_published(folder)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="is empty"):
        read_published(folder)


class Trap:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(folder: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    torch.save([[Trap(marker)], [torch.zeros(9)]], folder / FILES["test"])
    with pytest.raises(ValueError, match="more than tensors and plain values"):
        read_published(folder)
    assert not marker.exists()


def test_songs_are_mapped_rather_than_read(folder: Path) -> None:
    pairs, rejections = read_published(folder)
    assert len(pairs) == 14 and not rejections
    status = Path("/proc/self/maps")
    if not status.is_file():
        pytest.skip("this system does not list the files that a process has mapped")
    assert str(folder / FILES["train"]) in status.read_text()
    assert np.array_equal(pairs[3].vocal, song(3)[0].numpy())


def test_the_test_share_is_not_ours_to_choose(
    prepare: Callable[..., int], capsys: pytest.CaptureFixture
) -> None:
    assert prepare("--test-share", "0.1") == 1
    assert "test_norm.pt" in capsys.readouterr().err
