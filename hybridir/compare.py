"""Two systems on one benchmark: differences with intervals, p-values and what could have been found at all."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridir.evaluate import SETTINGS, PerQuery
from hybridir.records import Benchmark
from hybridir.significance import (
    detectable_difference,
    holm,
    macro_mean,
    macro_mean_interval,
    randomization_test,
)

MEASURES = ("mAP", "rank_distance")
BY_LANGUAGE = ("monolingual", "multilingual")
"""Settings whose mAP is compared language by language too."""


def intervals(scores: Sequence[PerQuery], benchmark: Benchmark) -> dict[str, dict[str, dict[str, Any]]]:
    """`{setting: {measure: {"interval": [low, high]}}}`: 95 % intervals of the macro-means.

    Clusters are resampled; an interval holds for this one trained model, not for other seeds.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for setting in SETTINGS:
        columns = [(name, _Column(scores, benchmark, setting, name)) for name in MEASURES]
        found[setting] = {name: {"interval": column.interval()} for name, column in columns if column.enough}
    return found


def language_intervals(scores: Sequence[PerQuery], benchmark: Benchmark) -> dict[str, dict[str, dict[str, Any]]]:
    """`{language: {setting: {"mAP": [low, high]}}}`, by the language of the query."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for language in benchmark.languages:
        columns = [(setting, _Column(scores, benchmark, setting, "mAP", language)) for setting in SETTINGS]
        found[language] = {setting: {"mAP": column.interval()} for setting, column in columns if column.enough}
    return found


def comparisons(
    names: tuple[str, str], scores: Sequence[PerQuery], baseline: Sequence[PerQuery], benchmark: Benchmark
) -> list[dict[str, Any]]:
    """The differences of a system and a baseline (their `names`), each with all that is needed to judge it.

    A row has `system`, `baseline`, `setting`, `language` (of the queries; "" is the macro-mean over all), `measure`,
    `value`, `baseline_value`, `difference`, its 95 % `interval`, `p` of the paired randomisation test over clusters,
    `p_holm` (corrected for the number of languages; None for macro-means) and `detectable`, the smallest difference
    that is found four times in five.
    """
    before = {(one.query, one.setting, one.passage_language): one.values for one in baseline}
    found = []
    for setting in SETTINGS:
        for measure in MEASURES:
            found += _compare(names, [_Column(scores, benchmark, setting, measure)], before)
        if setting in BY_LANGUAGE:
            columns = [_Column(scores, benchmark, setting, "mAP", language) for language in benchmark.languages]
            rows = _compare(names, columns, before)
            for row, p in zip(rows, holm(np.array([row["p"] for row in rows])), strict=True):
                found.append(row | {"p_holm": float(p)})
    return found


def _compare(
    names: tuple[str, str], columns: Sequence["_Column"], before: dict[tuple[int, str, str], dict[str, float]]
) -> list[dict[str, Any]]:
    rows = []
    for column in columns:
        if not column.enough:
            continue
        change = column.values - column.of(before)
        paired = (change, column.strata, column.clusters)
        value, difference = macro_mean(column.values, column.strata), macro_mean(change, column.strata)
        rows.append(
            {
                "system": names[0],
                "baseline": names[1],
                "setting": column.setting,
                "language": column.language,
                "measure": column.measure,
                "value": value,
                "baseline_value": value - difference,
                "difference": difference,
                "interval": macro_mean_interval(*paired),
                "p": randomization_test(*paired),
                "p_holm": None,
                "detectable": detectable_difference(*paired),
            }
        )
    return rows


class _Column:
    """One measure of the queries of one setting, of all languages or one, with strata and clusters."""

    def __init__(
        self, scores: Sequence[PerQuery], benchmark: Benchmark, setting: str, measure: str, language: str = ""
    ) -> None:
        self.setting, self.measure, self.language = setting, measure, language
        queries = benchmark.queries
        self._rows = [
            one
            for one in scores
            if one.setting == setting and measure in one.values and language in ("", queries[one.query].language)
        ]
        self.values = np.array([one.values[measure] for one in self._rows])
        self.strata = [f"{queries[one.query].language}-{one.passage_language}" for one in self._rows]
        self.clusters = [queries[one.query].cluster for one in self._rows]

    @property
    def enough(self) -> bool:
        """An interval needs two clusters."""
        return len(set(self.clusters)) > 1

    def interval(self) -> tuple[float, float]:
        return macro_mean_interval(self.values, self.strata, self.clusters)

    def of(self, other: dict[tuple[int, str, str], dict[str, float]]) -> np.ndarray:
        """The same measure of another system, row by row."""
        return np.array([other[one.query, one.setting, one.passage_language][self.measure] for one in self._rows])
