"""Cost of exact scores: search as the evaluation does it, beside plain float32 matrix products, in one run.

    python tests/scripts/search_speed.py [QUERIES PASSAGES DIMENSION]

Ranks every query (1,000, in one language of 50,000 passages, 384 dimensions) with both scores, in turn, on one thread.
CPU seconds are counted, so that the load of the machine matters little, and the ratio of the medians is printed.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from threadpoolctl import threadpool_limits

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage, Query
from hybridir.retrieval.search import DEPTH, dot_scorer, rank_all, top_k

ROUNDS = 3


def main(n_queries: int = 1000, n_passages: int = 50_000, dimension: int = 384) -> None:
    rng = np.random.default_rng(0)
    query_QD, passage_PD = (unit(rng, rows, dimension) for rows in (n_queries, n_passages))
    made = Benchmark(
        name="made",
        languages=("en",),
        queries=tuple(
            Query(query_id=str(n), language="en", text="", group_id=str(n), cluster=str(n)) for n in range(n_queries)
        ),
        passages=Passages(Passage(passage_id=str(n), language="en", text="") for n in range(n_passages)),
        relevant=tuple((int(n),) for n in rng.integers(n_passages, size=n_queries)),
    )
    plain = lambda queries, passages: query_QD[queries] @ passage_PD[passages].T  # noqa: E731
    runs = {
        "an evaluation": (
            lambda: rank_all(dot_scorer(query_QD, passage_PD), made, DEPTH),
            lambda: rank_all(plain, made, DEPTH),
        ),
        "top 100": (lambda: top_k(query_QD, passage_PD, 100), lambda: plain_top(query_QD, passage_PD)),
    }
    print(f"{n_queries:,} queries, {n_passages:,} passages, {dimension} dimensions; CPU seconds on one thread")
    with threadpool_limits(1):
        for name, (ours, other) in runs.items():
            rounds = [(seconds(ours), seconds(other)) for _ in range(ROUNDS)]
            own, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(f"{name}: {own:.2f} with exact scores, {theirs:.2f} plain, ratio {own / theirs:.2f}")


def plain_top(query_QD: np.ndarray, passage_PD: np.ndarray) -> np.ndarray:
    """The 100 best of a float32 product, 256 queries at a time; ties as they come."""
    return np.concatenate(
        [
            np.argpartition(query_QD[n : n + 256] @ passage_PD.T, -100, axis=1)[:, -100:]
            for n in range(0, len(query_QD), 256)
        ]
    )


def unit(rng: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    made = rng.standard_normal((rows, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
