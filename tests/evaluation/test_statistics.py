"""Bootstrap intervals against known distributions, groups, and what is not a number."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from evaluation import statistics as bootstrap


def test_interval_of_a_mean_is_that_of_theory() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = bootstrap.mean(values)
    half = 1.96 * values.std(ddof=1) / 20
    assert found.value == pytest.approx(values.mean()) and found.count == 400
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_interval_of_a_median_covers_it_and_agrees_with_scipy() -> None:
    values = np.random.default_rng(1).exponential(1.0, 301)
    found = bootstrap.median(values)
    theirs = stats.bootstrap((values,), np.median, n_resamples=2000, method="percentile")
    assert found.value == np.median(values)
    assert found.low == pytest.approx(theirs.confidence_interval.low, abs=0.04)
    assert found.high == pytest.approx(theirs.confidence_interval.high, abs=0.04)


def test_a_ratio_is_of_sums_and_constant_when_proportional() -> None:
    found = bootstrap.ratio([1, 2, 6], [2, 4, 12])
    assert (found.value, found.low, found.high) == (0.5, 0.5, 0.5)
    assert bootstrap.ratio([1, 0], [1, 3]).value == 0.25


def test_items_of_a_group_are_no_independent_evidence() -> None:
    values = np.repeat(np.random.default_rng(2).normal(size=10), 20)
    alone = bootstrap.mean(values)
    grouped = bootstrap.mean(values, np.repeat(np.arange(10), 20).tolist())
    assert grouped.value == pytest.approx(alone.value)
    assert grouped.high - grouped.low > 3 * (alone.high - alone.low)


def test_what_is_no_number_is_left_out() -> None:
    assert bootstrap.mean([1.0, float("nan"), 3.0]).value == 2.0
    assert bootstrap.mean([1.0, float("nan"), 3.0]).count == 2
    nothing = bootstrap.mean([float("nan")])
    assert np.isnan(nothing.value) and nothing.count == 0
    assert nothing.as_dict() == {"value": None, "low": None, "high": None, "count": 0}
    assert bootstrap.median([]).count == 0
    assert np.isnan(bootstrap.ratio([1.0], [0.0]).value)
    one = bootstrap.mean([4.0])
    assert (one.value, one.low, one.high) == (4.0, 4.0, 4.0)


def test_a_paired_test_finds_what_is_there_and_nothing_else() -> None:
    random = np.random.default_rng(3)
    common, noise = random.normal(0, 10, 60), random.normal(0, 1, 60)
    found = bootstrap.paired_test(common + 1 + noise, common)
    assert found.p_value < 0.01 and found.difference.low > 0
    assert found.difference.value == pytest.approx(1 + noise.mean())
    assert bootstrap.paired_test(common, common).p_value == 1.0
    chance = [
        bootstrap.paired_test(random.normal(size=20), random.normal(size=20), seed=k).p_value
        for k in range(60)
    ]
    assert 0.25 < np.mean(chance) < 0.75  # uniform when nothing differs
    with pytest.raises(ValueError, match="3 and 2 items"):
        bootstrap.paired_test([1, 2, 3], [1, 2])
    assert np.isnan(bootstrap.paired_test([float("nan")], [1.0]).p_value)


def test_p_value_agrees_with_all_sign_flips() -> None:
    difference = np.array([0.5, 1.0, -0.2, 0.8, 0.3, 0.9, -0.1, 0.4])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    exact = np.mean(np.abs(signs @ difference) >= abs(difference.sum()) - 1e-12)
    found = bootstrap.paired_test(difference, np.zeros(8)).p_value
    assert found == pytest.approx(exact, abs=0.015)
