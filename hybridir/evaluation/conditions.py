"""Conditions: how the queries of a benchmark are changed before it is measured, and what that costs a system.

A change depends on its seed, its kind and the query alone, so all systems are asked the same texts. With the same seed,
what changes at one severity is among what changes at a higher one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hybridir.data.records import Benchmark, Query
from hybridir.evaluation.comparisons import drops, intervals
from hybridir.evaluation.scores import Scores
from hybridir.evaluation.settings import summarise
from hybridir.perturbations import PERTURBATIONS, Perturbing
from hybridir.perturbations.perturbation import Severity, check_severity
from hybridir.runtime.random_numbers import uniform_numbers


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Noise on the queries of the benchmark.

    Args:
        perturbation: kind of noise. Queries in languages to which it does not apply stay as they are.
        severity: share of the units of a text that are edited, 0 to 1; or `one`: one edit in every query.
        seed: seed of the noise; other seeds are other draws of the same noise.
    """

    perturbation: Perturbing
    severity: Severity = "one"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.perturbation not in PERTURBATIONS:
            raise ValueError(
                f"the perturbation of a condition is {self.perturbation!r}: name one of {', '.join(PERTURBATIONS)}"
            )
        check_severity(self.severity, "the severity of a condition")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"the seed of a condition is {self.seed}: it must be at least 0 and below 2 ** 63")

    @property
    def name(self) -> str:
        """Such as `delete one`, or `delete 0.1, seed 3`; different conditions have different names."""
        severity = self.severity if self.severity == "one" else float(self.severity)
        return f"{self.perturbation} {severity}" + f", seed {self.seed}" * bool(self.seed)


def check_conditions(conditions: Sequence[Condition]) -> None:
    """Raises `ValueError` if a condition is there twice."""
    names = [one.name for one in conditions]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"conditions has {twice[0]!r} twice: name it once, or give the second another seed")


def under(benchmark: Benchmark, condition: Condition) -> Benchmark:
    """The benchmark with the queries that the condition changes; ids, passages and judgements stay."""
    kind = PERTURBATIONS[condition.perturbation]

    def changed(query: Query) -> Query:
        if not kind.applies(query.language):
            return query
        rng = uniform_numbers(condition.seed, _number(condition.perturbation), 0, _number(query.query_id))
        return replace(query, text=kind.apply(query.text, query.language, rng, condition.severity))

    return replace(benchmark, queries=tuple(changed(query) for query in benchmark.queries))


def share_changed(benchmark: Benchmark, changed: Benchmark) -> float:
    """The share of the queries whose text changes."""
    pairs = zip(benchmark.queries, changed.queries, strict=True)
    return sum(a.text != b.text for a, b in pairs) / len(benchmark.queries)


def condition_results(
    scores: Scores, benchmark: Benchmark, changed: Mapping[str, Benchmark]
) -> dict[str, dict[str, Any]]:
    """`conditions` in `results.json`: an entry for each of the `changed` benchmarks, by the name of the condition.

    An entry has what `summarise` says, its `intervals`, `changed` (the share of queries with another text), and `drop`:
    what is lost against the plain benchmark (see `drops`).
    """
    return {
        name: {"changed": share_changed(benchmark, one)}
        | summarise(scores, benchmark, name)
        | {"intervals": intervals(scores, name), "drop": drops(scores, name)}
        for name, one in changed.items()
    }


def _number(name: str) -> int:
    """64 bits of the SHA-256 of a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
