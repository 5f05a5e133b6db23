"""Monolingual, cross-lingual and multilingual retrieval from exact ranks, as in arXiv 2408.10536, section 4.

Monolingual: queries and passages in the same language. Cross-lingual: queries in one language, passages in another, for
all ordered pairs of languages. Multilingual: passages of all languages in one pool, in which every parallel answer is
relevant. A measure is averaged over the queries of a language (or pair of languages), then over languages (or pairs).

Shapes: P passages, R relevant passages of all queries, N queries that have the same number of relevant passages.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.metrics import MEASURES, Measure
from hybridir.evaluation.scores import Scores
from hybridir.model.encoder import Encoder
from hybridir.retrieval.dot import Scorer
from hybridir.retrieval.nearest import rank_vectors
from hybridir.retrieval.search import Ranking, rank_all

SETTINGS = ("monolingual", "crosslingual", "multilingual")


def evaluate_encoder(encoder: Encoder, benchmark: Benchmark) -> Scores:
    """Encodes and ranks the benchmark; returns the scores of every query."""
    queries = encoder.encode([query.text for query in benchmark.queries], "query")
    passages = encoder.encode(benchmark.passages.texts, "passage")
    return measure(rank_vectors(queries, passages, benchmark), benchmark)


def evaluate_scores(score: Scorer, benchmark: Benchmark) -> Scores:
    """Ranks the benchmark with any scorer; returns the scores of every query."""
    return measure(rank_all(score, benchmark), benchmark)


def measure(ranking: Ranking, benchmark: Benchmark, condition: str = "") -> Scores:
    """The measures of every query in every setting, as `Scores` of one seed under a condition.

    A query without a relevant passage in a language has no row for that language. Rows of the monolingual and
    cross-lingual settings come first, by query, then passage language. The multilingual rows follow, by query.
    """
    n_languages = len(benchmark.languages)
    language_R = benchmark.language_P[[place for relevant in benchmark.relevant for place in relevant]]
    query_R = np.repeat(np.arange(len(benchmark.queries)), [len(relevant) for relevant in benchmark.relevant])
    within_R = 1 + ranking.above[np.arange(len(language_R)), language_R]
    pooled_R = 1 + ranking.above.sum(axis=1)
    own_Q = np.array(benchmark.own or [-1] * len(benchmark.queries))
    grades = [one for found in benchmark.grades for one in found] or np.ones(len(query_R))
    more_R = {"n_passages": (len(benchmark.passages) - (own_Q >= 0))[query_R], "grades": np.array(grades)}
    anywhere = {name: one for name, one in MEASURES.items() if "parallel" not in one.needs}
    cell, of_cells = _measure(within_R, query_R * n_languages + language_R, anywhere, more_R)
    query, of_pool = _measure(pooled_R, query_R, MEASURES, more_R)
    parallel = np.array([len(languages) > 1 for languages in answer_languages(benchmark)])[query]
    asked, target = np.concatenate([cell // n_languages, query]), benchmark.languages
    rows = {name: np.array([getattr(one, name) for one in benchmark.queries]) for name in ("query_id", "group_id")}
    rows |= {
        "query_language": np.array([one.language for one in benchmark.queries]),
        "cluster": np.array([one.cluster for one in benchmark.queries]),
    }
    rows = {name: values[asked] for name, values in rows.items()}
    rows["passage_language"] = np.array([target[n] for n in cell % n_languages] + [""] * len(query))
    own = rows["passage_language"] == rows["query_language"]
    pooled = rows["passage_language"] == ""
    rows["setting"] = np.where(pooled, "multilingual", np.where(own, "monolingual", "crosslingual"))
    rows["condition"] = np.full(len(asked), condition)
    values = {name: np.full((1, len(asked)), np.nan) for name in MEASURES}
    for name, one in MEASURES.items():
        if name in of_cells:
            values[name][0, : len(cell)] = of_cells[name]
        defined = parallel | ("parallel" not in one.needs)
        values[name][0, len(cell) :][defined] = of_pool[name][defined]
    return Scores(rows, {name: found for name, found in values.items() if not np.isnan(found).all()})


def answer_languages(benchmark: Benchmark) -> list[set[str]]:
    """The languages of the relevant passages of each query. Rank distances need at least two."""
    language_P = benchmark.language_P
    return [{benchmark.languages[language_P[place]] for place in relevant} for relevant in benchmark.relevant]


def summarise(scores: Scores, benchmark: Benchmark, condition: str = "") -> dict[str, Any]:
    """Macro-averages under a condition by setting, query language and pair of languages; the mean over seeds.

    Each setting also has `n_queries` (the queries that count), `excluded` (the queries without a relevant passage) and
    `n_clusters` (the clusters of its queries). In the cross-lingual setting, `n_queries` and `excluded` count
    combinations of query and passage language.
    """
    scores = scores.under(condition)
    one, rows = scores.mean(), scores.rows
    keys = zip(*(rows[name].tolist() for name in ("setting", "query_language", "passage_language")), strict=True)
    places: dict[tuple[str, str, str], list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    means = {key: _mean_of_rows(one, np.array(found)) for key, found in places.items()}
    asked = {x: sum(query.language == x for query in benchmark.queries) for x in benchmark.languages}

    def in_setting(setting: str) -> dict[str, Any]:
        of = [key for key in means if key[0] == setting]
        n_queries = sum(len(places[key]) for key in of)
        targets = len(asked) - 1 if setting == "crosslingual" else 1
        return _mean([means[key] for key in of]) | {
            "n_queries": n_queries,
            "excluded": targets * sum(asked.values()) - n_queries,
            "n_clusters": len(set(rows["cluster"][rows["setting"] == setting].tolist())),
        }

    by_language = {x: {s: [m for (z, y, _), m in means.items() if (z, y) == (s, x)] for s in SETTINGS} for x in asked}
    return {
        "benchmark": benchmark.name,
        "languages": list(benchmark.languages),
        **_grades(benchmark),
        **{setting: in_setting(setting) for setting in SETTINGS},
        "per_language": {x: {s: _mean(of) for s, of in found.items() if of} for x, found in by_language.items()},
        "per_pair": {f"{x}-{y}": mean for (setting, x, y), mean in means.items() if setting != "multilingual"},
    }


def _grades(benchmark: Benchmark) -> dict[str, Any]:
    """`grades`: the number of judgements of each grade; empty for a benchmark without grades."""
    counts = Counter(grade for found in benchmark.grades for grade in found)
    return {"grades": {str(grade): counts[grade] for grade in sorted(counts)}} if counts else {}


def _measure(
    rank_R: np.ndarray, key_R: np.ndarray, measures: Mapping[str, Measure], more_R: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The unique keys, ascending, and each measure of the ranks that share a key.

    `more_R` has what measures may need besides, by name; `n_passages` is the same for all ranks that share a key.
    """
    keys, sizes = np.unique(key_R, return_counts=True)
    order_R = np.argsort(key_R, kind="stable")
    starts = np.cumsum(sizes) - sizes
    values = {name: np.empty(len(keys)) for name in measures}
    for size in np.unique(sizes):
        some = np.flatnonzero(sizes == size)
        place_NR = order_R[starts[some, None] + np.arange(size)]
        more = {name: values_R[place_NR] for name, values_R in more_R.items()}
        more["n_passages"] = more["n_passages"][:, 0]
        for name, one in measures.items():
            values[name][some] = one.function(
                rank_R[place_NR], **{need: more[need] for need in one.needs if need in more}
            )
    return keys, values


def _mean_of_rows(scores: Scores, rows: np.ndarray) -> dict[str, float]:
    """The mean of each measure over those of the rows in which it is defined."""
    found = {name: values[0][rows] for name, values in scores.values.items()}
    defined = {name: values[~np.isnan(values)] for name, values in found.items()}
    return {name: float(np.mean(values)) for name, values in defined.items() if len(values)}


def _mean(values: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for value in values for name in value)
    return {name: float(np.mean([value[name] for value in values if name in value])) for name in names}
