"""Contrastive entropy of a small benchmark, computed again query by query; its negatives are frozen."""

import math

import numpy as np
import pytest

from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.entropy import NEGATIVES, TEMPERATURE, _negatives, contrastive_entropy
from hybridir.evaluation.settings import measure
from hybridir.retrieval.nearest import rank_vectors


@pytest.fixture(scope="module")
def benchmark() -> Benchmark:
    return read_benchmark(BenchmarkConfig(facts=40, languages=("de", "en", "es"), split="all"))


def vectors(benchmark: Benchmark, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors in float64."""
    random = np.random.default_rng(seed)
    found = [random.normal(size=(len(texts), 8)) for texts in (benchmark.queries, benchmark.passages)]
    return tuple(one / np.linalg.norm(one, axis=1, keepdims=True) for one in found)  # type: ignore[return-value]


def test_against_one_query_at_a_time(benchmark: Benchmark) -> None:
    query_QD, passage_PD = vectors(benchmark)
    scores = measure(rank_vectors(query_QD.astype(np.float32), passage_PD.astype(np.float32), benchmark), benchmark)
    found = contrastive_entropy(scores.rows, benchmark, query_QD, passage_PD)
    place = {query.query_id: n for n, query in enumerate(benchmark.queries)}
    query_N = np.array([place[name] for name in scores.rows["query_id"]])
    negatives, there = _negatives(scores.rows, benchmark, query_N)
    assert there.all()
    languages = [passage.language for passage in benchmark.passages]
    for n in range(0, len(query_N), 17):
        query, target = query_N[n], scores.rows["passage_language"][n]
        right = [p for p in benchmark.relevant[query] if target in ("", languages[p])]
        assert {languages[p] for p in negatives[n]} == ({target} if target else {"de", "en", "es"})
        assert not set(negatives[n]) & set(benchmark.relevant[query])
        others = sum(math.exp(passage_PD[p] @ query_QD[query] / TEMPERATURE) for p in negatives[n])
        own = [math.exp(passage_PD[p] @ query_QD[query] / TEMPERATURE) for p in right]
        assert found[n] == pytest.approx(np.mean([-math.log(one / (one + others)) for one in own]), rel=1e-9)


def test_every_other_passage_is_equally_often_a_negative(benchmark: Benchmark) -> None:
    """Of 39 passages, each query draws 256 times: 120 queries of a language in all, so 788 times each."""
    rows = {
        "query_id": np.array([query.query_id for query in benchmark.queries]),
        "passage_language": np.full(len(benchmark.queries), "de"),
    }
    negatives, _ = _negatives(rows, benchmark, np.arange(len(benchmark.queries)))
    counts = np.bincount(negatives.ravel(), minlength=len(benchmark.passages))
    german = np.array([passage.language == "de" for passage in benchmark.passages])
    assert counts[~german].sum() == 0
    expected = len(benchmark.queries) * NEGATIVES / 40
    assert np.abs(counts[german] - expected).max() < 5 * math.sqrt(expected)


def test_negatives_are_those_of_the_query_alone(benchmark: Benchmark) -> None:
    """The same in whatever order and company a query is measured; others for other queries."""
    rows = {
        "query_id": np.array([query.query_id for query in benchmark.queries]),
        "passage_language": np.full(len(benchmark.queries), "en"),
    }
    all_of_them, _ = _negatives(rows, benchmark, np.arange(len(benchmark.queries)))
    some, _ = _negatives({name: values[[7, 3]] for name, values in rows.items()}, benchmark, np.array([7, 3]))
    assert (some == all_of_them[[7, 3]]).all()
    assert len({tuple(one) for one in all_of_them.tolist()}) == len(all_of_them)
    assert all_of_them[0, :4].tolist() == FIRST


FIRST = [64, 54, 50, 71]
"""Pinned: other negatives would be another measure."""
