"""The language bias of one ranking: the entry `bias` of `results.json`, from the measures of bias.py.

Measures that a benchmark does not allow (no parallel answers, one language) are left out. Means are taken over the
queries of a language, then over languages.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.alignment import bitext_precision, hubness, language_told, translation_margin
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


@dataclass(frozen=True)
class Ranked:
    """A ranking, and what measures of bias take from it.

    Attributes:
        own_Q: number of the language of each query.
        language_P: number of the language of each passage.
        rank_QL, score_QL: see `best_answers`.
        top_QK: positions of the best passages over all languages.
        summary: the result of `summarise` for the same ranking.
    """

    ranking: Ranking
    benchmark: Benchmark
    own_Q: np.ndarray
    language_P: np.ndarray
    rank_QL: np.ndarray
    score_QL: np.ndarray
    top_QK: np.ndarray
    summary: dict[str, Any]

    def by_language(self, values_Q: np.ndarray) -> dict[str, Any]:
        """`mean` and `per_language`: the mean over the queries of a language, then over languages."""
        of = {x: values_Q[(self.own_Q == n) & ~np.isnan(values_Q)] for n, x in enumerate(self.benchmark.languages)}
        per_language = {x: float(values.mean()) for x, values in of.items() if len(values)}
        mean = float(np.mean(list(per_language.values()))) if per_language else math.nan
        return {"mean": mean, "per_language": per_language}


def _mean(entry: dict[str, Any]) -> dict[str, float]:
    return {"": entry["mean"]}


@dataclass(frozen=True, kw_only=True)
class BiasMeasure:
    """A measure of language bias of a whole ranking, and how it is shown.

    Attributes:
        function: the measure's entry in `bias` of `results.json`; None if the benchmark does not allow it.
        title: name in tables.
        about: what it shows, and what it is blind to.
        best: which values are best.
        numbers: from the entry to the numbers that tables show: one, named "", or several, each with its name.
    """

    function: Callable[[Ranked], dict[str, Any] | None]
    title: str
    about: str
    best: str = "lower is better"
    numbers: Callable[[dict[str, Any]], dict[str, float]] = _mean


def bias_results(ranking: Ranking, benchmark: Benchmark, summary: dict[str, Any]) -> dict[str, Any]:
    """All measures of language bias, by name; `summary` is the result of `summarise` for the same ranking."""
    if len(benchmark.languages) < 2:
        return {}
    number = {language: n for n, language in enumerate(benchmark.languages)}
    own_Q = np.array([number[query.language] for query in benchmark.queries])
    language_P = benchmark.language_P
    best = best_answers(ranking, benchmark, language_P)
    of = Ranked(ranking, benchmark, own_Q, language_P, *best, ranking.pooled_top()[1], summary)
    found = {"rank_distance_by_answers": _by_answers(ranking, benchmark), "rank_distribution": _distribution(of)}
    found |= {name: one.function(of) for name, one in BIAS.items()}
    return {name: value for name, value in found.items() if value and not math.isnan(value.get("mean", 0))}


def bias_numbers(bias: dict[str, Any]) -> dict[str, float]:
    """The numbers that tables show, from `bias` of `results.json`, by `NAME` or `NAME PART` (such as a setting)."""
    return {
        f"{name} {part}".strip(): value
        for name, one in BIAS.items()
        if name in bias
        for part, value in one.numbers(bias[name]).items()
    }


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


def _distribution(of: Ranked) -> dict[str, Any] | None:
    rank_R = 1 + of.ranking.above.sum(axis=1)
    query_R = np.repeat(np.arange(len(of.own_Q)), [len(found) for found in of.benchmark.relevant])
    same_R = of.language_P[_relevant(of.benchmark)] == of.own_Q[query_R]
    if same_R.all() or not same_R.any():
        return None
    shares = {"same": rank_distribution(rank_R[same_R]), "other": rank_distribution(rank_R[~same_R])}
    return {"upper": [*RANK_BINS, None]} | {name: values.tolist() for name, values in shares.items()}


def _top_languages(of: Ranked) -> dict[str, Any] | None:
    top_QK, languages = of.top_QK[:, :TOP], of.benchmark.languages
    if not top_QK.shape[1]:
        return None
    found_QK = np.where(top_QK >= 0, of.language_P[top_QK], -1)
    share_LL = language_histogram(found_QK, of.own_Q, len(languages))
    corpus_L = corpus_shares(of.language_P, len(languages))
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


def _friedman(of: Ranked) -> dict[str, Any]:
    found = {}
    for n, language in enumerate(of.benchmark.languages):
        rank_QL = of.rank_QL[of.own_Q == n]
        if np.isnan(rank_QL).any(axis=1).all():  # no query of this language has an answer in every language
            continue
        test = friedman(rank_QL)
        mean_rank = dict(zip(of.benchmark.languages, test.mean_rank_L.tolist(), strict=True))
        found[language] = {"chi2": test.chi2, "p": test.p, "w": test.w, "n": test.n, "mean_rank": mean_rank}
    return found


def _correlation(of: Ranked) -> dict[str, Any] | None:
    """Agreement of the results of questions that are asked in several languages; None if there are none."""
    queries, names = of.benchmark.queries, of.benchmark.languages
    groups = {group: n for n, group in enumerate(dict.fromkeys(query.group_id for query in queries))}
    top_LGK = np.full((len(names), len(groups), of.top_QK.shape[1]), -1)
    for query, language, top_K in zip(queries, of.own_Q, of.top_QK, strict=True):
        top_LGK[language, groups[query.group_id]] = top_K
    agreement_LL = rank_correlation(top_LGK)
    per_pair = {
        f"{names[i]}-{names[j]}": float(agreement_LL[i, j]) for i, j in np.argwhere(~np.isnan(agreement_LL)) if i < j
    }
    return {"mean": float(np.mean(list(per_pair.values()))), "per_pair": per_pair} if per_pair else None


def _extremes(of: Ranked) -> dict[str, Any]:
    """Lowest and highest mAP by language, or by pair of languages in the cross-lingual setting."""
    summary = of.summary
    own = {f"{x}-{x}" for x in summary["languages"]}
    values = {
        "monolingual": _of(summary["per_language"], "monolingual"),
        "crosslingual": {pair: one["mAP"] for pair, one in summary["per_pair"].items() if pair not in own},
        "multilingual": _of(summary["per_language"], "multilingual"),
    }
    return {setting: min_max(of_setting) for setting, of_setting in values.items() if len(of_setting) > 1}


def _of(per_language: dict[str, Any], setting: str) -> dict[str, float]:
    return {language: of[setting]["mAP"] for language, of in per_language.items() if setting in of}


def _aligned(measure: Callable[[np.ndarray], float]) -> Callable[[Ranked], dict[str, Any] | None]:
    """A measure of the vectors of translated answers, if the system has vectors and the benchmark such answers."""

    def function(of: Ranked) -> dict[str, Any] | None:
        translated = of.ranking.translated
        return None if translated is None or not len(translated) else {"mean": measure(translated)}

    return function


BIAS: dict[str, BiasMeasure] = {
    "top_k_languages": BiasMeasure(
        function=_top_languages,
        title="KL of the top k",
        about=(
            "How far the mix of languages among the top k is from that of the corpus; 0 is the same mix. Blind to "
            "right and wrong: a language may be frequent because its passages answer better."
        ),
        numbers=lambda entry: {"": entry["kl"]},
    ),
    "preference_rate": BiasMeasure(
        function=lambda of: of.by_language(own_language_first(of.rank_QL, of.own_Q)),
        title="Preference rate",
        about=(
            "Share of questions whose best-ranked answer is in their own language; about 1/R without preference. Blind "
            "to the distance to the other languages."
        ),
        best="best near 1 / answers",
    ),
    "friedman": BiasMeasure(
        function=_friedman,
        title="Kendall's W",
        about=(
            "Do the passage languages come in the same order for every question (Friedman's test)? 0 is no common "
            "order, 1 always the same; mean over question languages. Blind to how large the gaps are."
        ),
        numbers=lambda entry: {"": float(np.mean([test["w"] for test in entry.values()]))},
    ),
    "rank_correlation": BiasMeasure(
        function=_correlation,
        title="Rank correlation",
        about=(
            "Do translations of a question get the same ranking? 1 is the same, 0 unrelated. Blind to whether the "
            "rankings are any good."
        ),
        best="higher is better",
    ),
    "score_margin": BiasMeasure(
        function=lambda of: of.by_language(score_margins(of.score_QL, of.own_Q)),
        title="Score margin",
        about=(
            "Mean score of the answer in the question's language minus that of the other answers; 0 without bias. In "
            "the units of each system's own scores, so not comparable between systems, and blind to ranks."
        ),
        best="best at 0",
    ),
    "min_max": BiasMeasure(
        function=_extremes,
        title="Min / max",
        about=(
            "Lowest mAP divided by highest mAP; 1 is equal. Blind to all languages in between, and to the level of "
            "both."
        ),
        best="higher is better",
        numbers=lambda entry: {setting: of_setting["ratio"] for setting, of_setting in entry.items()},
    ),
    "translation_margin": BiasMeasure(
        function=_aligned(translation_margin),
        title="Translation margin",
        about=(
            "Mean cosine of an answer with its translations, minus that with other passages of the same languages; 0 "
            "is chance. Blind to whether the translation is the nearest."
        ),
        best="higher is better",
    ),
    "bitext_precision": BiasMeasure(
        function=_aligned(bitext_precision),
        title="Bitext P@1",
        about=(
            "Share of answers whose nearest answer in another language is their translation, both ways, over pairs of "
            "languages. Blind to queries."
        ),
        best="higher is better",
    ),
    "language_told": BiasMeasure(
        function=_aligned(language_told),
        title="Language told",
        about=(
            "Share of answers whose language is that of the nearest mean embedding of a language; 1 / languages is "
            "chance. Blind to whether the language moves any rank."
        ),
        best="lower is better",
    ),
    "hubness": BiasMeasure(
        function=lambda of: {"mean": hubness(of.top_QK[:, :TOP], len(of.language_P))} if of.top_QK.shape[1] else None,
        title="Hubness",
        about=(
            "Skewness of how often each passage is among the top 10; near 0 if all are about as often. Blind to which "
            "passages they are."
        ),
    ),
}
"""All measures of bias of a whole ranking. To add one, write a function and an entry here. (Those that follow from the
ranks of one query are in `MEASURES`.)"""
