"""Streams of random numbers depend on what is drawn, and on nothing else."""

from __future__ import annotations

import itertools
import zlib

import numpy as np
import torch

from utils.seeds import derived_seed, numpy_generator, torch_generator


def test_equal_parts_give_equal_streams_and_neighbours_unrelated_ones() -> None:
    def draw(*parts: int | str) -> torch.Tensor:
        return torch.randn(2000, generator=torch_generator(*parts))

    assert torch.equal(draw(1, 2, "noise"), draw(1, 2, "noise"))
    places = itertools.product(range(3), range(3), ("noise", "mask"))
    draws = torch.stack([draw(*place) for place in places])
    correlation = torch.corrcoef(draws) - torch.eye(len(draws))
    assert correlation.abs().max() < 5 / 2000**0.5


def test_the_order_of_parts_counts() -> None:
    assert derived_seed(1, 2) != derived_seed(2, 1)
    assert derived_seed(1, "a") != derived_seed("a", 1)


def test_numbers_stay_those_of_shipped_renderings() -> None:
    """A seed of integers is numpy's own; text enters as its CRC-32."""
    ours, numpys = numpy_generator(3, 14), np.random.default_rng([3, 14])
    assert np.array_equal(ours.random(5), numpys.random(5))
    ours = numpy_generator(3, "song")
    assert np.array_equal(ours.random(5), np.random.default_rng([3, zlib.crc32(b"song")]).random(5))
    state = np.random.SeedSequence([1, 2]).generate_state(1, np.uint64)[0]
    assert torch_generator(1, 2).initial_seed() == int(state) == derived_seed(1, 2)


def test_a_negative_seed_is_a_seed() -> None:
    assert derived_seed(-1, 0) != derived_seed(1, 0)
