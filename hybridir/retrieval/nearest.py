"""Exact search over vectors: the top k, and the exact rank of every relevant passage, in one pass over the passages.

A float32 matrix product, on the CPU or a GPU, gives all scores within a bound on their error. Whatever that leaves
open (a score near that of a relevant passage, or near the k-th best) is scored again, exactly, as `dot.py` defines it.
So ranks are the same on every device and for any cut of passages into blocks, and equal scores follow the rule of
`ties.py`. The order of work: for each block of passages, for some queries at a time, for some columns at a time.

Shapes: Q queries, P passages, D dimension, R pairs of a query and a relevant passage, L languages, B some of the
queries, S some of the passages, N pairs of a query and a passage.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch

from hybridir.data.records import Benchmark
from hybridir.retrieval import parts, search
from hybridir.retrieval.dot import pair_scores
from hybridir.retrieval.parts import Block, InMemory, Part, Vectors, finite, finite_scores, scan
from hybridir.retrieval.search import Ranking
from hybridir.retrieval.ties import count_above, flip, keep_best, merge_best

_PENDING = 2**18
"""The most pairs that wait to be scored again."""


def rank_vectors(
    query_QD: np.ndarray, passages: Vectors | np.ndarray, benchmark: Benchmark, depth: int = 0, device: str = "cpu"
) -> Ranking:
    """Exact ranks of the relevant passages of a benchmark, and the best `depth` in each language; as `rank_all`.

    Args:
        query_QD: the vectors of its queries, in order.
        passages: the vectors of its passages; an array has them in order.

    Raises:
        ValueError: an embedding or a score is not finite.
    """
    if isinstance(passages, np.ndarray):
        passages = InMemory(passages, benchmark.language_P)
    ranking = rank_part(query_QD, passages, benchmark, depth, device)
    return replace(ranking, translated=translated(passages, benchmark)) if depth else ranking


def rank_part(
    query_QD: np.ndarray, passages: Vectors, benchmark: Benchmark, depth: int = 0, device: str = "cpu"
) -> Ranking:
    """As `rank_vectors`, without `translated`; of the benchmark only languages, `relevant` and `own` are used."""
    query_QD = finite(query_QD, "query")
    above = _Above.of(query_QD, passages, benchmark)
    best = _Best.of(query_QD, len(benchmark.languages), depth)
    own_Q = np.array(benchmark.own, dtype=np.int64) if benchmark.own else None
    scan(query_QD, passages, [above, best] if depth else [above], own_Q, torch.device(device))
    best.place_QLK[np.isneginf(best.score_QLK)] = -1
    return Ranking(above.above_RL, above.score_R, best.score_QLK, best.place_QLK)


def top_k(
    query_QD: np.ndarray, passages: Vectors | np.ndarray, k: int, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """The k best passages of each query: scores float32 [Q, k] in descending order and positions int64 [Q, k].

    With fewer than k passages, all are returned.

    Raises:
        ValueError: an embedding or a score is not finite.
    """
    if isinstance(passages, np.ndarray):
        k, passages = min(k, len(passages)), InMemory(passages, np.zeros(len(passages), dtype=np.int32))
    query_QD = finite(query_QD, "query")
    best = _Best.of(query_QD, 1, k)
    scan(query_QD, passages, [best], None, torch.device(device))
    return best.score_QLK[:, 0], best.place_QLK[:, 0]


def translated(passages: Vectors, benchmark: Benchmark) -> np.ndarray:
    """`Ranking.translated`, [G, L, D]."""
    n_languages = len(benchmark.languages)
    place_GL = search.translated_answers(benchmark) if n_languages > 1 else np.empty((0, n_languages), dtype=np.int64)
    place_N, nth_N = np.unique(place_GL[place_GL >= 0], return_inverse=True)
    vector_ND = passages.at(place_N)
    found = np.zeros((*place_GL.shape, vector_ND.shape[1]), dtype=np.float32)
    found[place_GL >= 0] = vector_ND[nth_N]
    return found


def _down(value: np.ndarray) -> np.ndarray:
    """float64 -> a float32 that is not above it."""
    return np.nextafter(value.astype(np.float32), np.float32(-np.inf))


def _up(value: np.ndarray) -> np.ndarray:
    return -_down(-value)


@dataclass
class _Above:
    """Counts, by language, the passages that rank before each relevant one."""

    query_QD: np.ndarray
    query_R: np.ndarray
    nth_R: np.ndarray  # which of the relevant passages of its query, from 0
    place_R: np.ndarray
    score_R: np.ndarray
    above_RL: np.ndarray
    waiting: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    @classmethod
    def of(cls, query_QD: np.ndarray, passages: Vectors, benchmark: Benchmark) -> "_Above":
        sizes = [len(found) for found in benchmark.relevant]
        query_R = np.repeat(np.arange(len(sizes)), sizes)
        nth_R = np.concatenate([np.arange(size) for size in sizes] or [query_R])
        place_R = np.array([place for found in benchmark.relevant for place in found], dtype=np.int64)
        score_R = np.empty(len(query_R), dtype=np.float32)
        for start in range(0, len(query_R), search.PASSAGE_SHARD):
            some = slice(start, start + search.PASSAGE_SHARD)
            place_N, nth_N = np.unique(place_R[some], return_inverse=True)
            vector_ND = finite(passages.at(place_N), "passage")
            score_R[some] = finite_scores(pair_scores(query_QD, vector_ND, query_R[some], nth_N))
        above_RL = np.zeros((len(query_R), len(benchmark.languages)), dtype=np.int64)
        return cls(query_QD, query_R, nth_R, place_R, score_R, above_RL)

    def add(self, part: Part) -> None:
        first, end = np.searchsorted(self.query_R, [part.rows.start, part.rows.stop])
        nth_R = self.nth_R[first:end]
        for n in range(int(nth_R.max(initial=-1)) + 1):
            pair_N = first + np.flatnonzero(nth_R == n)
            row_N, score_N = self.query_R[pair_N] - part.rows.start, self.score_R[pair_N].astype(np.float64)
            error_N = part.error_B[row_N]
            if part.rough:
                above_N, open_N, column_N = part.split(row_N, _down(score_N - error_N), _up(score_N + error_N))
            if not part.rough or len(open_N) * parts.TIES > part.score_BS[: len(row_N)].numel() + 2**10:
                exact = part.exact_BS[row_N], part.place_S, self.score_R[pair_N, None], self.place_R[pair_N, None]
                above_N, open_N = count_above(*exact)[:, 0], open_N[:0] if part.rough else np.empty(0, np.int64)
            self.above_RL[pair_N, part.block.language] += above_N
            if len(open_N):
                self.waiting.append((pair_N[open_N], column_N + part.columns.start))
        if sum(len(pair_N) for pair_N, _ in self.waiting) > _PENDING:
            self.settle(part.block, part.rows)

    def settle(self, block: Block, rows: slice) -> None:
        """Scores the waiting pairs again, exactly."""
        if not self.waiting:
            return
        pair_N, column_N = map(np.concatenate, zip(*self.waiting, strict=True))
        score_N = finite_scores(pair_scores(self.query_QD, block.vector_SD, self.query_R[pair_N], column_N))
        equal_N = (score_N == self.score_R[pair_N]) & (block.place_S[column_N] < self.place_R[pair_N])
        before_N = pair_N[(score_N > self.score_R[pair_N]) | equal_N]
        self.above_RL[:, block.language] += np.bincount(before_N, minlength=len(self.query_R))
        self.waiting = []


@dataclass
class _Best:
    """Keeps the k best passages of each language.

    Candidates of a block wait as integers that sort by row, then by descending score, then by column.
    """

    query_QD: np.ndarray
    score_QLK: np.ndarray
    place_QLK: np.ndarray
    waiting: list[np.ndarray] = field(default_factory=list)
    least_B: np.ndarray | None = None  # see `_least`; None before the first part of a block
    error_B: np.ndarray = field(default_factory=lambda: np.empty(0))

    @classmethod
    def of(cls, query_QD: np.ndarray, n_languages: int, k: int) -> "_Best":
        shape = (len(query_QD), n_languages, k)
        return cls(query_QD, np.full(shape, -np.inf, dtype=np.float32), np.full(shape, -1, dtype=np.int64))

    def add(self, part: Part) -> None:
        k, here = self.score_QLK.shape[2], (part.rows, part.block.language)
        n_rows, width = part.score_BS.shape
        self.error_B = part.error_B
        if self.least_B is None:
            self.least_B = _least(self.score_QLK[here][:, -1], self.error_B)
            if part.rough and width >= k and self.least_B.min() == _LEAST:
                self.least_B = np.maximum(self.least_B, _least(part.kth(k), 2 * self.error_B))
        if part.rough:
            row_N, column_N, score_N = part.over(self.least_B)
        if not part.rough or len(row_N) > 2 * k * n_rows + n_rows * width // parts.TIES:
            self.settle(part.block, part.rows)
            found = merge_best(self.score_QLK[here], self.place_QLK[here], part.exact_BS, part.place_S, k)
            self.score_QLK[here], self.place_QLK[here] = found
            return
        self.waiting.append(_keys(row_N, score_N, column_N + part.columns.start))
        most = max(2 * k * n_rows, 2**14)
        if sum(map(len, self.waiting)) > most:
            self._thin()
            if len(self.waiting[0]) > most:
                self.settle(part.block, part.rows)

    def _thin(self) -> np.ndarray:
        """Drops the candidates that cannot be among the k best; returns the rows of the others, ascending."""
        assert self.least_B is not None
        key_N = np.sort(np.concatenate(self.waiting))
        row_N = (key_N >> np.uint64(48)).astype(np.int64)
        start_B = np.searchsorted(row_N, np.arange(len(self.least_B)))
        k = self.score_QLK.shape[2]
        full = np.flatnonzero(np.diff(start_B, append=len(key_N)) >= k)
        kth = _least(_scores(key_N[start_B[full] + k - 1]), 2 * self.error_B[full])
        self.least_B[full] = np.maximum(self.least_B[full], kth)
        kept_N = _scores(key_N) >= self.least_B[row_N]
        self.waiting = [key_N[kept_N]]
        return row_N[kept_N]

    def settle(self, block: Block, rows: slice) -> None:
        """Scores the remaining candidates again, exactly, and merges them with the best so far."""
        if self.waiting:
            row_N = self._thin()
            column_N = (self.waiting[0] & np.uint64(0xFFFF)).astype(np.int64)
            score_N = finite_scores(pair_scores(self.query_QD[rows], block.vector_SD, row_N, column_N))
            size_B = np.bincount(row_N, minlength=rows.stop - rows.start)
            nth_N = np.arange(len(row_N)) - (np.cumsum(size_B) - size_B)[row_N]
            score_BN = np.full((len(size_B), size_B.max()), -np.inf, dtype=np.float32)
            place_BN = np.full(score_BN.shape, -1, dtype=np.int64)
            score_BN[row_N, nth_N], place_BN[row_N, nth_N] = score_N, block.place_S[column_N]
            here = (rows, block.language)
            score = np.concatenate([self.score_QLK[here], score_BN], axis=1)
            place = np.concatenate([self.place_QLK[here], place_BN], axis=1)
            self.score_QLK[here], self.place_QLK[here] = keep_best(score, place, self.score_QLK.shape[2])
        self.waiting, self.least_B = [], None


_LEAST = np.finfo(np.float32).min


def _least(kth: np.ndarray, error: np.ndarray) -> np.ndarray:
    """float32: no score below it is among the k best, even if off by `error`. Above -inf, the score of own passages."""
    return np.maximum(_down(kth - error), _LEAST)


def _keys(row_N: np.ndarray, score_N: np.ndarray, column_N: np.ndarray) -> np.ndarray:
    """uint64: 16 bits for the row, 32 for the score, 16 for the column within the block."""
    falling_N = 0x7FFFFFFF - flip((score_N + 0.0).view(np.int32)).astype(np.int64)
    return (row_N.astype(np.uint64) << np.uint64(48)) | (falling_N << 16 | column_N).astype(np.uint64)


def _scores(key_N: np.ndarray) -> np.ndarray:
    falling_N = (key_N >> np.uint64(16) & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return flip((0x7FFFFFFF - falling_N).astype(np.int32)).view(np.float32)
