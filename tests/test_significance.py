"""Intervals over clusters, against hand values and against what is planted."""

import numpy as np
import pytest

from hybridir.significance import macro_mean, macro_mean_interval


def test_macro_mean_weighs_strata_equally() -> None:
    assert macro_mean(np.array([1.0, 1.0, 1.0, 0.0]), ["en", "en", "en", "de"]) == 0.5


def test_no_spread_no_width() -> None:
    low, high = macro_mean_interval(np.full(12, 0.25), ["en", "de"] * 6, [str(n // 2) for n in range(12)])
    assert low == pytest.approx(0.25)
    assert high == pytest.approx(0.25)


def test_copies_within_a_cluster_do_not_narrow_it() -> None:
    random = np.random.default_rng(0)
    once = random.normal(size=40)
    names = [f"article {n}" for n in range(40)]
    low, high = macro_mean_interval(once, ["en"] * 40, names)
    copied = macro_mean_interval(np.repeat(once, 9), ["en"] * 360, np.repeat(names, 9).tolist())
    assert copied == pytest.approx((low, high))
    as_if_independent = macro_mean_interval(np.repeat(once, 9), ["en"] * 360, [str(n) for n in range(360)])
    assert as_if_independent[1] - as_if_independent[0] < 0.5 * (high - low)


def test_covers_the_planted_mean() -> None:
    """Of 200 simulations with clusters of 10 dependent values, 95 % intervals hold the mean in about 95 %."""
    random = np.random.default_rng(1)
    held = 0
    clusters = [str(n) for n in range(60) for _ in range(10)]
    for seed in range(200):
        values = np.repeat(random.normal(size=60), 10) + 0.3 * random.normal(size=600)
        low, high = macro_mean_interval(values, ["en"] * 600, clusters, seed=seed)
        held += low <= 0 <= high
    assert 0.88 <= held / 200 <= 0.99


def test_one_cluster_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 clusters"):
        macro_mean_interval(np.ones(3), ["en"] * 3, ["a"] * 3)
