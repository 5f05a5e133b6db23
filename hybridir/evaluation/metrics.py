"""Retrieval measures of one query, from the exact ranks of its relevant passages (1 is the best).

Ranks come from the whole ranking, so average precision is not that of a cut run. Conventions are those of trec_eval
(https://github.com/usnistgov/trec_eval). Each function takes ranks [..., R], of many queries with R relevant passages
at once, and gives values [...].
"""

from collections.abc import Callable

import numpy as np

Measure = Callable[[np.ndarray], np.ndarray]


def average_precision(ranks: np.ndarray) -> np.ndarray:
    """Mean over the relevant passages of precision at their rank; in (0, 1]. Its mean over queries is mAP."""
    return np.mean(np.arange(1, ranks.shape[-1] + 1) / np.sort(ranks), axis=-1)


def recall_at(k: int) -> Measure:
    """Share of the relevant passages among the first k. With R of them, R@k is at most k / R."""
    return lambda ranks: np.mean(ranks <= k, axis=-1)


def success_at(k: int) -> Measure:
    """1 if any relevant passage is among the first k, else 0."""
    return lambda ranks: (np.min(ranks, axis=-1) <= k).astype(float)


def reciprocal_rank_at(k: int) -> Measure:
    """1 / rank of the first relevant passage, 0 if it is beyond k."""
    return lambda ranks: np.where(np.min(ranks, axis=-1) <= k, 1 / np.min(ranks, axis=-1), 0.0)


def ndcg_at(k: int) -> Measure:
    """Discounted cumulative gain of the first k with binary relevance, over the best possible (Jarvelin and Kekalainen
    2002)."""

    def ndcg(ranks: np.ndarray) -> np.ndarray:
        gained = np.sum(np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0), axis=-1)
        return gained / np.sum(1 / np.log2(1 + np.arange(1, min(k, ranks.shape[-1]) + 1)))

    return ndcg


MEASURES: dict[str, Measure] = {
    "mAP": average_precision,
    "R@1": recall_at(1),
    "R@10": recall_at(10),
    "R@100": recall_at(100),
    "success@1": success_at(1),
    "success@10": success_at(10),
    "nDCG@10": ndcg_at(10),
    "RR@10": reciprocal_rank_at(10),
}
