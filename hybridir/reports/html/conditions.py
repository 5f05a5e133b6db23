"""The plain benchmark beside its conditions, such as queries with noise, on the pages of evaluations and studies."""

from collections.abc import Mapping
from typing import Any

from hybridir.reports.html.parts import (
    SETTING_NAMES,
    Section,
    Sheet,
    note,
    number,
    numbers,
    table,
    with_interval,
)
from hybridir.reports.html.plots import percent
from hybridir.reports.tables import settings_of
from hybridir.runtime.tables import Grid

MODELS_ONLY = (
    "The intervals resample clusters of questions: they hold for the trained models, not for models trained with other "
    "seeds."
)


def of_systems(systems: Mapping[str, dict[str, Any]], what: str = "system") -> Section | None:
    """Each condition beside the plain benchmark, by system (name -> results): mAP, and the paired drop."""
    found = {name: one for name, one in systems.items() if one.get("conditions")}
    if not found:
        return None
    first = next(iter(found.values()))
    changed = {name: entry["changed"] for name, entry in first["conditions"].items()}  # all systems see the same texts
    rows, over = [], set()
    for condition in changed:
        for setting in settings_of(first):
            for name, one in found.items():
                entry = one["conditions"][condition]
                plain, under = (of[setting]["mAP"] for of in (one, entry))
                drop = entry["drop"].get(setting, {}).get("mAP", {})
                over.add(drop.get("over"))
                lost = with_interval(plain - under, drop.get("interval"), "mAP", sign=True)
                group = f"{condition}: {SETTING_NAMES[setting].lower()}"
                rows.append((group, name, number(plain), number(under), lost))
    header = ("condition", what, "mAP, plain", "mAP, changed", "drop")
    grid = Grid("mAP of the plain and of the changed queries, with 95\u00a0% intervals of the drop", header, rows)
    shares = [f"{name}: {percent(share)} of the queries really changed." for name, share in changed.items()]
    told = "Drop: the plain value minus the changed one, paired by query and seed; above 0, the change does harm."
    basis = [MODELS_ONLY] * ("clusters" in over)
    return Section(
        "conditions",
        "Changed queries",
        "The same benchmark with noise in its queries: passages, judgements and models stay as they are.",
        [table(grid, grouped=True), numbers(_sheet(found)), note(*shares, told, *basis)],
    )


def of_arms(results: dict[str, Any]) -> Section | None:
    """The same of the arms of a study."""
    arms = {name: {"languages": results["languages"]} | arm for name, arm in results["arms"].items()}
    return of_systems(arms, "arm")


def _sheet(systems: Mapping[str, dict[str, Any]]) -> Sheet:
    rows = [
        (name, condition, setting, measure, one[setting][measure], entry[setting][measure], *_drop(lost))
        for name, one in systems.items()
        for condition, entry in one["conditions"].items()
        for setting, measures in entry["drop"].items()
        for measure, lost in measures.items()
    ]
    header = ("system", "condition", "setting", "measure", "plain", "changed", "drop", "low", "high", "p")
    return Sheet("conditions", header, rows)


def _drop(lost: Mapping[str, Any]) -> tuple[float, ...]:
    return lost["difference"], *lost["interval"], lost["p"]
