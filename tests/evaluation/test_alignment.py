"""Measures of alignment: values by hand, chance, and what a benchmark gives them."""

import math

import numpy as np
import pytest
from made import own_first, parallel, ranked
from scipy import stats

from hybridir.evaluation.alignment import bitext_precision, hubness, language_told, translation_margin
from hybridir.evaluation.bias_summary import bias_results
from hybridir.evaluation.settings import measure, summarise
from hybridir.retrieval.nearest import rank_vectors
from hybridir.retrieval.search import translated_answers


def test_by_hand() -> None:
    """Two groups: (1, 0) with (1, 0), (0, 1) with (0.6, 0.8); of a third, only one language is there."""
    embedding = np.array([[[2, 0], [1, 0]], [[0, 1], [3, 4]], [[1, 1], [0, 0]]], dtype=np.float32)
    # own: (1 + 0.8) / 2; others: (1, 0) with (3, 4) / 5 is 0.6, (0, 1) with (1, 0) is 0; the same in both directions
    assert translation_margin(embedding) == pytest.approx(0.9 - 0.3, rel=1e-6)
    assert bitext_precision(embedding) == 1.0
    embedding[1, 1] = [4, 3]  # now (1, 0) is still nearest to (1, 0), and (0, 1) to it, but (4, 3) to (1, 0)
    assert bitext_precision(embedding) == 3 / 4


def test_ties_are_wrong() -> None:
    same = np.ones((4, 2, 3))
    assert (bitext_precision(same), translation_margin(same)) == (0.0, pytest.approx(0.0, abs=1e-12))


def test_nothing_to_compare() -> None:
    assert math.isnan(translation_margin(np.ones((1, 2, 3))))
    assert math.isnan(bitext_precision(np.zeros((5, 2, 3))))
    assert math.isnan(language_told(np.ones((1, 2, 3))))


@pytest.mark.parametrize(("apart", "low", "high"), [(0.0, 0.2, 0.3), (10.0, 1.0, 1.0)])
def test_the_language_is_told_by_what_tells_it(apart: float, low: float, high: float) -> None:
    """Random embeddings in 4 languages, each moved in a direction of its own: 1/4 is chance."""
    rng = np.random.default_rng(0)
    embedding = rng.normal(size=(600, 4, 8)) + apart * np.eye(4, 8)
    assert low <= language_told(embedding) <= high


def test_hubness_is_the_skewness_of_the_counts() -> None:
    top = np.array([[0, 1], [0, 2], [0, -1], [0, 3]])
    assert hubness(top, 6) == pytest.approx(stats.skew([4, 1, 1, 1, 0, 0]), rel=1e-12)
    assert math.isnan(hubness(np.array([[0, 1]]), 2))


def test_of_a_benchmark() -> None:
    """Six questions in two languages share six sets of answers; a system without vectors has only hubness."""
    benchmark = parallel()
    assert translated_answers(benchmark).tolist() == [[n, n + 6] for n in range(6)]
    rng = np.random.default_rng(1)
    query_QD, passage_PD = (rng.normal(size=(12, 5)).astype(np.float32) for _ in range(2))
    ranking = rank_vectors(query_QD, passage_PD, benchmark, 10)
    assert ranking.translated is not None
    np.testing.assert_array_equal(ranking.translated, passage_PD.reshape(2, 6, 5).transpose(1, 0, 2))
    found = bias_results(ranking, benchmark, summarise(measure(ranking, benchmark), benchmark))
    assert found["bitext_precision"]["mean"] == bitext_precision(ranking.translated)
    assert {"translation_margin", "language_told", "hubness"} <= found.keys()
    assert rank_vectors(query_QD, passage_PD, benchmark).translated is None
    without = ranked(benchmark, own_first(benchmark))
    found = bias_results(without, benchmark, summarise(measure(without, benchmark), benchmark))
    assert "hubness" in found
    assert "bitext_precision" not in found
