"""Monolingual, cross-lingual and multilingual retrieval from exact ranks, as in arXiv 2408.10536, section 4.

Monolingual: queries of a language against the passages of that language. Cross-lingual: against those of another one,
all ordered pairs. Multilingual: against the passages of all languages in one pool, where every parallel answer is
relevant. Measures are averaged over the queries of a language (pair), then over languages (pairs).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.bias import rank_distance, rank_distance_log2, rank_distance_share
from hybridir.evaluation.metrics import MEASURES, Measure
from hybridir.model.encoder import Encoder
from hybridir.retrieval.search import Ranking, Scorer, dot_scorer, rank_all

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
    language_P = np.array([number[passage.language] for passage in benchmark.passages])
    language_R = language_P[[place for relevant in benchmark.relevant for place in relevant]]
    query_R = np.repeat(np.arange(len(benchmark.queries)), [len(relevant) for relevant in benchmark.relevant])
    within_R = 1 + ranking.above[np.arange(len(language_R)), language_R]
    found = []
    for cell, values in _measure(within_R, query_R * len(number) + language_R, MEASURES):
        q, n = divmod(cell, len(number))
        language = benchmark.languages[n]
        setting = "monolingual" if language == benchmark.queries[q].language else "crosslingual"
        found.append(PerQuery(q, setting, language, values))
    pooled = MEASURES | {
        "rank_distance": rank_distance,
        "rank_distance_share": partial(rank_distance_share, n_passages=len(language_P)),
        "rank_distance_log2": rank_distance_log2,
    }
    pooled_R = 1 + ranking.above.sum(axis=1)
    parallel = {q for q, languages in enumerate(answer_languages(benchmark)) if len(languages) > 1}
    for q, values in _measure(pooled_R, query_R, pooled):
        kept = values if q in parallel else {name: values[name] for name in MEASURES}
        found.append(PerQuery(q, "multilingual", "", kept))
    return found


def answer_languages(benchmark: Benchmark) -> list[set[str]]:
    """The languages of the right answers of each query: rank distances need two."""
    return [{benchmark.passages[place].language for place in relevant} for relevant in benchmark.relevant]


def mean_over_seeds(seeds: Sequence[Sequence[PerQuery]]) -> list[PerQuery]:
    """The mean scores of models that differ in their training seed alone, query by query."""
    return [replace(rows[0], values=_mean([one.values for one in rows])) for rows in zip(*seeds, strict=True)]


def summarise(scores: Sequence[PerQuery], benchmark: Benchmark) -> dict[str, Any]:
    """Macro-averages by setting, by language and by pair of languages, in full precision.

    A setting carries `n_queries` (queries that count in it), `excluded` (queries, or for the cross-lingual setting
    combinations of query and passage language, that have no relevant passage there) and `n_clusters` (of its queries).
    """
    cells: dict[tuple[str, str, str], list[dict[str, float]]] = defaultdict(list)
    clusters: dict[str, set[str]] = defaultdict(set)
    for one in scores:
        clusters[one.setting].add(benchmark.queries[one.query].cluster)
        cells[one.setting, benchmark.queries[one.query].language, one.passage_language].append(one.values)
    means = {key: _mean(values) for key, values in cells.items()}
    asked = {x: sum(query.language == x for query in benchmark.queries) for x in benchmark.languages}
    result: dict[str, Any] = {
        "benchmark": benchmark.name,
        "languages": list(benchmark.languages),
        **{s: _setting(s, means, cells, asked) | {"n_clusters": len(clusters[s])} for s in SETTINGS},
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


def _measure(
    rank_R: np.ndarray, key_R: np.ndarray, measures: Mapping[str, Measure]
) -> Iterator[tuple[int, dict[str, float]]]:
    """The measures of the ranks that share a key, key by key."""
    keys, sizes = np.unique(key_R, return_counts=True)
    ordered_R = rank_R[np.argsort(key_R, kind="stable")]
    starts = np.cumsum(sizes) - sizes
    values: dict[int, dict[str, float]] = {}
    for size in np.unique(sizes):
        rows = np.flatnonzero(sizes == size)
        rank_NR = ordered_R[starts[rows, None] + np.arange(size)]
        columns = [measure(rank_NR).tolist() for measure in measures.values()]
        for row, cell in zip(rows.tolist(), zip(*columns, strict=True), strict=True):
            values[row] = dict(zip(measures, cell, strict=True))
    return ((int(key), values[row]) for row, key in enumerate(keys))


def _mean(values: list[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for value in values for name in value)
    return {name: float(np.mean([value[name] for value in values if name in value])) for name in names}
