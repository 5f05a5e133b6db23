"""Two systems on one benchmark: differences with intervals, p-values and what could have been found at all.

A system is one trained model, or several that differ in their training seed alone; the scores of a system are a list
for each seed. Two systems are paired query by query and seed by seed; a system with one seed is compared to each seed
of the other.

Shapes: K seeds, N values (one a query and setting).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.intervals import LEVEL, holm, macro_mean, macro_mean_interval, seed_interval
from hybridir.evaluation.settings import SETTINGS, PerQuery

Scores = Sequence[Sequence[PerQuery]]
"""Of a system: of each seed the scores, query by query."""
COMPARED = ("mAP", "nDCG@10", "rank_distance")
"""Measures whose differences are tested; mAP by language and by pair of languages too."""


def intervals(scores: Scores, benchmark: Benchmark) -> dict[str, dict[str, dict[str, Any]]]:
    """`{setting: {measure: {"interval": [low, high]}}}`: 95 % intervals of the macro-means over these very seeds.

    Clusters are resampled; an interval says nothing of models trained with other seeds.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for setting in SETTINGS:
        names = dict.fromkeys(name for one in scores[0] if one.setting == setting for name in one.values)
        columns = {name: _Column(scores, benchmark, setting, name) for name in names}
        found[setting] = {name: {"interval": column.interval()} for name, column in columns.items() if column.enough}
    return found


def language_intervals(scores: Scores, benchmark: Benchmark) -> dict[str, dict[str, dict[str, Any]]]:
    """`{language: {setting: {"mAP": [low, high]}}}`, by the language of the query."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for language in benchmark.languages:
        columns = [(setting, _Column(scores, benchmark, setting, "mAP", language)) for setting in SETTINGS]
        found[language] = {setting: {"mAP": column.interval()} for setting, column in columns if column.enough}
    return found


def comparisons(names: tuple[str, str], scores: Scores, baseline: Scores, benchmark: Benchmark) -> list[dict[str, Any]]:
    """The differences of a system and a baseline (their `names`), each with all that is needed to judge it.

    A row has `system`, `baseline`, `setting`, `language` (of the queries; "" is the macro-mean over all; in the
    cross-lingual setting a pair, "QUERY-PASSAGE"), `measure`, `value`, `baseline_value`, `difference`, its 95 %
    `interval`, its `p`, `p_holm` (corrected for the number of languages or pairs of the setting; None for macro-means,
    and where so few clusters could not have passed it), `detectable`, the smallest difference that is found four times
    in five, the number of `seeds`, and `over`, what the difference holds for beyond these queries: see `seed_interval`;
    "clusters and the system's seeds" where only one of the two has several, so that it holds for this very other one.

    Raises:
        ValueError: the systems have several seeds each, and not equally many.
    """
    if len({len(scores), len(baseline)} - {1}) > 1:
        raise ValueError(
            f"{names[0]} has {len(scores)} seeds, {names[1]} {len(baseline)}: compare equally many, in the same order"
        )
    found = []
    for setting in SETTINGS:
        for measure in COMPARED:
            found += _compare(names, [_Column(scores, benchmark, setting, measure)], baseline)
        languages = benchmark.languages
        if setting == "crosslingual":
            ends = [(x, y) for x in languages for y in languages if x != y]
        else:
            ends = [(x, "") for x in languages]
        columns = [_Column(scores, benchmark, setting, "mAP", *pair) for pair in ends]
        columns = [column for column in columns if column.enough]
        rows = _compare(names, columns, baseline)
        corrected = holm(np.array([row["p"] for row in rows]))
        for row, p, column in zip(rows, corrected, columns, strict=True):
            possible = len(rows) * 2.0 ** (1 - column.n_clusters) <= 1 - LEVEL
            found.append(row | {"p_holm": float(p) if possible or row["over"] != "clusters" else None})
    return found


def _compare(names: tuple[str, str], columns: Sequence["_Column"], baseline: Scores) -> list[dict[str, Any]]:
    rows = []
    for column in columns:
        if not column.enough:
            continue
        paired = len(column.values_KN) == len(baseline)
        change_KN = column.values_KN - column.of(baseline)
        test = seed_interval(change_KN, column.strata, column.clusters)
        value = macro_mean(column.values_KN.mean(axis=0), column.strata)
        rows.append(
            {
                "system": names[0],
                "baseline": names[1],
                "setting": column.setting,
                "language": column.language,
                "measure": column.measure,
                "value": value,
                "baseline_value": value - test.difference,
                "difference": test.difference,
                "interval": [test.low, test.high],
                "p": test.p,
                "p_holm": None,
                "detectable": test.detectable,
                "seeds": len(change_KN),
                "over": test.over if paired or test.over == "clusters" else "clusters and the system's seeds",
            }
        )
    return rows


class _Column:
    """One measure of the queries of one setting (of all languages, one, or a pair), with strata and clusters."""

    def __init__(
        self, scores: Scores, benchmark: Benchmark, setting: str, measure: str, query: str = "", passage: str = ""
    ) -> None:
        self.setting, self.measure = setting, measure
        self.language = f"{query}-{passage}" if passage else query
        self._rows = [
            n
            for n, one in enumerate(scores[0])
            if one.setting == setting
            and measure in one.values
            and query in ("", benchmark.queries[one.query].language)
            and passage in ("", one.passage_language)
        ]
        chosen = [
            (benchmark.queries[one.query], one.passage_language) for one in map(scores[0].__getitem__, self._rows)
        ]
        self.values_KN = self.of(scores)
        self.strata = [f"{one.language}-{found_in}" for one, found_in in chosen]
        self.clusters = [one.cluster for one, _ in chosen]

    @property
    def n_clusters(self) -> int:
        return len(set(self.clusters))

    @property
    def enough(self) -> bool:
        """An interval needs two clusters."""
        return self.n_clusters > 1

    def interval(self) -> tuple[float, float]:
        return macro_mean_interval(self.values_KN.mean(axis=0), self.strata, self.clusters)

    def of(self, scores: Scores) -> np.ndarray:
        """[K, N], the same measure of a system on the same benchmark, which comes in the same order."""
        return np.array([[seed[n].values[self.measure] for n in self._rows] for seed in scores])
