"""Relative drops and what is kept, against values derived by hand and another way of computing them."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from hybridir.evaluation.intervals import seed_interval
from hybridir.evaluation.retention import CHANCE, area, can_lose, log_retention, lower_end, relative_drop

CLUSTERS = np.array(["a", "a", "b", "b", "c", "d", "e", "e", "e", "f"])
STRATA = np.array(["x", "y", "x", "y", "x", "y", "x", "x", "y", "y"])
PLAIN = np.array([1, 0.5, 1, 1 / 3, 0.5, 0.25, 1, 0.5, 1, 0.5])
NOISY = np.array([0.5, 0.5, 1, 0.25, 0, 0.25, 0.5, 0.5, 1, 0.2])


def test_fieller_is_the_set_of_ratios_that_a_t_test_does_not_reject() -> None:
    """Solved numerically: |mean(noisy - r plain)| = t * standard error, over six clusters with one question each."""
    plain, noisy = np.array([1, 0.5, 1, 1 / 3, 0.5, 0.25]), np.array([0.5, 0.5, 1, 0.25, 0.2, 0.25])
    t = stats.t.ppf(0.975, 5)

    def beyond(r: float) -> float:
        rest = noisy - r * plain
        return abs(rest.mean()) - t * rest.std(ddof=1) / math.sqrt(6)

    ratio = noisy.mean() / plain.mean()
    low, high = optimize.brentq(beyond, 0, ratio), optimize.brentq(beyond, ratio, 2)
    found = relative_drop(plain, noisy, ["x"] * 6, list("abcdef"))
    assert found.interval is not None
    assert found.value == pytest.approx(1 - ratio, rel=1e-12)
    assert found.interval == pytest.approx((1 - high, 1 - low), rel=1e-9)


def test_the_drop_is_of_macro_means() -> None:
    # x: plain (1 + 1 + .5 + 1 + .5) / 5 = .8, noisy .5; y: (.5 + 1/3 + .25 + 1 + .5) / 5, noisy (.5+.25+.25+1+.2) / 5
    plain, noisy = (0.8 + (2.25 + 1 / 3) / 5) / 2, (0.5 + 2.2 / 5) / 2
    found = relative_drop(PLAIN, NOISY, STRATA, CLUSTERS)
    assert found.value == pytest.approx(1 - noisy / plain, rel=1e-12)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]  # type: ignore[operator]


def test_no_drop_is_certain_and_nothing_is_not_determined() -> None:
    assert relative_drop(PLAIN, PLAIN, STRATA, CLUSTERS).interval == pytest.approx((0, 0), abs=1e-7)
    assert relative_drop(0 * PLAIN, 0 * PLAIN, STRATA, CLUSTERS) == (None, None)
    one = np.array([1.0, 0, 0, 0, 0, 0])  # not clearly above 0: the interval has no end
    found = relative_drop(one, 0.5 * one, ["x"] * 6, list("abcdef"))
    assert (found.value, found.interval) == (0.5, None)


def test_where_there_is_nothing_to_lose() -> None:
    assert pytest.approx(2.928968, abs=1e-6) == CHANCE
    values, clusters = np.array([0.4, 0.6, 0.5, 0.5]), list("abcd")
    # mean .5, standard deviation sqrt(.02 / 3), t of 3 degrees of freedom 3.18245
    assert lower_end(values, ["x"] * 4, clusters) == pytest.approx(0.5 - 3.182446 * math.sqrt(0.02 / 3) / 2, rel=1e-6)
    assert can_lose(values, ["x"] * 4, clusters, 1000)
    assert not can_lose(values, ["x"] * 4, clusters, 20)  # 3 * 2.93 / 20 = .44 is above the lower end .37
    assert not can_lose(values / 11, ["x"] * 4, clusters, 10**6)  # below .05


def test_log_retention_is_the_difference_of_logarithms_with_the_spread_of_the_delta_method() -> None:
    other_plain, other_noisy = PLAIN[::-1].copy(), 0.9 * PLAIN[::-1]
    found = log_retention(PLAIN, NOISY, other_plain, other_noisy, ["x"] * 10)
    assert found.mean() == pytest.approx(math.log(NOISY.mean() / PLAIN.mean()) - math.log(0.9), rel=1e-12)
    # the gradient of the difference: 1 / mean of each; so the spread is that of these sums
    expected = NOISY / NOISY.mean() - PLAIN / PLAIN.mean()  # of the other, noisy / its mean = plain / its mean
    assert found - found.mean() == pytest.approx(expected - expected.mean(), abs=1e-12)
    assert seed_interval(found[None], ["x"] * 10, CLUSTERS).difference == pytest.approx(found.mean())
    assert np.isnan(log_retention(PLAIN, 0 * NOISY, PLAIN, NOISY, ["x"] * 10)).all()


def test_area_is_the_mean_height_of_the_curve() -> None:
    # (0.1 * (1 + .6) / 2 + 0.3 * (.6 + .2) / 2) / 0.4 = (.08 + .12) / .4
    assert area({0.0: np.array([1.0]), 0.4: np.array([0.2]), 0.1: np.array([0.6])}) == pytest.approx([0.5])
