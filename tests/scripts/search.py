"""Cost of exact search, beside a bare float32 matrix product and faiss flat, in one run.

    python tests/scripts/search.py [QUERIES PASSAGES DIMENSION]

Random vectors of length 1 (1,000 queries, 100,000 passages, 256 dimensions). CPU seconds on one thread, so that the
load of the machine matters little; in turns, and the medians are printed with their ratio to the product.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage, Query
from hybridir.retrieval.nearest import rank_vectors, top_k
from hybridir.retrieval.search import DEPTH

ROUNDS = 5


def main(n_queries: int = 1000, n_passages: int = 100_000, dimension: int = 256) -> None:
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
    there = [torch.from_numpy(one) for one in (query_QD, passage_PD)]
    score_QP = torch.empty(n_queries, n_passages)
    runs: dict[str, Callable[[], object]] = {
        "matrix product": lambda: torch.mm(there[0], there[1].T, out=score_QP),
        "top 100": lambda: top_k(query_QD, passage_PD, 100),
        "exact ranks": lambda: rank_vectors(query_QD, passage_PD, made),
        "exact ranks, best 100 by language": lambda: rank_vectors(query_QD, passage_PD, made, DEPTH),
    }
    try:
        import faiss

        faiss.omp_set_num_threads(1)
        runs["faiss flat, 100"] = lambda: faiss.knn(query_QD, passage_PD, 100, metric=faiss.METRIC_INNER_PRODUCT)
    except ImportError:
        print("faiss is not installed")
    torch.set_num_threads(1)
    print(f"{n_queries:,} queries, {n_passages:,} passages, {dimension} dimensions; CPU seconds on one thread")
    with threadpool_limits(1):
        rounds = [{name: seconds(run) for name, run in runs.items()} for _ in range(ROUNDS)]
    for name in runs:
        median = statistics.median(one[name] for one in rounds)
        ratio = statistics.median(one[name] / one["matrix product"] for one in rounds)
        print(f"{name}: {median:.2f} s, {ratio:.2f} times the matrix product")


def unit(rng: np.random.Generator, rows: int, dimension: int) -> np.ndarray:
    made = rng.standard_normal((rows, dimension)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def seconds(run: Callable[[], object]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
