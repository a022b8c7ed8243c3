"""The rhythm of a phrase, sampled exactly from counted places, durations and stresses.

A phrase of N syllables is a path of onsets through W slots (sixteenths): its probability is that of
its first place, of each distance given the place it is from, of each stress on its place, and of
the last duration. Backward messages make sampling exact under the bounds (forward filtering,
backward sampling, in reverse); `temperature` sharpens it towards the likeliest rhythm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.counts import MAX_DURATION, strength
from composer.layout import SLOTS_PER_BEAT, Grid, PlacedLine, wanted_density

if TYPE_CHECKING:
    from hyperparams import Composer

SMOOTHING = 0.2  # counts added to everything
START_REACH = 1.25  # bars behind the earliest slot in which a phrase must have begun


def log_share(counts: np.ndarray) -> np.ndarray:
    """Return the log of smoothed shares along the last axis."""
    counts = counts + SMOOTHING
    return np.log(counts / counts.sum(axis=-1, keepdims=True))


def draw(score: np.ndarray, rng: np.random.Generator) -> int:
    """Return an index drawn with log weights `score`; -inf is never drawn."""
    weights = np.exp(score - score.max())
    return int(rng.choice(len(score), p=weights / weights.sum()))


def distances(table: dict[str, Any], metre: int, density: float) -> np.ndarray:
    """Return log P(distance | place), (places, 16), tilted to a mean of 4 / density sixteenths.

    P'(d) ∝ P(d) exp(λ log d), the least change that moves the mean; λ by bisection.
    """
    counts = table["duration"][str(metre)]
    visits = counts.sum(axis=1) / counts.sum()
    base, log_d = log_share(counts), np.log(np.arange(1, MAX_DURATION + 1))
    low, high = -6.0, 6.0
    for _ in range(25):
        tilt = (low + high) / 2
        tilted = base + tilt * log_d
        tilted -= np.logaddexp.reduce(tilted, axis=1, keepdims=True)
        mean = float(visits @ (np.exp(tilted) @ np.exp(log_d)))
        low, high = (tilt, high) if mean < SLOTS_PER_BEAT / density else (low, tilt)
    return tilted


def stress_lift(table: dict[str, Any], stresses: Sequence[int], metre: int) -> np.ndarray:
    """Return log P(stress | strength of place) - log P(stress), (N, places)."""
    given = log_share(table["stress"])  # (strength, stress)
    lift = given - log_share(table["stress"].sum(axis=0))
    strengths = [strength(place, metre) for place in range(metre * SLOTS_PER_BEAT)]
    return lift[strengths][:, np.minimum(stresses, 1)].T


def sample_rhythm(
    phrase: PlacedLine,
    stresses: Sequence[int],
    grid: Grid,
    table: dict[str, Any],
    knobs: Composer,
    rng: np.random.Generator,
    reference: Sequence[int] = (),
    agreement: float = 0.0,
) -> list[int]:
    """Return the onset slots of the syllables and, last, the slot where the phrase ends (N + 1).

    `reference`: onsets from the first bar of an earlier phrase; one that is met again earns
    `agreement` (log units). The caller leaves room for every syllable.
    """
    metre, count = grid.harmony.metre, len(stresses)
    shortest = grid.shortest_slots
    slots = np.arange(phrase.first, phrase.end + 1)
    places = slots % grid.slots_per_bar
    width = len(slots)
    emission = knobs.stress_weight * stress_lift(table, stresses, metre)[:, places]  # (N, W)
    emission = emission + agreement * np.isin(slots - phrase.bar, reference)
    step = distances(table, metre, _density(phrase, grid, knobs))[places]  # (W, 16)
    step[:, : shortest - 1] = -np.inf
    final = np.tile(log_share(table["final_duration"]), (width, 1))  # (W, 16)
    final[:, : shortest - 1] = -np.inf

    reach = np.arange(width)[:, None] + np.arange(1, MAX_DURATION + 1)  # (W, 16)
    is_inside = reach < width
    reach = np.minimum(reach, width - 1)
    message = np.full((count, width), -np.inf)  # all that follows syllable n at a slot
    ends = np.where(is_inside, final, -np.inf) / knobs.temperature
    message[-1] = emission[-1] / knobs.temperature + _log_sum(ends)
    for index in range(count - 2, -1, -1):
        onward = np.where(is_inside, step / knobs.temperature + message[index + 1][reach], -np.inf)
        message[index] = emission[index] / knobs.temperature + _log_sum(onward)

    start = log_share(table["start"][str(metre)])[places] / knobs.temperature + message[0]
    start = _within_reach(start, phrase, grid)
    assert np.isfinite(start).any(), "the layout left no room for the syllables"
    path = [draw(start, rng)]
    for index in range(1, count):
        at = path[-1]
        onward = step[at] / knobs.temperature + message[index][reach[at]]
        path.append(int(reach[at, draw(np.where(is_inside[at], onward, -np.inf), rng)]))
    path.append(int(reach[path[-1], draw(ends[path[-1]], rng)]))
    return [int(slots[index]) for index in path]


def _within_reach(start: np.ndarray, phrase: PlacedLine, grid: Grid) -> np.ndarray:
    """Return the weights (W,) of the first onset where it may be: at its time, or near the bar."""
    if phrase.is_timed:
        return np.where(np.arange(len(start)) == 0, start, -np.inf)
    limit = phrase.bar - phrase.first + round(START_REACH * grid.slots_per_bar)
    early = np.where(np.arange(len(start)) <= limit, start, -np.inf)
    return early if np.isfinite(early).any() else start


def _density(phrase: PlacedLine, grid: Grid, knobs: Composer) -> float:
    """Return the syllables per beat that fill the phrase, no slower than half of those wanted."""
    filling = SLOTS_PER_BEAT * (len(phrase.line.syllables) + 1) / (phrase.end - phrase.bar)
    return max(filling, wanted_density(grid, knobs) / 2)


def _log_sum(scores: np.ndarray) -> np.ndarray:
    """Return log Σ exp over the last axis, -inf where all are."""
    return np.logaddexp.reduce(scores, axis=-1)
