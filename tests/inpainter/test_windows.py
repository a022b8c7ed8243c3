"""Windows over long songs: exact length, known samples, order, batches, memory, seams."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from inpainter.windows import (
    Job,
    batches,
    cross_fade,
    inpaint_song,
    merge_ranges,
    plan_windows,
    read_from,
    seam_roughness,
)

WINDOW, OVERLAP, FADE = 64, 16, 6


def noise_of(start: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(start))


def continuing(jobs: Sequence[Job]) -> list[Tensor]:
    """A stand-in for the sampler: each unknown sample is near the known one that is nearest."""
    out = []
    for job in jobs:
        x = job.known.clone()
        for channel in range(len(x)):
            where = job.is_known[channel].nonzero().flatten()
            time = torch.arange(x.shape[1])
            near = torch.zeros(x.shape[1])
            if len(where):
                nearest = where[(time[:, None] - where).abs().argmin(1)]
                near = x[channel][nearest]
            guess = near + 0.01 * noise_of(job.window.start, (x.shape[1],))
            x[channel] = torch.where(job.is_known[channel], x[channel], guess)
        out.append(x)
    return out


def song(length: int, ranges: list[tuple[int, int]] | None) -> tuple[Tensor, Tensor]:
    known = noise_of(7, (2, length))
    is_known = torch.ones(2, length, dtype=torch.bool)
    for start, stop in [(0, length)] if ranges is None else ranges:
        is_known[0, start:stop] = False
    return torch.where(is_known, known, torch.nan), is_known  # the unknown must never be read


def render(
    length: int,
    ranges: list[tuple[int, int]] | None = None,
    batch_size: int = 1,
    align: int = 1,
    overlap: int = OVERLAP,
    generate=continuing,
    chained: bool = True,
) -> Tensor:
    known, is_known = song(length, ranges)
    plan = plan_windows(length, WINDOW, overlap, ranges, align, chained)
    pieces = inpaint_song(read_from(known, is_known), length, plan, generate, FADE, batch_size)
    return torch.cat(list(pieces), 1)


@st.composite
def songs(draw: st.DrawFn) -> dict:
    length = draw(st.integers(1, 700))
    ranges = None
    if draw(st.booleans()):
        pairs = st.tuples(st.integers(0, length - 1), st.integers(1, 200))
        ranges = [(a, min(length, a + n)) for a, n in draw(st.lists(pairs, max_size=5))]
    return {
        "length": length,
        "ranges": ranges,
        "align": draw(st.sampled_from([1, 8])),
        "overlap": draw(st.sampled_from([8, OVERLAP, WINDOW // 2])),
        "batch_size": draw(st.integers(1, 5)),
        "chained": draw(st.booleans()),
    }


@settings(max_examples=120, deadline=None)
@given(songs())
def test_exact_length_known_samples_and_batches(case: dict) -> None:
    wav = render(**case)
    known, is_known = song(case["length"], case["ranges"])
    assert wav.shape == (2, case["length"])
    assert torch.equal(wav[is_known], known[is_known])
    assert torch.isfinite(wav).all()
    alone = render(**{**case, "batch_size": 1})
    assert torch.equal(wav, alone)


@settings(max_examples=120, deadline=None)
@given(songs())
def test_plan_covers_its_ranges_aligned_and_in_order(case: dict) -> None:
    length, ranges = case["length"], case["ranges"]
    plan = plan_windows(length, WINDOW, case["overlap"], ranges, case["align"], case["chained"])
    covered = torch.zeros(length + 2 * WINDOW, dtype=torch.bool)
    for window in plan:
        assert window.start % case["align"] == 0 and window.stop - window.start == WINDOW
        assert 0 <= window.start < length
        covered[window.start : window.stop] = True
    for start, stop in [(0, length)] if ranges is None else ranges:
        assert covered[start:stop].all()
    order = [w for batch in batches(plan, case["batch_size"]) for w in batch]
    assert sorted(w.index for w in order) == list(range(len(plan)))
    place = {w.index: i for i, w in enumerate(order)}
    assert all(place[w.left] < place[w.index] for w in plan if w.left is not None)


@pytest.mark.parametrize("stop", range(110, 160 + 6 * WINDOW, 3))
def test_a_part_hears_what_is_around_it(stop: int) -> None:
    """A window around it has half an overlap on either side at least, a chain a whole one."""
    start, length = 100, 100 + 8 * WINDOW
    plan = plan_windows(length, WINDOW, OVERLAP, [(start, stop)])
    heard = OVERLAP if len(plan) > 1 else OVERLAP // 2
    assert start - plan[0].start >= heard and plan[-1].stop - stop >= heard
    alone = plan_windows(stop, WINDOW, OVERLAP, [(start, stop)])  # to the end: nothing behind it
    assert len(alone) <= len(plan)


def test_independent_windows_are_made_together() -> None:
    chain = plan_windows(4000, WINDOW, OVERLAP)
    separate = plan_windows(4000, WINDOW, OVERLAP, [(i, i + 20) for i in range(0, 4000, 200)])
    assert [len(batch) for batch in batches(chain, 4)] == [1] * len(chain)
    assert len(list(batches(separate, 4))) == len(separate) / 4
    whole = plan_windows(4000, WINDOW, OVERLAP, chained=False)
    assert [(w.start, w.stop) for w in whole] == [(w.start, w.stop) for w in chain]
    assert len(list(batches(whole, 4))) == math.ceil(len(whole) / 4)


def test_a_window_sees_its_left_neighbour_except_the_fade() -> None:
    seen = {}

    def generate(jobs: Sequence[Job]) -> list[Tensor]:
        seen.update({job.window.index: job for job in jobs})
        return continuing(jobs)

    wav = render(300, generate=generate)
    first, middle = seen[0], seen[1]
    assert not first.is_known[0].any() and first.is_known[1].all()
    inside = middle.is_known[0].nonzero().flatten()
    prefix = OVERLAP - FADE
    assert inside.tolist() == [*range(prefix)]
    start = middle.window.start
    assert torch.equal(middle.known[0, :prefix], wav[0, start : start + prefix])


def test_known_neighbour_is_not_generated_again_outside_the_fade() -> None:
    """The faulty join, a later window overwriting the overlap, would change these samples."""
    calls = []

    def generate(jobs: Sequence[Job]) -> list[Tensor]:
        calls.extend(continuing(jobs))
        return calls[-len(jobs) :]

    wav = render(200, generate=generate)
    hop = WINDOW - OVERLAP
    assert torch.equal(wav[:, : 64 - FADE], calls[0][:, : 64 - FADE])
    assert torch.equal(wav[0, 64 : hop + 64 - FADE], calls[1][0, OVERLAP : 64 - FADE])


def test_memory_does_not_grow_with_the_song() -> None:
    """Between reading a sample and giving it out lies a bounded number of samples."""
    length = 100_000
    furthest, worst, position = 0, 0, 0

    def read(start: int, stop: int) -> tuple[Tensor, Tensor]:
        nonlocal furthest
        furthest = max(furthest, stop)
        return torch.zeros(2, stop - start), torch.tensor([[False], [True]]).expand(
            -1, stop - start
        )

    plan = plan_windows(length, WINDOW, OVERLAP)
    generate = lambda jobs: [job.known for job in jobs]  # noqa: E731
    for piece in inpaint_song(read, length, plan, generate, FADE, batch_size=3):
        worst = max(worst, furthest - position)
        position += piece.shape[1]
    assert position == length
    assert worst <= 9 * WINDOW


@pytest.mark.parametrize("alike", [0.0, 0.5, 1.0])
def test_cross_fade_keeps_the_power(alike: float) -> None:
    first = noise_of(1, (1, 100_000))
    second = alike * first + (1 - alike**2) ** 0.5 * noise_of(2, (1, 100_000))
    power = cross_fade(first, second).square().view(10, -1).mean(1)
    assert power.sub(1).abs().max() < 0.06
    if alike == 1.0:
        torch.testing.assert_close(cross_fade(first, first), first)


def test_seams_do_not_click() -> None:
    """A smooth signal in windows of different phase: cross-faded seams against hard cuts."""

    def tones(jobs: Sequence[Job]) -> list[Tensor]:
        out = []
        for job in jobs:
            time = job.window.start + torch.arange(4096)
            phase = float(noise_of(job.window.start, (1,)))
            wave = torch.sin(0.02 * time + phase)
            out.append(torch.where(job.is_known, job.known, wave.expand(2, -1)))
        return out

    length = 20_000
    known, is_known = torch.zeros(2, length), torch.tensor([[False], [True]]).expand(-1, length)
    plan = plan_windows(length, 4096, 1024)
    worst = {}
    for fade in (0, 1024):
        wav = torch.cat(
            list(inpaint_song(read_from(known, is_known), length, plan, tones, fade)), 1
        )
        edges = [p for w in plan[1:] for p in (w.start, w.start + 1024)]
        edges = [p for p in edges if p < length - 600]
        worst[fade] = max(seam_roughness(wav[0], p) for p in edges)
    assert worst[1024] < 3 < 20 < worst[0]


def test_seam_roughness_finds_a_click() -> None:
    wav = torch.from_numpy(np.sin(0.02 * np.arange(4000)))
    clicked = wav.clone()
    clicked[2000:] += 0.05
    assert seam_roughness(wav, 2000) < 2 < 10 < seam_roughness(clicked, 2000)


def test_errors_name_what_was_wrong() -> None:
    with pytest.raises(ValueError, match="50-40 of a song of 100"):
        merge_ranges([(50, 40)], 100)
    with pytest.raises(ValueError, match="90-110"):
        plan_windows(100, WINDOW, OVERLAP, [(90, 110)])
    with pytest.raises(ValueError, match="overlap = 40"):
        plan_windows(100, WINDOW, 40)
    known, is_known = song(300, None)
    plan = plan_windows(300, WINDOW, OVERLAP)
    with pytest.raises(ValueError, match="16 samples of overlap"):
        list(inpaint_song(read_from(known, is_known), 300, plan, continuing, 17))
    short = plan_windows(300, WINDOW, OVERLAP, [(0, 250)])
    with pytest.raises(ValueError, match="in no window"):
        list(inpaint_song(read_from(known, is_known), 300, short, continuing, FADE))


def test_overlapping_ranges_are_one() -> None:
    assert merge_ranges([(30, 60), (10, 40), (80, 90)], 100) == [(10, 60), (80, 90)]
    assert merge_ranges([(10, 20), (25, 30)], 100, distance=8) == [(10, 30)]
