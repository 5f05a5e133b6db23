"""The language bias of one ranking: the entry `bias` of `results.json`, from the measures of bias.py.

Measures that a benchmark does not allow (no parallel answers, one language) are left out. Means are taken over the
queries of a language, then over languages.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.bias import (
    RANK_BINS,
    corpus_shares,
    friedman,
    language_histogram,
    language_kl,
    min_max,
    own_language_first,
    rank_correlation,
    rank_distance,
    rank_distribution,
    score_margins,
)
from hybridir.evaluation.settings import answer_languages
from hybridir.retrieval.search import Ranking

TOP = 10
"""The number of first results whose languages are counted."""


def bias_results(ranking: Ranking, benchmark: Benchmark, summary: dict[str, Any]) -> dict[str, Any]:
    """All measures of language bias, by name; `summary` is the result of `summarise` for the same ranking."""
    if len(benchmark.languages) < 2:
        return {}
    languages = benchmark.languages
    number = {language: n for n, language in enumerate(languages)}
    own_Q = np.array([number[query.language] for query in benchmark.queries])
    language_P = np.array([number[passage.language] for passage in benchmark.passages])
    rank_QL, score_QL = best_answers(ranking, benchmark, language_P)
    rows_of = {language: np.flatnonzero(own_Q == n) for language, n in number.items()}

    def by_language(values_Q: np.ndarray) -> dict[str, Any]:
        means = {x: values_Q[rows][~np.isnan(values_Q[rows])] for x, rows in rows_of.items()}
        per_language = {x: float(values.mean()) for x, values in means.items() if len(values)}
        mean = float(np.mean(list(per_language.values()))) if per_language else math.nan
        return {"mean": mean, "per_language": per_language}

    _, top_QK = ranking.pooled_top()
    found = {
        "rank_distance_by_answers": _by_answers(ranking, benchmark),
        "rank_distribution": _distribution(ranking, benchmark, own_Q, language_P),
        "top_k_languages": _top_languages(top_QK[:, :TOP], own_Q, language_P, languages),
        "preference_rate": by_language(own_language_first(rank_QL, own_Q)),
        "friedman": _friedman({x: rank_QL[rows] for x, rows in rows_of.items()}),
        "rank_correlation": _correlation(top_QK, benchmark, number),
        "score_margin": by_language(score_margins(score_QL, own_Q)),
        "min_max": _extremes(summary),
    }
    return {name: value for name, value in found.items() if value and not math.isnan(value.get("mean", 0))}


def best_answers(ranking: Ranking, benchmark: Benchmark, language_P: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pooled rank and score of the best-ranked answer of each query in each language, [Q, L] each; NaN if none."""
    shape = (len(benchmark.queries), len(benchmark.languages))
    rank_QL, score_QL = np.full(shape, np.inf), np.full(shape, -np.inf)
    query_R = np.repeat(np.arange(shape[0]), [len(found) for found in benchmark.relevant])
    language_R = language_P[_relevant(benchmark)]
    np.minimum.at(rank_QL, (query_R, language_R), 1.0 + ranking.above.sum(axis=1))
    np.maximum.at(score_QL, (query_R, language_R), ranking.relevant_score)
    missing_QL = np.isinf(rank_QL)
    rank_QL[missing_QL] = score_QL[missing_QL] = np.nan
    return rank_QL, score_QL


def _relevant(benchmark: Benchmark) -> np.ndarray:
    """[R]: the positions of all relevant passages, query by query."""
    return np.array([place for found in benchmark.relevant for place in found], dtype=np.int64)


def _by_answers(ranking: Ranking, benchmark: Benchmark) -> dict[str, Any]:
    """Rank distance by the number of right answers: with more answers it is larger by chance alone."""
    found: dict[int, list[float]] = {}
    start = 0
    for relevant, languages in zip(benchmark.relevant, answer_languages(benchmark), strict=True):
        ranks = 1 + ranking.above[start : start + len(relevant)].sum(axis=1)
        start += len(relevant)
        if len(languages) > 1:
            found.setdefault(len(relevant), []).append(float(rank_distance(ranks)))
    return {str(n): {"n": len(values), "rank_distance": float(np.mean(values))} for n, values in sorted(found.items())}


def _distribution(
    ranking: Ranking, benchmark: Benchmark, own_Q: np.ndarray, language_P: np.ndarray
) -> dict[str, Any] | None:
    rank_R = 1 + ranking.above.sum(axis=1)
    query_R = np.repeat(np.arange(len(own_Q)), [len(found) for found in benchmark.relevant])
    same_R = language_P[_relevant(benchmark)] == own_Q[query_R]
    if same_R.all() or not same_R.any():
        return None
    shares = {"same": rank_distribution(rank_R[same_R]), "other": rank_distribution(rank_R[~same_R])}
    return {"upper": [*RANK_BINS, None]} | {name: values.tolist() for name, values in shares.items()}


def _top_languages(
    top_QK: np.ndarray, own_Q: np.ndarray, language_P: np.ndarray, languages: Sequence[str]
) -> dict[str, Any] | None:
    if not top_QK.shape[1]:
        return None
    found_QK = np.where(top_QK >= 0, language_P[top_QK], -1)
    share_LL = language_histogram(found_QK, own_Q, len(languages))
    corpus_L = corpus_shares(language_P, len(languages))
    return {
        "k": top_QK.shape[1],
        "by_query_language": {
            x: dict(zip(languages, row.tolist(), strict=True))
            for x, row in zip(languages, share_LL, strict=True)
            if not np.isnan(row).any()
        },
        "corpus": dict(zip(languages, corpus_L.tolist(), strict=True)),
        "kl": language_kl(share_LL, corpus_L),
    }


def _friedman(ranks: dict[str, np.ndarray]) -> dict[str, Any]:
    found = {}
    for language, rank_QL in ranks.items():
        if np.isnan(rank_QL).any(axis=1).all():  # no query of this language has an answer in every language
            continue
        test = friedman(rank_QL)
        mean_rank = dict(zip(ranks, test.mean_rank_L.tolist(), strict=True))
        found[language] = {"chi2": test.chi2, "p": test.p, "w": test.w, "n": test.n, "mean_rank": mean_rank}
    return found


def _correlation(top_QK: np.ndarray, benchmark: Benchmark, number: dict[str, int]) -> dict[str, Any] | None:
    """Agreement of the results of questions that are asked in several languages; None if there are none."""
    groups = {group: n for n, group in enumerate(dict.fromkeys(query.group_id for query in benchmark.queries))}
    top_LGK = np.full((len(number), len(groups), top_QK.shape[1]), -1)
    for query, top_K in zip(benchmark.queries, top_QK, strict=True):
        top_LGK[number[query.language], groups[query.group_id]] = top_K
    agreement_LL = rank_correlation(top_LGK)
    names = list(number)
    per_pair = {
        f"{names[i]}-{names[j]}": float(agreement_LL[i, j]) for i, j in np.argwhere(~np.isnan(agreement_LL)) if i < j
    }
    return {"mean": float(np.mean(list(per_pair.values()))), "per_pair": per_pair} if per_pair else None


def _extremes(summary: dict[str, Any]) -> dict[str, Any]:
    """Lowest and highest mAP by language, or by pair of languages in the cross-lingual setting."""
    own = {f"{x}-{x}" for x in summary["languages"]}
    values = {
        "monolingual": _of(summary["per_language"], "monolingual"),
        "crosslingual": {pair: one["mAP"] for pair, one in summary["per_pair"].items() if pair not in own},
        "multilingual": _of(summary["per_language"], "multilingual"),
    }
    return {setting: min_max(of_setting) for setting, of_setting in values.items() if len(of_setting) > 1}


def _of(per_language: dict[str, Any], setting: str) -> dict[str, float]:
    return {language: of[setting]["mAP"] for language, of in per_language.items() if setting in of}
