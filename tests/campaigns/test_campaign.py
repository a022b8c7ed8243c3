"""A short campaign: a few damaged inputs of every kind, a few kills, a full disk."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

if os.name != "posix":
    pytest.skip("forks and limits are POSIX", allow_module_level=True)

from campaigns.campaign import BAD, run_campaign, table
from campaigns.mutations import Damage, damaged_json, damaged_lines, damaged_text, damaged_zip
from campaigns.sources import write_scores


def test_a_short_campaign_loses_nothing_and_leaks_no_traceback(tmp_path: Path) -> None:
    kinds = 26  # one input of each, none of those that once failed: they take too long here
    jobs = ("synthesis", "postnet", "prepare ljspeech")
    rows = run_campaign(0, 1.0, tmp_path, kinds, 4, tmp_path / "none", jobs)
    assert sum(row.counts["tried"] for row in rows) >= kinds + 4 + len(jobs)
    assert not any(row.counts[name] for row in rows for name in BAD), "\n" + table(rows)


def test_damage_is_a_function_of_the_seed(tmp_path: Path) -> None:
    sound: dict[Damage, bytes] = {
        damaged_text: b"tempo: 100\nnotes: C4 D4\n" * 9,
        damaged_json: b'{"items": [{"id": "a", "length": 7}, {"id": "b"}], "kind": "speech"}',
        damaged_lines: b'{"id": "a", "length": 7}\n{"id": "b", "length": 8}\n' * 4,
        damaged_zip: write_scores(tmp_path)[-1].read_bytes(),
    }
    for damage, content in sound.items():

        def made(seed: int) -> list[bytes]:
            chance = random.Random(seed)
            return [damage(content, chance) for _ in range(20)]  # noqa: B023

        assert made(1) == made(1) != made(2)
        assert sum(data != content for data in made(1)) > 15
