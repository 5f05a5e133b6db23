"""In and out of domain from models trained without each domain; effective robustness by hand."""

import math

import numpy as np
import pytest

from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.scores import KEYS, Scores, join
from hybridir.evaluation.shift import OUT, beyond_the_line, domains_of, effective_robustness, in_and_out


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return read_benchmark(BenchmarkConfig(facts=40, languages=("de",), split="all"))


def scores_of(benchmark: Benchmark, value: float, condition: str = "") -> Scores:
    """Every query has `value`, of two seeds the second 10 more."""
    n = len(benchmark.queries)
    rows = {name: np.full(n, "x") for name in KEYS}
    rows |= {"query_id": np.array([query.query_id for query in benchmark.queries]), "condition": np.full(n, condition)}
    return Scores(rows, {"mAP": np.stack([np.full(n, value), np.full(n, value + 10)])})


def test_out_of_domain_is_the_model_without_the_domain_and_in_domain_the_mean_of_the_others(
    benchmark: Benchmark,
) -> None:
    without = {
        name: join([scores_of(benchmark, value), scores_of(benchmark, 2 * value, "delete one")])
        for name, value in {"currency": 1.0, "language": 2.0, "time zone": 4.0}.items()
    }
    found = in_and_out(without, benchmark)
    asked = [query for query in benchmark.queries if query.domain != "week days"]  # no model was trained without it
    assert 0 < len(asked) < len(benchmark.queries)
    own = {"currency": 1.0, "language": 2.0, "time zone": 4.0}
    others = {"currency": 3.0, "language": 2.5, "time zone": 1.5}
    for condition, expected, factor in (
        ("", others, 1),
        (OUT, own, 1),
        ("delete one", others, 2),
        (f"{OUT}, delete one", own, 2),
    ):
        part = found.under(condition)
        assert part.rows["query_id"].tolist() == [query.query_id for query in asked]
        first = [factor * expected[query.domain] for query in asked]
        assert part.values["mAP"] == pytest.approx(np.array([first, [value + 10 for value in first]]))
    assert set(domains_of(found, benchmark)) == set(own)


def test_what_cannot_be_compared(benchmark: Benchmark) -> None:
    with pytest.raises(ValueError, match="2 domains or more"):
        in_and_out({"currency": scores_of(benchmark, 1)}, benchmark)
    with pytest.raises(ValueError, match="no question is of a domain that was left out: a, b"):
        in_and_out({name: scores_of(benchmark, 1) for name in "ab"}, benchmark)


def test_effective_robustness_is_the_distance_from_the_line_of_the_baselines() -> None:
    def logistic(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    line = [(logistic(x), logistic(0.5 * x - 1)) for x in np.linspace(-2, 2, 8)]
    found = effective_robustness(line, (logistic(1.0), logistic(0.5 * 1.0 - 1 + 0.25)))
    assert found.value == pytest.approx(0.25)
    assert found.r2 == pytest.approx(1)
    assert found.slope == pytest.approx(0.5)
    assert effective_robustness(line[:7], line[0]) == (None, None, None)
    assert effective_robustness(line, (1.0, 0.5)) == (None, None, None)
    scattered = [(a, logistic(3 * (-1) ** n)) for n, (a, _) in enumerate(line)]
    omitted = effective_robustness(scattered, line[0])
    assert omitted.value is None
    assert omitted.r2 is not None
    assert omitted.r2 < 0.2


def test_values_beyond_the_line_have_the_effective_robustness_as_their_mean(benchmark: Benchmark) -> None:
    """And the derivative of it: a question that is a little better out of domain moves both alike."""
    random = np.random.default_rng(0)
    n = len(benchmark.queries)
    rows = {name: np.full(n, "x") for name in KEYS}
    rows |= {"setting": np.full(n, "monolingual"), "cluster": np.array([str(x % 7) for x in range(n)])}
    rows |= {"query_id": np.array([query.query_id for query in benchmark.queries])}

    def model(level: float, more: float = 0.0) -> Scores:
        inside = np.clip(level + random.normal(0, 0.05, n), 0.01, 0.99)
        outside = np.clip(0.8 * inside + more, 0.01, 0.99)
        parts = [(inside, ""), (outside, OUT)]
        return join([Scores(rows | {"condition": np.full(n, c)}, {"mAP": values[None]}) for values, c in parts])

    baselines = [model(level) for level in np.linspace(0.2, 0.8, 8)]
    own = model(0.5, 0.05)
    pairs = [tuple(float(one.under(c).values["mAP"].mean()) for c in ("", OUT)) for one in (*baselines, own)]
    expected = effective_robustness(pairs[:-1], pairs[-1])  # type: ignore[arg-type]
    found = beyond_the_line(baselines, own, "mAP")
    assert found.values["mAP"].mean() == pytest.approx(expected.value)
    assert found.values["R2"] == pytest.approx(np.full((1, n), expected.r2))
    moved = Scores(own.rows, {"mAP": own.values["mAP"].copy()})
    moved.values["mAP"][0, n] += 1e-6  # the first question, out of domain
    again = beyond_the_line(baselines, moved, "mAP").values["mAP"].mean()
    out = pairs[-1][1]
    assert again - found.values["mAP"].mean() == pytest.approx(1e-6 / n / (out * (1 - out)), rel=1e-3)
    few = beyond_the_line(baselines[:7], own, "mAP")
    assert np.isnan(few.values["mAP"]).all()
