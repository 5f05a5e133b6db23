"""Scores by dot product that depend on their two vectors alone.

Shapes: Q queries, P passages, D dimension, B some of the queries, S some of the passages, N pairs of a query
and a passage.
"""

import math
from collections.abc import Callable

import numpy as np

Scorer = Callable[[slice, slice], np.ndarray]
"""(slice of queries, slice of passages) -> their scores, 2-D. The slices of passages are those of `passage_shards`."""

_FEW = 64
"""If more than one in this many sums is open, each gets an error bound of its own."""
_SUMS = 2**14
"""Pairs of vectors summed at a time."""


def dot_scorer(query_QD: np.ndarray, passage_PD: np.ndarray) -> Scorer:
    """Scores by dot product, which is cosine similarity for normalised embeddings.

    A score is a float64 sum rounded once to float32, and depends on its two vectors alone, not on how many are scored
    together, nor on the processor: a product in float64 usually decides how it is rounded. Where the error of that
    product allows two roundings, the sum is made again in a fixed order.
    """

    def score(queries: slice, passages: slice) -> np.ndarray:
        query_BD, passage_SD = query_QD[queries].astype(np.float64), passage_PD[passages].astype(np.float64)
        exact_BS = query_BD @ passage_SD.T
        low, open_BS = _rounded(exact_BS, 2 * _error(query_BD, passage_SD))
        if np.count_nonzero(open_BS) > open_BS.size / _FEW:  # many sums near 0, as of sparse vectors
            low, open_BS = _rounded(exact_BS, 2 * _unit(query_BD) * (np.abs(query_BD) @ np.abs(passage_SD).T))
        rows, columns = np.nonzero(open_BS)
        for start in range(0, len(rows), _SUMS):
            some = rows[start : start + _SUMS], columns[start : start + _SUMS]
            low[some] = sums(query_BD[some[0]], passage_SD[some[1]])
        return low

    return score


def _rounded(exact_BS: np.ndarray, error: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums rounded to float32, and whether their error leaves the rounding open."""
    with np.errstate(over="ignore"):  # callers look for scores that are not finite
        low, high = (exact_BS - error).astype(np.float32), (exact_BS + error).astype(np.float32)
    return low, low != high


def sums(query_ND: np.ndarray, passage_ND: np.ndarray) -> np.ndarray:
    """The dot products of pairs of vectors, summed in a fixed order in float64; float32 [N]."""
    product_ND = np.ascontiguousarray(query_ND * passage_ND)  # numpy sums in the order of memory
    return np.asarray(np.sum(product_ND, axis=1, dtype=np.float64), dtype=np.float32)


def pair_scores(query_QD: np.ndarray, passage_PD: np.ndarray, query_N: np.ndarray, passage_N: np.ndarray) -> np.ndarray:
    """The scores of pairs, given by the positions of queries and passages; float32 [N], those of `dot_scorer`."""
    order = np.argsort(query_N, kind="stable")
    ends = np.flatnonzero(np.diff(query_N[order], append=-1)) + 1
    exact_N = np.empty(len(query_N), dtype=np.float64)
    error_N = np.empty(len(query_N), dtype=np.float64)
    start = 0
    for end in ends.tolist():
        some = order[start:end]
        query_1D = query_QD[query_N[some[:1]]].astype(np.float64)
        passage_ND = passage_PD[passage_N[some]].astype(np.float64)
        exact_N[some] = passage_ND @ query_1D[0]
        squares = float(np.vdot(query_1D, query_1D)) * float(np.vdot(passage_ND, passage_ND))  # at least |q|^2 |p|^2
        error_N[some] = 2 * _unit(query_1D) * math.sqrt(squares)
        start = end
    score_N, open_N = _rounded(exact_N, error_N)
    for some in np.split(np.flatnonzero(open_N), range(_SUMS, np.count_nonzero(open_N), _SUMS)):
        score_N[some] = sums(query_QD[query_N[some]].astype(np.float64), passage_PD[passage_N[some]])
    return score_N


def unit_error(dimension: int) -> float:
    """The error of a float32 product of two vectors of length 1, and of its exact score: (D + 2) u, with a margin."""
    return 1.01 * (dimension + 2) * float(np.finfo(np.float32).eps) / 2


def _error(query_BD: np.ndarray, passage_SD: np.ndarray) -> float:
    """A bound on the error of any of their dot products in the precision of the arrays: D u |q| |p|, for any order of
    summation (Higham 2002, Accuracy and Stability of Numerical Algorithms, 3.1)."""
    longest = (float(np.linalg.norm(one, axis=1).max(initial=0)) for one in (query_BD, passage_SD))
    return _unit(query_BD) * math.prod(longest)


def _unit(rows_BD: np.ndarray) -> float:
    """D u, with a margin: the error of a dot product relative to the sum of the absolute products."""
    return 1.01 * rows_BD.shape[1] * float(np.finfo(rows_BD.dtype).eps) / 2
