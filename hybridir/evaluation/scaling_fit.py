"""How a loss falls with the size of the data: a power law with an offset, and what it can and cannot say.

L(D) = (B / D)^b + d (Fang et al. 2024, arXiv 2403.18684). For a given b this is linear in D^-b and 1, so b is taken
from a grid. Losses at different sizes are not independent: the same questions are asked at all of them. So the fit is
by generalised least squares with the covariance of the losses, from seeds and clusters. Intervals hold every value that
an F test does not reject (profile likelihood: Seber and Wild 1989, Nonlinear Regression, 5.4): percentiles of a
bootstrap over two or three seeds would be too narrow. `tests/scripts/scaling_fit.py` simulates what they cover.

Shapes: N sizes, K training seeds, M values (one a question and setting), C clusters, G points of a grid.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import stdtrit

from hybridir.evaluation.intervals import LEVEL, Labels, macro_mean
from hybridir.evaluation.retention import influence

EXPONENTS = np.geomspace(0.02, 3.0, 301)
"""The exponents that are tried; a fit at either end does not count."""
RATES = np.geomspace(1 / 64, 512, 181)
"""The exchange rates that are tried."""
CLAIM_SIZES, CLAIM_RANGE = 6, 16.0
"""A claim needs this many sizes, and this ratio of the largest to the smallest."""
Ends = tuple[float, float]


@dataclass(frozen=True)
class Curve:
    """Losses by size of the data, as means over seeds.

    Attributes:
        sizes_N: sizes, ascending.
        loss_N: mean losses.
        shared_NN: their covariance over clusters of questions, which are the same at all sizes.
        seed_variance: the variance of one training with another seed, pooled over sizes.
        n_seeds: number of seeds.
        freedom: degrees of freedom of the intervals.
    """

    sizes_N: np.ndarray
    loss_N: np.ndarray
    shared_NN: np.ndarray
    seed_variance: float
    n_seeds: int
    freedom: int

    @property
    def covariance_NN(self) -> np.ndarray:
        """The covariance of the losses: clusters, and seeds, which are independent at each size."""
        return self.shared_NN + self.seed_variance / self.n_seeds * np.eye(len(self.sizes_N))

    @property
    def enough(self) -> bool:
        """Whether there are enough sizes, over a wide enough range, for a claim."""
        return len(self.sizes_N) >= CLAIM_SIZES and self.sizes_N[-1] >= CLAIM_RANGE * self.sizes_N[0]

    def first(self, n: int) -> "Curve":
        """The curve of the `n` smallest sizes."""
        return replace(self, sizes_N=self.sizes_N[:n], loss_N=self.loss_N[:n], shared_NN=self.shared_NN[:n, :n])


@dataclass(frozen=True)
class Law:
    """A fitted law. Its numbers are only to be used if `why_not` is empty.

    Attributes:
        exponent, offset, unit: b, d and B of the law.
        interval: 95 % interval of the exponent.
        why_not: why the losses show no law, in words.
    """

    exponent: float
    offset: float
    unit: float
    interval: Ends
    why_not: str

    def at(self, sizes: np.ndarray | float) -> np.ndarray:
        """The loss at these sizes."""
        return (self.unit / np.asarray(sizes, dtype=float)) ** self.exponent + self.offset

    def as_dict(self) -> dict[str, Any]:
        """As in `results.json`."""
        return {
            "exponent": self.exponent,
            "interval": list(self.interval),
            "offset": self.offset,
            "unit": self.unit,
            "why_not": self.why_not,
        }


def curve(sizes: Sequence[float], values: Sequence[np.ndarray], strata: Labels, clusters: Labels) -> Curve:
    """The curve of losses [K, M] at each size, all of the same questions.

    Raises:
        ValueError: fewer than two seeds, sizes that do not ascend, or fewer than two clusters.
    """
    if len(values[0]) < 2:
        raise ValueError("a curve needs 2 training seeds or more: with one, nothing says how far another would be off")
    if not all(a < b for a, b in pairwise(sizes)):
        raise ValueError(f"sizes are {list(sizes)}: they must ascend")
    by_seed_NK = np.array([[macro_mean(one, strata) for one in of_size] for of_size in values])
    part_NC = np.stack([influence(of_size.mean(axis=0), strata, clusters) for of_size in values])
    n_sizes, n_seeds = by_seed_NK.shape
    n_clusters = part_NC.shape[1]
    if n_clusters < 2:
        raise ValueError("a curve needs questions of 2 clusters or more")
    variance = float(by_seed_NK.var(axis=1, ddof=1).mean())
    return Curve(
        sizes_N=np.array(sizes, dtype=float),
        loss_N=by_seed_NK.mean(axis=1),
        shared_NN=n_clusters / (n_clusters - 1) * part_NC @ part_NC.T,
        seed_variance=max(variance, 1e-12),  # equal seeds must not make the covariance singular
        n_seeds=n_seeds,
        freedom=min(n_sizes * (n_seeds - 1), n_clusters - 1),
    )


def fit(of: Curve) -> Law:
    """The law of a curve of 4 sizes or more, with the interval of its exponent.

    There is no law where the exponent or the offset sits on a bound, or where a straight line in log D fits as well:
    by an F test, the law's further parameter does not lower the sum of squares significantly.
    """
    if len(of.sizes_N) < 4:
        raise ValueError(f"a law needs 4 sizes or more, but there are {len(of.sizes_N)}")
    middle = float(np.exp(np.log(of.sizes_N).mean()))
    scaled_GN = (of.sizes_N / middle) ** -EXPONENTS[:, None]
    squares_G, weight_G, offset_G = _fits(scaled_GN, of.loss_N, of.covariance_NN)
    best = int(np.argmin(squares_G))
    bound = _bound(of)
    interval = _reach(np.log(EXPONENTS), squares_G, bound)
    exponent, weight, offset = (float(x[best]) for x in (EXPONENTS, weight_G, offset_G))
    log_N = np.log(of.sizes_N / middle)
    line = _squares(np.stack([log_N, np.ones(len(log_N))], axis=1), of.loss_N, of.covariance_NN)
    why_not = ""
    if weight <= 0:
        why_not = "the loss does not fall with more data"
    elif best in (0, len(EXPONENTS) - 1):
        why_not = f"the exponent is at the end of the range that is tried, {exponent:.2g}"
    elif offset <= 0:
        why_not = "the offset is at its bound, 0"
    elif line - squares_G[best] <= bound:
        why_not = "a straight line in the logarithm of the size fits as well"
    unit = middle * weight ** (1 / exponent) if weight > 0 else 0.0
    return Law(exponent, offset, unit, (float(np.exp(interval[0])), float(np.exp(interval[1]))), why_not)


def predict(of: Curve, size: float, seeds: int) -> tuple[float, float, float]:
    """The loss at another size, and its 95 % interval for the mean of `seeds` new trainings, on the same questions.

    The value is that of the law, corrected by the deviations of the same questions from it at the other sizes. A
    hypothetical observation at that size belongs to the interval if the curve together with it does not fit worse than
    the curve alone by more than an F test allows. It is taken to vary over clusters as the largest size does.
    """
    middle = float(np.exp(np.log(of.sizes_N).mean()))
    sizes = np.append(of.sizes_N, size)
    covariance = np.pad(of.shared_NN, (0, 1), mode="edge")
    covariance += of.seed_variance * np.diag([*[1 / of.n_seeds] * len(of.sizes_N), 1 / seeds])
    scaled_GN = (sizes / middle) ** -EXPONENTS[:, None]
    alone_G, weight_G, offset_G = _fits(scaled_GN[:, :-1], of.loss_N, of.covariance_NN)
    best = int(np.argmin(alone_G))
    fitted = weight_G[best] * scaled_GN[best] + offset_G[best]
    same_questions_N = np.linalg.solve(covariance[:-1, :-1], covariance[-1, :-1])
    value = float(fitted[-1] + same_questions_N @ (of.loss_N - fitted[:-1]))
    bound = _bound(of)

    def beyond(at: float) -> float:
        squares_G, _, _ = _fits(scaled_GN, np.append(of.loss_N, at), covariance)
        return float(squares_G.min() - alone_G[best] - bound)

    step = max(float(np.sqrt(covariance[-1, -1])), 1e-9)
    return value, _crossing(beyond, value, -step), _crossing(beyond, value, step)


def slope(of: Curve) -> tuple[float, float, float]:
    """The change of the loss for ten times the data, by a straight line in log D, and its 95 % t interval."""
    weight_N = slope_weights(of.sizes_N)
    value = float(weight_N @ of.loss_N)
    half = float(stdtrit(of.freedom, (1 + LEVEL) / 2) * np.sqrt(weight_N @ of.covariance_NN @ weight_N))
    return value, value - half, value + half


def slope_weights(sizes: Sequence[float] | np.ndarray) -> np.ndarray:
    """[N]: the weights of the values at each size in the least-squares slope over log10 D; they sum to 0."""
    log_N = np.log10(np.asarray(sizes, dtype=float))
    centred = log_N - log_N.mean()
    return centred / (centred @ centred)


def exchange_rate(of: Curve, single_N: np.ndarray, translated_N: np.ndarray) -> tuple[float, Ends] | None:
    """How many groups in one language a group in all languages is worth, r, with its 95 % interval.

    L = (B / (D_m + r D_c))^b + d, with D_m groups in one language and D_c in all. Here the "sizes" of the curve are
    only numbers that tell its points apart. An end of the interval at an end of `RATES` is open.

    None: the loss does not fall, or all rates fit alike, so that the data do not say.
    """
    squares_R = np.empty(len(RATES))
    rate_weight = np.empty(len(RATES))
    for n, rate in enumerate(RATES):
        worth_N = single_N + rate * translated_N
        scaled_GN = (worth_N / np.exp(np.log(worth_N).mean())) ** -EXPONENTS[:, None]
        squares_G, weight_G, _ = _fits(scaled_GN, of.loss_N, of.covariance_NN)
        best = int(np.argmin(squares_G))
        squares_R[n], rate_weight[n] = squares_G[best], weight_G[best]
    best = int(np.argmin(squares_R))
    low, high = _reach(np.log(RATES), squares_R, _bound(of))
    if rate_weight[best] <= 0 or (low <= np.log(RATES[0]) and high >= np.log(RATES[-1])):
        return None
    return float(RATES[best]), (float(np.exp(low)), float(np.exp(high)))


def _bound(of: Curve) -> float:
    """By how much a sum of squares may exceed the best, for one parameter."""
    return float(stdtrit(of.freedom, (1 + LEVEL) / 2)) ** 2  # F with 1 degree of freedom is the square of t


def _fits(
    scaled_GN: np.ndarray, loss_N: np.ndarray, covariance_NN: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each row x of the grid: least squares of loss = c x + d with c, d >= 0: sum of squares, c and d, each [G]."""
    whiten = np.linalg.inv(np.linalg.cholesky(covariance_NN))
    y_N, one_N = whiten @ loss_N, whiten.sum(axis=1)
    x_GN = scaled_GN @ whiten.T
    xx, x1, xy = (x_GN**2).sum(axis=1), x_GN @ one_N, x_GN @ y_N
    oo, oy = one_N @ one_N, one_N @ y_N
    determinant = np.maximum(xx * oo - x1**2, 1e-300)
    c, d = (xy * oo - oy * x1) / determinant, (oy * xx - xy * x1) / determinant
    only_x, only_one = np.maximum(xy / xx, 0.0), max(oy / oo, 0.0)
    inside = (c >= 0) & (d >= 0)
    found = [
        (np.where(inside, c, 0.0), np.where(inside, d, only_one)),
        (only_x, np.zeros(len(only_x))),
        (np.zeros(len(only_x)), np.full(len(only_x), only_one)),
    ]
    squares = np.stack([((y_N - a[:, None] * x_GN - b[:, None] * one_N) ** 2).sum(axis=1) for a, b in found])
    chosen = squares.argmin(axis=0)
    places = np.arange(len(chosen))
    return (
        squares[chosen, places],
        np.stack([a for a, _ in found])[chosen, places],
        np.stack([b for _, b in found])[chosen, places],
    )


def _squares(design_N2: np.ndarray, loss_N: np.ndarray, covariance_NN: np.ndarray) -> float:
    """The sum of squares of a linear fit."""
    whiten = np.linalg.inv(np.linalg.cholesky(covariance_NN))
    design, y_N = whiten @ design_N2, whiten @ loss_N
    return float(np.sum((y_N - design @ np.linalg.lstsq(design, y_N, rcond=None)[0]) ** 2))


def _reach(place_G: np.ndarray, squares_G: np.ndarray, bound: float) -> Ends:
    """The ends of the range in which the sum of squares is within `bound` of the best, interpolated on the grid."""
    beyond_G = squares_G - squares_G.min() - bound
    within = np.flatnonzero(beyond_G <= 0)
    low, high = int(within[0]), int(within[-1])

    def between(inside: int, outside: int) -> float:
        if not 0 <= outside < len(place_G):
            return float(place_G[inside])
        share = beyond_G[inside] / (beyond_G[inside] - beyond_G[outside])
        return float(place_G[inside] + share * (place_G[outside] - place_G[inside]))

    return between(low, low - 1), between(high, high + 1)


def _crossing(beyond: Callable[[float], float], start: float, step: float) -> float:
    """Where a function that is below 0 at `start` first exceeds 0 in the direction of `step`; infinite if nowhere."""
    from scipy.optimize import brentq  # not on top: it takes long to import

    inside, outside = start, start + step
    for _ in range(40):
        if beyond(outside) > 0:
            return float(brentq(beyond, inside, outside, xtol=abs(step) * 1e-3))
        inside, outside = outside, start + 2 * (outside - start)
    return float(np.copysign(np.inf, step))
