"""Exact search over vectors: the top k, and the exact rank of every relevant passage, in one pass over the passages.

A float32 matrix product, on the CPU or a GPU, gives all scores within a bound on their error. Whatever that leaves
open (a score near that of a relevant passage, or near the k-th best) is scored again, exactly, as `dot.py` defines it.
So ranks are the same on every device and for any cut of passages into blocks, and equal scores follow the rule of
`ties.py`. The order of work: for each block of passages, for some queries at a time, for some columns at a time.

Shapes: Q queries, P passages, D dimension, R pairs of a query and a relevant passage, L languages, B some of the
queries, S some of the passages, N pairs of a query and a passage.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hybridir.data.records import Benchmark
from hybridir.retrieval import search
from hybridir.retrieval.dot import dot_scorer, pair_scores, unit_error
from hybridir.retrieval.search import Ranking
from hybridir.retrieval.ties import count_above, flip, keep_best, merge_best

ROWS, SCORES = 1024, 2**19
"""Queries, and scores, that a CPU works on at a time: they stay in its cache."""
GPU_ROWS, GPU_SCORES = 2**14, 2**27
"""The same for a GPU (512 MiB of scores)."""
IN_NUMPY = {"cpu"}
"""Devices whose scores numpy sees: it compares and looks up faster than torch."""
TIES = 16
"""If more than one of so many scores of a part are open, all of them are scored again, by a product in float64."""
_PENDING = 2**18
"""Pairs that wait at most to be scored again."""


@dataclass(frozen=True)
class Block:
    """Passages of one language: the number of the language, their positions (rising) and their vectors (float32).

    The vectors are valid until the next block is asked for.
    """

    language: int
    place_S: np.ndarray
    vector_SD: np.ndarray


class Vectors(Protocol):
    """The vectors of passages, wherever they are. Within a language, later blocks have higher positions."""

    def blocks(self) -> Iterator[Block]: ...

    def at(self, place_N: np.ndarray) -> np.ndarray:
        """The vectors at some positions, float32 [N, D]."""


@dataclass(frozen=True)
class InMemory:
    """Vectors in an array, float16 or float32 [P, D], and the number of each passage's language, int [P]."""

    vector_PD: np.ndarray
    language_P: np.ndarray

    def blocks(self) -> Iterator[Block]:
        for language in np.unique(self.language_P).tolist():
            of_language = np.flatnonzero(self.language_P == language)
            for start in range(0, len(of_language), search.PASSAGE_SHARD):
                place_S = of_language[start : start + search.PASSAGE_SHARD]
                first, last = int(place_S[0]), int(place_S[-1])
                some = slice(first, last + 1) if last - first < len(place_S) else place_S
                yield Block(language, place_S, np.ascontiguousarray(self.vector_PD[some], dtype=np.float32))

    def at(self, place_N: np.ndarray) -> np.ndarray:
        return np.asarray(self.vector_PD[place_N], dtype=np.float32)


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
    query_QD = _finite(query_QD, "query")
    above = _Above.of(query_QD, passages, benchmark)
    best = _Best.of(query_QD, len(benchmark.languages), depth)
    own_Q = np.array(benchmark.own, dtype=np.int64) if benchmark.own else None
    _pass(query_QD, passages, [above, best] if depth else [above], own_Q, torch.device(device))
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
    query_QD = _finite(query_QD, "query")
    best = _Best.of(query_QD, 1, k)
    _pass(query_QD, passages, [best], None, torch.device(device))
    return best.score_QLK[:, 0], best.place_QLK[:, 0]


def _finite(vectors: np.ndarray, side: str) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise ValueError(f"a {side} embedding is not finite (NaN or infinite): the encoder that made it is broken")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def _pass(
    query_QD: np.ndarray,
    passages: Vectors,
    results: "Sequence[_Above | _Best]",
    own_Q: np.ndarray | None,
    device: torch.device,
) -> None:
    """Scores all queries against all passages, and hands each part of the scores to `results`."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")  # no TF32: the bound on the error is that of float32
    try:
        _scored(query_QD, passages, results, own_Q, device)
    finally:
        torch.set_float32_matmul_precision(precision)


def _scored(
    query_QD: np.ndarray,
    passages: Vectors,
    results: "Sequence[_Above | _Best]",
    own_Q: np.ndarray | None,
    device: torch.device,
) -> None:
    rows, most = (ROWS, SCORES) if device.type == "cpu" else (GPU_ROWS, GPU_SCORES)
    there_QD = torch.from_numpy(query_QD).to(device)
    buffer = torch.empty(max(most, 64 * min(rows, len(query_QD))), device=device)
    query_norm_Q = _norms(there_QD)
    for block in passages.blocks():
        vector_SD = torch.from_numpy(block.vector_SD).to(device)
        longest = _norms(vector_SD).max(initial=0)
        if not np.isfinite(longest):
            _finite(block.vector_SD, "passage")
        for first in range(0, len(query_QD), rows):
            some = slice(first, min(first + rows, len(query_QD)))
            error_B = unit_error(vector_SD.shape[1]) * query_norm_Q[some] * longest + _TINY
            own_B = None if own_Q is None else own_Q[some]
            width = max(64, most // (some.stop - some.start))
            for start in range(0, len(block.place_S), width):
                columns = slice(start, min(start + width, len(block.place_S)))
                shape = (some.stop - some.start, columns.stop - columns.start)
                score_BS = torch.mm(there_QD[some], vector_SD[columns].T, out=buffer[: math.prod(shape)].view(shape))
                part = _Part(query_QD, block, some, columns, score_BS, error_B, own_B)
                for one in results:
                    one.add(part)
            for one in results:
                one.settle(block, some)


_TINY = float(np.finfo(np.float32).tiny) * 2**17
"""What products that underflow can lose, for any dimension that can be read."""
_LARGE = 1e37
"""Sums below it, and all on the way to them, are finite in float32."""


def _norms(vector_ND: Tensor) -> np.ndarray:
    """Bounds on the lengths of vectors, float64 [N]: also where squares underflow."""
    norm_N = torch.linalg.vector_norm(vector_ND, dim=1).cpu().numpy().astype(np.float64)
    return np.asarray(norm_N * 1.001 + 1e-17)


@dataclass
class _Part:
    """Scores of some queries and some passages of a block: on the device, each within the error of its row."""

    query_QD: np.ndarray
    block: Block
    rows: slice
    columns: slice
    score_BS: Tensor
    error_B: np.ndarray
    own_B: np.ndarray | None

    def __post_init__(self) -> None:
        row_N, column_N = self._own
        if len(row_N):
            self.score_BS[torch.from_numpy(row_N), torch.from_numpy(column_N)] = -torch.inf

    @property
    def place_S(self) -> np.ndarray:
        return self.block.place_S[self.columns]

    @property
    def rough(self) -> bool:
        """Whether the scores are within their errors: not if sums may have overflowed."""
        return bool(self.error_B.max() < _LARGE * unit_error(self.query_QD.shape[1]))

    @property
    def in_numpy(self) -> bool:
        return self.score_BS.device.type in IN_NUMPY

    @cached_property
    def exact_BS(self) -> np.ndarray:
        """The exact scores of all; a query's own passage is behind all others."""
        vector_SD = self.block.vector_SD[self.columns]
        exact_BS = _finite_scores(dot_scorer(self.query_QD[self.rows], vector_SD)(slice(None), slice(None)))
        exact_BS[self._own] = -np.inf
        return exact_BS

    @cached_property
    def _own(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of queries that are passages here, and the columns of these passages."""
        if self.own_B is None or not len(self.place_S):
            return (np.empty(0, dtype=np.int64),) * 2
        column_B = np.searchsorted(self.place_S, self.own_B).clip(max=len(self.place_S) - 1)
        row_N = np.flatnonzero(self.place_S[column_B] == self.own_B)
        return row_N, column_B[row_N]

    def kth(self, k: int) -> np.ndarray:
        """The k-th best score of each row, float32 [B]."""
        if self.in_numpy:
            found: np.ndarray = np.partition(self.score_BS.numpy(), -k, axis=1)[:, -k]
            return found
        return self.score_BS.topk(k, dim=1).values[:, -1].cpu().numpy()

    def over(self, least_B: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The scores that are at least `least_B`, of their rows: rows (rising), columns and scores [N]."""
        if self.in_numpy:
            score_BS = self.score_BS.numpy()
            flat_N = np.flatnonzero(score_BS >= least_B[:, None])
            return *np.divmod(flat_N, score_BS.shape[1]), score_BS.ravel()[flat_N]
        row_N, column_N = torch.nonzero(self.score_BS >= self._there(least_B), as_tuple=True)
        return tuple(one.cpu().numpy() for one in (row_N, column_N, self.score_BS[row_N, column_N]))  # type: ignore[return-value]

    def split(
        self, row_N: np.ndarray, low_N: np.ndarray, high_N: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of some rows: how many scores are above `high_N`; and the scores from `low_N` to `high_N`: which of the rows
        they are in, and their columns."""
        if self.in_numpy:
            score_NS = self.score_BS.numpy()
            score_NS = score_NS if len(row_N) == len(score_NS) else score_NS[row_N]
            above_NS, open_NS = score_NS > high_N[:, None], score_NS >= low_N[:, None]
            open_NS ^= above_NS
            return np.count_nonzero(above_NS, axis=1), *np.divmod(np.flatnonzero(open_NS), score_NS.shape[1])
        there_NS = self.score_BS[torch.from_numpy(row_N).to(self.score_BS.device)]
        above = there_NS > self._there(high_N)
        n, column = torch.nonzero((there_NS >= self._there(low_N)) ^ above, as_tuple=True)
        return above.sum(dim=1).cpu().numpy(), n.cpu().numpy(), column.cpu().numpy()

    def _there(self, value_N: np.ndarray) -> Tensor:
        return torch.from_numpy(value_N).to(self.score_BS.device)[:, None]


def _finite_scores(scores: np.ndarray) -> np.ndarray:
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite: the embeddings are too long for float32, normalise them")
    return scores


def _down(value: np.ndarray) -> np.ndarray:
    """float64 -> a float32 that is not above it."""
    return np.nextafter(value.astype(np.float32), np.float32(-np.inf))


def _up(value: np.ndarray) -> np.ndarray:
    return -_down(-value)


@dataclass
class _Above:
    """Counts, of each language, the passages that rank before each relevant one."""

    query_QD: np.ndarray
    query_R: np.ndarray
    nth_R: np.ndarray  # the relevant passages of a query are counted from 0
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
            vector_ND = _finite(passages.at(place_N), "passage")
            score_R[some] = _finite_scores(pair_scores(query_QD, vector_ND, query_R[some], nth_N))
        above_RL = np.zeros((len(query_R), len(benchmark.languages)), dtype=np.int64)
        return cls(query_QD, query_R, nth_R, place_R, score_R, above_RL)

    def add(self, part: _Part) -> None:
        first, end = np.searchsorted(self.query_R, [part.rows.start, part.rows.stop])
        nth_R = self.nth_R[first:end]
        for n in range(int(nth_R.max(initial=-1)) + 1):
            pair_N = first + np.flatnonzero(nth_R == n)
            row_N, score_N = self.query_R[pair_N] - part.rows.start, self.score_R[pair_N].astype(np.float64)
            error_N = part.error_B[row_N]
            if part.rough:
                above_N, open_N, column_N = part.split(row_N, _down(score_N - error_N), _up(score_N + error_N))
            if not part.rough or len(open_N) * TIES > part.score_BS[: len(row_N)].numel() + 2**10:
                exact = part.exact_BS[row_N], part.place_S, self.score_R[pair_N, None], self.place_R[pair_N, None]
                above_N, open_N = count_above(*exact)[:, 0], open_N[:0] if part.rough else np.empty(0, np.int64)
            self.above_RL[pair_N, part.block.language] += above_N
            if len(open_N):
                self.waiting.append((pair_N[open_N], column_N + part.columns.start))
        if sum(len(pair_N) for pair_N, _ in self.waiting) > _PENDING:
            self.settle(part.block, part.rows)

    def settle(self, block: Block, rows: slice) -> None:
        """Scores again, exactly, what waits."""
        if not self.waiting:
            return
        pair_N, column_N = map(np.concatenate, zip(*self.waiting, strict=True))
        score_N = _finite_scores(pair_scores(self.query_QD, block.vector_SD, self.query_R[pair_N], column_N))
        equal_N = (score_N == self.score_R[pair_N]) & (block.place_S[column_N] < self.place_R[pair_N])
        before_N = pair_N[(score_N > self.score_R[pair_N]) | equal_N]
        self.above_RL[:, block.language] += np.bincount(before_N, minlength=len(self.query_R))
        self.waiting = []


@dataclass
class _Best:
    """Keeps the k best passages of each language.

    Candidates of a block wait as integers, the order of which is that of rows, then of falling scores, then of columns.
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

    def add(self, part: _Part) -> None:
        k, here = self.score_QLK.shape[2], (part.rows, part.block.language)
        n_rows, width = part.score_BS.shape
        self.error_B = part.error_B
        if self.least_B is None:
            self.least_B = _least(self.score_QLK[here][:, -1], self.error_B)
            if part.rough and width >= k and self.least_B.min() == _LEAST:
                self.least_B = np.maximum(self.least_B, _least(part.kth(k), 2 * self.error_B))
        if part.rough:
            row_N, column_N, score_N = part.over(self.least_B)
        if not part.rough or len(row_N) > 2 * k * n_rows + n_rows * width // TIES:
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
        """Drops the candidates that cannot be among the k best; returns the rows of those that stay, rising."""
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
        """Scores the candidates that are left again, exactly, and takes the best of them and of those before."""
        if self.waiting:
            row_N = self._thin()
            column_N = (self.waiting[0] & np.uint64(0xFFFF)).astype(np.int64)
            score_N = _finite_scores(pair_scores(self.query_QD[rows], block.vector_SD, row_N, column_N))
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
    """float32: no score below it, that is within `error`, is one of the k best. Above that of a query's own passage."""
    return np.maximum(_down(kth - error), _LEAST)


def _keys(row_N: np.ndarray, score_N: np.ndarray, column_N: np.ndarray) -> np.ndarray:
    """uint64: 16 bits for the row, 32 for the score, 16 for the column within the block."""
    falling_N = 0x7FFFFFFF - flip((score_N + 0.0).view(np.int32)).astype(np.int64)
    return (row_N.astype(np.uint64) << np.uint64(48)) | (falling_N << 16 | column_N).astype(np.uint64)


def _scores(key_N: np.ndarray) -> np.ndarray:
    falling_N = (key_N >> np.uint64(16) & np.uint64(0xFFFFFFFF)).astype(np.int64)
    return flip((0x7FFFFFFF - falling_N).astype(np.int32)).view(np.float32)
