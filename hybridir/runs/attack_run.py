"""Attacks the queries of an evaluation: within their own language, on encoders and BM25."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hybridir.attacks.black_box import Asked, Attacked, Judge, Judged, Search, attack, chance
from hybridir.data.records import Benchmark, Query
from hybridir.evaluation.intervals import macro_mean, seed_interval
from hybridir.perturbations.letters import letters
from hybridir.retrieval.systems import Ranker
from hybridir.runtime.progress import say
from hybridir.runtime.random_numbers import uniform_numbers


@dataclass(frozen=True, kw_only=True)
class AttackConfig(Search):
    """Queries edited until they fail, beside as many edits at random. Other fields: see `Search`.

    Args:
        queries: number of queries to attack, evenly by language; 0 attacks none. Systems with embeddings made elsewhere
            cannot be attacked.
    """

    queries: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.queries < 0:
            raise ValueError(f"attack.queries is {self.queries}: it must be at least 0")


def chosen(benchmark: Benchmark, config: AttackConfig) -> list[int]:
    """The places of the queries to attack: random ones with an answer in their language, evenly by language."""
    language_P = benchmark.language_P
    of: dict[str, list[tuple[float, int]]] = {}
    for n, (query, relevant) in enumerate(zip(benchmark.queries, benchmark.relevant, strict=True)):
        if benchmark.languages.index(query.language) in language_P[list(relevant)]:
            number = float(uniform_numbers(config.seed, 0, 0, n)(1)[0])
            of.setdefault(query.language, []).append((number, n))
    each = -(-config.queries // max(1, len(of)))
    return sorted(n for found in of.values() for _, n in sorted(found)[:each])[: config.queries]


def judge_of(benchmark: Benchmark, places: Sequence[int], rank: Ranker) -> Judge:
    """A judge of texts asked in place of queries, each in the language of its query, by rank and score."""
    language_P = benchmark.language_P

    def judge(numbers: Sequence[int], texts: Sequence[str]) -> Judged:
        asked = [places[n] for n in numbers]
        languages = [benchmark.languages.index(benchmark.queries[n].language) for n in asked]
        relevant = [
            tuple(p for p in benchmark.relevant[n] if language_P[p] == x) for n, x in zip(asked, languages, strict=True)
        ]
        part = replace(
            benchmark,
            queries=tuple(replace(benchmark.queries[n], text=text) for n, text in zip(asked, texts, strict=True)),
            relevant=tuple(relevant),
            grades=(),
            own=tuple(benchmark.own[n] for n in asked) if benchmark.own else (),
        )
        ranking = rank(part, 1 + max(map(len, relevant)))
        margins, reciprocal, start = [], [], 0
        for n, (x, right) in enumerate(zip(languages, relevant, strict=True)):
            own = slice(start, start := start + len(right))
            first = 1 + int(ranking.above[own, x].min())
            others = ~np.isin(ranking.top_place[n, x], right) & (ranking.top_place[n, x] >= 0)
            best = ranking.top_score[n, x][others].max(initial=-np.inf)
            margins.append(float(ranking.relevant_score[own].max()) - float(best))
            reciprocal.append(1 / first if first <= 10 else 0.0)
        return Judged(np.array(margins), np.array(reciprocal))

    return judge


def attack_results(rankers: Mapping[str, Ranker], benchmark: Benchmark, config: AttackConfig) -> dict[str, Any]:
    """`attack` of `results.json`: the `config`, `queries` (how many), `edits_per_letter` by language, and `systems`.

    For each system: `won` (queries with a right passage first without edits), `plain` RR@10; for `random`, `best_of_m`
    and `attack` the `success` (share of the won that are beaten), `RR@10`, and `texts` embedded for each query won; and
    `search`, the paired difference between the attack and the best of m, as a mean over `queries`: in `success`, and in
    the `RR@10` lost if all edits are spent on every query (`stop` is false).
    """
    places = chosen(benchmark, config)
    queries = [benchmark.queries[n] for n in places]
    letters_of = {x: [len(letters(q.text)) for q in queries if q.language == x] for x in benchmark.languages}
    return {
        "queries": len(places),
        "edits": config.edits,
        "candidates": config.candidates,
        "beam": config.beam,
        "stop": config.stop,
        "edits_per_letter": {x: config.edits / float(np.mean(n)) for x, n in letters_of.items() if n},
        "systems": {name: _attacked(name, rank, benchmark, places, config) for name, rank in rankers.items()},
    }


def _attacked(
    name: str, rank: Ranker, benchmark: Benchmark, places: Sequence[int], config: AttackConfig
) -> dict[str, Any]:
    say(f"attacking {len(places)} queries of {name}")
    queries = [benchmark.queries[n] for n in places]
    judge, asked = judge_of(benchmark, places, rank), [Asked(q.text, q.language) for q in queries]
    plain = judge(range(len(places)), [q.text for q in queries])
    found = attack(asked, plain, judge, config)
    best_of_m = chance(asked, plain, judge, config, found.calls)
    once = chance(asked, plain, judge, config, np.ones(len(places), int))
    strata, clusters = [q.language for q in queries], [q.cluster for q in queries]
    won = plain.rr == 1
    return {
        "won": int(won.sum()),
        "plain": macro_mean(plain.rr, strata),
        **dict(_ways({"random": once, "best_of_m": best_of_m, "attack": found}, won, strata)),
        "search": {
            name: seed_interval(values[None], strata, clusters).as_dict()
            for name, values in {
                "success": (found.rr < 1).astype(float) - (best_of_m.rr < 1),
                "RR@10": best_of_m.rr - found.rr,
            }.items()
            if name == "success" or not config.stop
        },
        "examples": list(_examples(queries, found, plain)),
    }


def _ways(ways: Mapping[str, Attacked], won: np.ndarray, strata: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    n_won = max(1, int(won.sum()))
    for way, of in ways.items():
        beaten = int((won & (of.rr < 1)).sum())
        texts = float(of.calls.sum() / n_won)
        yield way, {"success": beaten / n_won, "RR@10": macro_mean(of.rr, strata), "texts": texts}


def _examples(queries: Sequence[Query], found: Attacked, plain: Judged) -> Iterator[dict[str, Any]]:
    """The first beaten query of each language."""
    shown = set()
    for n, query in enumerate(queries):
        if plain.rr[n] == 1 and found.rr[n] < 1 and query.language not in shown:
            shown.add(query.language)
            yield {
                "language": query.language,
                "before": query.text,
                "after": found.texts[n],
                "RR@10": float(found.rr[n]),
            }
