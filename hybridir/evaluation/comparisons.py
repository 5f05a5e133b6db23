"""Compares two systems on one benchmark: differences with intervals and p-values, and the detectable difference.

Systems are paired query by query and seed by seed. A system with one seed is compared with each seed of the other.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from hybridir.evaluation.intervals import LEVEL, holm, macro_mean, macro_mean_interval, seed_interval
from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.scores import Column, Scores
from hybridir.evaluation.settings import SETTINGS


def intervals(scores: Scores, condition: str = "") -> dict[str, dict[str, dict[str, Any]]]:
    """`{setting: {measure: {"interval": [low, high]}}}`: 95 % intervals of the macro-means, by resampling clusters.

    They hold for the models with these seeds, not for models trained with other seeds.
    """
    return {
        setting: {
            measure: {"interval": _interval(column)}
            for measure in scores.values
            if (column := scores.column(measure, setting, condition=condition)).enough
        }
        for setting in SETTINGS
    }


def drops(scores: Scores, condition: str) -> dict[str, dict[str, dict[str, Any]]]:
    """`{setting: {measure: {"difference": ..., "interval": ...}}}`: what the compared measures lose under a condition.

    The difference is the plain benchmark minus the condition, paired by query and seed (see `seed_interval`).
    """
    change = scores.under("").minus(scores.under(condition))
    return {
        setting: {
            name: seed_interval(*column).as_dict()
            for name, one in MEASURES.items()
            if one.compared and (column := change.column(name, setting)).enough
        }
        for setting in SETTINGS
    }


def language_intervals(scores: Scores, languages: Sequence[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """`{language: {setting: {"mAP": [low, high]}}}`: the same for mAP, by query language."""
    return {
        language: {
            setting: {"mAP": _interval(column)}
            for setting in SETTINGS
            if (column := scores.column("mAP", setting, [language])).enough
        }
        for language in languages
    }


def _interval(column: Column) -> tuple[float, float]:
    return macro_mean_interval(column.values_KN.mean(axis=0), column.strata, column.clusters)


def comparisons(
    names: tuple[str, str], scores: Scores, baseline: Scores, languages: Sequence[str]
) -> list[dict[str, Any]]:
    """Compares a system with a baseline (`names` holds both names): each compared measure, then mAP by language.

    A row has:
        `system`, `baseline`, `setting`, `measure`, `value`, `baseline_value`, `seeds` (how many);
        `language`: of the queries, or "QUERY-PASSAGE" in the cross-lingual setting; "" for the macro-mean over all;
        `difference`, its 95 % `interval` and p-value `p`;
        `p_holm`: p corrected for the number of languages or pairs in the setting; None for macro-means, and if there
            are too few clusters for any p to pass the correction;
        `detectable`: the smallest difference that a test finds four times in five;
        `over`: what else the difference holds for (see `seed_interval`). "clusters and the system's seeds" if only one
            of the two has several seeds: it holds for other seeds of that system, and for this one model of the other.

    Raises:
        ValueError: both systems have several seeds, but not equally many.
    """
    if len({scores.n_seeds, baseline.n_seeds} - {1}) > 1:
        raise ValueError(
            f"{names[0]} has {scores.n_seeds} seeds, {names[1]} has {baseline.n_seeds}: compare systems with equally "
            "many seeds, in the same order"
        )
    change = scores.minus(baseline)

    def compared(setting: str, measure: str, query: str = "", passage: str = "") -> tuple[int, dict[str, Any]] | None:
        """The number of clusters, and the row; None if there are too few clusters for an interval."""
        chosen = (measure, setting, [query] if query else [], passage)
        column = change.column(*chosen)
        if not column.enough:
            return None
        test = seed_interval(*column)
        own = scores.column(*chosen)
        value = macro_mean(own.values_KN.mean(axis=0), own.strata)
        paired = scores.n_seeds == baseline.n_seeds
        return column.n_clusters, {
            "system": names[0],
            "baseline": names[1],
            "setting": setting,
            "language": f"{query}-{passage}" if passage else query,
            "measure": measure,
            "value": value,
            "baseline_value": value - test.difference,
            **test.as_dict(),
            "p_holm": None,
            "seeds": len(column.values_KN),
            "over": test.over if paired or test.over == "clusters" else "clusters and the system's seeds",
        }

    found = []
    for setting in SETTINGS:
        whole = [compared(setting, name) for name, one in MEASURES.items() if one.compared]
        found += [row for _, row in filter(None, whole)]
        if setting == "crosslingual":
            ends = [(x, y) for x in languages for y in languages if x != y]
        else:
            ends = [(x, "") for x in languages]
        rows = list(filter(None, (compared(setting, "mAP", *pair) for pair in ends)))
        corrected = holm(np.array([row["p"] for _, row in rows]))
        for (n_clusters, row), p in zip(rows, corrected, strict=True):
            possible = len(rows) * 2.0 ** (1 - n_clusters) <= 1 - LEVEL
            found.append(row | {"p_holm": float(p) if possible or row["over"] != "clusters" else None})
    return found
