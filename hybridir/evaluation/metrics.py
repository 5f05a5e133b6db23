"""Retrieval measures of a query, from the exact ranks of its relevant passages (1 is the best).

Ranks are those of the complete ranking: average precision is not cut at some depth. Conventions are those of trec_eval
(https://github.com/usnistgov/trec_eval). Each function takes ranks [..., R] of many queries with R relevant passages
each, and returns values [...]. nDCG takes grades as gains; for all other measures, every judgement above 0 is relevant.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from hybridir.evaluation.bias import rank_distance, rank_distance_log2, rank_distance_share

Function = Callable[[np.ndarray], np.ndarray]


def average_precision(ranks: np.ndarray) -> np.ndarray:
    """Mean of the precision at the rank of each relevant passage, in (0, 1]. Its mean over queries is mAP."""
    return np.mean(np.arange(1, ranks.shape[-1] + 1) / np.sort(ranks), axis=-1)


def recall_at(k: int) -> Function:
    """Share of the relevant passages that are among the first k. With R relevant passages it is at most k / R."""
    return lambda ranks: np.mean(ranks <= k, axis=-1)


def success_at(k: int) -> Function:
    """1 if any relevant passage is among the first k, else 0."""
    return lambda ranks: (np.min(ranks, axis=-1) <= k).astype(float)


def reciprocal_rank_at(k: int) -> Function:
    """1 / rank of the first relevant passage, 0 if it is beyond k."""
    return lambda ranks: np.where(np.min(ranks, axis=-1) <= k, 1 / np.min(ranks, axis=-1), 0.0)


def ndcg_at(k: int) -> Callable[..., np.ndarray]:
    """Discounted cumulative gain of the first k, divided by the best possible (Jarvelin and Kekalainen 2002).

    `grades` [..., R] has the gain of each relevant passage; without it, all are the same.
    """

    def ndcg(ranks: np.ndarray, grades: np.ndarray | float = 1.0) -> np.ndarray:
        gains = np.broadcast_to(grades, ranks.shape)
        gained = np.sum(np.where(ranks <= k, gains / np.log2(1 + ranks), 0.0), axis=-1)
        best = -np.sort(-gains, axis=-1)[..., :k]
        return gained / np.sum(best / np.log2(1 + np.arange(1, best.shape[-1] + 1)), axis=-1)

    return ndcg


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A measure of one query, and how it is shown.

    Attributes:
        function: from ranks [..., R] of many queries with R relevant passages each, to values [...].
        title: name in tables and plots.
        about: a sentence or two for the page; used for measures of language bias.
        digits: decimals shown.
        lower_is_better: whether lower values are better.
        needs: `parallel`: it is defined only in the multilingual setting, for queries with answers in at least two
            languages; `n_passages`, `grades`: the function takes an argument of this name, the number of passages in
            the pool [...] or the grades of the relevant passages [..., R].
        main: whether short tables, studies and model cards show it.
        compared: whether differences between systems are tested.
    """

    function: Callable[..., np.ndarray]
    title: str
    about: str = ""
    digits: int = 3
    lower_is_better: bool = False
    needs: tuple[Literal["parallel", "n_passages", "grades"], ...] = ()
    main: bool = True
    compared: bool = True


MEASURES: dict[str, Measure] = {
    "mAP": Measure(function=average_precision, title="mAP"),
    "R@1": Measure(function=recall_at(1), title="R@1", compared=False),
    "R@10": Measure(function=recall_at(10), title="R@10", compared=False),
    "R@100": Measure(function=recall_at(100), title="R@100", main=False, compared=False),
    "success@1": Measure(function=success_at(1), title="success@1", compared=False),
    "success@10": Measure(function=success_at(10), title="success@10", main=False, compared=False),
    "nDCG@10": Measure(function=ndcg_at(10), title="nDCG@10", needs=("grades",)),
    "RR@10": Measure(function=reciprocal_rank_at(10), title="RR@10", main=False, compared=False),
    "rank_distance": Measure(
        function=rank_distance,
        title="rank distance",
        about=(
            "Worst rank minus best rank of the right answers in the pool of all languages; R − 1 at best for R "
            "answers. Blind to quality: right answers that are all ranked equally low look unbiased."
        ),
        digits=1,
        lower_is_better=True,
        needs=("parallel",),
    ),
    "rank_distance_share": Measure(
        function=rank_distance_share,
        title="rank distance / pool",
        about=(
            "Rank distance on a scale from the lowest possible (0) to the highest possible (1: first and last of "
            "the pool), so that pools of different size compare. Blind to quality, and determined by the one "
            "worst answer."
        ),
        lower_is_better=True,
        needs=("parallel", "n_passages"),
        main=False,
        compared=False,
    ),
    "rank_distance_log2": Measure(
        function=rank_distance_log2,
        title="log₂ rank ratio",
        about=(
            "How often the best rank must be doubled to reach the worst rank. Blind to the position in the "
            "ranking: 1 to 2 counts like 100 to 200."
        ),
        digits=2,
        lower_is_better=True,
        needs=("parallel",),
        main=False,
        compared=False,
    ),
}
"""All measures. To add one, write a function and a line here: results, tables, pages and studies then show it."""
