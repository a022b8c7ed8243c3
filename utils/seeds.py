"""Random generators that are pure functions of (seed, what is drawn): one scheme for all draws.

A seed is hashed from its parts by numpy's SeedSequence, so that neighbouring parts (item 3, item 4)
give unrelated streams. An item's draws then depend neither on its batch nor on what was drawn
before.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def seed_sequence(*parts: int | str) -> np.random.SeedSequence:
    """Return the seed sequence of `parts`, such as (seed, step, "noise"); text enters as CRC-32."""
    numbers = [zlib.crc32(p.encode()) if isinstance(p, str) else p % 2**64 for p in parts]
    return np.random.SeedSequence(numbers)


def derived_seed(*parts: int | str) -> int:
    """Return a 64-bit seed for torch.manual_seed."""
    return int(seed_sequence(*parts).generate_state(1, np.uint64)[0])


def torch_generator(*parts: int | str) -> torch.Generator:
    """Return a generator of torch on the CPU."""
    import torch

    return torch.Generator().manual_seed(derived_seed(*parts))


def numpy_generator(*parts: int | str) -> np.random.Generator:
    """Return a generator of numpy."""
    return np.random.default_rng(seed_sequence(*parts))
