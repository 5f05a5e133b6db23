"""Exact ranks over millions of vectors on disk: time, memory, and a check in float64.

    python tests/scripts/scale.py DIR [PASSAGES [DTYPE]]

Makes an index of random vectors of length 1 (1,000,000 x 256, float32) in DIR, unless it is there, and ranks 1,000
queries, one relevant passage each, with their best 100. Printed: seconds (wall and CPU) of the ranks, of reading the
files alone, and of faiss flat over the same blocks; the peak of anonymous memory while ranking, without page cache. The
ranks of 20 queries are counted again from float64 products; if one differs, the script fails.
"""

import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Query
from hybridir.retrieval.config import MOST_ROWS
from hybridir.retrieval.search import DEPTH, Ranking
from hybridir.retrieval.sharded import Sharded, rank_sharded
from hybridir.retrieval.shards import Index, Shard

QUERIES, DIMENSION, CHECKED = 1000, 256, 20


def main(folder: Path, n_passages: int = 1_000_000, dtype: str = "float32") -> None:
    index = generated(folder / f"{n_passages}-{dtype}", n_passages, dtype)
    rng = np.random.default_rng(1)
    query_QD = unit(rng, QUERIES)
    asked = Benchmark(
        name="made",
        languages=("en",),
        queries=tuple(
            Query(query_id=str(n), language="en", text="", group_id=str(n), cluster=str(n)) for n in range(QUERIES)
        ),
        passages=Passages(),
        relevant=tuple((int(n),) for n in rng.integers(n_passages, size=QUERIES)),
    )
    vectors = Sharded(index, index.together())
    print(f"{QUERIES:,} queries, {n_passages:,} passages x {DIMENSION}, {dtype}", flush=True)
    found: list[Ranking] = []
    before = anonymous()
    with Peak() as peak:
        timed("exact ranks, best 100", lambda: found.append(rank_sharded(query_QD, vectors, asked, DEPTH)))
    print(f"peak of anonymous memory {peak.most / 1e6:,.0f} MB, {before / 1e6:,.0f} of them before", flush=True)
    timed("reading the files", lambda: [None for _ in vectors.blocks()])
    check(found[0], query_QD, vectors, [one[0] for one in asked.relevant])
    try:
        import faiss
    except ImportError:
        return
    product = faiss.METRIC_INNER_PRODUCT
    timed(
        "faiss flat, block by block",
        lambda: [faiss.knn(query_QD, b.vector_SD, DEPTH, metric=product) for b in vectors.blocks()],
    )


def generated(folder: Path, n_passages: int, dtype: str) -> Index:
    """An index of random vectors, without texts."""
    (folder / "vectors").mkdir(parents=True, exist_ok=True)
    starts = range(0, n_passages, MOST_ROWS)
    shards = [Shard(n, "en", min(MOST_ROWS, n_passages - start), "generated") for n, start in enumerate(starts)]
    index = Index(folder, {"dtype": dtype}, tuple(shards))
    for shard in index.waiting():
        index.write(shard, unit(np.random.default_rng([shard.number]), shard.rows))
    return index


def check(ranking: Ranking, query_QD: np.ndarray, vectors: Sharded, relevant: list[int]) -> None:
    """Counts the ranks of some queries again: scores from float64 products, rounded once; ties by position."""
    some = np.linspace(0, QUERIES - 1, CHECKED).astype(int)
    place_N = np.array(relevant)[some]
    query_ND = query_QD[some].astype(np.float64)
    own_N = np.array([vectors.at(place_N[n : n + 1])[0].astype(np.float64) @ query_ND[n] for n in range(CHECKED)])
    own_N, above_N = own_N.astype(np.float32), np.zeros(CHECKED, dtype=np.int64)
    for block in vectors.blocks():
        score_NS = (query_ND @ block.vector_SD.astype(np.float64).T).astype(np.float32)
        first = (score_NS == own_N[:, None]) & (block.place_S < place_N[:, None])
        above_N += ((score_NS > own_N[:, None]) | first).sum(axis=1)
    if not np.array_equal(above_N, ranking.above[some, 0]):
        raise SystemExit(f"ranks differ from those in float64: {ranking.above[some, 0].tolist()}, {above_N.tolist()}")
    print(f"the ranks of {CHECKED} queries are those in float64", flush=True)


class Peak:
    """The most anonymous memory of this process while entered, looked at every 10 ms."""

    def __enter__(self) -> "Peak":
        self.most, self._ended = 0, threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.01):
            self.most = max(self.most, anonymous())


def anonymous() -> int:
    """Bytes of anonymous memory of this process."""
    (line,) = (
        one for one in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if one.startswith("RssAnon")
    )
    return int(line.split()[1]) * 1024


def timed(name: str, run: Callable[[], object]) -> None:
    began, cpu = time.perf_counter(), time.process_time()
    run()
    print(f"{name}: {time.perf_counter() - began:.1f} s, {time.process_time() - cpu:.1f} of CPU", flush=True)


def unit(rng: np.random.Generator, rows: int) -> np.ndarray:
    made = rng.standard_normal((rows, DIMENSION)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]), *sys.argv[3:])
