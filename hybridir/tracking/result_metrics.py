"""The numbers of `results.json` that become metrics of a run."""

from typing import Any

from hybridir.evaluation.settings import SETTINGS

BIAS = ("preference_rate", "rank_correlation", "score_margin")
"""Bias measures that have a mean."""


def numbers_of(results: dict[str, Any]) -> dict[str, float]:
    """Measures, their intervals, differences to the other systems and bias, by metric name.

    `result.SETTING.MEASURE` and `result.SYSTEM.SETTING.MEASURE` are means, `result.interval.SETTING.MEASURE.low` and
    `.high` the ends of an interval. `result.difference.SYSTEM.SETTING.MEASURE` (and `.low`, `.high`) is the mean
    difference to a system. `result.bias.NAME` is a mean, `result.bias.top_k_languages_kl` a divergence. MLflow's page
    sorts names with `result.` after the losses. MLflow allows no @ in a name: `R@10` becomes `R_at_10`.
    """
    others = results.get("systems") or results.get("arms") or {}
    labels = _labels(list(others))
    tree: dict[str, Any] = _settings(results)
    tree |= {labels[name]: _settings(other) for name, other in others.items()}
    numbers = flatten(tree, "result.")
    for setting, measures in results.get("intervals", {}).items():
        for measure, found in measures.items():
            numbers |= _ends(f"result.interval.{setting}.{measure}", found["interval"])
    for row in results.get("comparisons", []):
        if not row["language"]:
            name = f"result.difference.{labels[row['baseline']]}.{row['setting']}.{row['measure']}"
            numbers |= {name: row["difference"]} | _ends(name, row["interval"])
    bias = results.get("bias", {})
    numbers |= {f"result.bias.{name}": bias[name]["mean"] for name in BIAS if name in bias}
    numbers["result.bias.top_k_languages_kl"] = bias.get("top_k_languages", {}).get("kl")
    return {name.replace("@", "_at_"): value for name, value in numbers.items() if is_number(value)}


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as a flat one: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def is_number(value: Any) -> bool:
    """Whether a value can be a metric."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _settings(results: dict[str, Any]) -> dict[str, Any]:
    return {name: results[name] for name in SETTINGS if name in results}


def _ends(name: str, interval: tuple[float, float]) -> dict[str, float]:
    return {f"{name}.low": interval[0], f"{name}.high": interval[1]}


def _labels(systems: list[str]) -> dict[str, str]:
    """A label for each system: unique, and with characters that MLflow allows in a metric name."""
    labels: dict[str, str] = {}
    taken = {*SETTINGS, "interval", "difference", "bias"}
    for system in systems:
        plain = "".join(c if c.isalnum() or c in "-_ " else "_" for c in system)
        label, n = plain, 1
        while label in taken:
            n += 1
            label = f"{plain}-{n}"
        taken.add(label)
        labels[system] = label
    return labels
