"""From rankings to `results.json`, `report.html` and the table on the screen, for training runs and evaluations."""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.bias_summary import bias_results
from hybridir.evaluation.comparisons import comparisons, intervals, language_intervals
from hybridir.evaluation.conditions import condition_results
from hybridir.evaluation.scores import Scores, join, stack, write_scores
from hybridir.evaluation.settings import SETTINGS, measure, summarise
from hybridir.reports.html.comparisons import for_screen
from hybridir.reports.html.pages import write_report
from hybridir.reports.tables import ResultsTable
from hybridir.retrieval.search import Ranking
from hybridir.runtime.durable import replace_text
from hybridir.runtime.progress import say
from hybridir.runtime.tables import show
from hybridir.runtime.versions import versions

EXAMPLE_LANGUAGES, EXAMPLE_DEPTH = 12, 5
"""The number of languages with example queries on the page, and of passages shown for each query."""

WIDTH = 80
"""Columns of sentences on the screen."""
Rankings = Mapping[str, Sequence[Ranking]]
"""By name of the system, the measured one first, then its baselines: one ranking for each training seed."""


def write_results(
    benchmark: Benchmark,
    rankings: Rankings,
    output: Path,
    facts: dict[str, Any],
    conditions: Mapping[str, tuple[Benchmark, Rankings]] = MappingProxyType({}),
) -> None:
    """Measures the rankings, compares the first system with all others, and prints the table.

    `conditions` has, by the name of the condition, the changed benchmark with the rankings of the same systems on it.

    Writes `results.json`, `report.html` (with `table.md` and `plots/`) and `per_query.parquet`. `facts` (`provenance`,
    `about`, the first sentence of all of them, and others) are added to the results. `facts["encoder"]` replaces the
    name of the first system in `results.json`.
    """

    def measured(system: str, of: Rankings, condition: str = "") -> Scores:
        return stack([measure(ranking, benchmark, condition) for ranking in of[system]])

    scores = {name: measured(name, rankings) for name in rankings}
    systems = {name: _system(rankings[name][0], scores[name], benchmark) for name in rankings}
    under = {
        name: join([scores[name], *(measured(name, of, condition) for condition, (_, of) in conditions.items())])
        for name in rankings
    }
    if conditions:
        changed = {condition: one for condition, (one, _) in conditions.items()}
        for name, one in systems.items():
            one["conditions"] = condition_results(under[name], benchmark, changed)
    first, *others = systems
    compared = [
        row
        for other in others
        for row in comparisons((first, other), scores[first], scores[other], benchmark.languages)
    ]
    results = systems[first] | {
        "encoder": first,
        "systems": {name: systems[name] for name in others},
        "comparisons": compared,
        "examples": examples(rankings, scores, benchmark),
        "notes": list(benchmark.notes),
        "versions": versions(),
        **facts,
    }
    if "untrained" in systems:
        results["untrained"] = {setting: systems["untrained"][setting] for setting in SETTINGS}
    on_page = results | {"encoder": first}
    write_report(on_page, output)
    write_scores(under, output / "per_query.parquet")
    write_json(results, output)
    if "about" in facts:
        say(facts["about"])
    _show(benchmark, systems, on_page)


def write_json(results: dict[str, Any], output: Path) -> None:
    """Writes `results.json` atomically. Call it last: this file marks the output as complete."""
    replace_text(output / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def examples(
    rankings: Rankings, scores: Mapping[str, Scores], benchmark: Benchmark, against: str = "untrained"
) -> list[dict[str, Any]]:
    """Two queries of each language, with their first passages and the ranks of their right answers.

    They are those with the largest gain and the largest loss in average precision, in the pool of all languages,
    compared with the system `against`; with the first baseline if there is none of this name. Without a baseline they
    are those that were found best and worst.
    """
    first, *others = rankings
    baseline = against if against in others else next(iter(others), None)
    rows = scores[first].rows
    pool_N = np.flatnonzero(rows["setting"] == "multilingual")
    own_N = scores[first].mean().values["mAP"][0, pool_N]
    gain_N = own_N - scores[baseline].mean().values["mAP"][0, pool_N] if baseline else own_N
    number = {query.query_id: n for n, query in enumerate(benchmark.queries)}
    queries = [number[name] for name in rows["query_id"][pool_N].tolist()]
    of: dict[str, list[int]] = {}
    for n in np.argsort(gain_N, kind="stable")[::-1].tolist():
        of.setdefault(benchmark.queries[queries[n]].language, []).append(n)
    chosen = [n for x in sorted(of)[:EXAMPLE_LANGUAGES] for n in dict.fromkeys((of[x][0], of[x][-1]))]
    pooled = rankings[first][0].pooled_top()
    return [
        _example(rankings[first][0], pooled, benchmark, queries[n], rankings[baseline][0] if baseline else None)
        | ({"AP": float(own_N[n]), "gain": float(gain_N[n]), "against": baseline} if baseline else {})
        for n in chosen
    ]


def _example(
    ranking: Ranking, pooled: tuple[np.ndarray, np.ndarray], benchmark: Benchmark, q: int, baseline: Ranking | None
) -> dict[str, Any]:
    query, relevant = benchmark.queries[q], benchmark.relevant[q]
    start = sum(map(len, benchmark.relevant[:q]))

    def ranks(of: Ranking) -> list[int]:
        """The pooled ranks of the right answers."""
        return (1 + of.above[start : start + len(relevant)].sum(axis=1)).tolist()

    before = ranks(baseline) if baseline else [None] * len(relevant)
    answers = [
        {
            "language": benchmark.passages[place].language,
            "rank": rank,
            "before": old,
            "text": benchmark.passages[place].text,
        }
        for place, rank, old in zip(relevant, ranks(ranking), before, strict=True)
    ]
    hits = zip(*(of[q, :EXAMPLE_DEPTH].tolist() for of in pooled), strict=True)
    return {
        "query_id": query.query_id,
        "language": query.language,
        "text": query.text,
        "cluster": query.cluster,
        "answers": answers,
        "retrieved": [
            {
                "rank": rank,
                "language": benchmark.passages[place].language,
                "text": benchmark.passages[place].text,
                "score": score,
                "relevant": place in relevant,
            }
            for rank, (score, place) in enumerate(hits, start=1)
            if place >= 0
        ],
    }


def _system(ranking: Ranking, scores: Scores, benchmark: Benchmark) -> dict[str, Any]:
    """The entry of a system in `results.json`. `ranking` is that of its first seed; bias is measured on it alone."""
    return summarise(scores, benchmark) | {
        "seeds": scores.n_seeds,
        "intervals": intervals(scores),
        "language_intervals": language_intervals(scores, benchmark.languages),
        "bias": bias_results(ranking, benchmark, summarise(scores.seeds([0]), benchmark)),
    }


def _show(benchmark: Benchmark, systems: dict[str, dict[str, Any]], results: dict[str, Any]) -> None:
    sizes = f"{len(benchmark.queries)} queries, {len(benchmark.passages)} passages"
    show(ResultsTable(f"{benchmark.name}: {sizes}", systems))
    told = for_screen(results)
    if len(benchmark.languages) > 1:
        n = max(len(relevant) for relevant in benchmark.relevant)
        told.append(f"(R@1 of a query with {n} right answers is at most {1 / n:.3f}: it finds one of them at best)")
    for sentence in told:
        say(textwrap.fill(sentence, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
