"""Songs of any length through windows of a fixed one: where they lie, how they are joined.

Windows of a stretch that is to be generated overlap. A window is given what its left neighbour has
made in the overlap, but for the last `fade` samples: both generate those, and there the two are
cross-faded. Windows of different stretches do not depend on each other and are generated together;
so are all windows of a plan that is not chained.
Memory does not grow with the song. Shapes: C channels, S samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

# read(start, stop) -> known (C, stop − start), is_known (C, stop − start) bool
Read = Callable[[int, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Window:
    """Samples [start, stop) of the song, to be generated after the window `left`."""

    index: int  # place in the plan
    region: tuple[int, int]  # the stretch of the song, [start, stop), that it is a part of
    start: int
    stop: int  # may lie behind the song's end
    left: int | None  # index of the left neighbour in the same region, if any


@dataclass(frozen=True)
class Job:
    """One window with what is known of it, for the generator."""

    window: Window
    known: Tensor  # (C, S); only its known elements are meant
    is_known: Tensor  # (C, S) bool


Generate = Callable[[Sequence[Job]], Sequence[Tensor]]


# ---------------------------------------------------------------------------- plan


def merge_ranges(
    ranges: Sequence[tuple[int, int]], length: int, distance: int = 0
) -> list[tuple[int, int]]:
    """Sort ranges [start, stop) and merge those nearer than `distance`."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted(ranges):
        if not 0 <= start < stop <= length:
            raise ValueError(
                f"range {start}-{stop} of a song of {length} samples: expected "
                f"0 <= start < stop <= {length}"
            )
        if merged and start - merged[-1][1] < distance:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def region_starts(
    region: tuple[int, int], earliest: int, length: int, window: int, overlap: int, align: int
) -> list[int]:
    """Place the windows of one region at multiples of `align`, none before `earliest`.

    One window where half an overlap fits on either side, else a chain that hears a whole overlap
    before and behind the region, as far as the song goes. All in samples.
    """
    start, stop = region
    if start == 0 or stop - start + max(overlap, 2 * align) > window:  # a chain between overlaps
        first = max(earliest, (start - overlap) // align * align)
        hop = window - overlap
        count = 1 + max(0, math.ceil((min(stop + overlap, length) - first - window) / hop))
        return [first + i * hop for i in range(count)]
    centred = min((start + stop - window) // 2, length - window) // align * align
    if centred + window < stop:  # rounding down lost the end: reach behind the song instead
        centred += align
    return [max(earliest, centred)]


def plan_windows(
    length: int,
    window: int,
    overlap: int,
    ranges: Sequence[tuple[int, int]] | None = None,
    align: int = 1,
    chained: bool = True,
) -> list[Window]:
    """Plan windows that cover `ranges` (default: all) of a song of `length` samples.

    A range that fits into a window less an overlap has one window around it. length, window,
    overlap and the ranges [start, stop) are in samples. `align`: starts are multiples
    of it (a spectrogram's hop). `chained`: a window waits for its left neighbour and is given what
    that made of the overlap. A last window may end behind the song. Ranges nearer to each other
    than `overlap` are planned as one. ValueError for sizes that cannot work and ranges outside.
    """
    if length < 1 or not 0 <= overlap <= window // 2 or (window - overlap) % align:
        raise ValueError(
            f"length = {length}, window = {window}, overlap = {overlap}, align = {align}: expected "
            "a song, an overlap of at most half a window, and a hop that is a multiple of align"
        )
    plan: list[Window] = []
    earliest = 0
    ranges = [(0, length)] if ranges is None else ranges
    for region in merge_ranges(ranges, length, max(overlap, align)):
        starts = region_starts(region, earliest, length, window, overlap, align)
        for i, start in enumerate(starts):
            index = len(plan)
            left = index - 1 if i and chained else None
            plan.append(Window(index, region, start, start + window, left))
        earliest = -(-region[1] // align) * align
    return plan


def batches(plan: Sequence[Window], batch_size: int) -> Iterator[list[Window]]:
    """Order the plan so that left neighbours come first, at most `batch_size` windows at a time.

    Looks only a little ahead, so what has to be kept in memory is bounded by the batch.
    """
    pending = list(plan)
    done: set[int | None] = {None}  # a window without a left neighbour is ready at once
    while pending:
        ahead = pending[: 2 * batch_size + 1]
        ready = [window for window in ahead if window.left in done][:batch_size]
        yield ready
        done.update(window.index for window in ready)
        pending = [window for window in pending if window.index not in done]


# ---------------------------------------------------------------------------- seams


def cross_fade(first: Tensor, second: Tensor) -> Tensor:
    """Fade from `first` to `second` over all of their samples (C, S) at equal power.

    Gains cos and sin, which keep the power of unlike signals, divided by what the sum of alike
    ones would gain: √(1 + 2·cos·sin·r) for the correlation r ≥ 0 of each channel. Equal signals
    pass unchanged in level.
    """
    samples = first.shape[-1]
    angle = (torch.arange(samples, device=first.device, dtype=first.dtype) + 0.5) / samples
    out, into = torch.cos(0.5 * math.pi * angle), torch.sin(0.5 * math.pi * angle)
    power = (first.square().sum(-1) * second.square().sum(-1)).sqrt()
    alike = ((first * second).sum(-1) / power.clamp_min(1e-12)).clamp(0, 1)[:, None]  # (C, 1)
    return (out * first + into * second) / (1 + 2 * out * into * alike).sqrt()


def seam(left: Window, fade: int) -> tuple[int, int]:
    """Return the samples [start, stop) that a window and its right neighbour both generate."""
    return left.stop - fade, left.stop


def seam_roughness(wav: Tensor, position: int, reach: int = 8, neighbourhood: int = 512) -> float:
    """Compare second differences at a seam and around it (ratio of energies); a click is ≫ 1.

    wav (S,); the mean within `reach` samples of `position` over the mean within `neighbourhood`.
    """
    low, high = max(0, position - neighbourhood), min(len(wav), position + neighbourhood)
    energy = wav[low:high].double().diff(n=2).square()
    centre = position - low - 1
    at_seam = energy[max(0, centre - reach) : centre + reach]
    if at_seam.numel() == 0:
        raise ValueError(f"seam at {position} of a wav of {len(wav)} samples")
    return float(at_seam.mean() / energy.mean().clamp_min(1e-20))


# ---------------------------------------------------------------------------- songs


def read_from(known: Tensor, is_known: Tensor) -> Read:
    """Return the `Read` of tensors (C, S) in memory."""
    return lambda start, stop: (known[:, start:stop], is_known[:, start:stop])


def read_padded(read: Read, window: Window, length: int) -> tuple[Tensor, Tensor]:
    """Read a window; behind the song's end silence, known where the last sample is known."""
    known, is_known = read(window.start, min(window.stop, length))
    missing = window.stop - window.start - known.shape[-1]
    if missing == 0:
        return known.clone(), is_known.clone()
    silence = known.new_zeros(known.shape[0], missing)
    end = is_known[:, -1:].expand(-1, missing)
    return torch.cat([known, silence], 1), torch.cat([is_known, end], 1)


def make_job(
    window: Window,
    plan: Sequence[Window],
    done: dict[int, Tensor],
    read: Read,
    length: int,
    fade: int,
) -> Job:
    """Collect what is known of a window: the song's own samples and its left neighbour's."""
    known, is_known = read_padded(read, window, length)
    if window.left is not None:
        left = plan[window.left]
        stop = seam(left, fade)[0]
        here, there = slice(0, stop - window.start), slice(window.start - left.start, -fade or None)
        is_new = ~is_known[:, here]
        known[:, here] = torch.where(is_new, done[left.index][:, there], known[:, here])
        is_known[:, here] = True
    return Job(window, known, is_known)


def check_fade(plan: Sequence[Window], fade: int) -> None:
    """Raise ValueError if two windows cannot be joined over `fade` samples."""
    for left, right in pairwise(plan):
        if left.region == right.region and not 0 <= fade <= left.stop - right.start:
            raise ValueError(
                f"fade = {fade}: expected at most the {left.stop - right.start} samples of overlap"
            )


def inpaint_song(
    read: Read,
    length: int,
    plan: Sequence[Window],
    generate: Generate,
    fade: int,
    batch_size: int = 1,
) -> Iterator[Tensor]:
    """Yield the finished song in pieces (C, n) that add up to exactly `length` samples.

    fade: samples at the end of an overlap that both neighbours generate, and are cross-faded.
    read(start, stop) gives the known samples and their mask, everything outside the plan's regions
    must be known; `generate(jobs)` returns one (C, window) per job, its known elements unchanged.
    Known samples of the song come out bit by bit. Memory: a few windows, whatever the length.
    """
    check_fade(plan, fade)
    piece = plan[0].stop - plan[0].start if plan else 1 << 16
    position = turn = 0
    done: dict[int, Tensor] = {}

    def original(stop: int) -> Iterator[Tensor]:
        nonlocal position
        while position < stop:
            known, is_known = read(position, min(stop, position + piece))
            if not is_known.all():
                raise ValueError(f"samples from {position} on are unknown but in no window")
            yield known.clone()
            position += known.shape[-1]

    def generated(window: Window, stop: int) -> Iterator[Tensor]:
        nonlocal position
        if stop > position:
            yield done[window.index][:, position - window.start : stop - window.start].clone()
            position = stop

    def faded(left: Window, right: Window, start: int, stop: int) -> Iterator[Tensor]:
        nonlocal position
        if stop > position:
            pair = [done[w.index][:, start - w.start : stop - w.start] for w in (left, right)]
            known, is_known = read(start, stop)
            joined = torch.where(is_known, known, cross_fade(*pair))
            yield joined[:, position - start :]
            position = stop

    for batch in batches(plan, batch_size):
        jobs = [make_job(window, plan, done, read, length, fade) for window in batch]
        for job, x in zip(jobs, generate(jobs), strict=True):
            done[job.window.index] = x
        while turn < len(plan) and turn in done:
            window, following = plan[turn], plan[turn + 1] if turn + 1 < len(plan) else None
            if following is None or following.region != window.region:
                yield from original(window.region[0])
                yield from generated(window, window.region[1])
            elif following.index in done:
                fade_start, fade_stop = seam(window, fade)
                yield from original(window.region[0])
                yield from generated(window, fade_start)
                yield from faded(window, following, fade_start, fade_stop)
            else:
                break
            del done[turn]
            turn += 1
    yield from original(length)
