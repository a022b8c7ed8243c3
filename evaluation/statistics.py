"""Bootstrap intervals over items, of means, ratios and paired differences.

Items of one group (phrases of one song) are drawn together: they are not independent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

RESAMPLINGS = 2000
CONFIDENCE = 0.95

Numbers = Sequence[float] | np.ndarray


@dataclass(frozen=True)
class Estimate:
    """A number, its 95 % bootstrap interval and its number of items; NaN without an item."""

    value: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"

    def as_dict(self) -> dict[str, float | int | None]:
        """Return plain values for JSON, which has no NaN."""
        return {
            name: None if isinstance(value, float) and np.isnan(value) else value
            for name, value in asdict(self).items()
        }


def _weights(groups: Sequence[object], seed: int) -> np.ndarray:
    """Draw groups with replacement; return how often each item is drawn, (RESAMPLINGS, items)."""
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
    """Evaluate a statistic of the whole set of items, then of each resampling of the set.

    statistic(weights (items,)): of the set that contains item i weights[i] times; groups: of each
    item. Returns (1 + RESAMPLINGS,). Differences of two such arrays are paired; see `estimate`.
    """
    weights = [np.ones(len(groups)), *_weights(groups, seed)]
    return np.array([statistic(times) for times in weights])


def estimate(values: np.ndarray, count: int) -> Estimate:
    """Return the first value of `of_sets` with the 95 % interval of the others."""
    return _interval(float(values[0]), values[1:], count)


def ratio(
    numerators: Numbers,
    denominators: Numbers,
    groups: Sequence[object] | None = None,
    seed: int = 0,
) -> Estimate:
    """Estimate Σ numerators / Σ denominators over items.

    Items of which either is NaN are left out. groups: the group of each item; None: each item is
    its own. NaN for no item, or denominators that sum to 0.
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


def mean(values: Numbers, groups: Sequence[object] | None = None, seed: int = 0) -> Estimate:
    """Estimate the mean over items; NaN items are left out."""
    return ratio(values, np.ones(len(values)), groups, seed)


def median(values: Numbers, groups: Sequence[object] | None = None, seed: int = 0) -> Estimate:
    """Estimate the median over items; NaN items are left out."""
    numbers = np.asarray(values, dtype=float)
    valid = ~np.isnan(numbers)
    groups = range(len(numbers)) if groups is None else groups
    kept = [group for group, is_valid in zip(groups, valid, strict=True) if is_valid]
    if not kept:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    order = np.argsort(numbers[valid], kind="stable")
    ordered = numbers[valid][order]
    weights = _weights(kept, seed)[:, order].cumsum(1)
    middle = (weights < weights[:, -1:] / 2).sum(1)
    return _interval(float(np.median(ordered)), ordered[middle], len(kept))


@dataclass(frozen=True)
class PairedTest:
    """Mean of a - b over items, its interval, and its p-value under a mean of 0."""

    difference: Estimate
    p_value: float  # two-sided, by flipping the signs of whole groups

    def __str__(self) -> str:
        d = self.difference
        return f"{d.value:+.4f} [{d.low:.4f}, {d.high:.4f}], p = {self.p_value:.4f}"

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"difference": self.difference.as_dict(), "p_value": self.p_value}


def paired_test(
    a: Numbers, b: Numbers, groups: Sequence[object] | None = None, seed: int = 0
) -> PairedTest:
    """Test by randomisation whether the paired differences of the same items have a mean of 0.

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
