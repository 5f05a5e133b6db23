"""Exact ranks and top k."""

from fractions import Fraction

import numpy as np
import pytest
from made import benchmark, ordered, random_benchmark, scorer

from hybridir.retrieval import dot, search
from hybridir.retrieval.dot import dot_scorer
from hybridir.retrieval.nearest import rank_vectors, top_k
from hybridir.retrieval.search import passage_shards, rank_all


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize("shard", [1, 7, 65536])
@pytest.mark.parametrize("ties", [True, False])
def test_ranks_and_lists_are_those_of_brute_force(monkeypatch, shard, interleaved, ties):
    monkeypatch.setattr(search, "PASSAGE_SHARD", shard)
    monkeypatch.setattr(search, "_BLOCK_SCORES", 16)  # blocks of 16 queries: 16, 16, 8
    rng = np.random.default_rng(shard)
    made = random_benchmark(rng, interleaved=interleaved)
    scores = rng.integers(5, size=(40, 60)).astype(np.float32) if ties else rng.random((40, 60), dtype=np.float32)
    of_language = [[p for p in range(60) if made.passages[p].language == x] for x in made.languages]
    expected = [
        [ordered(scores[q], {r, *places}).index(r) for places in of_language]
        for q, relevant in enumerate(made.relevant)
        for r in relevant
    ]
    ranking = rank_all(scorer(scores), made, depth=5)
    assert ranking.above.tolist() == expected
    assert ranking.relevant_score.tolist() == [scores[q, r] for q, found in enumerate(made.relevant) for r in found]
    for q in range(40):
        for n, places in enumerate(of_language):
            assert ranking.top_place[q, n].tolist() == ordered(scores[q], places)[:5]
    pooled_score, pooled_place = ranking.pooled_top()
    assert pooled_place.tolist() == [ordered(scores[q], range(60))[:5] for q in range(40)]
    assert (pooled_score == np.take_along_axis(scores, pooled_place, 1)).all()


@pytest.mark.parametrize("shard", [2, 9, 65536])
@pytest.mark.parametrize("depth", [1, 5, 19, 40])
def test_ties_at_the_cut(monkeypatch, shard, depth):
    """A list is cut amid equal scores, 0.0 and -0.0 among them, beside the largest and smallest floats."""
    monkeypatch.setattr(search, "PASSAGE_SHARD", shard)
    rng = np.random.default_rng(depth)
    made = random_benchmark(rng, interleaved=depth % 2 == 1)
    ends = np.finfo(np.float32)
    values = np.array([0, 0, -0.0, -0.0, 1, -1, ends.max, ends.min, ends.smallest_subnormal], dtype=np.float32)
    scores = rng.choice(values, size=(40, 60))
    ranking = rank_all(scorer(scores), made, depth)
    pooled_score, pooled_place = ranking.pooled_top()
    for q in range(40):
        assert pooled_place[q].tolist() == ordered(scores[q], range(60))[:depth]
        assert pooled_score[q].tolist() == scores[q, pooled_place[q]].tolist()
        for n, x in enumerate(made.languages):
            best = ordered(scores[q], [p for p in range(60) if made.passages[p].language == x])[:depth]
            assert ranking.top_place[q, n].tolist() == best + [-1] * (depth - len(best))
            assert ranking.top_score[q, n].tolist() == [*scores[q, best], *[-np.inf] * (depth - len(best))]


def test_fewer_passages_than_asked_for():
    made = benchmark(["de", "en"], [("de", ""), ("en", ""), ("en", "")], [("en", "", [2])])
    ranking = rank_all(scorer(np.array([[3, 1, 2]], dtype=np.float32)), made, depth=2)
    assert ranking.top_place.tolist() == [[[0, -1], [2, 1]]]
    assert rank_all(scorer(np.array([[3, 1, 2]], dtype=np.float32)), made, depth=9).pooled_top()[1][0, :4].tolist() == [
        0,
        2,
        1,
        -1,
    ]


def test_ranks_with_queries_that_have_no_answer():
    made = benchmark(["en"], [("en", "")] * 3, [("en", "", []), ("en", "", [2]), ("en", "", [])])
    scores = np.array([[1, 2, 3], [1, 3, 2], [0, 0, 0]], dtype=np.float32)
    assert rank_all(scorer(scores), made).above.tolist() == [[1]]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad):
    """No score is above NaN: every answer of a broken encoder would have rank 1."""
    rng = np.random.default_rng(0)
    made, scores = random_benchmark(rng), rng.random((40, 60), dtype=np.float32)
    scores[33, 5] = bad
    with pytest.raises(ValueError, match="not finite"):
        rank_all(scorer(scores), made)


def test_passage_shards(monkeypatch):
    monkeypatch.setattr(search, "PASSAGE_SHARD", 2)
    passages = [("en", "")] * 3 + [("de", "")] * 2 + [("en", "")]
    shards = passage_shards(benchmark(["de", "en"], passages, []))
    assert shards == [(1, slice(0, 2)), (1, slice(2, 3)), (0, slice(3, 5)), (1, slice(5, 6))]


# Top k


def embeddings(rng, rows, dimension=4):
    """Small integers: every sum is exact, and many are equal."""
    return rng.integers(-1, 2, size=(rows, dimension)).astype(np.float32)


@pytest.mark.parametrize("shard", [7, 65536])
@pytest.mark.parametrize("k", [1, 3, 49, 50, 80])
def test_top_k_with_ties_at_the_border(monkeypatch, k, shard):
    monkeypatch.setattr(search, "PASSAGE_SHARD", shard)
    rng = np.random.default_rng(k)
    queries, passages = embeddings(rng, 30), embeddings(rng, 50)
    scores, places = top_k(queries, passages, k)
    exact = queries @ passages.T
    expected = [ordered(row, range(50))[:k] for row in exact]
    assert places.tolist() == expected
    assert scores.tolist() == np.take_along_axis(exact, np.array(expected), axis=1).tolist()


@pytest.mark.parametrize("where", ["queries", "passages"])
def test_top_k_refuses_what_is_not_a_number(where):
    """A place of -1 would be the last passage in Python."""
    made = {"queries": np.ones((3, 4), np.float32), "passages": np.ones((200, 4), np.float32)}
    made[where][-1, 2] = np.nan
    with pytest.raises(ValueError, match="embedding is not finite"):
        top_k(made["queries"], made["passages"], 5)


# Scores depend on two vectors alone


def unit(rng, rows, dimension):
    made = rng.standard_normal((rows, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.mark.parametrize("dimension", [3, 64, 384, 1023])
def test_identical_passages_have_identical_scores(dimension, monkeypatch):
    """Whatever the number of queries, blocks, shards and threads: the first one is relevant, so AP is 1."""
    rng = np.random.default_rng(dimension)
    queries, one = unit(rng, 40, dimension), unit(rng, 1, dimension)
    passages = np.concatenate([np.repeat(one, 33, axis=0), -one])
    for n in (1, 2, 3, 5, 16, 40):
        made = benchmark(["en"], [("en", "")] * 34, [("en", "", [0])] * n)
        for shard, block in ((65536, 2**24), (7, 2**24), (65536, 1)):
            monkeypatch.setattr(search, "PASSAGE_SHARD", shard)
            monkeypatch.setattr(search, "_BLOCK_SCORES", block)
            positive = queries[:n] * np.sign(queries[:n] @ one.T)
            assert rank_all(dot_scorer(positive, passages), made).above.tolist() == [[0]] * n
            assert rank_vectors(positive, passages, made).above.tolist() == [[0]] * n
            scores, places = top_k(positive, passages, 34)
            assert places.tolist() == [list(range(34))] * n
            assert (scores[:, :33] == scores[:, :1]).all()


def test_a_score_is_that_of_its_two_vectors():
    """The exact sum, rounded once, by rational arithmetic; in any company, and by either search."""
    rng = np.random.default_rng(1)
    queries, passages = unit(rng, 7, 100), unit(rng, 300, 100)
    passages[200:] = passages[:100]
    scores = dot_scorer(queries, passages)(slice(None), slice(None))
    for q, p in ((0, 0), (3, 250), (6, 299)):
        exact = sum(
            (Fraction(float(a)) * Fraction(float(b)) for a, b in zip(queries[q], passages[p], strict=True)), Fraction(0)
        )
        assert scores[q, p] == np.float32(float(exact))
        assert dot_scorer(queries[q : q + 1], passages[p : p + 1])(slice(None), slice(None)) == scores[q, p]
    found, places = top_k(queries, passages, 150)
    assert places.tolist() == [ordered(row, range(300))[:150] for row in scores]
    assert (found == np.take_along_axis(scores, places, axis=1)).all()


def test_what_rounding_leaves_open_is_summed_again(monkeypatch):
    """With a bound that leaves all open: the same scores, now all by the sum of fixed order."""
    rng = np.random.default_rng(2)
    queries, passages = unit(rng, 9, 50), unit(rng, 60, 50)
    scores = dot_scorer(queries, passages)(slice(None), slice(None))
    monkeypatch.setattr(dot, "_error", lambda *_: 1.0)
    assert (dot_scorer(queries, passages)(slice(None), slice(None)) == scores).all()


def test_top_k_of_no_passages():
    scores, places = top_k(np.ones((3, 2), np.float32), np.ones((0, 2), np.float32), 5)
    assert scores.shape == places.shape == (3, 0)


def test_top_k_agrees_with_exact_ranks():
    rng = np.random.default_rng(5)
    made = random_benchmark(rng, languages=("en",))
    queries, passages = embeddings(rng, 40), embeddings(rng, 60)
    _, places = top_k(queries, passages, 60)
    ranks = 1 + rank_all(dot_scorer(queries, passages), made).above[:, 0]
    pairs = [(q, place) for q, relevant in enumerate(made.relevant) for place in relevant]
    assert ranks.tolist() == [places[q].tolist().index(place) + 1 for q, place in pairs]
