"""Identical texts tie, whatever the search and its company: measures, lists and run files follow one rule."""

from pathlib import Path

import ir_measures
import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage, Query
from hybridir.evaluation.settings import evaluate_scores, summarise
from hybridir.retrieval import dot
from hybridir.retrieval.bm25 import bm25_scorer
from hybridir.retrieval.dot import dot_scorer
from hybridir.retrieval.embeddings import read_embeddings, write_embeddings
from hybridir.retrieval.nearest import top_k
from hybridir.retrieval.search import rank_all
from hybridir.retrieval.trec import write_qrels, write_runs

COPIES = 33


def copies(n_queries: int, first: int = 0) -> Benchmark:
    """Questions whose answers are `COPIES` equal passages, of which the one at position `first` is relevant."""
    return Benchmark(
        name="copies",
        languages=("en",),
        queries=tuple(
            Query(query_id=f"en:{n}", language="en", text="which river", group_id=str(n), cluster=str(n))
            for n in range(n_queries)
        ),
        passages=Passages(Passage(passage_id=str(n), language="en", text="the river Spree") for n in range(COPIES)),
        relevant=((first,),) * n_queries,
    )


def unit(rng: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    made = rng.standard_normal((rows, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("dimension", [64, 385, 768])
def test_ap_is_1_for_any_number_of_queries(dimension: int, threads: int) -> None:
    """Sums of float32 products differ with the number of rows: with 3 queries, AP was .833."""
    rng = np.random.default_rng(dimension)
    queries, one = unit(rng, COPIES, dimension), unit(rng, 1, dimension)
    passages = np.repeat(one, COPIES, axis=0)
    with threadpool_limits(threads):
        for n in range(1, COPIES + 1):
            made = copies(n)
            found = summarise(evaluate_scores(dot_scorer(queries[:n], passages), made), made)
            assert found["monolingual"]["mAP"] == found["multilingual"]["mAP"] == 1
            assert (top_k(queries[:n], passages, 10)[1] == np.arange(10)).all()


@pytest.mark.parametrize("first", [0, 3, 32])
def test_bm25_ties_by_position(first: int) -> None:
    for n in (1, 2, 3, 33):
        made = copies(n, first)
        assert summarise(evaluate_scores(bm25_scorer(made), made), made)["monolingual"]["mAP"] == 1 / (1 + first)


def test_files_of_embeddings_and_runs_keep_the_ties(tmp_path: Path) -> None:
    """Embeddings written and read again, ranked, written as a TREC run: ir-measures finds the same ranks."""
    rng = np.random.default_rng(0)
    made = copies(3, first=4)
    write_embeddings(str(tmp_path), made, unit(rng, 3, 100), np.repeat(unit(rng, 1, 100), COPIES, axis=0))
    found = read_embeddings(str(tmp_path), made)
    ranking = rank_all(dot_scorer(found.query_QD, found.passage_PD), made, COPIES)
    assert ranking.top_place[:, 0].tolist() == [list(range(COPIES))] * 3
    write_runs(ranking, made, tmp_path, "ours", depth=COPIES)
    write_qrels(made, tmp_path)
    read = [list(kind(str(tmp_path / name))) for kind, name in READERS]
    assert ir_measures.calc_aggregate([ir_measures.AP], *read)[ir_measures.AP] == pytest.approx(1 / 5)


READERS = (
    (ir_measures.read_trec_qrels, "monolingual.qrels"),
    (ir_measures.read_trec_run, "ours.monolingual.trec"),
)


@pytest.mark.parametrize("few", [64, 1])
def test_sparse_vectors_score_exactly_and_in_little_memory(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Most products of sparse vectors are 0, where every rounding is open: bounds of their own settle these."""
    monkeypatch.setattr(dot, "_FEW", few)  # 1: without these bounds
    monkeypatch.setattr(dot, "_SUMS", 7)
    rng = np.random.default_rng(0)
    queries, passages = (unit(rng, rows, 60) * (rng.random((rows, 60)) < 0.03) for rows in (9, 200))
    queries[3] = passages[5] = 0
    summed: list[int] = []
    sums = dot.sums
    monkeypatch.setattr(dot, "sums", lambda q, p: summed.append(len(q)) or sums(q, p))  # type: ignore[func-returns-value]
    found = dot_scorer(queries, passages)(slice(None), slice(None))
    assert found.tolist() == [[float(np.float32(sum_of(q, p))) for p in passages] for q in queries]
    assert max(summed, default=0) <= 7
    assert sum(summed) > found.size / 2 if few == 1 else sum(summed) < found.size / 50


def test_scores_do_not_depend_on_the_order_in_memory() -> None:
    """Sums that cancel: what is left is the order of summation alone."""
    rng = np.random.default_rng(0)
    queries, passages = unit(rng, 9, 768), unit(rng, 9, 768)
    queries[:, 1::2], passages[:, 1::2] = queries[:, ::2], -passages[:, ::2]
    order = rng.permutation(768)
    queries, passages = (np.ascontiguousarray(one[:, order]) for one in (queries, passages))
    expected = dot_scorer(queries, passages)(slice(None), slice(None))
    assert np.diagonal(expected).any()
    alone = dot.sums(queries.astype(np.float64), passages.astype(np.float64))
    for q, p in ((np.asfortranarray, np.asfortranarray), (np.asfortranarray, np.array), (np.array, np.asfortranarray)):
        assert np.array_equal(dot_scorer(q(queries), p(passages))(slice(None), slice(None)), expected)
        assert np.array_equal(dot.sums(q(queries.astype(np.float64)), p(passages.astype(np.float64))), alone)


def sum_of(query: np.ndarray, passage: np.ndarray) -> float:
    """Exact: at most a few products are not 0, and each is exact in float64."""
    return float(sum(float(a) * float(b) for a, b in zip(query, passage, strict=True)))
