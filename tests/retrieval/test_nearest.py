"""Search over vectors finds what scoring every pair exactly finds, bit for bit: for any cut, any ties, any device."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage, Query
from hybridir.retrieval import dot, nearest, parts, search
from hybridir.retrieval.dot import dot_scorer, pair_scores
from hybridir.retrieval.nearest import rank_vectors, top_k
from hybridir.retrieval.search import Ranking, rank_all

QUERIES, PASSAGES, DIMENSION = 50, 500, 300
LANGUAGES = ("de", "en", "zh")


def unit(rng: np.random.Generator, rows: int, dimension: int = DIMENSION) -> np.ndarray:
    made = rng.standard_normal((rows, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def vectors(rng: np.random.Generator, kind: str) -> np.ndarray:
    """`copies`: every passage many times; `near`: some of them a rounding apart; `same`: all the same."""
    passages = unit(rng, PASSAGES)
    if kind == "copies":
        return passages[rng.integers(20, size=PASSAGES)]
    if kind == "near":
        near = passages[rng.integers(60, size=PASSAGES)]
        return near * (1 + rng.integers(-1, 2, size=near.shape).astype(np.float32) * np.float32(2**-23))
    if kind == "same":
        return np.repeat(passages[:1], PASSAGES, axis=0)
    return passages


def made(rng: np.random.Generator, interleaved: bool = False) -> Benchmark:
    """0 to 6 relevant passages a query; some queries are passages themselves."""
    of_passage = np.sort(rng.integers(3, size=PASSAGES))
    if interleaved:
        rng.shuffle(of_passage)
    return Benchmark(
        name="made",
        languages=LANGUAGES,
        queries=tuple(
            Query(query_id=str(n), language="en", text="", group_id=str(n), cluster=str(n)) for n in range(QUERIES)
        ),
        passages=Passages(Passage(passage_id=str(n), language=LANGUAGES[x], text="") for n, x in enumerate(of_passage)),
        relevant=tuple(
            tuple(rng.choice(PASSAGES - 90, rng.integers(7), replace=False).tolist()) for _ in range(QUERIES)
        ),
        own=tuple(PASSAGES - 1 - n if n % 3 else -1 for n in range(QUERIES)),
    )


def assert_same(found: Ranking, expected: Ranking) -> None:
    for name, value in vars(expected).items():
        if value is None:  # of a scorer, which has no vectors
            continue
        assert np.array_equal(getattr(found, name), value), name
        assert getattr(found, name).dtype == value.dtype


@pytest.fixture(params=["as it is", "small parts", "all by float64", "none by float64", "on a device"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every path through the search."""
    if request.param == "small parts":
        for where, name, value in ((parts, "ROWS", 16), (parts, "SCORES", 99), (nearest, "_PENDING", 5)):
            monkeypatch.setattr(where, name, value)
        monkeypatch.setattr(search, "PASSAGE_SHARD", 130)
    if request.param == "all by float64":
        monkeypatch.setattr(parts, "_LARGE", 0.0)
    if request.param == "none by float64":
        monkeypatch.setattr(parts, "TIES", 0.001)
    if request.param == "on a device":
        monkeypatch.setattr(parts, "IN_NUMPY", set())


KINDS = [("plain", False), ("copies", False), ("near", False), ("same", False), ("near", True)]


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Vectors, and the ranks, lists and scores that scoring every pair exactly gives."""
    kind, interleaved = request.param
    rng = np.random.default_rng(0)
    benchmark, queries, passages = made(rng, interleaved), unit(rng, QUERIES), vectors(rng, kind)
    score = dot_scorer(queries, passages)
    plain = replace(benchmark, own=())
    wanted = [(benchmark, depth) for depth in ((0, 7) if interleaved else (0, 7, 400))] + [(plain, 7)]
    return SimpleNamespace(
        queries=queries,
        passages=passages,
        rankings=[(of, depth, rank_all(score, of, depth)) for of, depth in wanted],
        scores=score(slice(None), slice(None)),
    )


def test_ranks_and_lists_are_those_of_exact_scores(case: SimpleNamespace, way: None) -> None:
    for benchmark, depth, expected in case.rankings:
        assert_same(rank_vectors(case.queries, case.passages, benchmark, depth), expected)
    scores, places = top_k(case.queries, case.passages, 50)
    assert places.tolist() == [sorted(range(PASSAGES), key=lambda n: (-row[n], n))[:50] for row in case.scores]
    assert np.array_equal(scores, np.take_along_axis(case.scores, places, axis=1))


@pytest.mark.parametrize("scale", [1e-22, 1e-12, 3.0, 1e17])
def test_vectors_of_any_length(scale: float) -> None:
    """Also where float32 products of them underflow, and where sums of squares do."""
    rng = np.random.default_rng(1)
    queries, passages = (unit(rng, rows) * np.float32(scale) for rows in (QUERIES, PASSAGES))
    benchmark = made(rng)
    assert_same(rank_vectors(queries, passages, benchmark, 9), rank_all(dot_scorer(queries, passages), benchmark, 9))


def test_scores_too_large_for_float32_are_refused() -> None:
    rng = np.random.default_rng(1)
    queries, passages = (unit(rng, rows) * np.float32(1e24) for rows in (QUERIES, PASSAGES))
    with pytest.raises(ValueError, match="a score is not finite"):
        top_k(queries, passages, 3)
    with pytest.raises(ValueError, match="a score is not finite"):
        rank_vectors(queries, passages, made(rng))


def test_float16_vectors_are_scored_as_they_are() -> None:
    rng = np.random.default_rng(2)
    benchmark, queries, half = made(rng), unit(rng, QUERIES), unit(rng, PASSAGES).astype(np.float16)
    expected = rank_all(dot_scorer(queries, half.astype(np.float32)), benchmark, 9)
    assert_same(rank_vectors(queries, half, benchmark, 9), expected)


@pytest.mark.parametrize("sparse", [False, True])
def test_scores_of_pairs(sparse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of `dot_scorer`, also where many sums are near 0, and where all are summed again."""
    rng = np.random.default_rng(3)
    queries, passages = unit(rng, 9, 60), unit(rng, 40, 60)
    if sparse:
        queries, passages = (one * (rng.random(one.shape) < 0.05) for one in (queries, passages))
    pairs = rng.integers(9, size=500), rng.integers(40, size=500)
    expected = dot_scorer(queries, passages)(slice(None), slice(None))[pairs]
    assert np.array_equal(pair_scores(queries, passages, *pairs), expected)
    monkeypatch.setattr(dot, "_rounded", lambda exact, error: (0 * exact.astype(np.float32), exact == exact))
    assert np.array_equal(pair_scores(queries, passages, *pairs), expected)


def test_no_precision_but_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the process has allowed, the product is one of float32; afterwards it is allowed again."""
    import torch

    seen = []
    product = torch.mm
    monkeypatch.setattr(
        torch, "mm", lambda *a, **k: seen.append(torch.get_float32_matmul_precision()) or product(*a, **k)
    )
    torch.set_float32_matmul_precision("medium")
    try:
        top_k(np.ones((2, 3), np.float32), np.ones((4, 3), np.float32), 2)
        assert seen == ["highest"]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
