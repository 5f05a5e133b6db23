"""Sections on the size of the data, on the page of a study. Each returns one section, or `None` without numbers."""

from collections.abc import Iterator
from math import log10
from typing import Any

import numpy as np

from hybridir.evaluation.entropy import NAME as ENTROPY
from hybridir.evaluation.scaling_fit import CLAIM_RANGE, CLAIM_SIZES, RATES
from hybridir.reports.html.charts import DASHES, Axis, Series, axis, lines
from hybridir.reports.html.parts import (
    NONE,
    SETTING_NAMES,
    Block,
    Section,
    Sheet,
    beside,
    figure,
    fold,
    note,
    number,
    numbers,
    table,
    title_of,
    with_interval,
)
from hybridir.runtime.tables import Grid

_GROUPS = {"zero-shot": "languages never seen in training", "trained": "languages of training"}
_TITLES = {ENTROPY: "Contrastive entropy (lower is better)"}
_DRAWN_LAWS = 3
"""Laws of the first lines are drawn; more would hide the lines."""
_NEEDED = (
    f"Numbers of a law are used for a claim only with {CLAIM_SIZES} sizes or more over a {CLAIM_RANGE:g}-fold range. "
    "In simulations (tests/scripts/scaling_fit.py) the 95\u00a0% intervals then cover the exponent and the prediction "
    "in more than 90\u00a0% of cases."
)


def curves(results: dict[str, Any]) -> Section | None:
    """Each measure over the size of the data, by setting and group of languages."""
    if not (found := results.get("scaling")):
        return None
    blocks: list[Block] = []
    measures = dict.fromkeys(measure for *_, one in _each(found["lines"]) for measure in one.get("values", {}))
    for group, words in _GROUPS.items():
        for measure in measures:
            figures = [one for setting in SETTING_NAMES if (one := _figure(found["lines"], group, setting, measure))]
            if figures:
                drawn = beside(*figures, style="panels wide charts")
                title = f"{_title(measure)}, {group} languages ({words})"
                blocks.append(fold(title, drawn, opened=group == "zero-shot"))
    return Section(
        "sizes",
        "Over the size of the data",
        "Means over seeds with 95\u00a0% intervals as bands; small dots are the single seeds. The size is on a "
        "logarithmic scale.",
        [*blocks, numbers(_sheet(found["lines"]))],
    )


def laws(results: dict[str, Any]) -> Section | None:
    """The fitted laws, the largest size as predicted and as it came, and the slopes."""
    rows = [
        (
            f"{SETTING_NAMES[setting]}, {group} languages",
            line,
            _exponent(one.get("law")),
            _held_out(one.get("held_out")),
            _beyond(one),
            with_interval(one["slope"]["value"], one["slope"]["interval"], ENTROPY, sign=True),
        )
        for line, group, setting, one in sorted(_each(results.get("scaling", {}).get("lines", {})), key=_order)
        if "slope" in one
    ]
    if not rows:
        return None
    header = ("", "line", "exponent", "largest size: predicted, came", "twice the largest", "slope per tenfold")
    title = "Contrastive entropy: L(D) = (B / D)^b + d, with 95\u00a0% intervals"
    return Section(
        "laws",
        "Laws, and what they predict",
        "A law is fitted to contrastive entropy. The largest size is predicted from the others, and shown with what "
        "came; sd is the standard deviation between trainings that differ in their seed.",
        [
            table(Grid(title, header, rows), grouped=True),
            note(
                "No law: the exponent or the offset sits on a bound, or a straight line in the logarithm of the size "
                "fits as well. Predictions are for the same questions.",
                _NEEDED,
            ),
        ],
    )


def exchange(results: dict[str, Any]) -> Section | None:
    """What a question in all languages is worth, in questions in one language."""
    found = results.get("scaling", {}).get("exchange", {})
    rows = [
        (
            f"{SETTING_NAMES[setting]}, {group} languages",
            NONE if one["rate"] is None else _rate(one["rate"], *one["interval"]),
            one.get("why_not", ""),
        )
        for group, of in found.items()
        for setting, one in of.items()
    ]
    if not rows or all(one[2].startswith("too few sizes") for one in rows):
        return None
    header = ("", "exchange rate", "why there is none")
    told = (
        "L = (B / (D_m + r D_c))^b + d, with D_m questions in one language each and D_c in all languages; r is the "
        "exchange rate. It includes what cross-lingual batches do, which need translations. Rates from 0.016 to "
        "512 were tried."
    )
    return Section(
        "exchange",
        "What a translated question is worth",
        "How many questions in a single language does one question in all languages replace?",
        [table(Grid("Exchange rate, with its 95\u00a0% interval", header, rows)), note(told)],
    )


def _figure(found: dict[str, Any], group: str, setting: str, measure: str) -> Block | None:
    series, sizes = [], set[int]()
    for n, (line, groups) in enumerate(found.items()):
        one = groups.get(group, {}).get(setting, {})
        if measure not in one.get("values", {}):
            continue
        values = one["values"][measure]
        at = [log10(size) for size in one["sizes"]]
        sizes |= set(one["sizes"])
        series.append(
            Series(
                name=line,
                n=n,
                points=[(x, of["value"]) for x, of in zip(at, values, strict=True)],
                band=[of["interval"] for of in values],
                dots=[(x, seed) for x, of in zip(at, values, strict=True) for seed in of["per_seed"]],
                dash=DASHES[n % len(DASHES)],
            )
        )
        if measure == ENTROPY and n < _DRAWN_LAWS and (law := one.get("law")) and not law["why_not"]:
            grid = np.linspace(at[0], at[-1], 40)
            fitted = (law["unit"] / 10**grid) ** law["exponent"] + law["offset"]
            series.append(Series(name=f"law, {line}", n=n, points=list(zip(grid, fitted, strict=True)), dash="1 2"))
    if not series:
        return None
    ticks = sorted(sizes)
    x = Axis("questions (logarithmic)", [log10(size) for size in ticks], [f"{size:,}" for size in ticks], measure)
    heights = [
        v for one in series for v in (*(b for _, b in one.points), *(e for ends in one.band for e in ends or ()))
    ]
    dots = [b for one in series for _, b in one.dots]
    y = axis(_title(measure), [*heights, *dots], measure)
    return figure(lines(f"{SETTING_NAMES[setting]} {_title(measure)}", series, x, y), SETTING_NAMES[setting])


def _each(found: dict[str, Any]) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    for line, groups in found.items():
        for group, settings in groups.items():
            for setting, one in settings.items():
                yield line, group, setting, one


def _order(row: tuple[str, str, str, Any]) -> tuple[int, int]:
    return list(_GROUPS).index(row[1]), list(SETTING_NAMES).index(row[2])


def _title(measure: str) -> str:
    return _TITLES.get(measure, title_of(measure))


def _exponent(law: dict[str, Any] | None) -> str:
    if not law:
        return NONE
    if law["why_not"]:
        return f"no law: {law['why_not']}"
    return f"{law['exponent']:.2f} [{law['interval'][0]:.2f}, {law['interval'][1]:.2f}]"


def _held_out(one: dict[str, Any] | None) -> str:
    if not one:
        return NONE
    predicted = with_interval(one["value"], one["interval"], ENTROPY)
    return f"{number(one['came'], ENTROPY)} came, off by {one['off_by_sd']:+.1f} sd; {predicted}".replace("+-", "-")


def _rate(rate: float, low: float, high: float) -> str:
    """The rate with its interval; one at an end of the range that was tried is only known to lie beyond."""
    if rate >= RATES[-1]:
        return f"above {low:.3g}"
    if rate <= RATES[0]:
        return f"below {high:.3g}"
    return f"{rate:.3g} [{low:.3g}, {high:.3g}]"


def _beyond(one: dict[str, Any]) -> str:
    law = one.get("law")
    if not law or law["why_not"] or not one["enough"]:
        return NONE
    return with_interval(one["beyond"]["value"], one["beyond"]["interval"], ENTROPY)


def _sheet(found: dict[str, Any]) -> Sheet:
    rows: list[tuple[Any, ...]] = []
    for line, group, setting, one in _each(found):
        for measure, values in one.get("values", {}).items():
            for size, of in zip(one["sizes"], values, strict=True):
                rows.append((line, group, setting, measure, size, "mean", of["value"], *of["interval"]))
                rows += [(line, group, setting, measure, size, n, v, None, None) for n, v in enumerate(of["per_seed"])]
    header = ("line", "languages", "setting", "measure", "questions", "seed", "value", "low", "high")
    return Sheet("sizes", header, rows)
