"""The scaling law against scipy's least squares, a line that is none, and what is bounded."""

import runpy
from collections.abc import Callable

import numpy as np
import pytest
from helpers import ROOT
from scipy import optimize, stats

from hybridir.evaluation.intervals import macro_mean
from hybridir.evaluation.scaling_fit import Curve, curve, exchange_rate, fit, predict, slope

SIZES = np.array([42, 84, 168, 336, 672, 1344.0])
NOISE = np.array([0.012, -0.017, 0.009, 0.004, -0.011, 0.006])
Law = Callable[[np.ndarray], np.ndarray]


def of_losses(loss_N: np.ndarray, sizes: np.ndarray = SIZES, sd: float = 0.02) -> Curve:
    """A curve of two seeds without variance over clusters."""
    return Curve(sizes, loss_N, np.zeros((len(sizes),) * 2), sd**2, 2, len(sizes))


def law(sizes: np.ndarray, exponent: float = 0.4, unit: float = 120.0, offset: float = 0.4) -> np.ndarray:
    return (unit / sizes) ** exponent + offset


def squares(sizes: np.ndarray, loss: np.ndarray, error: np.ndarray, exponent: float | None = None) -> float:
    """The least sum of squares of a law, by another way, for a given exponent or for any."""

    def rest(p: np.ndarray) -> np.ndarray:
        return (loss - p[0] * (sizes / 200) ** -(p[2] if exponent is None else exponent) - p[1]) / error

    start, high = ([0.8, 0.4, 0.5], [9, 9, 3]) if exponent is None else ([0.8, 0.4], [9, 9])
    low = [0, 0, 0.02][: len(start)]
    return float(2 * optimize.least_squares(rest, start, bounds=(low, high), xtol=1e-12, ftol=1e-12).cost)


def test_the_fit_is_that_of_scipy() -> None:
    loss = law(SIZES) + NOISE
    found = fit(of_losses(loss))
    (unit, exponent, offset), _ = optimize.curve_fit(
        lambda size, unit, exponent, offset: law(size, exponent, unit, offset), SIZES, loss, [100, 0.5, 0.3]
    )
    assert found.why_not == ""
    assert found.exponent == pytest.approx(exponent, rel=0.01)  # neighbours on the grid differ by 1.7 %
    assert found.at(SIZES) == pytest.approx(law(SIZES, exponent, unit, offset), abs=0.001)
    # the interval: where the sum of squares exceeds the least one by the 95 % point of F, seed by seed
    error, bound = np.full(6, 0.02 / np.sqrt(2)), stats.f.ppf(0.95, 1, 6)
    best = squares(SIZES, loss, error)
    for end in found.interval:
        assert squares(SIZES, loss, error, end) - best == pytest.approx(bound, rel=0.03)


def test_the_interval_of_a_prediction_is_what_an_observation_there_would_not_refute() -> None:
    loss = law(SIZES) + NOISE
    value, low, high = predict(of_losses(loss), 2688, seeds=3)
    assert value == pytest.approx(fit(of_losses(loss)).at(2688), rel=1e-9)
    error = np.append(np.full(6, 0.02 / np.sqrt(2)), 0.02 / np.sqrt(3))
    best, bound = squares(SIZES, loss, error[:-1]), stats.f.ppf(0.95, 1, 6)
    for end in (low, high):
        together = squares(np.append(SIZES, 2688), np.append(loss, end), error)
        assert together - best == pytest.approx(bound, rel=0.03)
    assert low < law(np.array(2688.0)) < high


def test_harder_questions_do_not_widen_a_prediction_for_the_same_questions() -> None:
    """What is shared by all sizes moves the curve up or down as a whole."""
    alone = of_losses(law(SIZES))
    shared = Curve(SIZES, law(SIZES), np.full((6, 6), 0.3**2), 0.02**2, 2, 6)
    width = [high - low for _, low, high in (predict(one, 2688, 2) for one in (alone, shared))]
    assert width[1] == pytest.approx(width[0], rel=0.01)
    assert fit(shared).exponent == pytest.approx(0.4, rel=0.01)


@pytest.mark.parametrize(
    ("loss", "why"),
    [
        (lambda size: 3 - 0.3 * np.log(size / 42), "a straight line|the offset is at its bound|end of the range"),
        (lambda size: 2 + 0.1 * np.log(size / 42), "does not fall"),
        (lambda size: law(size, offset=-0.1), "the offset is at its bound"),
        (lambda size: law(size) + 10 * NOISE, "a straight line|the offset|end of the range"),
    ],
)
def test_where_there_is_no_law(loss: Law, why: str) -> None:
    curve = of_losses(loss(SIZES), sd=0.02 if why != "a straight line|the offset|end of the range" else 0.2)
    found = fit(curve)
    assert any(one in found.why_not for one in why.split("|"))
    assert found.as_dict()["why_not"]


def test_a_slope_is_that_of_a_straight_line() -> None:
    loss = law(SIZES) + NOISE
    value, low, high = slope(of_losses(loss))
    fitted = stats.linregress(np.log10(SIZES), loss)
    half = stats.t.ppf(0.975, 6) * 0.02 / np.sqrt(2) / np.sqrt(np.sum((np.log10(SIZES) - np.log10(SIZES).mean()) ** 2))
    assert (value, high - value, value - low) == pytest.approx((fitted.slope, half, half))


def test_the_covariance_is_of_seeds_and_clusters() -> None:
    """Two sizes, two seeds, three clusters, one language: computed by hand."""
    values = [np.array([[1.0, 2, 6], [2, 3, 7]]), np.array([[0.0, 3, 3], [0, 1, 5]])]
    of = curve([10, 20], values, ["x"] * 3, ["a", "b", "c"])
    assert of.loss_N == pytest.approx([3.5, 2.0])
    assert of.seed_variance == pytest.approx((0.5 + 0) / 2)  # means 3 and 4; 2 and 2
    # means of seeds: (1.5, 2.5, 6.5) and (0, 2, 4); deviations / 3: (-2, -1, 3) / 3 and (-2, 0, 2) / 3
    shared = 3 / 2 * np.array([[4 + 1 + 9, 4 + 6], [4 + 6, 4 + 4]]) / 9
    assert of.covariance_NN == pytest.approx(shared + 0.25 / 2 * np.eye(2))
    assert of.freedom == 2
    assert of.loss_N[0] == macro_mean(values[0].mean(axis=0), ["x"] * 3)
    with pytest.raises(ValueError, match="2 training seeds"):
        curve([10, 20], [one[:1] for one in values], ["x"] * 3, ["a", "b", "c"])
    with pytest.raises(ValueError, match="must ascend"):
        curve([20, 10], values, ["x"] * 3, ["a", "b", "c"])


def test_the_exchange_rate() -> None:
    single = np.array([42, 84, 168, 336, 672, 504, 336, 168, 0.0])
    translated = np.array([0, 0, 0, 0, 0, 168, 336, 504, 672.0])
    order = np.arange(9.0)
    found = exchange_rate(of_losses(law(single + 5 * translated), order), single, translated)
    assert found is not None
    rate, (low, high) = found
    assert rate == pytest.approx(5, rel=0.03)  # neighbours on the grid differ by 5 %
    assert low < 5 < high
    assert exchange_rate(of_losses(np.full(9, 1.5), order), single, translated) is None


def test_only_enough_sizes_over_a_wide_range_carry_a_claim() -> None:
    assert of_losses(law(SIZES)).enough
    assert not of_losses(law(SIZES)).first(5).enough
    assert not of_losses(law(SIZES), np.linspace(42, 400, 6)).enough
    with pytest.raises(ValueError, match="4 sizes or more"):
        fit(of_losses(law(SIZES)).first(3))


@pytest.mark.slow
def test_intervals_cover_what_they_say() -> None:
    """Slow: a simulation. In short: the ends are where an F test begins to reject, in the tests above."""
    script = runpy.run_path(str(ROOT / "tests" / "scripts" / "scaling_fit.py"))
    for exponent in (0.4, 0.8):
        _, exponents, _, predictions, *_ = map(float, script["coverage"](300, 6, 2, 0.02, exponent).split())
        assert min(exponents, predictions) > 0.9
    assert float(script["coverage"](300, 6, 2, 0.02, 0.0).split()[0]) < 0.1
