"""Monolingual, cross-lingual and multilingual retrieval from exact ranks, as in arXiv 2408.10536, section 4.

Monolingual: queries of a language against the passages of that language. Cross-lingual: against those of another one,
all ordered pairs. Multilingual: against the passages of all languages in one pool, where every parallel answer is
relevant. Measures are averaged over the queries of a language (pair), then over languages (pairs).
"""

import sys
from collections import defaultdict
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from hybridir.bias import rank_distance
from hybridir.encoder import Encoder
from hybridir.metrics import MEASURES
from hybridir.records import Benchmark
from hybridir.search import Ranking, Scorer, dot_scorer, rank_all

SETTINGS = ("monolingual", "crosslingual", "multilingual")


@dataclass(frozen=True)
class PerQuery:
    """Scores of one query in one setting."""

    query: int
    setting: str
    passage_language: str  # "" in the multilingual setting
    values: dict[str, float]


def evaluate_encoder(encoder: Encoder, benchmark: Benchmark) -> list[PerQuery]:
    """The scores of an encoder, query by query."""
    queries = encoder.encode([query.text for query in benchmark.queries], "query")
    passages = encoder.encode([passage.text for passage in benchmark.passages], "passage")
    return evaluate_scores(dot_scorer(queries, passages), benchmark)


def evaluate_scores(score: Scorer, benchmark: Benchmark) -> list[PerQuery]:
    """The scores of whatever gives a number to a query and a passage, query by query."""
    return measure(rank_all(score, benchmark), benchmark)


def measure(ranking: Ranking, benchmark: Benchmark) -> list[PerQuery]:
    """The measures of every query in every setting.

    A query without a relevant passage in a language is left out of that setting.
    """
    number = {language: n for n, language in enumerate(benchmark.languages)}
    found: list[PerQuery] = []
    start = 0
    for q, (query, relevant) in enumerate(zip(benchmark.queries, benchmark.relevant, strict=True)):
        above_RL = ranking.above[start : start + len(relevant)]
        start += len(relevant)
        if not relevant:
            continue
        language_R = np.array([number[benchmark.passages[place].language] for place in relevant])
        for language, n in number.items():
            if len(ranks := 1 + above_RL[language_R == n, n]):
                setting = "monolingual" if language == query.language else "crosslingual"
                found.append(PerQuery(q, setting, language, _measure(ranks)))
        pooled = 1 + above_RL.sum(axis=1)
        values = _measure(pooled)
        if len(pooled) > 1:
            values["rank_distance"] = rank_distance(pooled)
        found.append(PerQuery(q, "multilingual", "", values))
    return found


def summarise(scores: list[PerQuery], benchmark: Benchmark) -> dict[str, Any]:
    """Macro-averages by setting, by language and by pair of languages, in full precision.

    A setting carries `n_queries` (queries that count in it) and `excluded` (queries, or for the cross-lingual setting
    combinations of query and passage language, that have no relevant passage there).
    """
    cells: dict[tuple[str, str, str], list[dict[str, float]]] = defaultdict(list)
    for one in scores:
        cells[one.setting, benchmark.queries[one.query].language, one.passage_language].append(one.values)
    means = {key: _mean(values) for key, values in cells.items()}
    asked = {x: sum(query.language == x for query in benchmark.queries) for x in benchmark.languages}
    result: dict[str, Any] = {
        "benchmark": benchmark.name,
        "languages": list(benchmark.languages),
        **{setting: _setting(setting, means, cells, asked) for setting in SETTINGS},
        "per_language": {
            x: {
                s: _mean([m for (setting, query, _), m in means.items() if (setting, query) == (s, x)])
                for s in SETTINGS
                if any((setting, query) == (s, x) for setting, query, _ in means)
            }
            for x in benchmark.languages
        },
        "per_pair": {f"{x}-{y}": mean for (setting, x, y), mean in means.items() if setting != "multilingual"},
    }
    return result


def versions() -> dict[str, str]:
    """Versions of Python and of what decides the numbers."""
    found = {"python": sys.version.split()[0]}
    for package in ("hybridir", "torch", "transformers", "numpy", "ray", "bm25s"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def _setting(
    setting: str,
    means: dict[tuple[str, str, str], dict[str, float]],
    cells: dict[tuple[str, str, str], list[dict[str, float]]],
    asked: dict[str, int],
) -> dict[str, Any]:
    keys = [key for key in means if key[0] == setting]
    n_queries = sum(len(cells[key]) for key in keys)
    targets = len(asked) - 1 if setting == "crosslingual" else 1
    return _mean([means[key] for key in keys]) | {
        "n_queries": n_queries,
        "excluded": targets * sum(asked.values()) - n_queries,
    }


def _measure(ranks: np.ndarray) -> dict[str, float]:
    return {name: function(ranks) for name, function in MEASURES.items()}


def _mean(values: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for value in values for name in value)
    return {name: float(np.mean([value[name] for value in values if name in value])) for name in names}
