"""Statistics per bin, exact and independent of the order of the work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from utils.audio import MIN_STANDARD_DEVIATION


@dataclass(frozen=True)
class Moments:
    """Count, mean and sum of squared deviations per bin, in float64."""

    count: int
    mean: np.ndarray  # (C,)
    deviation: np.ndarray  # (C,)

    @classmethod
    def of(cls, values: np.ndarray) -> Moments:
        """Measure (T, C)."""
        values = values.astype(np.float64)
        mean = values.mean(axis=0)
        return cls(len(values), mean, np.square(values - mean).sum(axis=0))

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both sets together (Chan et al. 1979)."""
        count = self.count + other.count
        difference = other.mean - self.mean
        mean = self.mean + difference * (other.count / count)
        between = np.square(difference) * (self.count * other.count / count)
        return Moments(count, mean, self.deviation + other.deviation + between)

    def statistics(self) -> dict[str, list[float]]:
        """Return {mean, std} as plain lists; no std is below MIN_STANDARD_DEVIATION."""
        std = np.sqrt(self.deviation / self.count)
        return {
            "mean": self.mean.tolist(),
            "std": np.maximum(std, MIN_STANDARD_DEVIATION).tolist(),
        }


def merge_into(total: dict[str, Moments], new: dict[str, Moments]) -> None:
    """Add the moments of one item to those of all, kind by kind."""
    for kind, moments in new.items():
        total[kind] = total[kind].merge(moments) if kind in total else moments
