"""Retrieval measures of one query, from the exact ranks of its relevant passages (1 is the best).

Ranks come from the whole ranking, so average precision is not that of a cut run. Conventions are those of trec_eval
(https://github.com/usnistgov/trec_eval).
"""

from collections.abc import Callable

import numpy as np


def average_precision(ranks: np.ndarray) -> float:
    """Mean over the relevant passages of precision at their rank; in (0, 1]. Its mean over queries is mAP."""
    ordered = np.sort(ranks)
    return float(np.mean(np.arange(1, len(ordered) + 1) / ordered))


def recall_at(k: int) -> Callable[[np.ndarray], float]:
    """Share of the relevant passages among the first k. With R of them, R@k is at most k / R."""
    return lambda ranks: float(np.mean(ranks <= k))


def success_at(k: int) -> Callable[[np.ndarray], float]:
    """1 if any relevant passage is among the first k, else 0."""
    return lambda ranks: float(np.min(ranks) <= k)


def reciprocal_rank_at(k: int) -> Callable[[np.ndarray], float]:
    """1 / rank of the first relevant passage, 0 if it is beyond k."""
    return lambda ranks: float(1 / np.min(ranks)) if np.min(ranks) <= k else 0.0


def ndcg_at(k: int) -> Callable[[np.ndarray], float]:
    """Discounted cumulative gain of the first k with binary relevance, over the best possible (Jarvelin and Kekalainen
    2002)."""

    def ndcg(ranks: np.ndarray) -> float:
        gained = np.sum(1 / np.log2(1 + ranks[ranks <= k]))
        return float(gained / np.sum(1 / np.log2(1 + np.arange(1, min(k, len(ranks)) + 1))))

    return ndcg


MEASURES: dict[str, Callable[[np.ndarray], float]] = {
    "mAP": average_precision,
    "R@1": recall_at(1),
    "R@10": recall_at(10),
    "success@1": success_at(1),
    "nDCG@10": ndcg_at(10),
    "RR@10": reciprocal_rank_at(10),
}
