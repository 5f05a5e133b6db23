"""The numbers of `results.json` that become metrics of a run, and their names.

MLflow's page groups metrics by the part of a name before its last slash. A name may hold letters, digits, `_`, `-`,
`.`, `/` and spaces, but no @: `R@10` becomes `R_at_10`.
"""

from typing import Any

from hybridir.evaluation.bias_summary import bias_numbers
from hybridir.evaluation.settings import SETTINGS


def numbers_of(results: dict[str, Any]) -> dict[str, float]:
    """What the run itself has reached, by metric name.

    `result/SETTING/MEASURE` is a mean over questions, `result/difference/SYSTEM SETTING` the difference in mAP to a
    system that the run is compared with, `result/bias/NAME` a measure of language bias. Each arm of a study has
    `result/ARM/SETTING/MEASURE`. Numbers of other systems, and intervals, are not metrics, as each would be a plot
    with a single dot: they are in the artifacts `results.json`, `table.md` and `report.html`.
    """
    arms = results.get("arms", {})
    compared = [row for row in results.get("comparisons", []) if not row["language"] and row["measure"] == "mAP"]
    labels = _labels([*arms, *dict.fromkeys(row["baseline"] for row in compared)])
    tree: dict[str, Any] = _settings(results) | {labels[name]: _settings(arm) for name, arm in arms.items()}
    tree["difference"] = {f"{labels[row['baseline']]} {row['setting']}": row["difference"] for row in compared}
    tree["bias"] = bias_numbers(results.get("bias", {}))
    numbers = flatten({"result": tree}, separator="/")
    return {name.replace("@", "_at_"): value for name, value in numbers.items() if is_number(value)}


def flatten(tree: dict[str, Any], prefix: str = "", separator: str = ".") -> dict[str, Any]:
    """Nested dicts as a flat one: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        inner = isinstance(value, dict)
        flat |= flatten(value, f"{prefix}{name}{separator}", separator) if inner else {f"{prefix}{name}": value}
    return flat


def is_number(value: Any) -> bool:
    """Whether a value can be a metric."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _settings(results: dict[str, Any]) -> dict[str, Any]:
    return {name: results[name] for name in SETTINGS if name in results}


def _labels(systems: list[str]) -> dict[str, str]:
    """A label for each system: unique, and with characters that MLflow allows in a metric name."""
    labels: dict[str, str] = {}
    taken = {*SETTINGS, "difference", "bias"}
    for system in systems:
        plain = "".join(c if c.isalnum() or c in "-_. " else "_" for c in system)
        label, n = plain, 1
        while label in taken:
            n += 1
            label = f"{plain}-{n}"
        taken.add(label)
        labels[system] = label
    return labels
