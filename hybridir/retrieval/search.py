"""The exact rank of every relevant passage, and the best passages, by any scorer: see `rank_all`.

Vectors are searched faster by `nearest.py`, with the same result.

Shapes: Q queries, P passages, D dimension, R pairs of a query and a relevant passage, L languages.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.retrieval.dot import Scorer
from hybridir.retrieval.ties import count_above, keep_best, merge_best

DEPTH = 100
"""The number of best passages in each language that an evaluation keeps of a ranking."""

TRANSLATED = 500
"""The most sets of translated answers whose vectors are kept."""
PASSAGE_SHARD = 65536
_BLOCK_SCORES = 2**24
"""Scores held at a time (64 MiB), unless those of 16 queries are more."""


@dataclass(frozen=True)
class Ranking:
    """The result of a search over all passages: exact ranks, and the best passages.

    Attributes:
        above: int64 [R, L], how many passages of each language rank before a relevant passage. Rows are ordered by
            query, then as in `Benchmark.relevant`. The exact ranks in every setting follow from these counts.
        relevant_score: float32 [R], the score of each relevant passage.
        top_score: float32 [Q, L, depth], the best scores in each language, descending; -inf after the last passage.
        top_place: int64 [Q, L, depth], the positions of these passages; -1 after the last passage.
        translated: float32 [G, L, D], the vectors of translated answers (see `translated_answers`), zeros where there
            is none. None of a system without vectors, or with a depth of 0.
    """

    above: np.ndarray
    relevant_score: np.ndarray
    top_score: np.ndarray
    top_place: np.ndarray
    translated: np.ndarray | None = None

    def pooled_top(self) -> tuple[np.ndarray, np.ndarray]:
        """The best passages over all languages: scores float32 [Q, depth] and positions int64 [Q, depth]."""
        n_queries, n_languages, depth = self.top_score.shape
        shape = (n_queries, n_languages * depth)
        return keep_best(self.top_score.reshape(shape), self.top_place.reshape(shape), depth)


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
            above_QR = count_above(scores, np.arange(shard.start, shard.stop), score_QR, place_QR)
            for row, found in enumerate(relevant):
                above[start + row][:, language] += above_QR[row, : len(found)]
            if depth:
                best = (top_score[block, language], top_place[block, language])
                top_score[block, language], top_place[block, language] = merge_best(
                    *best, scores, np.arange(shard.start, shard.stop), depth
                )
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


def translated_answers(benchmark: Benchmark) -> np.ndarray:
    """The answers of the first questions with answers in several languages, int64 [G, L]: positions, -1 for none.

    At most `TRANSLATED` sets of answers, each once.
    """
    language_P, found = benchmark.language_P, dict[tuple[int, ...], np.ndarray]()
    for places in benchmark.relevant:
        if places not in found:
            row = np.full(len(benchmark.languages), -1, dtype=np.int64)
            row[language_P[list(places)][::-1]] = places[::-1]  # of several in a language, the first
            if (row >= 0).sum() > 1:
                found[places] = row
        if len(found) == TRANSLATED:
            break
    return np.array(list(found.values()), dtype=np.int64).reshape(-1, len(benchmark.languages))


def passage_shards(benchmark: Benchmark) -> list[tuple[int, slice]]:
    """Cuts the passages into slices of one language, at most `PASSAGE_SHARD` long: (index of the language, slice)."""
    language_P = benchmark.language_P
    cuts = [0, *(np.flatnonzero(np.diff(language_P)) + 1).tolist(), len(language_P)]
    return [
        (int(language_P[first]), slice(first, min(first + PASSAGE_SHARD, end)))
        for begin, end in itertools.pairwise(cuts)
        for first in range(begin, end, PASSAGE_SHARD)
    ]
