"""Search, exact ranks, measures, rank distance, BM25 and the averages over settings."""

from dataclasses import replace
from fractions import Fraction

import ir_measures
import numpy as np
import pytest
from helpers import rows_of

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage, Query
from hybridir.evaluation import metrics
from hybridir.evaluation import settings as evaluate
from hybridir.evaluation.bias import rank_distance
from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import evaluate_encoder, evaluate_scores, summarise
from hybridir.retrieval import bm25, search
from hybridir.retrieval.bm25 import bm25_scorer
from hybridir.retrieval.search import passage_shards, rank_all, top_k


def benchmark(languages, passages, queries):
    """`passages`: (language, text); `queries`: (language, text, relevant positions)."""
    return Benchmark(
        name="made",
        languages=tuple(languages),
        passages=Passages(Passage(passage_id=str(n), language=x, text=t) for n, (x, t) in enumerate(passages)),
        queries=tuple(
            Query(query_id=f"q{n}", language=x, text=t, group_id=f"g{n}", cluster="c")
            for n, (x, t, _) in enumerate(queries)
        ),
        relevant=tuple(tuple(relevant) for _, _, relevant in queries),
    )


def random_benchmark(rng, n_queries=40, n_passages=60, languages=("de", "en", "zh"), interleaved=False):
    """1 to 6 relevant passages a query, at any place."""
    of_passage = np.sort(rng.integers(len(languages), size=n_passages))
    if interleaved:
        rng.shuffle(of_passage)
    return benchmark(
        languages,
        [(languages[n], "") for n in of_passage],
        [
            (languages[rng.integers(len(languages))], "", rng.choice(n_passages, rng.integers(1, 7), replace=False))
            for _ in range(n_queries)
        ],
    )


def scorer(scores_QP):
    return lambda queries, passages: scores_QP[queries, passages]


def ordered(scores_P, places):
    """`places`, best first, by this project's rule for ties."""
    return sorted(places, key=lambda place: (-scores_P[place], place))


# Measures of one query


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


# Against ir-measures (trec_eval)

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
    right = search._count
    monkeypatch.setattr(search, "_count", lambda s, first, own, place: right(s, first, own, place + 1))
    with pytest.raises(AssertionError):
        assert_agrees(made, scores)


# Exact ranks


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
@pytest.mark.parametrize("path", [search.top_k, search._top_k_of_all], ids=["faiss", "all"])
def test_top_k_with_ties_at_the_border(monkeypatch, path, k, shard):
    if path is search.top_k:
        pytest.importorskip("faiss")
    monkeypatch.setattr(search, "PASSAGE_SHARD", shard)
    rng = np.random.default_rng(k)
    queries, passages = embeddings(rng, 30), embeddings(rng, 50)
    scores, places = path(queries, passages, k)
    exact = queries @ passages.T
    expected = [ordered(row, range(50))[:k] for row in exact]
    assert places.tolist() == expected
    assert scores.tolist() == np.take_along_axis(exact, np.array(expected), axis=1).tolist()


def test_top_k_without_faiss(monkeypatch):
    rng = np.random.default_rng(0)
    queries, passages = embeddings(rng, 5), embeddings(rng, 20)
    with_faiss = top_k(queries, passages, 4)
    monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    for a, b in zip(with_faiss, top_k(queries, passages, 4), strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == b.dtype


@pytest.mark.parametrize("with_faiss", [True, False])
@pytest.mark.parametrize("where", ["queries", "passages"])
def test_top_k_refuses_what_is_not_a_number(monkeypatch, where, with_faiss):
    """A place of -1 would be the last passage in Python."""
    if not with_faiss:
        monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
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
            assert rank_all(search.dot_scorer(positive, passages), made).above.tolist() == [[0]] * n
            scores, places = top_k(positive, passages, 34)
            assert places.tolist() == [list(range(34))] * n
            assert (scores[:, :33] == scores[:, :1]).all()


@pytest.mark.parametrize("with_faiss", [True, False])
def test_a_score_is_that_of_its_two_vectors(monkeypatch, with_faiss):
    """The exact sum, rounded once, by rational arithmetic; in any company, and by either search."""
    rng = np.random.default_rng(1)
    queries, passages = unit(rng, 7, 100), unit(rng, 300, 100)
    passages[200:] = passages[:100]
    scores = search.dot_scorer(queries, passages)(slice(None), slice(None))
    for q, p in ((0, 0), (3, 250), (6, 299)):
        exact = sum(
            (Fraction(float(a)) * Fraction(float(b)) for a, b in zip(queries[q], passages[p], strict=True)), Fraction(0)
        )
        assert scores[q, p] == np.float32(float(exact))
        assert search.dot_scorer(queries[q : q + 1], passages[p : p + 1])(slice(None), slice(None)) == scores[q, p]
    if not with_faiss:
        monkeypatch.setattr(search.importlib.util, "find_spec", lambda name: None)
    found, places = top_k(queries, passages, 150)
    assert places.tolist() == [ordered(row, range(300))[:150] for row in scores]
    assert (found == np.take_along_axis(scores, places, axis=1)).all()


def test_what_rounding_leaves_open_is_summed_again(monkeypatch):
    """With a bound that leaves all open: the same scores, now all by the sum of fixed order."""
    rng = np.random.default_rng(2)
    queries, passages = unit(rng, 9, 50), unit(rng, 60, 50)
    scores = search.dot_scorer(queries, passages)(slice(None), slice(None))
    monkeypatch.setattr(search, "_error", lambda *_: 1.0)
    assert (search.dot_scorer(queries, passages)(slice(None), slice(None)) == scores).all()


def test_top_k_of_no_passages():
    scores, places = top_k(np.ones((3, 2), np.float32), np.ones((0, 2), np.float32), 5)
    assert scores.shape == places.shape == (3, 0)


def test_top_k_agrees_with_exact_ranks():
    rng = np.random.default_rng(5)
    made = random_benchmark(rng, languages=("en",))
    queries, passages = embeddings(rng, 40), embeddings(rng, 60)
    _, places = top_k(queries, passages, 60)
    ranks = 1 + rank_all(search.dot_scorer(queries, passages), made).above[:, 0]
    pairs = [(q, place) for q, relevant in enumerate(made.relevant) for place in relevant]
    assert ranks.tolist() == [places[q].tolist().index(place) + 1 for q, place in pairs]


# Settings


class Vectors:
    """An encoder that knows a vector for every text."""

    def __init__(self, vectors):
        self.vectors = vectors

    def encode(self, texts, side):
        return np.stack([self.vectors[side, text] for text in texts]).astype(np.float32)


def test_three_settings_by_hand():
    """A query in each language, two answers, and one distractor a language; scores are given."""
    made = benchmark(
        ["de", "en"],
        [("de", "a"), ("de", "b"), ("en", "c"), ("en", "d")],
        [("de", "x", [0, 2]), ("en", "y", [0, 2])],
    )
    # Rank of x's answers: a 1 in de, c 2 in en, pooled 1 and 4. Of y's: a 2 in de, c 1 in en, pooled 3 and 2 (b ties).
    scores = np.array([[0.9, 0.5, 0.1, 0.2], [0.2, 0.3, 0.3, 0.1]], dtype=np.float32)
    result = summarise(evaluate_scores(scorer(scores), made), made)
    assert result["monolingual"]["mAP"] == 1
    assert result["crosslingual"]["mAP"] == 1 / 2
    assert (result["per_pair"]["de-en"]["mAP"], result["per_pair"]["en-de"]["mAP"]) == (1 / 2, 1 / 2)
    assert result["multilingual"]["mAP"] == pytest.approx(((1 + 2 / 4) / 2 + (1 / 2 + 2 / 3) / 2) / 2)
    assert result["multilingual"]["rank_distance"] == (3 + 1) / 2
    assert result["multilingual"]["R@1"] == 0.25
    assert result["multilingual"]["success@1"] == 0.5
    assert result["per_language"]["de"]["multilingual"]["rank_distance"] == 3
    assert result["per_language"]["en"]["monolingual"]["RR@10"] == 1
    assert set(result["per_pair"]) == {"de-de", "de-en", "en-de", "en-en"}
    for setting, n in (("monolingual", 2), ("crosslingual", 2), ("multilingual", 2)):
        assert (result[setting]["n_queries"], result[setting]["excluded"]) == (n, 0)


def test_macro_average_is_over_languages_not_queries():
    passages = [("de", "a"), ("de", "b"), ("en", "c"), ("en", "d")]
    queries = [("de", "", [0])] * 3 + [("en", "", [2])]
    made = benchmark(["de", "en"], passages, queries)
    scores = np.array([[1, 0, 0, 0]] * 3 + [[0, 0, 0, 1]], dtype=np.float32)
    result = summarise(evaluate_scores(scorer(scores), made), made)
    assert result["monolingual"]["mAP"] == (1 + 0.5) / 2


def test_excluded_are_counted():
    passages = [(x, "") for x in ("de", "de", "en", "en", "zh", "zh")]
    queries = [
        ("de", "", [0, 2]),  # de, en
        ("de", "", [1]),  # de alone
        ("en", "", [3, 0]),  # en, de
        ("zh", "", [2, 4, 5]),  # en, zh twice
        ("zh", "", []),  # nothing
    ]
    made = benchmark(["de", "en", "zh"], passages, queries)
    scores = evaluate_scores(scorer(np.random.default_rng(0).random((5, 6), dtype=np.float32)), made)
    result = summarise(scores, made)
    counts = {s: (result[s]["n_queries"], result[s]["excluded"]) for s in evaluate.SETTINGS}
    assert counts == {"monolingual": (4, 1), "crosslingual": (3, 7), "multilingual": (4, 1)}
    assert set(result["per_pair"]) == {"de-de", "de-en", "en-en", "en-de", "zh-zh", "zh-en"}
    pooled = {one.query: one.values for one in rows_of(scores, made) if one.setting == "multilingual"}
    assert [q for q in pooled if "rank_distance" in pooled[q]] == [0, 2, 3]  # at least two answers


def test_perfect_encoder_and_one_that_is_blind_across_languages():
    languages = ("de", "en", "zh")
    passages = [(x, f"{n} {x}") for x in languages for n in range(10)]
    queries = [(x, f"{n} {x}?", [n, n + 10, n + 20]) for x in languages for n in range(10)]
    made = benchmark(languages, passages, queries)
    axes = np.eye(13)
    for weight in (0.0, 5.0):  # of the language beside the meaning
        vectors = {}
        for number, x in enumerate(languages):
            for n in range(10):
                vector = axes[n] + weight * axes[10 + number]
                vectors["passage", f"{n} {x}"] = vectors["query", f"{n} {x}?"] = vector
        result = summarise(evaluate_encoder(Vectors(vectors), made), made)
        assert result["monolingual"]["mAP"] == result["crosslingual"]["mAP"] == 1
        assert (result["multilingual"]["mAP"] == 1) == (weight == 0)
        distance = result["multilingual"]["rank_distance"]
        assert distance == 2 if weight == 0 else distance > 9


@pytest.mark.parametrize(("n_languages", "size"), [(2, 50), (5, 30)])
def test_random_encoder_has_the_expected_rank_distance(n_languages, size):
    rng = np.random.default_rng(1)
    languages = [f"l{n}" for n in range(n_languages)]
    passages = [(x, f"{n} {x}") for x in languages for n in range(size)]
    queries = [(languages[0], f"q{i}", [i % size + size * n for n in range(n_languages)]) for i in range(600)]
    made = benchmark(languages, passages, queries)
    vectors = {("passage", t): rng.normal(size=256) for _, t in passages}
    vectors |= {("query", t): rng.normal(size=256) for _, t, _ in queries}
    scores = evaluate_encoder(Vectors(vectors), made)
    distances = scores.column("rank_distance", "multilingual").values_KN[0]
    total = len(passages)
    expected = (total + 1) * (n_languages - 1) / (n_languages + 1)
    assert abs(distances.mean() - expected) < 4 * distances.std() / len(distances) ** 0.5
    assert 4 * distances.std() / len(distances) ** 0.5 < 0.15 * expected  # the bound is narrow enough to fail


# BM25


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("ISPARTA İstanbul", "tr", ["ısparta", "istanbul"]),
        ("I\u0307stanbul IŞIK", "az_Latn", ["istanbul", "ışık"]),
        ("ISPARTA İstanbul", "en", ["isparta", "istanbul"]),
        ("مُحَمَّدٌ", "ar", ["محمد"]),
        ("هٰذا كتـــاب", "ar", ["هذا", "كتاب"]),
        ("می\u200cخواهم", "fa", ["میخواهم"]),
        ("co\u00adoperate \ufeffx", "en", ["cooperate", "x"]),
        ("क्\u200dष", "hi", ["क्ष"]),
        ("人々と", "ja", ["人々", "々と"]),
        ("〆切", "ja", ["〆切"]),
        ("二〇二四", "zh", ["二〇", "〇二", "二四"]),
        ("ﾀﾜｰ", "ja", ["タワ", "ワー"]),
    ],
)
def test_tokens_of_a_language(text, language, expected):
    assert bm25.tokens(text, language) == expected


def test_bm25_reads_in_the_language_of_each_text():
    made = benchmark(
        ("en", "tr"),
        [("tr", "ısparta"), ("tr", "isparta"), ("en", "isparta"), ("en", "ısparta")],
        [("tr", "ISPARTA", [0]), ("en", "ISPARTA", [2])],
    )
    scores = np.concatenate([bm25_scorer(made)(slice(0, 2), shard) for _, shard in passage_shards(made)], axis=1)
    assert (scores > 0).tolist() == [[True, False, False, True], [False, True, True, False]]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("What is the capital of France?", ["what", "is", "the", "capital", "of", "france"]),
        ("it's 3.5 km", ["it", "s", "3", "5", "km"]),
        ("首都是北京。", ["首都", "都是", "是北", "北京"]),
        ("中", ["中"]),
        ("iPhone在中国", ["iphone", "在中", "中国"]),
        ("ไทย", ["ไท", "ทย"]),
        ("น้ำ", ["น้", "้ํ", "ํา"]),  # NFKC splits sara am
        ("भारत की राजधानी", ["भारत", "की", "राजधानी"]),  # vowel signs are parts of words
        ("Straße ＡＢＣ", ["straße", "abc"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー"]),
        ("서울은 수도", ["서울은", "수도"]),
        ("", []),
        ("?! …", []),
    ],
)
def test_tokens(text, expected):
    assert bm25.tokens(text) == expected


SENTENCES = {
    "en": ["The capital of France is Paris.", "Berlin lies on the Spree.", "Rice is grown in paddies.", "A B C"],
    "hi": ["फ़्रांस की राजधानी पेरिस है।", "बर्लिन स्प्री नदी पर है।", "चावल धान के खेतों में उगता है।", "अ ब स"],
    "th": ["เมืองหลวงของฝรั่งเศสคือปารีส", "เบอร์ลินตั้งอยู่ริมแม่น้ำชเปร", "ข้าวปลูกในนา", "กขค"],
    "zh": ["法国的首都是巴黎。", "柏林位于施普雷河畔。", "水稻种在田里。", "甲乙丙"],
}


def sentences_benchmark():
    """Every sentence is a query too; its answer is itself."""
    passages = [(x, t) for x, texts in SENTENCES.items() for t in texts]
    return benchmark(SENTENCES, passages, [(x, t, [n]) for n, (x, t) in enumerate(passages)])


@pytest.mark.parametrize("shard", [3, 65536])
def test_bm25_finds_the_exact_sentence(monkeypatch, shard):
    monkeypatch.setattr(search, "PASSAGE_SHARD", shard)
    made = sentences_benchmark()
    result = summarise(evaluate_scores(bm25_scorer(made), made), made)
    assert result["monolingual"]["success@1"] == result["multilingual"]["success@1"] == 1
    assert result["monolingual"]["n_queries"] == 16


def test_bm25_scores_do_not_depend_on_shards(monkeypatch):
    """Document frequencies are those of the whole language."""
    made = sentences_benchmark()
    score = bm25_scorer(made)
    whole = np.concatenate([score(slice(0, 16), shard) for _, shard in passage_shards(made)], axis=1)
    monkeypatch.setattr(search, "PASSAGE_SHARD", 3)
    score = bm25_scorer(made)
    cut = np.concatenate([score(slice(0, 16), shard) for _, shard in passage_shards(made)], axis=1)
    assert len(passage_shards(made)) == 8
    assert np.array_equal(whole, cut)
    blocks = [score(slice(first, first + 4), passage_shards(made)[0][1]) for first in (0, 4, 8, 12)]
    assert np.array_equal(np.concatenate(blocks), whole[:, :3])


def test_bm25_by_hand():
    """Lucene's BM25 with k1 = 1.5, b = 0.75: idf = ln(1 + (N - n + 0.5) / (n + 0.5)), no factor k1 + 1."""
    made = benchmark(["en"], [("en", "a a b"), ("en", "b c"), ("en", "c d e f")], [("en", "a c zz", [0])])
    scores = bm25_scorer(made)(slice(0, 1), slice(0, 3))[0]
    weight = lambda tf, length: tf / (tf + 1.5 * (0.25 + 0.75 * length / 3))  # noqa: E731
    idf_a, idf_c = np.log(1 + 2.5 / 1.5), np.log(1 + 1.5 / 2.5)
    assert scores == pytest.approx([idf_a * weight(2, 3), idf_c * weight(1, 2), idf_c * weight(1, 4)], rel=1e-5)


def test_bm25_of_a_language_without_words():
    passages = [("de", "?!"), ("de", "…"), ("en", "word")]
    made = benchmark(["de", "en"], passages, [("en", "word ?", [2]), ("de", "!", [1])])
    result = summarise(evaluate_scores(bm25_scorer(made), made), made)
    assert result["per_pair"]["en-en"]["mAP"] == 1
    assert result["per_pair"]["de-de"]["mAP"] == 0.5  # all tied at 0: second in order
