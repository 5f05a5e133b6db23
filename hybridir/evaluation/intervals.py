"""Intervals and tests that resample clusters (articles, territories) with all their questions and translations.

Translations of a question are not independent samples, and neither are questions about one text. So whole clusters are
resampled, never single queries (the cluster bootstrap: Field and Welsh 2007, JRSS B 69). The statistic is always the
macro-mean: the mean over strata (languages, or pairs of languages) of the mean within each stratum. To compare two
systems, pass the paired differences as `values`.

Shapes: N values (one per query and setting), C clusters, S strata, K training seeds, B resamples, M tests.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from scipy.special import ndtr, stdtr, stdtrit

RESAMPLES = 2000
ROUNDS = 10_000  # of the randomisation test: a p of .05 is accurate to +-.004
LEVEL = 0.95
POWER = 0.8
MANY_SEEDS = 5  # from this number on, intervals hold for other seeds too
FEW_CLUSTERS = 10  # with fewer, intervals are too narrow: see `macro_mean_interval`

Labels = Sequence[str] | np.ndarray
"""The name of the stratum or cluster of each value."""

_BLOCK = 1 << 22  # most numbers in one block of resamples


class SeedInterval(NamedTuple):
    """A mean difference over seeds, its 95 % interval, two-sided p-value, and the detectable difference (see
    `detectable_difference`).

    `over` says what they hold for. "clusters": other texts, but the same trained models. "clusters and seeds": models
    trained with other seeds as well.
    """

    difference: float
    low: float
    high: float
    p: float
    detectable: float
    over: Literal["clusters", "clusters and seeds"]

    def as_dict(self) -> dict[str, Any]:
        """The entries of a row of `comparisons`."""
        return {
            "difference": self.difference,
            "interval": [self.low, self.high],
            "p": self.p,
            "detectable": self.detectable,
            "over": self.over,
        }


def macro_mean(values: np.ndarray, strata: Labels) -> float:
    """The mean over strata of the mean within each stratum."""
    _, stratum = np.unique(np.asarray(strata), return_inverse=True)
    return float(np.mean(np.bincount(stratum, weights=values) / np.bincount(stratum)))


def macro_mean_interval(values: np.ndarray, strata: Labels, clusters: Labels, seed: int = 0) -> tuple[float, float]:
    """95 % interval of `macro_mean` by the cluster bootstrap, with expanded percentiles (Hesterberg 2015, The American
    Statistician 69).

    The plain percentile interval is too narrow: by sqrt((C - 1) / C), and because it uses normal quantiles in place of
    Student's t. So the percentiles at Phi(-+ t_{.975, C-1} sqrt(C / (C - 1))) are taken. Unlike a t interval, the
    result stays within the range of the measure. In simulations with 3 to 39 questions per cluster, it covers the true
    value in 94 / 94 / 95 % of cases for 10 / 20 / 48 clusters (plain percentiles: 89 / 91 / 94 %), and in 91 / 92 /
    93 % if cluster effects are as skewed as an exponential variable. For 5 clusters it covers it in 92 %; for fewer
    clusters it is of little use.

    A stratum that is empty in a resample does not count in that resample.

    Args:
        values: [N], one per query and setting; `ValueError` if not finite.
        strata: the stratum of each value.
        clusters: the cluster of each value; `ValueError` if fewer than 2.
        seed: of the resampling.
    """
    (sums_CS,), counts_CS = _cells(values[None], strata, clusters)
    return _expanded_percentiles(_resampled(sums_CS, counts_CS, seed), len(sums_CS))


def detectable_difference(values: np.ndarray, strata: Labels, clusters: Labels, seed: int = 0) -> float:
    """The true difference that a two-sided test at .05 finds with 80 % power: (t_.975 + t_.8) x standard error.

    t has C - 1 degrees of freedom; the result is about 2.8 standard errors (Bloom 1995, Evaluation Review 19). A
    smaller difference may exist although the test does not find it. The result depends on the test set and on how much
    the difference varies between clusters, not on the observed difference. `values` are the paired differences;
    arguments and errors as in `macro_mean_interval`.
    """
    (sums_CS,), counts_CS = _cells(values[None], strata, clusters)
    return _detectable(_resampled(sums_CS, counts_CS, seed), len(sums_CS))


def randomization_test(values: np.ndarray, strata: Labels, clusters: Labels, seed: int = 0) -> float:
    """Two-sided p-value of the null hypothesis that the two systems are interchangeable within each cluster.

    Signs of whole clusters are flipped at random (Smucker, Allan and Carterette 2007, CIKM, with clusters in place of
    queries). p = (b + 1) / (m + 1) if b of m rounds have a macro-mean at least as far from 0 as the observed one
    (Phipson and Smyth 2010: never 0, and not too small). Few clusters have few patterns of signs: p is at least about
    2^(1 - C). `values` are the paired differences; arguments and errors as in `macro_mean_interval`.
    """
    (sums_CS,), counts_CS = _cells(values[None], strata, clusters)
    return _randomized_p(sums_CS, counts_CS, seed)


def _randomized_p(sums_CS: np.ndarray, counts_CS: np.ndarray, seed: int) -> float:
    share_C = (sums_CS / counts_CS.sum(axis=0)).mean(axis=1)  # the macro-mean is their sum
    seen = np.abs(share_C.sum()) - 1e-12 * np.abs(share_C).sum()  # so that ties count in any order of summation
    blocks = _blocks(_signs, ROUNDS, len(share_C), len(share_C), seed)
    beyond = sum(int(np.sum(np.abs(sign_BC @ share_C) >= seen)) for sign_BC in blocks)
    return (beyond + 1) / (ROUNDS + 1)


def holm(p_values: np.ndarray) -> np.ndarray:
    """[M]: p-values adjusted for M tests. If those of at most .05 count as findings, the probability of any false
    finding is at most .05, whatever the dependence between tests.

    The i-th smallest p (from 0) is multiplied by M - i; an adjusted value is never below the previous one nor above 1
    (Holm 1979, Scandinavian Journal of Statistics 6).
    """
    order = np.argsort(p_values)
    adjusted = np.empty(len(order))
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * np.asarray(p_values, dtype=float)[order]))
    return adjusted


def seed_interval(differences_KN: np.ndarray, strata: Labels, clusters: Labels, seed: int = 0) -> SeedInterval:
    """The difference of two systems trained with the same K seeds, with a 95 % interval.

    Fewer than 5 seeds: interval and p are for the mean over exactly these seeds (`macro_mean_interval`,
    `randomization_test`), and `over` is "clusters". So few seeds say nothing reliable about other seeds.

    5 or more: with seed effects A_k, cluster effects B_c and their interaction E_kc, the mean has the variance
    sA^2/K + sB^2/C + sE^2/(KC). It is estimated from two variances: that of the per-seed differences, divided by K,
    with expectation sA^2/K + sE^2/(KC), and that of the seed mean over clusters, with sB^2/C + sE^2/(KC). Their sum
    counts sE^2/(KC) twice. So sE^2/(KC), estimated from the residuals of seeds x clusters, is subtracted from the
    second, which is then at least 0 (two-way analysis of variance; Cameron, Gelbach and Miller 2011, JBES 29, for
    two-way clusters). The t interval has Satterthwaite's degrees of freedom (1946, Biometrics Bulletin 2). It is
    symmetric, and can leave the range of the measure.

    In simulations with 5 and 10 seeds and 10, 20 and 48 clusters of unequal size, it covers the true value in 94 to
    95 % of cases, whether seeds, clusters, their interaction or nothing dominates; in 96 to 97 % if all is interaction.

    Args:
        differences_KN: [K, N], paired differences by seed, then query and setting; `ValueError` if not finite.
        strata: the stratum of each of the N.
        clusters: the cluster of each of the N; `ValueError` if fewer than 2.
        seed: of the resampling.
    """
    n_seeds = len(differences_KN)
    mean_N = np.mean(differences_KN, axis=0)
    difference = macro_mean(mean_N, strata)
    if n_seeds < MANY_SEEDS:
        (sums_CS,), counts_CS = _cells(mean_N[None], strata, clusters)
        resampled_B = _resampled(sums_CS, counts_CS, seed)
        low, high = _expanded_percentiles(resampled_B, len(sums_CS))
        p, detectable = _randomized_p(sums_CS, counts_CS, seed), _detectable(resampled_B, len(sums_CS))
        return SeedInterval(difference, low, high, p, detectable, "clusters")
    variance, freedom = _two_way_variance(differences_KN, strata, clusters)
    error = np.sqrt(variance)
    half = float(stdtrit(freedom, (1 + LEVEL) / 2) * error)
    p = float(2 * stdtr(freedom, -abs(difference) / error)) if error else float(difference == 0)
    detectable = half + float(stdtrit(freedom, POWER) * error)
    return SeedInterval(difference, difference - half, difference + half, p, detectable, "clusters and seeds")


def _two_way_variance(differences_KN: np.ndarray, strata: Labels, clusters: Labels) -> tuple[float, float]:
    """The variance that `seed_interval` uses, and its degrees of freedom. The variance over clusters is a jackknife
    (CR3: MacKinnon, Nielsen and Webb 2023, arXiv 2301.04527), which is least affected by clusters of unequal size."""
    sums_KCS, counts_CS = _cells(differences_KN, strata, clusters)
    n_seeds, n_clusters, _ = sums_KCS.shape
    mean_K = _macro(sums_KCS.sum(axis=1), counts_CS.sum(axis=0))
    without_KC = _macro(sums_KCS.sum(axis=1, keepdims=True) - sums_KCS, counts_CS.sum(axis=0) - counts_CS)
    part_KC = (n_clusters - 1) / n_clusters * (mean_K[:, None] - without_KC)  # share of each cluster in its seed's mean
    correct = n_clusters / (n_clusters - 1)
    by_seed = float(np.var(mean_K, ddof=1)) / n_seeds
    by_cluster = correct * float(np.sum(part_KC.mean(axis=0) ** 2))
    residual_KC = part_KC - part_KC.mean(axis=0)
    both = correct * float(np.sum(residual_KC**2)) / (n_seeds * (n_seeds - 1))
    beyond = by_cluster - both  # the variance of the cluster effects alone
    variance, uncertainty = by_seed, by_seed**2 / (n_seeds - 1)
    if beyond > 0:
        variance += beyond
        uncertainty += by_cluster**2 / (n_clusters - 1) + both**2 / ((n_seeds - 1) * (n_clusters - 1))
    return variance, variance**2 / uncertainty if uncertainty else 1.0


def _cells(values_KN: np.ndarray, strata: Labels, clusters: Labels) -> tuple[np.ndarray, np.ndarray]:
    """Sums [K, C, S] and counts [C, S] of the values by cluster and stratum."""
    if not np.isfinite(values_KN).all():
        raise ValueError("values are not finite: leave out the queries for which the measure is not defined")
    names, stratum = np.unique(np.asarray(strata), return_inverse=True)
    units, unit = np.unique(np.asarray(clusters), return_inverse=True)
    if len(units) < 2:
        raise ValueError(f"an interval needs at least 2 clusters, but there are {len(units)}")
    cell = unit * len(names) + stratum
    shape = (len(units), len(names))
    sums = [np.bincount(cell, weights=values, minlength=shape[0] * shape[1]).reshape(shape) for values in values_KN]
    return np.stack(sums), np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(float)


def _macro(sums_S: np.ndarray, counts_S: np.ndarray) -> np.ndarray:
    """Macro-means [...] from sums [..., S] and counts [..., S]; empty strata do not count."""
    filled_S = counts_S > 0
    return np.sum(np.where(filled_S, sums_S, 0) / np.maximum(counts_S, 1), axis=-1) / filled_S.sum(axis=-1)


def _resampled(sums_CS: np.ndarray, counts_CS: np.ndarray, seed: int) -> np.ndarray:
    """[B]: macro-means of resamples of the clusters."""
    blocks = _blocks(_counts, RESAMPLES, len(sums_CS), max(sums_CS.shape), seed)
    return np.concatenate([_macro(drawn_BC @ sums_CS, drawn_BC @ counts_CS) for drawn_BC in blocks])


def _expanded_percentiles(resampled_B: np.ndarray, n_clusters: int) -> tuple[float, float]:
    t = stdtrit(n_clusters - 1, (1 - LEVEL) / 2)
    tail = float(ndtr(t * np.sqrt(n_clusters / (n_clusters - 1))))
    low, high = np.quantile(resampled_B, [tail, 1 - tail])
    return float(low), float(high)


def _detectable(resampled_B: np.ndarray, n_clusters: int) -> float:
    t = stdtrit(n_clusters - 1, [(1 + LEVEL) / 2, POWER])
    correction = np.sqrt(n_clusters / (n_clusters - 1))  # the bootstrap's standard error is too small without it
    return float(t.sum() * correction * np.std(resampled_B, ddof=1))


Draw = Callable[[np.random.Generator, int, int], np.ndarray]
"""(generator, rows B, clusters C) -> random weights of clusters, [B, C]."""


def _counts(random: np.random.Generator, rows: int, n_clusters: int) -> np.ndarray:
    """How often each cluster is in each resample."""
    chosen_BC = random.integers(n_clusters, size=(rows, n_clusters)) + n_clusters * np.arange(rows)[:, None]
    return np.bincount(chosen_BC.ravel(), minlength=rows * n_clusters).reshape(rows, -1).astype(float)


def _signs(random: np.random.Generator, rows: int, n_clusters: int) -> np.ndarray:
    return random.integers(0, 2, size=(rows, n_clusters), dtype=np.int8) * 2 - 1


def _blocks(draw: Draw, rows: int, n_clusters: int, width: int, seed: int) -> Iterable[np.ndarray]:
    """The rows in blocks, so that rows of `width` numbers stay small. A single block is kept for the next measure."""
    size = max(1, _BLOCK // width)
    if rows <= size:
        return [_drawn(draw, rows, n_clusters, seed)]
    random = np.random.default_rng(seed)
    return (draw(random, min(size, rows - first), n_clusters) for first in range(0, rows, size))


@lru_cache(maxsize=2)
def _drawn(draw: Draw, rows: int, n_clusters: int, seed: int) -> np.ndarray:
    return draw(np.random.default_rng(seed), rows, n_clusters)
