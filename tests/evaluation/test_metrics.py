"""Measures of one query: by hand, and against ir-measures (trec_eval) on runs with ties."""

from dataclasses import replace

import ir_measures
import numpy as np
import pytest
from helpers import rows_of
from made import ordered, random_benchmark, scorer

from hybridir.evaluation import metrics
from hybridir.evaluation import settings as evaluate
from hybridir.evaluation.bias import rank_distance
from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import evaluate_scores
from hybridir.retrieval import search
from hybridir.retrieval.search import rank_all


@pytest.mark.parametrize(
    ("name", "ranks", "value"),
    [
        ("mAP", [1], 1),
        ("mAP", [4], 1 / 4),
        ("mAP", [2, 5], (1 / 2 + 2 / 5) / 2),
        ("mAP", [5, 2], (1 / 2 + 2 / 5) / 2),
        ("mAP", [1, 3, 100], (1 + 2 / 3 + 3 / 100) / 3),
        ("R@1", [1, 2, 3, 4], 1 / 4),
        ("R@1", [2], 0),
        ("R@10", [10, 11], 1 / 2),
        ("R@10", [3, 10, 9], 1),
        ("R@100", [100, 101, 5], 2 / 3),
        ("success@1", [7, 1], 1),
        ("success@1", [2, 3], 0),
        ("success@10", [11, 10], 1),
        ("success@10", [11, 12], 0),
        ("RR@10", [3, 7], 1 / 3),
        ("RR@10", [10], 1 / 10),
        ("RR@10", [11], 0),
        ("nDCG@10", [1], 1),
        ("nDCG@10", [3], 1 / 2),
        ("nDCG@10", [1, 2], 1),
        ("nDCG@10", [1, 3], (1 + 1 / 2) / (1 + 1 / np.log2(3))),
        ("nDCG@10", [11], 0),
        ("nDCG@10", list(range(1, 13)), 1),
    ],
)
def test_hand_values(name, ranks, value):
    assert MEASURES[name].function(np.array(ranks)) == pytest.approx(value, abs=1e-12)


def test_measures_at_other_depths():
    ranks = np.array([3, 20])
    assert metrics.recall_at(3)(ranks) == 0.5
    assert metrics.recall_at(2)(ranks) == 0
    assert metrics.success_at(3)(ranks) == 1
    assert metrics.reciprocal_rank_at(2)(ranks) == 0
    assert metrics.ndcg_at(20)(ranks) == pytest.approx((1 / 2 + 1 / np.log2(21)) / (1 + 1 / np.log2(3)))


def test_rank_distance():
    assert rank_distance(np.array([7, 3, 12])) == 9
    assert rank_distance(np.array([4, 5])) == 1


OTHERS = {
    "mAP": ir_measures.AP,
    "R@1": ir_measures.R @ 1,
    "R@10": ir_measures.R @ 10,
    "R@100": ir_measures.R @ 100,
    "success@1": ir_measures.Success @ 1,
    "success@10": ir_measures.Success @ 10,
    "nDCG@10": ir_measures.nDCG @ 10,
    "RR@10": ir_measures.RR @ 10,
}


def by_ir_measures(made, scores_QP):
    """{(query, language of the passages or ""): values}, from runs whose scores fall strictly, so no tie is left."""
    found = {}
    for target in ("", *made.languages):
        pool = [n for n, passage in enumerate(made.passages) if target in ("", passage.language)]
        qrels, run = {}, {}
        for q, relevant in enumerate(made.relevant):
            if wanted := {str(place): 1 for place in relevant if place in pool}:
                qrels[str(q)] = wanted
                run[str(q)] = {str(place): float(len(pool) - n) for n, place in enumerate(ordered(scores_QP[q], pool))}
        for value in ir_measures.iter_calc(list(OTHERS.values()), qrels, run):
            name = next(name for name, other in OTHERS.items() if other == value.measure)
            found.setdefault((int(value.query_id), target), {})[name] = value.value
    return found


def assert_agrees(made, scores_QP):
    ours = {
        (one.query, one.passage_language): one.values for one in rows_of(evaluate_scores(scorer(scores_QP), made), made)
    }
    theirs = by_ir_measures(made, scores_QP)
    assert ours.keys() == theirs.keys()
    for key, values in theirs.items():
        assert values == pytest.approx({name: ours[key][name] for name in OTHERS}, abs=1e-9), key


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_ir_measures_on_runs_with_ties(seed):
    rng = np.random.default_rng(seed)
    made = random_benchmark(rng, interleaved=seed % 2 == 1)
    assert_agrees(made, rng.integers(6, size=(40, 60)).astype(np.float32))


@pytest.mark.parametrize("by", [1, -1])
def test_planted_error_of_one_rank_is_seen(monkeypatch, by):
    rng = np.random.default_rng(0)
    made, scores = random_benchmark(rng), rng.random((40, 60), dtype=np.float32)

    def planted(*arguments):
        ranking = rank_all(*arguments)
        return replace(ranking, above=np.maximum(ranking.above + by, 0))

    monkeypatch.setattr(evaluate, "rank_all", planted)
    with pytest.raises(AssertionError):
        assert_agrees(made, scores)


def test_planted_error_in_ties_is_seen(monkeypatch):
    rng = np.random.default_rng(0)
    made, scores = random_benchmark(rng), rng.integers(6, size=(40, 60)).astype(np.float32)
    right = search.count_above
    monkeypatch.setattr(search, "count_above", lambda s, first, own, place: right(s, first, own, place + 1))
    with pytest.raises(AssertionError):
        assert_agrees(made, scores)
