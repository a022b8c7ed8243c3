"""Arrays, indices and parallel work of a cache."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from corpora import cache
from corpora.cache import Moments, merge_into
from utils import files


def test_an_array_is_intact_only_with_its_checksum(tmp_path: Path) -> None:
    (tmp_path / "mel").mkdir()
    checksums = {"mel": cache.save_array(tmp_path / "mel" / "a.npy", np.arange(5))}
    assert cache.intact(tmp_path, "a", checksums)
    content = bytearray((tmp_path / "mel" / "a.npy").read_bytes())
    content[-1] ^= 1
    (tmp_path / "mel" / "a.npy").write_bytes(content)
    assert not cache.intact(tmp_path, "a", checksums)
    assert not cache.intact(tmp_path, "b", checksums)


def test_a_name_is_not_given_to_a_corpus_of_another_kind(tmp_path: Path) -> None:
    files.write_json(tmp_path / "index.json", {"version": 1, "kind": "speech"})
    (tmp_path / ".x.npy.1.tmp").write_bytes(b"left by a kill")
    with pytest.raises(ValueError, match="choose another --name"):
        cache.open_cache(tmp_path, "stems", ("stem",))
    cache.open_cache(tmp_path, "speech", ("mel",))
    assert not (tmp_path / ".x.npy.1.tmp").exists()
    files.write_bytes(tmp_path / "index.json", b"{ damaged")
    cache.open_cache(tmp_path, "stems", ("stem",))


def test_a_dead_worker_is_an_error_with_advice() -> None:
    with pytest.raises(RuntimeError, match="run the same command again"):
        list(cache.run_parallel(os._exit, [1, 1], 1, "dying"))


def leave_a_mark(path: Path) -> None:
    path.touch()
    time.sleep(0.1)


def test_a_build_that_is_left_ends_the_tasks_at_hand_alone(tmp_path: Path) -> None:
    tasks = [tmp_path / str(number) for number in range(200)]
    results = cache.run_parallel(leave_a_mark, tasks, 2, "left", chunk=1)
    next(results)
    done = len(list(tmp_path.iterdir()))
    results.close()  # as Ctrl-C does
    assert len(list(tmp_path.iterdir())) <= done + 2 + 3  # in the workers, in their queue


def test_merged_moments_equal_those_of_the_whole() -> None:
    random = np.random.default_rng(0)
    parts = [random.normal(1e3, 2.0, (length, 4)) for length in (1, 7, 300, 25)]
    total: dict[str, Moments] = {}
    for part in parts:
        merge_into(total, {"mel": Moments.of(part)})
    whole = np.concatenate(parts)
    statistics = total["mel"].statistics()
    assert np.allclose(statistics["mean"], whole.mean(axis=0), rtol=1e-13)
    assert np.allclose(statistics["std"], whole.std(axis=0), rtol=1e-10)
    assert Moments.of(np.ones((5, 2))).statistics()["std"] == [0.01, 0.01]
