"""What noise leaves of a measure: relative drops with intervals, and how two systems differ in the share they keep.

Draws of the same noise are averaged first, as they are not independent: each query then has one value, and clusters of
queries are resampled, as everywhere (see `intervals`).

Shapes: N values (one a query), K training seeds, C clusters, S strata.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy.special import stdtrit

from hybridir.evaluation.intervals import LEVEL, Labels, macro_mean

CHANCE = float(np.sum(1 / np.arange(1, 11)))
"""The expected RR@10 of a random ranking, times the number of passages, if one of many is relevant: about 2.93."""
FLOOR = 0.05
"""Below this plain value, or if its interval reaches down to three times chance, no relative drop is given."""


class Relative(NamedTuple):
    """The share of a value that is lost, with its interval; None where it is not determined."""

    value: float | None
    interval: tuple[float, float] | None

    def as_dict(self) -> dict[str, object]:
        return {"value": self.value, "interval": list(self.interval) if self.interval else None}


def relative_drop(plain_N: np.ndarray, noisy_N: np.ndarray, strata: Labels, clusters: Labels) -> Relative:
    """1 - noisy / plain, of macro-means, with Fieller's 95 % interval over clusters (Fieller 1954, JRSS B 16).

    The interval holds all r for which macro_mean(noisy - r plain) does not differ from 0, by a t test over clusters. It
    is unbounded, and None, if the plain value is not clearly above 0. With the percentile bootstrap the interval would
    be narrower, and cover less: `tests/scripts/relative_drop.py` simulates both.
    """
    plain, noisy = macro_mean(plain_N, strata), macro_mean(noisy_N, strata)
    (vpp, vpn, vnn), n_clusters = _covariance(plain_N, noisy_N, strata, clusters)
    t2 = float(stdtrit(n_clusters - 1, (1 + LEVEL) / 2)) ** 2
    a, b, c = plain**2 - t2 * vpp, plain * noisy - t2 * vpn, noisy**2 - t2 * vnn
    if plain <= 0:
        return Relative(None, None)
    if a <= 0 or b**2 < a * c:
        return Relative(1 - noisy / plain, None)
    root = float(np.sqrt(b**2 - a * c))
    return Relative(1 - noisy / plain, (1 - (b + root) / a, 1 - (b - root) / a))


def lower_end(values_N: np.ndarray, strata: Labels, clusters: Labels) -> float:
    """The lower end of the 95 % t interval of the macro-mean over clusters."""
    (variance, _, _), n_clusters = _covariance(values_N, values_N, strata, clusters)
    t = float(stdtrit(n_clusters - 1, (1 + LEVEL) / 2))
    return macro_mean(values_N, strata) - t * float(np.sqrt(variance))


def can_lose(plain_N: np.ndarray, strata: Labels, clusters: Labels, n_passages: int) -> bool:
    """Whether a plain RR@10 is high enough above chance for a relative drop to mean anything."""
    enough = macro_mean(plain_N, strata) >= FLOOR
    return enough and lower_end(plain_N, strata, clusters) > 3 * CHANCE / n_passages


def log_retention(
    a_plain_N: np.ndarray, a_noisy_N: np.ndarray, b_plain_N: np.ndarray, b_noisy_N: np.ndarray, strata: Labels
) -> np.ndarray:
    """[N]: values whose macro-mean is log(A_s / A_0) - log(B_s / B_0), for intervals by the delta method; above 0, A
    keeps a larger share of its value than B. NaN if one of the four means is 0."""
    means = [macro_mean(values, strata) for values in (a_noisy_N, a_plain_N, b_noisy_N, b_plain_N)]
    if min(means) <= 0:
        return np.full(len(a_plain_N), np.nan)
    parts = [values / mean for values, mean in zip((a_noisy_N, a_plain_N, b_noisy_N, b_plain_N), means, strict=True)]
    logs = np.log(means)
    return (parts[0] - parts[1]) - (parts[2] - parts[3]) + (logs[0] - logs[1]) - (logs[2] - logs[3])


def area(values: dict[float, np.ndarray]) -> np.ndarray:
    """The area under the curve of values over severities, by the trapezoid rule, divided by the highest severity."""
    severities = sorted(values)
    steps = [(high - low) * (values[high] + values[low]) / 2 for low, high in pairwise(severities)]
    return np.sum(steps, axis=0) / (severities[-1] - severities[0])


def _covariance(a_N: np.ndarray, b_N: np.ndarray, strata: Labels, clusters: Labels) -> tuple[list[float], int]:
    """Variance of the macro-mean of a, covariance with that of b, variance of that of b; and the number of clusters."""
    parts_C = [influence(values, strata, clusters) for values in (a_N, b_N)]
    n_clusters = len(parts_C[0])
    factor = n_clusters / (n_clusters - 1)
    return [float(factor * np.sum(x * y)) for x, y in ((parts_C[0],) * 2, parts_C, (parts_C[1],) * 2)], n_clusters


def influence(values_N: np.ndarray, strata: Labels, clusters: Labels) -> np.ndarray:
    """[C]: the influence of each cluster on the macro-mean, by linearisation: the sum of its deviations from the means
    of their strata. The sum of squares, times C / (C - 1), is the variance over clusters."""
    names, stratum = np.unique(np.asarray(strata), return_inverse=True)
    _, unit = np.unique(np.asarray(clusters), return_inverse=True)
    counts = np.bincount(stratum)
    deviation = values_N - (np.bincount(stratum, weights=values_N) / counts)[stratum]
    return np.bincount(unit, weights=deviation / counts[stratum] / len(names))
