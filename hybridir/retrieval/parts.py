"""One pass over vectors: their scores with all queries, part by part, with a bound on their error.

Shapes: Q queries, P passages, D dimension, B some of the queries, S some of the passages, N some of the rows or scores.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from hybridir.retrieval import search
from hybridir.retrieval.dot import dot_scorer, unit_error

ROWS, SCORES = 1024, 2**19
"""Queries, and scores, that a CPU works on at a time: they stay in its cache."""
GPU_ROWS, GPU_SCORES = 2**14, 2**27
"""The same for a GPU (512 MiB of scores)."""
IN_NUMPY = {"cpu"}
"""Devices whose memory numpy can read: there it compares and looks up faster than torch."""
TIES = 16
"""If more than one in this many scores of a part is open, all are computed again, by a product in float64."""
_TINY = float(np.finfo(np.float32).tiny) * 2**17
"""Bounds what is lost by products that underflow, for any dimension that can be read."""
_LARGE = 1e37
"""Sums below it, and their partial sums, are finite in float32."""


@dataclass(frozen=True)
class Block:
    """Passages of one language: the number of the language, their positions (ascending) and their vectors (float32).

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


class Result(Protocol):
    """What a pass computes: `add` is called with every part, `settle` when some queries are through with a block."""

    def add(self, part: "Part") -> None: ...

    def settle(self, block: Block, rows: slice) -> None: ...


def scan(
    query_QD: np.ndarray,
    passages: Vectors,
    results: Sequence[Result],
    own_Q: np.ndarray | None,
    device: torch.device,
) -> None:
    """Scores all queries against all passages, and hands each part of the scores to `results`."""
    rows, most = (ROWS, SCORES) if device.type == "cpu" else (GPU_ROWS, GPU_SCORES)
    there_QD = torch.from_numpy(query_QD).to(device)
    buffer = torch.empty(max(most, 64 * min(rows, len(query_QD))), device=device)
    query_norm_Q = _norms(there_QD)
    for block in passages.blocks():
        vector_SD = torch.from_numpy(block.vector_SD).to(device)
        longest = _norms(vector_SD).max(initial=0)
        if not np.isfinite(longest):
            finite(block.vector_SD, "passage")
        for first in range(0, len(query_QD), rows):
            some = slice(first, min(first + rows, len(query_QD)))
            error_B = unit_error(vector_SD.shape[1]) * query_norm_Q[some] * longest + _TINY
            own_B = None if own_Q is None else own_Q[some]
            width = max(64, most // (some.stop - some.start) // 64 * 64)
            for start in range(0, len(block.place_S), width):
                columns = slice(start, min(start + width, len(block.place_S)))
                shape = (some.stop - some.start, columns.stop - columns.start)
                with _float32():
                    score_BS = torch.mm(
                        there_QD[some], vector_SD[columns].T, out=buffer[: math.prod(shape)].view(shape)
                    )
                part = Part(query_QD, block, some, columns, score_BS, error_B, own_B)
                for one in results:
                    one.add(part)
            for one in results:
                one.settle(block, some)


@contextmanager
def _float32() -> Iterator[None]:
    """No TF32: the bound on the error is that of float32."""
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)


def _norms(vector_ND: Tensor) -> np.ndarray:
    """Upper bounds on the lengths of vectors, float64 [N], also where squares underflow."""
    norm_N = torch.linalg.vector_norm(vector_ND, dim=1).cpu().numpy().astype(np.float64)
    return np.asarray(norm_N * 1.001 + 1e-17)


@dataclass
class Part:
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
        """Whether the scores are within their error bounds; not if sums may have overflowed."""
        return bool(self.error_B.max() < _LARGE * unit_error(self.query_QD.shape[1]))

    @property
    def in_numpy(self) -> bool:
        return self.score_BS.device.type in IN_NUMPY

    @cached_property
    def exact_BS(self) -> np.ndarray:
        """The exact scores of this part; that of a query's own passage is -inf."""
        vector_SD = self.block.vector_SD[self.columns]
        exact_BS = finite_scores(dot_scorer(self.query_QD[self.rows], vector_SD)(slice(None), slice(None)))
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
        """The scores that are at least `least_B` of their row: rows (ascending), columns and scores [N]."""
        if self.in_numpy:
            score_BS = self.score_BS.numpy()
            flat_N = np.flatnonzero(score_BS >= least_B[:, None])
            return *np.divmod(flat_N, score_BS.shape[1]), score_BS.ravel()[flat_N]
        row_N, column_N = torch.nonzero(self.score_BS >= self._on_device(least_B), as_tuple=True)
        return tuple(one.cpu().numpy() for one in (row_N, column_N, self.score_BS[row_N, column_N]))  # type: ignore[return-value]

    def split(
        self, row_N: np.ndarray, low_N: np.ndarray, high_N: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """In the rows `row_N`: how many scores are above `high_N`; and where those from `low_N` to `high_N` are: places
        in `row_N`, and columns."""
        if self.in_numpy:
            score_NS = self.score_BS.numpy()
            score_NS = score_NS if len(row_N) == len(score_NS) else score_NS[row_N]
            above_NS, open_NS = score_NS > high_N[:, None], score_NS >= low_N[:, None]
            open_NS ^= above_NS
            return _counts(above_NS), *np.divmod(np.flatnonzero(open_NS), score_NS.shape[1])
        there_NS = self.score_BS[torch.from_numpy(row_N).to(self.score_BS.device)]
        above = there_NS > self._on_device(high_N)
        n, column = torch.nonzero((there_NS >= self._on_device(low_N)) ^ above, as_tuple=True)
        return above.sum(dim=1).cpu().numpy(), n.cpu().numpy(), column.cpu().numpy()

    def _on_device(self, value_N: np.ndarray) -> Tensor:
        return torch.from_numpy(value_N).to(self.score_BS.device)[:, None]


def _counts(found_NS: np.ndarray) -> np.ndarray:
    """How many of each row are true: `np.count_nonzero`, but eight at a time where possible."""
    if found_NS.shape[1] % 8:
        return np.count_nonzero(found_NS, axis=1)
    counts: np.ndarray = np.bitwise_count(found_NS.view(np.uint64)).sum(axis=1, dtype=np.int64)
    return counts


def finite(vectors: np.ndarray, side: str) -> np.ndarray:
    if not np.isfinite(vectors).all():
        raise ValueError(f"a {side} embedding is not finite (NaN or infinite): the encoder that made it is broken")
    return np.ascontiguousarray(vectors, dtype=np.float32)


def finite_scores(scores: np.ndarray) -> np.ndarray:
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite: the embeddings are too long for float32, normalise them")
    return scores
