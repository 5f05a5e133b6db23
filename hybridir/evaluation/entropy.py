"""Contrastive entropy: a smooth loss of retrieval, for laws of scaling (Fang et al. 2024, arXiv 2403.18684).

For a query and a right passage it is -log(e^(s/t) / (e^(s/t) + sum over negatives of e^(s'/t))), with scores s and
t = 0.05; for a query, the mean over its right passages. The negatives of a query are drawn once and for all, by a
hash of its id, from the passages in the target language or, in the multilingual setting, from the whole pool. So all
models have the same negatives, whatever their batch size in training.

Shapes: N rows of `Scores`, Q queries, P passages, D dimension, R right passages of a row, M negatives of a row.
"""

import hashlib
from collections.abc import Mapping

import numpy as np

from hybridir.data.records import Benchmark

NAME = "contrastive_entropy"
TEMPERATURE = 0.05
NEGATIVES = 256
_BLOCK = 1 << 24  # most numbers gathered at a time
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def contrastive_entropy(
    rows: Mapping[str, np.ndarray], benchmark: Benchmark, query_QD: np.ndarray, passage_PD: np.ndarray
) -> np.ndarray:
    """The entropy of each row of `Scores`, float64 [N]; NaN where every passage of the pool is right."""
    query_N = _places(rows["query_id"], [one.query_id for one in benchmark.queries])
    right = _right(rows, benchmark, query_N)
    negative_NM, some_N = _negatives(rows, benchmark, query_N)
    found_N = np.full(len(query_N), np.nan)
    size = max(1, _BLOCK // (NEGATIVES * query_QD.shape[1]))
    for first in range(0, len(query_N), size):
        chosen = np.flatnonzero(some_N[first : first + size]) + first
        scores = np.einsum("nd,nmd->nm", query_QD[query_N[chosen]], passage_PD[negative_NM[chosen]])
        others_N = np.logaddexp.reduce(scores.astype(np.float64) / TEMPERATURE, axis=1)
        for n, others in zip(chosen, others_N, strict=True):
            own_R = (passage_PD[right[n]] @ query_QD[query_N[n]]).astype(np.float64) / TEMPERATURE
            found_N[n] = np.mean(np.logaddexp(own_R, others) - own_R)
    return found_N


def _right(rows: Mapping[str, np.ndarray], benchmark: Benchmark, query_N: np.ndarray) -> list[list[int]]:
    """The right passages of each row: in its language, or all of them."""
    language_P = benchmark.language_P
    number = {language: n for n, language in enumerate(benchmark.languages)}
    return [
        [place for place in benchmark.relevant[query] if not language or language_P[place] == number[language]]
        for query, language in zip(query_N, rows["passage_language"].tolist(), strict=True)
    ]


def _negatives(
    rows: Mapping[str, np.ndarray], benchmark: Benchmark, query_N: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The places of the negatives, int64 [N, M], drawn with replacement, and whether there are any, bool [N].

    Right passages are left out, and a passage that is the query itself.
    """
    language_P = np.asarray(benchmark.language_P)
    own_Q = benchmark.own or [-1] * len(benchmark.queries)
    negative_NM = np.zeros((len(query_N), NEGATIVES), dtype=np.int64)
    some_N = np.zeros(len(query_N), dtype=bool)
    target_N = rows["passage_language"]
    for language in np.unique(target_N):
        n_language = benchmark.languages.index(language) if language else -1
        pool = np.flatnonzero(language_P == n_language) if language else np.arange(len(language_P))
        within_P = np.full(len(language_P), -1)
        within_P[pool] = np.arange(len(pool))
        chosen = np.flatnonzero(target_N == language)
        left_out = [
            sorted({int(within_P[p]) for p in (*benchmark.relevant[q], own_Q[q]) if p >= 0 and within_P[p] >= 0})
            for q in query_N[chosen]
        ]
        free = len(pool) - np.array([len(one) for one in left_out])
        some_N[chosen] = free > 0
        hash_N = np.array([_hash(f"{benchmark.queries[q].query_id} {language}") for q in query_N[chosen]])
        place = (_draws(hash_N) * np.maximum(free, 1)[:, None]).astype(np.int64)
        padded = np.full((len(chosen), max(map(len, left_out))), len(pool))
        for n, one in enumerate(left_out):
            padded[n, : len(one)] = one
        for column in padded.T:  # past what is left out, in ascending order
            place += place >= column[:, None]
        negative_NM[chosen] = pool[np.minimum(place, len(pool) - 1)]
    return negative_NM, some_N


def _places(names: np.ndarray, order: list[str]) -> np.ndarray:
    place = {name: n for n, name in enumerate(order)}
    return np.array([place[name] for name in names.tolist()])


def _hash(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big"))


def _draws(hash_N: np.ndarray) -> np.ndarray:
    """[N, M]: numbers in [0, 1) from hashes, by SplitMix64 (Steele, Lea and Flood 2014, OOPSLA)."""
    x = hash_N[:, None] + np.arange(1, NEGATIVES + 1, dtype=np.uint64) * _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53
