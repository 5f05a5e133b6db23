"""Language bias: does the language of a passage, or of a query, change what is retrieved?

Small pure functions of arrays. Ranks are those of the pooled multilingual ranking (1 is the best). If a query has
several answers in a language, pass the best rank; if it has none, pass NaN. "Ours" marks measures defined here.

Shapes: Q queries of one or more languages, L languages, R parallel answers of a query, K retrieved, P passages.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.special import chdtrc, rel_entr

RANK_BINS = (1, 2, 5, 10, 20, 50, 100, 1000)
PERSISTENCE = 0.9  # p of rank-biased overlap: the reader looks at 10 results on average


# Spread of the parallel answers of a query: from ranks [..., R] to values [...]


def rank_distance(ranks: np.ndarray) -> np.ndarray:
    """Highest minus lowest rank among the parallel answers of a query in the pooled ranking (arXiv 2408.10536, 4.3).

    From R - 1 (all answers side by side, no bias) to the size of the pool minus 1; lower is better. A random ranking of
    N passages has (N + 1)(R - 1) / (R + 1) on average. It measures spread, not quality: a bad encoder can have a small
    one. One answer that is not found determines it.
    """
    return (np.max(ranks, axis=-1) - np.min(ranks, axis=-1)).astype(float)


def rank_distance_share(ranks: np.ndarray, n_passages: np.ndarray | int) -> np.ndarray:
    """(rank distance - (R - 1)) / (N - R): the rank distance, scaled from its lowest to its highest possible value.

    From 0 (side by side) to 1 (first and last of the pool). A random ranking has (R - 1) / (R + 1) on average for any
    size N of the pool, so pools of different size compare. Ours, with the limits of `rank_distance`; with few answers a
    random ranking looks better than with many. If all passages are answers, it is 0.
    """
    n_answers = ranks.shape[-1]
    return (rank_distance(ranks) - (n_answers - 1)) / np.maximum(1, n_passages - n_answers)


def rank_distance_log2(ranks: np.ndarray) -> np.ndarray:
    """log2(highest rank / lowest rank): how often the reading depth must double to get from the first answer to the
    last.

    From log2(R) for answers on the first R ranks (near 0 for answers side by side far down) to log2 of the pool's size.
    The formula does not use the pool's size. Ours. Ranks 1 and 2 differ as much as ranks 1,000 and 2,000: it describes
    the head of the ranking and misses a bias far down.
    """
    return np.log2(np.max(ranks, axis=-1) / np.min(ranks, axis=-1))


# Order of the languages


class Friedman(NamedTuple):
    """The result of `friedman`."""

    chi2: float
    p: float
    w: float
    n: int  # complete queries
    mean_rank_L: np.ndarray  # of the answers within a query, 1 to L


def friedman(rank_QL: np.ndarray) -> Friedman:
    """Do the languages of the answers come in the same order for all queries? Friedman's test and Kendall's W.

    Within each query the answers are ranked 1 to L by language (ties share their mean rank), r_ql. With R_l = sum_q
    r_ql, chi2 = (L - 1) sum_l (R_l - Q(L + 1)/2)^2 / (sum_ql r_ql^2 - QL(L + 1)^2/4). This holds with ties (Conover
    1999, Practical Nonparametric Statistics, 5.8) and equals `scipy.stats.friedmanchisquare`, which refuses L = 2. p is
    from chi2 with L - 1 degrees of freedom. W = chi2 / (Q(L - 1)) (Kendall and Babington Smith 1939), from 0 (no
    language comes first more often than another) to 1 (the same order in every query).

    It ignores how far apart the answers are and whether any is found. p assumes that queries are independent. Questions
    about one text are not, and then p is too small. With many queries p is small for any bias: read W.

    Args:
        rank_QL: [Q, L], ranks of the answers by language of the answer, for queries in one language; queries with a NaN
            do not count. `ValueError` if no query is left, or L is 1.
    """
    complete_QL = rank_QL[~np.isnan(np.asarray(rank_QL, dtype=float)).any(axis=1)]
    n, n_languages = complete_QL.shape
    if n < 1 or n_languages < 2:
        raise ValueError(
            f"Friedman's test needs a query with answers in 2 languages: got {n} queries x {n_languages} languages"
        )
    from scipy.stats import rankdata  # not on top: a second for every start

    within_QL = rankdata(complete_QL, axis=1)
    spread = np.sum(within_QL**2) - n * n_languages * (n_languages + 1) ** 2 / 4
    between = np.sum((within_QL.sum(axis=0) - n * (n_languages + 1) / 2) ** 2)
    chi2 = float((n_languages - 1) * between / spread) if spread else 0.0  # spread is 0 if all ranks are tied
    p = float(chdtrc(n_languages - 1, chi2))
    return Friedman(chi2, p, chi2 / (n * (n_languages - 1)), n, within_QL.mean(axis=0))


def own_language_first(rank_QL: np.ndarray, own_Q: np.ndarray) -> np.ndarray:
    """[Q]: 1 if the best-ranked parallel answer of a query is in the query's language, else 0; NaN if a query has no
    answer in its language, or none in another.

    Its mean is the language preference rate: 1 / L without a preference, 1 if a query's own language always comes
    first. Ours, after the plot of retrieved languages in LAReQA (arXiv 2004.05484). It ignores how far the first answer
    is ahead, and a preference for a third language.

    Args:
        rank_QL: [Q, L], ranks of the answers by language, NaN if there is none.
        own_Q: [Q], the column of the query's own language.
    """
    own, others_QL = _own_and_others(rank_QL, own_Q)
    best_other = np.nanmin(np.where(np.isnan(others_QL), np.inf, others_QL), axis=1, initial=np.inf)
    return np.where(np.isnan(own) | np.isinf(best_other), np.nan, own < best_other)


def score_margins(score_QL: np.ndarray, own_Q: np.ndarray) -> np.ndarray:
    """[Q]: score of the answer in the query's language minus the mean score of the answers in other languages; NaN if
    either is missing.

    In the units of the score (cosine: -2 to 2); 0 without a preference. Ours. Compare systems only if their scores have
    the same scale: a temperature or a narrow cone of embeddings changes the margin but no rank, and BM25's score is no
    cosine.

    Args:
        score_QL: [Q, L], scores of the answers by language, NaN if there is none.
        own_Q: [Q], the column of the query's own language.
    """
    own, others_QL = _own_and_others(score_QL, own_Q)
    count = np.sum(~np.isnan(others_QL), axis=1)
    return own - np.where(count, np.nansum(others_QL, axis=1), np.nan) / np.maximum(count, 1)


# What is retrieved


def language_histogram(language_QK: np.ndarray, query_language_Q: np.ndarray, n_languages: int) -> np.ndarray:
    """[L, L]: shares of the passage languages among the first K results, a row for each query language.

    Rows sum to 1; the row of a language without queries is NaN. It ignores the order within the K, and relevance.

    Args:
        language_QK: [Q, K], number of the language of each retrieved passage; negative if there is none.
        query_language_Q: [Q], number of the language of each query.
        n_languages: L.
    """
    cell_QK = query_language_Q[:, None] * n_languages + language_QK
    count = np.bincount(cell_QK[language_QK >= 0], minlength=n_languages**2).reshape(n_languages, n_languages)
    total = count.sum(axis=1, keepdims=True)
    return np.where(total, count, np.nan) / np.maximum(total, 1)


def corpus_shares(language_P: np.ndarray, n_languages: int) -> np.ndarray:
    """[L]: shares of the languages among all passages; `language_P` [P] has the number of each passage's language."""
    return np.bincount(language_P, minlength=n_languages) / len(language_P)


def language_kl(share_LL: np.ndarray, corpus_L: np.ndarray) -> float:
    """Mean over query languages of KL(top-k || corpus) = sum_l h_l log2(h_l / c_l), in bits (Kullback and Leibler
    1951).

    h is a row of `language_histogram`, c is `corpus_shares`. 0 if languages are as frequent as in the corpus; at most
    log2(1 / c_l), if all results are in language l. It is computed by query language, because over all queries together
    preferences for the own language would cancel. It ignores relevance. With few results it is too high (by about
    (L - 1) / (2 n ln 2) for n independent ones). If languages have unequal numbers of answers, a KL above 0 is right.
    Rows of NaN do not count.
    """
    rows = share_LL[~np.isnan(share_LL).any(axis=1)]
    return float(np.mean(rel_entr(rows, corpus_L).sum(axis=1)) / np.log(2))


def rank_biased_overlap(first_QK: np.ndarray, second_QK: np.ndarray, p: float = PERSISTENCE) -> np.ndarray:
    """[Q]: agreement of two lists of K results, RBO_ext of Webber, Moffat and Zobel (2010, ACM TOIS 28(4)).

    A_d is the share of passages that the first d of both have in common. The value is A_K p^K + (1 - p) sum_{d=1..K}
    A_d p^(d-1): in [0, 1], 1 for equal lists, 0 for disjoint ones. Random rankings of N passages have at most K / N on
    average: there is no correction for chance.

    The alternative is Spearman's or Kendall's correlation of the union, with absent items tied at rank K + 1. If lists
    share little, it measures that convention (two disjoint lists get about -.8 whatever is in them); it changes with K,
    and weighs rank 90 like rank 1.

    Args:
        first_QK: [Q, K], ids of the retrieved passages, best first, each at most once.
        second_QK: [Q, K].
        p: weight of depth d + 1 against depth d, in (0, 1); .9 puts 86 % of the weight on the first 10 ranks.
    """
    depth = first_QK.shape[1]
    shared_Q = np.zeros(len(first_QK))
    total_Q = np.zeros(len(first_QK))
    for d in range(depth):
        shared_Q += (first_QK[:, d, None] == second_QK[:, : d + 1]).any(axis=1)
        shared_Q += (second_QK[:, d, None] == first_QK[:, :d]).any(axis=1)
        total_Q += (1 - p) * p**d * shared_Q / (d + 1)
    return total_Q + p**depth * shared_Q / depth


def rank_correlation(top_LGK: np.ndarray, p: float = PERSISTENCE) -> np.ndarray:
    """[L, L]: mean agreement (`rank_biased_overlap`) of the results for the same question asked in two languages.

    Symmetric; NaN on the diagonal and for two languages that share no question, so `np.nanmean` of it is the mean over
    pairs of languages. In [0, 1]; 1 if the language of the query changes nothing. Passages are compared by id, not by
    content: a system that answers every query in its own language has 0. It ignores relevance.

    Args:
        top_LGK: [L, G, K], ids of the first K passages for question g in language l; -1 if it is not asked there.
        p: of `rank_biased_overlap`.
    """
    found = np.full((len(top_LGK), len(top_LGK)), np.nan)
    for i in range(len(top_LGK)):
        for j in range(i):
            both = (top_LGK[i, :, 0] >= 0) & (top_LGK[j, :, 0] >= 0)
            if both.any():
                found[i, j] = found[j, i] = np.mean(rank_biased_overlap(top_LGK[i, both], top_LGK[j, both], p))
    return found


def rank_distribution(ranks: np.ndarray, upper: Sequence[int] = RANK_BINS) -> np.ndarray:
    """[B + 1]: shares of answers with a rank up to each bound and above the previous bound; the last is the rest.

    The bias is the difference between the shares for answers in the query's language and for all others. Sums to 1
    (NaN if there is no answer). It ignores which query an answer belongs to.

    Args:
        ranks: [N], pooled ranks of answers, of any queries.
        upper: [B], bounds, rising.
    """
    counts = np.bincount(np.searchsorted(upper, ranks), minlength=len(upper) + 1)
    return counts / counts.sum() if len(ranks) else np.full(len(counts), np.nan)


def min_max(values: Mapping[str, float]) -> dict[str, Any]:
    """`{"min": [name, value], "max": [name, value], "ratio": min / max}` of a measure by language or pair of languages.

    The ratio is in [0, 1]: 1 if all are equal; left out if max is 0. Ties go to the first name. It ignores all
    languages in between, the level (all at .01 gives 1) and chance: the lowest of many noisy values is too low.
    """
    low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
    found: dict[str, Any] = {"min": [low, values[low]], "max": [high, values[high]]}
    return found | ({"ratio": values[low] / values[high]} if values[high] else {})


def _own_and_others(value_QL: np.ndarray, own_Q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[Q], [Q, L]: the value in the query's language, and all values with the query's language set to NaN."""
    others_QL = np.array(value_QL, dtype=float)
    row = np.arange(len(others_QL))
    own = others_QL[row, own_Q]
    others_QL[row, own_Q] = np.nan
    return own, others_QL
