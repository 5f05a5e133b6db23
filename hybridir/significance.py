"""Intervals by resampling clusters (articles, territories), with all their questions and translations.

Translations of a question are not independent samples, nor are questions about one text, so query rows are never
resampled (Field and Welsh 2007: the cluster bootstrap).
"""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2000


def macro_mean(values: np.ndarray, strata: Sequence[str]) -> float:
    """The mean over strata of the mean within each."""
    _, stratum = np.unique(np.asarray(strata), return_inverse=True)
    return float(np.mean(np.bincount(stratum, weights=values) / np.bincount(stratum)))


def macro_mean_interval(
    values: np.ndarray, strata: Sequence[str], clusters: Sequence[str], seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of `macro_mean`; strata are languages, or pairs of them.

    For a difference of two systems give the paired differences as `values`. Strata that a resample leaves empty do not
    count in it.

    Args:
        values: [N], one a query and setting.
        strata: the stratum of each value.
        clusters: the cluster of each value; `ValueError` where there are fewer than 2.
        seed: of the resampling.
    """
    names, stratum = np.unique(np.asarray(strata), return_inverse=True)
    units, unit = np.unique(np.asarray(clusters), return_inverse=True)
    if len(units) < 2:
        raise ValueError(f"an interval needs at least 2 clusters, and there are {len(units)}")
    cell = unit * len(names) + stratum
    size = len(units) * len(names)
    sums_CS = np.bincount(cell, weights=values, minlength=size).reshape(len(units), -1)
    counts_CS = np.bincount(cell, minlength=size).reshape(len(units), -1)
    random = np.random.default_rng(seed)
    drawn_RC = random.multinomial(len(units), np.full(len(units), 1 / len(units)), size=RESAMPLES)
    with np.errstate(invalid="ignore"):
        means = np.nanmean((drawn_RC @ sums_CS) / (drawn_RC @ counts_CS), axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
