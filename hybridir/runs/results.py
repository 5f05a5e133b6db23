"""From rankings to `results.json`, `report.html` and the table on the screen, for training runs and evaluations."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.bias_summary import bias_results
from hybridir.evaluation.comparisons import comparisons, intervals, language_intervals
from hybridir.evaluation.scores import Scores, stack, write_scores
from hybridir.evaluation.settings import SETTINGS, measure, summarise
from hybridir.reports.html import write_report
from hybridir.reports.tables import bases, results_table
from hybridir.retrieval.search import Ranking
from hybridir.runtime.durable import replace_text
from hybridir.runtime.progress import say
from hybridir.runtime.tables import show
from hybridir.runtime.versions import versions

EXAMPLES, EXAMPLE_DEPTH = 6, 10
"""The number of example queries on the page, and of passages shown for each."""

Rankings = Mapping[str, Sequence[Ranking]]
"""By name of the system, the measured one first, then its baselines: one ranking for each training seed."""


def write_results(benchmark: Benchmark, rankings: Rankings, output: Path, facts: dict[str, Any]) -> None:
    """Measures the rankings, compares the first system with all others, and prints the table.

    Writes `results.json`, `report.html` (with `table.md` and `plots/`) and `per_query.parquet`. `facts` (`provenance`
    and others) are added to the results. `facts["encoder"]` replaces the name of the first system in `results.json`.
    """
    scores = {name: stack([measure(ranking, benchmark) for ranking in seeds]) for name, seeds in rankings.items()}
    systems = {name: _system(rankings[name][0], scores[name], benchmark) for name in rankings}
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
        "examples": examples(rankings[first][0], scores[first], benchmark),
        "notes": list(benchmark.notes),
        "versions": versions(),
        **facts,
    }
    if "untrained" in systems:
        results["untrained"] = {setting: systems["untrained"][setting] for setting in SETTINGS}
    write_report(results | {"encoder": first}, output)
    write_scores(scores, output / "per_query.parquet")
    write_json(results, output)
    _show(benchmark, systems, compared)


def write_json(results: dict[str, Any], output: Path) -> None:
    """Writes `results.json` atomically. Call it last: this file marks the output as complete."""
    replace_text(output / "results.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def examples(ranking: Ranking, scores: Scores, benchmark: Benchmark) -> list[dict[str, Any]]:
    """A few queries in different languages, from badly to well answered, each with its first passages."""
    number = {query.query_id: n for n, query in enumerate(benchmark.queries)}
    pool_N = np.flatnonzero(scores.rows["setting"] == "multilingual")
    order_N = pool_N[np.argsort(scores.mean().values["mAP"][0, pool_N], kind="stable")]
    pooled = [number[name] for name in scores.rows["query_id"][order_N].tolist()]
    asked = list(dict.fromkeys(benchmark.queries[q].language for q in pooled))
    chosen: list[int] = []
    for n in range(EXAMPLES):
        language = asked[n * len(asked) // EXAMPLES] if len(asked) > EXAMPLES else asked[n % len(asked)]
        ordered = [q for q in pooled if benchmark.queries[q].language == language]
        chosen.append(ordered[int((n + 0.5) / EXAMPLES * len(ordered))])
    top_score, top_place = ranking.pooled_top()
    starts = np.cumsum([0, *map(len, benchmark.relevant)])
    found = []
    for q in dict.fromkeys(chosen):
        query, relevant = benchmark.queries[q], benchmark.relevant[q]
        ranks = 1 + ranking.above[starts[q] : starts[q + 1]].sum(axis=1)
        answers = [(benchmark.passages[place], rank) for place, rank in zip(relevant, ranks.tolist(), strict=True)]
        hits = [
            (benchmark.passages[place], float(score), place in relevant)
            for score, place in zip(top_score[q, :EXAMPLE_DEPTH], top_place[q, :EXAMPLE_DEPTH].tolist(), strict=True)
            if place >= 0
        ]
        found.append(
            {
                "query_id": query.query_id,
                "language": query.language,
                "text": query.text,
                "cluster": query.cluster,
                "answers": [{"language": one.language, "rank": rank, "text": one.text} for one, rank in answers],
                "retrieved": [
                    {"rank": rank, "language": one.language, "text": one.text, "score": score, "relevant": right}
                    for rank, (one, score, right) in enumerate(hits, start=1)
                ],
            }
        )
    return found


def _system(ranking: Ranking, scores: Scores, benchmark: Benchmark) -> dict[str, Any]:
    """The entry of a system in `results.json`. `ranking` is that of its first seed; bias is measured on it alone."""
    return summarise(scores, benchmark) | {
        "seeds": scores.n_seeds,
        "intervals": intervals(scores),
        "language_intervals": language_intervals(scores, benchmark.languages),
        "bias": bias_results(ranking, benchmark, summarise(scores.seeds([0]), benchmark)),
    }


def _show(benchmark: Benchmark, systems: dict[str, dict[str, Any]], compared: Sequence[dict[str, Any]]) -> None:
    sizes = f"{len(benchmark.queries)} queries, {len(benchmark.passages)} passages"
    show(results_table(f"{benchmark.name}: {sizes}", systems))
    shown = [row for row in compared if (row["measure"], row["language"]) == ("mAP", "")]
    for row in shown:
        low, high = row["interval"]
        names = f"{row['system']} - {row['baseline']}"
        say(f"{row['setting']} mAP, {names}: {row['difference']:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}]")
    for sentence in bases(shown):
        say(f"({sentence.removesuffix('.')})")
    if len(benchmark.languages) > 1:
        answers = max(len(relevant) for relevant in benchmark.relevant)
        say(f"(R@1 of a query with {answers} right answers is at most {1 / answers:.3f}: it finds one of them at best)")
