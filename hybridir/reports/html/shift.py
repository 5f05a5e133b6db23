"""Sections on a shift of domain, on the page of a study. Each returns one section, or `None` without numbers."""

from collections.abc import Iterator
from typing import Any

from hybridir.reports.html.conditions import MODELS_ONLY
from hybridir.reports.html.parts import (
    NONE,
    SETTING_NAMES,
    Block,
    Section,
    Sheet,
    beside,
    note,
    number,
    numbers,
    table,
    title_of,
    with_interval,
)
from hybridir.reports.html.plots import VIRIDIS, Cell, Scale, heat_map, percent, whisker
from hybridir.runtime.tables import Grid

Numbers = dict[str, dict[str, dict[str, Any]]]
"""By method (or domain), setting and measure: `in`, `out`, `drop`, `relative`."""


def lost(results: dict[str, Any]) -> Section | None:
    """What each method loses out of domain, and what hybrid has beyond the line of the baselines."""
    if not (shift := results.get("shift")):
        return None
    grouped = {f"{SETTING_NAMES[s]} {title_of(m)}": (s, m) for s in SETTING_NAMES for m in _measures(shift["methods"])}
    rows = [
        (group, name, *_cells(of[setting][measure], measure))
        for group, (setting, measure) in grouped.items()
        for name, of in shift["methods"].items()
        if setting in of
    ]
    drops = [one["drop"] for *_, one in _each(shift["methods"])]
    header = ("", "method", "in domain", "out of domain", "lost", "lost, as a share")
    few = any(drop["over"] == "clusters" for drop in drops)
    beyond = [
        f"Effective robustness of hybrid, {SETTING_NAMES[setting].lower()} mAP: {_robustness(one)}"
        for setting, one in shift.get("line", {}).items()
    ]
    return Section(
        "shift",
        "What a shift of domain costs",
        "The same questions, asked to the models that have seen their domain in training, and to the one that has not.",
        [
            table(Grid("In and out of domain, with 95\u00a0% intervals of what is lost", header, rows), grouped=True),
            numbers(_sheet(shift)),
            note(
                "Lost: in domain minus out of domain, paired by question and seed; above 0, the shift does harm. In "
                "domain is the mean over the models that were trained without another domain; all were trained on "
                "equally many questions. The share of the value in domain has Fieller's interval over clusters.",
                *[MODELS_ONLY] * few,
                *[
                    "Effective robustness is logit(out of domain) minus what the line through the baselines predicts "
                    "from logit(in domain); the baselines are X-X-mono and X-Y after 25, 50, 75 and 100\u00a0% of the "
                    "steps."
                ]
                * bool(beyond),
                *beyond,
            ),
        ],
    )


def by_domain(results: dict[str, Any]) -> Section | None:
    """What is lost in each domain. Domains are not a sample of domains: each is shown, and none is resampled."""
    if not (shift := results.get("shift")):
        return None
    blocks = []
    for setting, name in SETTING_NAMES.items():
        found = [
            (domain, method, shift["by_domain"][method][domain][setting]["mAP"])
            for domain in shift["domains"]
            for method in shift["methods"]
            if "mAP" in shift["by_domain"][method][domain].get(setting, {})
        ]
        if found:
            reach = max(abs(end) for *_, one in found for end in one["drop"]["interval"])
            drawn = [whisker(one["drop"]["difference"], one["drop"]["interval"], reach) for *_, one in found]
            rows = [(domain, method, *_cells(one, "mAP")) for domain, method, one in found]
            header = ("domain", "method", "in domain", "out of domain", "lost", "lost, as a share")
            blocks.append(table(Grid(f"{name} mAP", header, rows), grouped=True, drawn=("lost, and 0", drawn)))
    told = note(
        "Domains are those that there are, not a sample of all domains: nothing here says what another would cost."
    )
    if not blocks:
        return None
    return Section("domains", "Domain by domain", "Where does it cost most?", [beside(*blocks, style="wrapped"), told])


def matrix(results: dict[str, Any]) -> Section | None:
    """RR@10 in multilingual retrieval, by the domain left out of training and the domain of the questions."""
    if not (shift := results.get("shift")):
        return None
    domains = shift["domains"]
    values = {
        (method, row, column): shift["matrix"][method][row][column]["multilingual"]
        for method in shift["matrix"]
        for row in shift["matrix"][method]
        for column in domains
        if "multilingual" in shift["matrix"][method][row][column]
    }
    if not values:
        return None
    low, high = min(values.values()), max(values.values())
    scale = Scale((number(low, "RR@10"), number(high, "RR@10")), VIRIDIS, VIRIDIS)

    def cell(method: str, row: str, column: str) -> Cell:
        value = values.get((method, row, column))
        if value is None:
            return Cell(NONE, None)
        where = (value - low) / ((high - low) or 1)
        return Cell(number(value, "RR@10"), where, "out" * (row == column), f"without {row}, asked about {column}")

    def drawn(method: str) -> Block:
        rows = {f"without {row}": [cell(method, row, column) for column in domains] for row in shift["matrix"][method]}
        return heat_map(method, rows, domains, scale, "multilingual RR@10")

    sheet = Sheet(
        "source_to_target",
        ("method", "left_out", "domain", "setting", "RR@10"),
        [
            (method, row, column, setting, value)
            for method, of in shift["matrix"].items()
            for row, asked in of.items()
            for column, settings in asked.items()
            for setting, value in settings.items()
        ],
    )
    return Section(
        "source_to_target",
        "What was left out, and what was asked",
        "Rows: the domain that training left out; columns: the domain of the questions. On the diagonal (out), the "
        "model has not seen the domain that it is asked about.",
        [beside(*map(drawn, shift["matrix"])), numbers(sheet)],
    )


def _measures(methods: Numbers) -> list[str]:
    return list(dict.fromkeys(measure for *_, measure, _ in _each(methods)))


def _each(methods: Numbers) -> Iterator[tuple[str, str, str, Any]]:
    for name, of in methods.items():
        for setting, measures in of.items():
            for measure, one in measures.items():
                yield name, setting, measure, one


def _cells(one: dict[str, Any], measure: str) -> tuple[str, ...]:
    drop, relative = one["drop"], one["relative"]
    share, ends = relative["value"], relative["interval"]
    told = NONE if share is None else percent(share) + (f" [{percent(ends[0])}, {percent(ends[1])}]" if ends else "")
    lost = with_interval(drop["difference"], drop["interval"], measure, sign=True)
    return number(one["in"], measure), number(one["out"], measure), lost, told.replace("-", "−")


def _robustness(one: dict[str, Any]) -> str:
    lines = ", ".join(f"{value:.2f}" for value in one["R2"]) or "none"
    if "difference" not in one:
        return (
            f"omitted, because the baselines do not lie near a line in every seed (R² {lines}; at least 0.8 is needed)."
        )
    return f"{with_interval(one['difference'], one['interval'], 'mAP', sign=True)} (R² of the line by seed: {lines})."


def _sheet(shift: dict[str, Any]) -> Sheet:
    parts = [("", shift["methods"])]
    parts += [(x, {name: of[x] for name, of in shift["by_domain"].items()}) for x in shift["domains"]]
    rows = [
        (
            *(method, domain, setting, measure, one["in"], one["out"], one["drop"]["difference"]),
            *one["drop"]["interval"],
            one["relative"]["value"],
            *(one["relative"]["interval"] or (None, None)),
        )
        for domain, methods in parts
        for method, setting, measure, one in _each(methods)
    ]
    header = ("method", "domain", "setting", "measure", "in", "out", "lost", "low", "high")
    return Sheet("shift", (*header, "share", "share_low", "share_high"), rows)
