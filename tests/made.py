"""Benchmarks made by hand or at random, and scores for them."""

import numpy as np

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage, Query
from hybridir.retrieval.search import Ranking, rank_all


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


def parallel(languages: tuple[str, ...] = ("de", "en"), n_questions: int = 6, n_clusters: int = 3) -> Benchmark:
    """Each question is asked in every language, and has one answer in each."""
    ends = [(x, n) for x in languages for n in range(n_questions)]
    return Benchmark(
        name="made",
        languages=languages,
        passages=Passages(Passage(passage_id=str(n), language=x, text=f"answer {n} in {x}") for x, n in ends),
        queries=tuple(
            Query(query_id=f"{x}:{n}", language=x, text=f"question {n}", group_id=str(n), cluster=str(n % n_clusters))
            for x, n in ends
        ),
        relevant=tuple(tuple(range(n, len(ends), n_questions)) for _, n in ends),
        notes=("one query was left out",),
    )


def ranked(benchmark: Benchmark, score_QP: np.ndarray) -> Ranking:
    return rank_all(lambda queries, passages: score_QP[queries, passages], benchmark, 10)


def own_first(benchmark: Benchmark) -> np.ndarray:
    """2 for the right answer in the query's language, 1 for all others there, 0.5 for right answers elsewhere."""
    score_QP = np.zeros((len(benchmark.queries), len(benchmark.passages)), dtype=np.float32)
    for q, query in enumerate(benchmark.queries):
        score_QP[q, list(benchmark.relevant[q])] = 0.5
        for p, passage in enumerate(benchmark.passages):
            if passage.language == query.language:
                score_QP[q, p] = 2 if p in benchmark.relevant[q] else 1
    return score_QP
