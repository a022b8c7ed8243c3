"""How sure a number is: bootstrap intervals over items, of means, ratios and paired differences.

Items of one group (phrases of one song) are drawn together: they are no independent evidence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RESAMPLINGS = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its bootstrap interval, and of how many items; NaN when there is none."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    def as_dict(self) -> dict[str, float | int | None]:
        """Plain values for JSON, which has no NaN."""
        return {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in asdict(self).items()
        }


def _weights(groups: Sequence[object], seed: int) -> np.ndarray:
    """How often each resampling draws each item, (RESAMPLINGS, items)."""
    _, group = np.unique([str(name) for name in groups], return_inverse=True)
    random = np.random.default_rng(seed)
    size = int(group.max()) + 1
    drawn = random.integers(size, size=(RESAMPLINGS, size))
    counts = np.stack([np.bincount(row, minlength=size) for row in drawn])
    return counts[:, group]


def _interval(value: float, resampled: np.ndarray, count: int) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    resampled = resampled[np.isfinite(resampled)]
    if not len(resampled):
        return Estimate(value, float("nan"), float("nan"), count)
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), count)


def of_sets(
    statistic: Callable[[np.ndarray], float], groups: Sequence[object], seed: int = 0
) -> np.ndarray:
    """A number that belongs to a whole set of items, then that of each resampling of the set.

    statistic(weights (items,)) of the set in which item i stands weights[i] times; groups: of each
    item. Differences of two such arrays, for `estimate`, are paired.
    """
    weights = [np.ones(len(groups)), *_weights(groups, seed)]
    return np.array([statistic(times) for times in weights])  # (1 + RESAMPLINGS,)


def estimate(values: np.ndarray, count: int) -> Estimate:
    """The first of the values of `of_sets` with the 95 % interval of the others."""
    return _interval(float(values[0]), values[1:], count)


def ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    groups: Sequence[object] | None = None,
    seed: int = 0,
) -> Estimate:
    """Σ numerators / Σ denominators over items, and its 95 % interval.

    Items of which either is NaN are left out of both; groups: the group of each item, each item its
    own when None. NaN for no item, or denominators that sum to 0.
    """
    pair = np.array([numerators, denominators], dtype=float)
    valid = ~np.isnan(pair).any(0)
    groups = range(pair.shape[1]) if groups is None else groups
    kept = [group for group, is_valid in zip(groups, valid, strict=True) if is_valid]
    pair = pair[:, valid]
    if not kept or pair[1].sum() == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), len(kept))
    weights = _weights(kept, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = (weights @ pair[0]) / (weights @ pair[1])
    return _interval(float(pair[0].sum() / pair[1].sum()), resampled, len(kept))


def mean(
    values: Sequence[float], groups: Sequence[object] | None = None, seed: int = 0
) -> Estimate:
    """Mean of values over items and its 95 % interval; NaN items are left out."""
    values = np.asarray(values, dtype=float)
    return ratio(values, np.ones(len(values)), groups, seed)


def median(
    values: Sequence[float], groups: Sequence[object] | None = None, seed: int = 0
) -> Estimate:
    """Median of values over items and its 95 % interval; NaN items are left out."""
    values = np.asarray(values, dtype=float)
    valid = ~np.isnan(values)
    groups = range(len(values)) if groups is None else groups
    kept = [group for group, is_valid in zip(groups, valid, strict=True) if is_valid]
    if not kept:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    order = np.argsort(values[valid], kind="stable")
    ordered = values[valid][order]
    weights = _weights(kept, seed)[:, order].cumsum(1)
    middle = (weights < weights[:, -1:] / 2).sum(1)
    return _interval(float(np.median(ordered)), ordered[middle], len(kept))


@dataclass(frozen=True)
class PairedTest:
    """Mean of a - b over items, its interval, and how likely one so far from 0 is by chance."""

    difference: Estimate
    p_value: float  # two-sided, by flipping the signs of whole groups

    def __str__(self) -> str:
        d = self.difference
        return f"{d.value:+.4f} [{d.low:.4f}, {d.high:.4f}], p = {self.p_value:.4f}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"difference": self.difference.as_dict(), "p_value": self.p_value}


def paired_test(
    a: Sequence[float],
    b: Sequence[float],
    groups: Sequence[object] | None = None,
    seed: int = 0,
) -> PairedTest:
    """Do two ways of doing the same items differ? Randomisation test of the paired differences.

    The p-value is (1 + flips at least as far from 0) / (1 + flips) (Davison & Hinkley 1997,
    section 4.3). Raises ValueError for unequal lengths.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} items: a paired test needs the same items")
    difference = np.asarray(a, dtype=float) - np.asarray(b, dtype=float)
    estimate = mean(difference, groups, seed)
    valid = ~np.isnan(difference)
    if not valid.any():
        return PairedTest(estimate, float("nan"))
    names = list(range(len(difference)) if groups is None else groups)
    kept = [str(name) for name, is_valid in zip(names, valid, strict=True) if is_valid]
    _, group = np.unique(kept, return_inverse=True)
    sums = np.bincount(group, weights=difference[valid])  # of each group
    signs = np.random.default_rng(seed).integers(2, size=(RESAMPLINGS, len(sums))) * 2 - 1
    further = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12
    return PairedTest(estimate, float((1 + further.sum()) / (1 + RESAMPLINGS)))
