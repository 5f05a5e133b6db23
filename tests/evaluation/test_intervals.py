"""Intervals over clusters, against hand values and against what is planted."""

import numpy as np
import pytest

from hybridir.evaluation import intervals as significance
from hybridir.evaluation.intervals import (
    detectable_difference,
    holm,
    macro_mean,
    macro_mean_interval,
    randomization_test,
    seed_interval,
)


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


def test_one_cluster_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least 2 clusters"):
        macro_mean_interval(np.ones(3), ["en"] * 3, ["a"] * 3)


def test_values_that_are_not_finite_are_refused() -> None:
    """A mean that leaves NaN out would hide a whole language."""
    with pytest.raises(ValueError, match="not finite"):
        macro_mean_interval(np.array([0.1, np.nan]), ["en", "de"], ["a", "b"])


def test_interval_does_not_depend_on_the_size_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values, strata, clusters = draw(np.random.default_rng(0), n_clusters=12)
    whole = macro_mean_interval(values[0], strata, clusters), randomization_test(values[0], strata, clusters)
    monkeypatch.setattr(significance, "_BLOCK", 100)
    assert (macro_mean_interval(values[0], strata, clusters), randomization_test(values[0], strata, clusters)) == whole


def test_strata_that_a_resample_leaves_empty_do_not_count() -> None:
    """Every resample holds "a" or "b" or both: 1, 3, or 2."""
    assert macro_mean_interval(np.array([1.0, 3.0]), ["en", "de"], ["a", "b"]) == (1, 3)


def test_interval_stays_in_the_range_of_the_measure() -> None:
    values = np.array([1.0] * 9 + [0.0])
    low, high = macro_mean_interval(values, ["en"] * 10, [str(n) for n in range(10)])
    assert 0 < low < 0.9 < high == 1


def test_standard_error_is_that_of_a_mean_of_cluster_means() -> None:
    means = np.random.default_rng(2).normal(size=30)
    error = np.std(means, ddof=1) / 30**0.5
    t = 2.04523 + 0.85419  # t of 29 degrees of freedom at .975 and .8, from a table
    for n in (1, 4):  # queries of a cluster
        found = detectable_difference(np.repeat(means, n), ["en"] * 30 * n, np.repeat(np.arange(30), n).tolist())
        assert found == pytest.approx(t * error, rel=0.06)  # 2,000 resamples


def test_randomization_by_hand() -> None:
    """Three clusters, all differences above 0: 2 of 8 patterns of signs are as far from 0, so p is 1/4."""
    p = randomization_test(np.array([0.1, 0.2, 0.3, 0.3]), ["en"] * 4, ["a", "b", "c", "c"])
    assert p == pytest.approx(0.25, abs=0.02)
    ten = [str(n) for n in range(10)]
    assert randomization_test(np.zeros(10), ["en"] * 10, ten) == 1
    # One pattern of 1,024 and its mirror: ties with the value seen count however they round.
    assert randomization_test(np.full(10, 0.1), ["en"] * 10, ten) == pytest.approx(2 / 1024, abs=0.0015)
    assert randomization_test(np.full(40, 0.1), ["en"] * 40, [str(n) for n in range(40)]) == 1 / 10_001


@pytest.mark.parametrize(
    ("p_values", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),  # .01 x 3; .03 x 2; .04 x 1, but not below the one before
        ([0.5, 0.6], [1, 1]),
        ([0.02], [0.02]),
        ([], []),
    ],
)
def test_holm_by_hand(p_values: list[float], adjusted: list[float]) -> None:
    assert holm(np.array(p_values)) == pytest.approx(adjusted)


# Several seeds


def test_few_seeds_give_the_interval_conditional_on_them() -> None:
    values, strata, clusters = draw(np.random.default_rng(3), n_clusters=20, n_seeds=4, of_seed=5)
    found = seed_interval(values, strata, clusters)
    assert found.over == "clusters"
    assert (found.low, found.high) == macro_mean_interval(values.mean(axis=0), strata, clusters)
    assert found.p == randomization_test(values.mean(axis=0), strata, clusters)


def test_seeds_that_differ_widen_it() -> None:
    """Clusters without spread: the t interval of the five seeds, 3 +- 2.776 sqrt(2.5 / 5)."""
    values = np.repeat([[1.0], [2.0], [3.0], [4.0], [5.0]], 8, axis=1)
    found = seed_interval(values, ["en", "de"] * 4, list("aabbccdd"))
    assert found.over == "clusters and seeds"
    assert (found.difference, found.low, found.high) == pytest.approx((3, 3 - 1.9632, 3 + 1.9632), abs=1e-3)
    assert found.p == pytest.approx(0.0132, abs=1e-3)  # t = 4.243 with 4 degrees of freedom
    assert found.detectable == pytest.approx((2.7764 + 0.9410) * 0.7071, abs=1e-3)


def test_seeds_that_agree_give_the_t_interval_of_clusters() -> None:
    """Cluster means 1 to 5 for every seed: the same numbers, with C in the place of K."""
    values = np.tile(np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], 2), (6, 1))
    found = seed_interval(values, ["en", "de"] * 5, list("aabbccddee"))
    assert (found.low, found.high) == pytest.approx((3 - 1.9632, 3 + 1.9632), abs=1e-3)


def test_no_difference_at_all() -> None:
    assert seed_interval(np.zeros((5, 4)), ["en"] * 4, list("aabb")) == (0, 0, 0, 1, 0, "clusters and seeds")


# Simulations: articles with several questions, each in several languages, whose scores depend on the article

TRUTH = 0.3
SEED_WORLDS = {  # effects of seed, cluster, and both
    "seeds": (0.5, 0.3, 0.3),
    "clusters": (0.02, 1, 0.1),
    "interaction": (0, 0.1, 2),
    "alike": (0.5, 1, 0.3),
}


def draw(
    random: np.random.Generator,
    n_clusters: int,
    n_seeds: int = 1,
    of_seed: float = 0,
    of_cluster: float = 1,
    of_both: float = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences [K, N] with mean `TRUTH`, language and article of each; 1 to 7 questions an article, 3 languages."""
    article = np.repeat(np.arange(n_clusters), random.integers(1, 8, size=n_clusters))
    question = np.repeat(np.arange(len(article)), 3)
    cluster = article[question]
    values = (
        TRUTH
        + of_seed * random.normal(size=(n_seeds, 1))
        + of_cluster * random.normal(size=n_clusters)[cluster]
        + of_both * random.normal(size=(n_seeds, n_clusters))[:, cluster]
        + 0.5 * random.normal(size=len(article))[question]
        + 0.3 * random.normal(size=(n_seeds, len(question)))
    )
    return values, np.tile(np.arange(3), len(article)), cluster


def test_clusters_hold_the_truth_and_query_rows_do_not() -> None:
    """48 articles, as XQuAD-R has; a row is a question in one language."""
    random = np.random.default_rng(0)
    held = held_by_rows = 0
    for seed in range(400):
        (values,), strata, clusters = draw(random, n_clusters=48)
        low, high = macro_mean_interval(values, strata, clusters)
        held += low <= TRUTH <= high
        if seed < 100:
            low, high = macro_mean_interval(values, strata, np.arange(len(values)))
            held_by_rows += low <= TRUTH <= high
    assert 0.93 <= held / 400 <= 0.97
    assert held_by_rows < 0.6 * 100


@pytest.mark.slow
@pytest.mark.parametrize("n_clusters", [10, 20])
@pytest.mark.parametrize("n_seeds", [5, 10])
@pytest.mark.parametrize("world", ["seeds", "clusters", "interaction", "alike"])
def test_seeds_with_few_clusters(world: str, n_seeds: int, n_clusters: int) -> None:
    random = np.random.default_rng(11)
    of_seed, of_cluster, of_both = SEED_WORLDS[world]
    held = 0
    for _ in range(4000):
        found = seed_interval(*draw(random, n_clusters, n_seeds, of_seed, of_cluster, of_both))
        held += found.low <= TRUTH <= found.high
    assert 0.93 <= held / 4000 <= 0.975


@pytest.mark.slow
@pytest.mark.parametrize(("n_clusters", "least"), [(10, 920), (20, 930), (48, 930)])
def test_few_clusters(n_clusters: int, least: int) -> None:
    """10 articles of 1 to 7 questions are at the border of what the interval is good for."""
    random = np.random.default_rng(n_clusters)
    held = 0
    for seed in range(1000):
        (values,), strata, clusters = draw(random, n_clusters)
        low, high = macro_mean_interval(values, strata, clusters, seed)
        held += low <= TRUTH <= high
    assert least <= held <= 970


@pytest.mark.parametrize("world", SEED_WORLDS)
def test_five_seeds_and_clusters_hold_the_truth(world: str) -> None:
    random = np.random.default_rng(5)
    of_seed, of_cluster, of_both = SEED_WORLDS[world]
    held = 0
    for _ in range(2000):
        found = seed_interval(*draw(random, 48, 5, of_seed, of_cluster, of_both))
        held += found.low <= TRUTH <= found.high
    assert 0.93 <= held / 2000 <= 0.97


def test_few_seeds_do_not_hold_the_truth_of_other_seeds() -> None:
    """Why `over` says "clusters": with three seeds that differ, the conditional interval misses the mean of all."""
    random = np.random.default_rng(6)
    held = 0
    for seed in range(200):
        found = seed_interval(*draw(random, 48, 3, of_seed=0.5, of_cluster=0.3), seed)
        held += found.low <= TRUTH <= found.high
    assert held < 0.7 * 200


def test_randomization_rejects_at_the_nominal_rate_and_the_detectable_with_80_percent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(significance, "ROUNDS", 999)
    random = np.random.default_rng(7)
    rejected = by_rows = found = 0
    for seed in range(1000):
        (values,), strata, clusters = draw(random, n_clusters=20)
        null = values - TRUTH
        rejected += randomization_test(null, strata, clusters, seed) <= 0.05
        if seed < 200:
            by_rows += randomization_test(null, strata, np.arange(len(null)), seed) <= 0.05
        difference = null + 0.715  # what `detectable_difference` says on average, below
        found += randomization_test(difference, strata, clusters, seed) <= 0.05
    assert 30 <= rejected <= 70
    assert by_rows > 0.3 * 200
    assert 750 <= found <= 850
    detectable = [detectable_difference(d[0], s, c) for d, s, c in (draw(random, 20) for _ in range(100))]
    assert np.mean(detectable) == pytest.approx(0.715, abs=0.03)
