"""Exact search: the top k, and the exact rank of every relevant passage, over shards of passages.

The tie rule everywhere: a higher score comes first; of equal scores, the passage with the lower position comes first.

Shapes: Q queries, P passages, D dimension, R pairs of a query and a relevant passage, L languages.
"""

import importlib.util
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from hybridir.data.records import Benchmark

DEPTH = 100
"""The number of best passages in each language that an evaluation keeps of a ranking."""

Scorer = Callable[[slice, slice], np.ndarray]
"""(slice of queries, slice of passages) -> their scores, 2-D. The slices of passages are those of `passage_shards`."""

PASSAGE_SHARD = 65536
_BLOCK_SCORES = 2**24
"""Scores held at a time (64 MiB), unless those of 16 queries are more."""
_FEW = 64
"""If more than one of so many sums are open, they get a bound of their own each."""
_SUMS = 2**14
"""Pairs of vectors summed at a time."""
_MORE = 64
"""Passages beyond k that faiss is asked for."""


def dot_scorer(query_QD: np.ndarray, passage_PD: np.ndarray) -> Scorer:
    """Scores by dot product, which is cosine similarity for normalised embeddings.

    A score is a float64 sum rounded once to float32, and depends on its two vectors alone, not on how many are scored
    together, nor on the processor: a product in float64 gives it, except where its own error leaves two roundings open.
    Those few are summed again in a fixed order.
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
            low[some] = _sums(query_BD[some[0]], passage_SD[some[1]])
        return low

    return score


def _rounded(exact_BS: np.ndarray, error: float | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums rounded to float32, and whether their error leaves the rounding open."""
    low, high = (exact_BS - error).astype(np.float32), (exact_BS + error).astype(np.float32)
    return low, low != high


def _sums(query_ND: np.ndarray, passage_ND: np.ndarray) -> np.ndarray:
    """The dot products of pairs of vectors, summed in a fixed order in float64; float32 [N]."""
    return np.asarray(np.sum(query_ND * passage_ND, axis=1, dtype=np.float64), dtype=np.float32)


def _error(query_BD: np.ndarray, passage_SD: np.ndarray) -> float:
    """A bound on the error of any of their dot products in the precision of the arrays: D u |q| |p|, for any order of
    summation (Higham 2002, Accuracy and Stability of Numerical Algorithms, 3.1)."""
    longest = (float(np.linalg.norm(one, axis=1).max(initial=0)) for one in (query_BD, passage_SD))
    return _unit(query_BD) * math.prod(longest)


def _unit(rows_BD: np.ndarray) -> float:
    """D u, with a margin: the error of a dot product relative to the sum of the absolute products."""
    return 1.01 * rows_BD.shape[1] * float(np.finfo(rows_BD.dtype).eps) / 2


def top_k(query_QD: np.ndarray, passage_PD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best passages of each query: scores float32 [Q, k] in descending order and positions int64 [Q, k].

    With fewer than k passages, all are returned. If faiss is installed, it preselects some more than k by its own sums;
    a query for which these cannot be known to be enough is scored against all passages.

    Raises:
        ValueError: an embedding or a score is not finite.
    """
    for name, one in (("query", query_QD), ("passage", passage_PD)):
        if not np.isfinite(one).all():
            raise ValueError(f"a {name} embedding is not finite (NaN or infinite): the encoder that made it is broken")
    k = min(k, len(passage_PD))
    if k == 0 or importlib.util.find_spec("faiss") is None:
        return _top_k_of_all(query_QD, passage_PD, k)
    import faiss

    query_QD, passage_PD = (np.ascontiguousarray(one, dtype=np.float32) for one in (query_QD, passage_PD))
    more = min(k + _MORE, len(passage_PD))
    rough_QM, place_QM = faiss.knn(query_QD, passage_PD, more, metric=faiss.METRIC_INNER_PRODUCT)
    score_QM = np.empty(place_QM.shape, dtype=np.float32)
    for row, query in enumerate(query_QD.astype(np.float64)):
        score_QM[row] = _sums(query[None], passage_PD[place_QM[row]])
    scores, places = _keep(score_QM, place_QM, k)
    left_out_Q = rough_QM[:, -1] + 2 * _error(query_QD, passage_PD)  # no other passage scores higher
    unsure = np.flatnonzero(~(scores[:, -1] > left_out_Q)) if more < len(passage_PD) else np.empty(0, dtype=np.int64)
    if len(unsure):
        scores[unsure], places[unsure] = _top_k_of_all(query_QD[unsure], passage_PD, k)
    return _finite(scores), places


def _finite(score: np.ndarray) -> np.ndarray:
    if not np.isfinite(score).all():
        raise ValueError("a score is not finite: the embeddings are too long for float32, normalise them")
    return score


def _top_k_of_all(query_QD: np.ndarray, passage_PD: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    score = dot_scorer(query_QD, passage_PD)
    rows = max(16, _BLOCK_SCORES // max(1, min(len(passage_PD), PASSAGE_SHARD)))
    blocks = []
    for first in range(0, len(query_QD), rows):
        some = slice(first, first + rows)
        best_score = np.empty((len(query_QD[some]), 0), dtype=np.float32)
        best_place = np.empty((len(query_QD[some]), 0), dtype=np.int64)
        for start in range(0, len(passage_PD), PASSAGE_SHARD):
            scores = _finite(score(some, slice(start, start + PASSAGE_SHARD)))
            best_score, best_place = _merge(best_score, best_place, scores, start, k)
        blocks.append((best_score, best_place))
    if not blocks:
        return np.empty((0, k), dtype=np.float32), np.empty((0, k), dtype=np.int64)
    found_scores, found_places = zip(*blocks, strict=True)
    return np.concatenate(found_scores), np.concatenate(found_places)


def _keep(score: np.ndarray, place: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best scores (float32) of each row and their places (positions of passages), by the tie rule.

    A score and its place are packed into one integer. These integers differ, so a partition finds the k best, and only
    the k best are sorted.
    """
    rising = _flip((score + 0.0).view(np.int32))  # + 0.0 turns -0.0 into 0.0
    packed = place.astype(np.uint32) - (rising.astype(np.int64) << 32)
    k = min(k, packed.shape[1])
    packed = np.partition(packed, k - 1, axis=1)[:, :k]
    packed.sort(axis=1)
    best = _flip((-(packed >> 32)).astype(np.int32)).view(np.float32)
    return best, packed.astype(np.uint32).view(np.int32).astype(np.int64)


def _flip(bits: np.ndarray) -> np.ndarray:
    """Turns the bits of floats into integers of the same order, and back."""
    return np.where(bits < 0, bits ^ 0x7FFFFFFF, bits)


@dataclass(frozen=True)
class Ranking:
    """The result of a search over all passages: exact ranks, and the best passages.

    Attributes:
        above: int64 [R, L], how many passages of each language rank before a relevant passage. Rows are ordered by
            query, then as in `Benchmark.relevant`. The exact ranks in every setting follow from these counts.
        relevant_score: float32 [R], the score of each relevant passage.
        top_score: float32 [Q, L, depth], the best scores in each language, descending; -inf after the last passage.
        top_place: int64 [Q, L, depth], the positions of these passages; -1 after the last passage.
    """

    above: np.ndarray
    relevant_score: np.ndarray
    top_score: np.ndarray
    top_place: np.ndarray

    def pooled_top(self) -> tuple[np.ndarray, np.ndarray]:
        """The best passages over all languages: scores float32 [Q, depth] and positions int64 [Q, depth]."""
        n_queries, n_languages, depth = self.top_score.shape
        shape = (n_queries, n_languages * depth)
        return _keep(self.top_score.reshape(shape), self.top_place.reshape(shape), depth)


def rank_all(score: Scorer, benchmark: Benchmark, depth: int = 0) -> Ranking:
    """Scores all queries against all passages in blocks; keeps exact ranks, and the best `depth` in each language.

    A query that is itself a passage (`Benchmark.own`) is ranked without that passage.

    Raises `ValueError` if a score is not finite.
    """
    shards = passage_shards(benchmark)
    n_queries, n_languages = len(benchmark.queries), len(benchmark.languages)
    above = [np.zeros((len(found), n_languages), dtype=np.int64) for found in benchmark.relevant]
    relevant_score = [np.zeros(len(found), dtype=np.float32) for found in benchmark.relevant]
    top_score = np.full((n_queries, n_languages, depth), -np.inf, dtype=np.float32)
    top_place = np.full((n_queries, n_languages, depth), -1, dtype=np.int64)
    block_size = max(16, _BLOCK_SCORES // max(1, len(benchmark.passages)))
    for start in range(0, n_queries, block_size):
        block = slice(start, min(start + block_size, n_queries))
        relevant = [np.array(found, dtype=np.int64) for found in benchmark.relevant[block]]
        width = max(len(found) for found in relevant)
        place_QR = np.full((len(relevant), width), -1, dtype=np.int64)
        score_QR = np.zeros((len(relevant), width), dtype=np.float32)
        for row, found in enumerate(relevant):
            place_QR[row, : len(found)] = found
        scored = [(language, shard, score(block, shard)) for language, shard in shards]
        if not all(np.isfinite(scores).all() for _, _, scores in scored):  # NaN would get rank 1
            raise ValueError("some scores are not finite: the encoder is broken, or its embeddings are too large")
        if benchmark.own:
            scored = [(n, shard, _without_own(scores, shard, benchmark.own[block])) for n, shard, scores in scored]
        for _, shard, scores in scored:
            inside = (place_QR >= shard.start) & (place_QR < shard.stop)
            score_QR[inside] = scores[np.nonzero(inside)[0], place_QR[inside] - shard.start]
        for language, shard, scores in scored:
            above_QR = _count(scores, shard.start, score_QR, place_QR)
            for row, found in enumerate(relevant):
                above[start + row][:, language] += above_QR[row, : len(found)]
            if depth:
                best = (top_score[block, language], top_place[block, language])
                top_score[block, language], top_place[block, language] = _merge(*best, scores, shard.start, depth)
        for row, found in enumerate(relevant):
            relevant_score[start + row][:] = score_QR[row, : len(found)]
    top_place[np.isneginf(top_score)] = -1
    return Ranking(
        np.concatenate(above) if above else np.zeros((0, n_languages), dtype=np.int64),
        np.concatenate(relevant_score) if above else np.zeros(0, dtype=np.float32),
        top_score,
        top_place,
    )


def _without_own(scores_QP: np.ndarray, shard: slice, own: Sequence[int]) -> np.ndarray:
    """The scores of a shard, in which a query's own passage (see `Benchmark.own`) is behind all others."""
    own_Q = np.array(own)
    rows = np.flatnonzero((own_Q >= shard.start) & (own_Q < shard.stop))
    scores_QP = np.array(scores_QP)  # a scorer may return a view of what it keeps
    scores_QP[rows, own_Q[rows] - shard.start] = -np.inf
    return scores_QP


def passage_shards(benchmark: Benchmark) -> list[tuple[int, slice]]:
    """Cuts the passages into slices of one language, at most `PASSAGE_SHARD` long: (index of the language, slice)."""
    language_P = benchmark.language_P
    cuts = [0, *(np.flatnonzero(np.diff(language_P)) + 1).tolist(), len(language_P)]
    return [
        (int(language_P[first]), slice(first, min(first + PASSAGE_SHARD, end)))
        for begin, end in itertools.pairwise(cuts)
        for first in range(begin, end, PASSAGE_SHARD)
    ]


def _merge(
    best_score: np.ndarray, best_place: np.ndarray, scores_QP: np.ndarray, first: int, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k best of the best so far and of a shard of scores whose first passage has the position `first`."""
    places = np.broadcast_to(np.arange(first, first + scores_QP.shape[1]), scores_QP.shape)
    score = np.concatenate([best_score, scores_QP], axis=1, dtype=np.float32)
    return _keep(score, np.concatenate([best_place, places], axis=1), k)


def _count(scores_QP: np.ndarray, first: int, score_QR: np.ndarray, place_QR: np.ndarray) -> np.ndarray:
    """Counts the passages that rank before each relevant one: a higher score, or an equal score at a lower position."""
    columns = np.arange(first, first + scores_QP.shape[1])
    above = np.empty(score_QR.shape, dtype=np.int64)
    for r in range(score_QR.shape[1]):
        own, place = score_QR[:, r, None], place_QR[:, r, None]
        above[:, r] = ((scores_QP > own) | ((scores_QP == own) & (columns < place))).sum(axis=1)
    return above
