"""A short campaign: a few damaged inputs of every kind, a few kills, a full disk."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

if os.name != "posix":
    pytest.skip("forks and limits are POSIX", allow_module_level=True)

from campaigns.campaign import BAD, run_campaign, table
from campaigns.mutations import damaged


def test_a_short_campaign_loses_nothing_and_leaks_no_traceback(tmp_path: Path) -> None:
    rows = run_campaign(0, 1.0, tmp_path, inputs=16, kills=3)
    assert sum(row.counts["tried"] for row in rows) >= 16 + 3 + 1
    assert not any(row.counts[name] for row in rows for name in BAD), "\n" + table(rows)


def test_damage_is_a_function_of_the_seed() -> None:
    def made(seed: int) -> list[bytes]:
        chance = random.Random(seed)
        return [damaged(b"tempo: 100\nnotes: C4 D4\n" * 9, chance, True) for _ in range(20)]

    assert made(1) == made(1) != made(2)
