"""Plots on the page of a study: trade-offs between arms, and learning curves. Each function returns one section, or
`None` without numbers."""

from collections.abc import Sequence
from math import inf
from statistics import fmean
from typing import Any

from hybridir.reports.html.charts import DASHES, Series, Spot, axis, lines, scatter
from hybridir.reports.html.parts import (
    SETTING_NAMES,
    Section,
    Sheet,
    beside,
    directed,
    figure,
    known,
    lower_is_better,
    numbers,
    point,
    title_of,
)

Arms = dict[str, dict[str, Any]]
_RANK_DISTANCE = directed(title_of("rank_distance"), lower_is_better("rank_distance"))


def trade_off(results: dict[str, Any]) -> Section | None:
    """Monolingual against cross-lingual mAP, and rank distance against multilingual mAP, with one point per arm."""
    pairs = (
        (("crosslingual", "mAP"), ("monolingual", "mAP")),
        (("multilingual", "mAP"), ("multilingual", "rank_distance")),
    )
    drawn = [(x, y, spots) for x, y in pairs if len(spots := _spots(results["arms"], x, y)) > 1]
    if not drawn:
        return None
    figures = []
    for x, y, spots in drawn:
        axes = [axis(_axis_title(*what), _values(spots, n), what[1]) for n, what in enumerate((x, y))]
        title = f"{axes[1].title} against {axes[0].title}"
        figures.append(figure(scatter(title, spots, *axes)))
    sheet = _sheet("trade_off", results["arms"], list(dict.fromkeys(what for x, y, _ in drawn for what in (x, y))))
    return Section(
        "trade_off",
        "What is traded for what",
        "The mean over seeds of each arm, with 95\u00a0% intervals; faint dots are the single seeds. The best place is "
        "the top right; if the vertical axis is rank distance, it is the bottom right.",
        [beside(*figures, style="panels wide charts"), numbers(sheet)],
    )


def over_x(results: dict[str, Any]) -> Section | None:
    """mAP and rank distance as functions of the number that the study varies."""
    arms = {name: arm for name, arm in results["arms"].items() if known(arm.get("x"))}
    places = sorted({arm["x"] for arm in arms.values()})
    if len(places) < 2:
        return None
    x = axis(results.get("x_name", "what is varied"), places)
    figures, shown = [], []
    for title, what in (
        ("mAP", [(setting, "mAP") for setting in SETTING_NAMES]),
        (_RANK_DISTANCE, [("multilingual", "rank_distance")]),
    ):
        found = [one for n, of in enumerate(what) if (one := _over(arms, n, *of))]
        if found:
            shown += what
            values = [value for one in found for value in _heights(one)]
            figures.append(figure(lines(title, found, x, axis(title, values, what[0][1]))))
    if not figures:
        return None
    sheet = _sheet("over_x", arms, shown)
    return Section(
        "over_x",
        "Over the whole range",
        "Means over seeds with 95\u00a0% intervals as bands; small dots are the single seeds.",
        [beside(*figures, style="panels wide charts"), numbers(sheet)],
    )


def curves(results: dict[str, Any]) -> Section | None:
    """Validation loss by step."""
    series = []
    for n, (name, arm) in enumerate(results["arms"].items()):
        if (found := arm.get("curve")) and found["validation"]:
            columns = zip(*found["validation"].values(), strict=False)  # up to the last step of all seeds
            at = [
                (step, column) for step, column in zip(found["steps"], columns, strict=False) if all(map(known, column))
            ]
            if at:
                points = [(float(step), fmean(column)) for step, column in at]
                band = [(min(column), max(column)) for _, column in at]
                series.append(Series(name=name, n=n, points=points, band=band, dash=DASHES[n % len(DASHES)]))
    if not series:
        return None
    x = axis("steps", [0, *(a for one in series for a, _ in one.points)])
    y = axis("validation loss", [value for one in series for value in _heights(one)])
    sheet = Sheet(
        "curves",
        ("arm", "step", "mean", "least", "greatest"),
        [(one.name, *at, *ends) for one in series for at, ends in zip(one.points, one.band, strict=True) if ends],
    )
    return Section(
        "curves",
        "Learning curves",
        "Validation loss on the same fixed batches for all arms: the mean over seeds, with bands from the lowest to "
        "the highest seed. Lower is better.",
        [beside(figure(lines("Validation loss by step", series, x, y), sheet=sheet), style="charts")],
    )


def _spots(arms: Arms, x: tuple[str, str], y: tuple[str, str]) -> list[Spot]:
    """The points of the arms that have both values."""
    spots = []
    for n, (name, arm) in enumerate(arms.items()):
        across, up = (point(arm, arm.get("intervals", {}), *what) for what in (x, y))
        if across and up:
            seeds = [(a, b) for a, b in zip(_seeds(arm, *x), _seeds(arm, *y), strict=True) if a < inf and b < inf]
            spots.append(Spot(name=name, n=n, x=across, y=up, seeds=seeds))
    return spots


def _values(spots: Sequence[Spot], n: int) -> list[float]:
    """All values that an axis must hold; `n` is 0 for x, 1 for y."""
    of = [(one.y if n else one.x, one.seeds) for one in spots]
    return [value for (mean, ends), seeds in of for value in (mean, *(ends or ()), *(seed[n] for seed in seeds))]


def _over(arms: Arms, n: int, setting: str, measure: str) -> Series | None:
    found = [
        (arm["x"], at, arm)
        for arm in sorted(arms.values(), key=lambda one: one["x"])
        if (at := point(arm, arm.get("intervals", {}), setting, measure))
    ]
    if not found:
        return None
    return Series(
        name=SETTING_NAMES[setting],
        n=n,
        points=[(x, value) for x, (value, _), _ in found],
        band=[ends for _, (_, ends), _ in found],
        dots=[(x, value) for x, _, arm in found for value in _seeds(arm, setting, measure) if value < inf],
        dash=DASHES[n],
    )


def _heights(one: Series) -> list[float]:
    bands = (end for ends in one.band for end in ends or ())
    return [*(value for _, value in one.points), *bands, *(value for _, value in one.dots)]


def _seeds(arm: dict[str, Any], setting: str, measure: str) -> list[float]:
    """One value per seed; infinite if the seed has none."""
    values = (of.get(setting, {}).get(measure) for of in arm.get("per_seed", {}).values())
    return [value if known(value) else inf for value in values]


def _axis_title(setting: str, measure: str) -> str:
    return f"{SETTING_NAMES[setting]} {directed(title_of(measure), lower_is_better(measure))}"


def _sheet(name: str, arms: Arms, what: Sequence[tuple[str, str]]) -> Sheet:
    """Means with their intervals, each followed by the values of its seeds."""
    rows: list[tuple[Any, ...]] = []
    for arm, of in arms.items():
        for setting, measure in what:
            if at := point(of, of.get("intervals", {}), setting, measure):
                rows.append((arm, of.get("x"), setting, measure, "mean", at[0], *(at[1] or (None, None))))
                seeds = zip(of.get("per_seed", {}), _seeds(of, setting, measure), strict=True)
                rows += [(arm, of.get("x"), setting, measure, *one, None, None) for one in seeds if one[1] < inf]
    return Sheet(name, ("arm", "x", "setting", "measure", "seed", "value", "low", "high"), rows)
