"""Large tensors on the disk: the same numbers, less memory, nothing left behind."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from utils import scratch


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Everything goes to the disk, in blocks of a thousand samples."""
    for name, value in {"SMALL": 0, "HELD": 0, "ARENA": 4096, "BLOCK": 1000}.items():
        monkeypatch.setattr(scratch, name, value)
    with scratch.on(tmp_path / "not" / "there"):
        yield tmp_path


def test_content_stays_when_memory_is_given_back(tiny: Path) -> None:
    wav = scratch.zeros((2, 5000))
    assert not wav.any()
    for start, stop in scratch.blocks(5000):
        wav[:, start:stop] = torch.arange(start, stop)
    assert torch.equal(wav[1], torch.arange(5000.0))
    assert torch.equal(scratch.mapped(wav, lambda part: part * 2), wav * 2)
    array = scratch.zeros_array((7, 2), np.dtype("int32"))
    assert array.dtype == np.int32 and array.shape == (7, 2)


def test_kept_tensors_share_maps_and_do_not_share_memory(tiny: Path) -> None:
    sources = [torch.randn(3, 50 + i) for i in range(40)] + [torch.arange(3), torch.zeros(0)]
    kept = [scratch.kept(tensor) for tensor in sources]
    scratch.forget()
    kept[0].add_(1)
    assert torch.equal(kept[0], sources[0] + 1)
    assert all(map(torch.equal, kept[1:], sources[1:]))
    assert all(one.dtype == other.dtype for one, other in zip(kept, sources, strict=True))


def test_nothing_has_a_name_on_the_disk(tiny: Path) -> None:
    wav = scratch.zeros((1, 100_000))
    wav.fill_(1.0)
    assert list(tiny.iterdir()) == []


def test_the_disk_is_free_again_when_a_tensor_is_gone(tiny: Path) -> None:
    disk = scratch._disk.get()
    assert disk is not None
    wav = scratch.zeros((1, 100_000))
    part = wav[:, 5:10]
    del wav
    assert len(disk.maps) == 1 and not part.any()
    del part
    assert len(disk.maps) == 0


def test_small_tensors_and_those_of_no_job_stay_in_memory(tmp_path: Path) -> None:
    wav = torch.ones(9)
    assert scratch.kept(wav) is wav
    with scratch.on(tmp_path):
        assert scratch.kept(wav) is wav
        scratch.forget()
    assert scratch.zeros((3,), torch.bool).dtype == torch.bool


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="no limits on files here")
def test_a_full_disk_is_an_error_before_anything_is_written(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, start: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="scratch") as caught:
        scratch.zeros((10_000_000,))
    assert caught.value.errno == 28


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads Linux's /proc")
def test_memory_does_not_grow_with_what_lies_on_the_disk(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    monkeypatch.setattr(scratch, "SMALL", 0)
    with scratch.on(tmp_path):
        before, largest = resident(), 0
        wav = scratch.zeros((40_000_000,))  # 160 MB
        for start, stop in scratch.blocks(len(wav)):
            wav[start:stop] = 1.0
            largest = max(largest, resident())
        assert largest - before < 40_000_000
        assert wav[::1_000_000].sum() == 40


HOLES = """
import platform
import numpy as np
from utils.scratch import trim

def anonymous() -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

blocks = [np.ones(60_000, np.uint8) for _ in range(2000)]
del blocks[::2]
before = anonymous()
trim()
print(platform.libc_ver()[0] or "another", before, anonymous())
"""


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is told by Linux")
def test_holes_between_blocks_are_given_back() -> None:
    made = subprocess.run(
        [sys.executable, "-c", HOLES], capture_output=True, text=True, check=True, timeout=60
    )
    libc, before, after = made.stdout.split()
    if libc != "glibc":
        pytest.skip(f"{libc} keeps no such holes that a program may ask for")
    assert int(before) - int(after) > 0.8 * 60_000 * 1000 / 1024  # KiB
