"""Sections of the page of tuning: the winner, trade-offs between objectives, the outcome of each point.

Each function returns one section, or `None` without numbers.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from hybridir.evaluation.validation_metrics import METRICS
from hybridir.reports.html.charts import Series, Spot, axis, lines, scatter
from hybridir.reports.html.parts import (
    NONE,
    Block,
    Mark,
    Point,
    Section,
    Sheet,
    beside,
    bullets,
    directed,
    figure,
    fold,
    known,
    note,
    number,
    numbers,
    p_value,
    point,
    table,
    with_interval,
)
from hybridir.reports.html.sections import headline
from hybridir.reports.tables import bases
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.tables import Grid

_STATES = {"done": "✓ done", "stopped early": "– stopped early", "failed": "✗ failed", "not finished": "not finished"}
_FEW = 6
"""The most curves drawn for each kind of point, and the most leads shown without unfolding."""


def summary(results: dict[str, Any]) -> str:
    """Which point won, in a sentence."""
    of, metric = results["winner"], results["metric"]
    best = next(one for one in results["trials"] if one["point"] == of["point"])
    return (
        f"{_listed(of['set'])} has the best {_title(metric)} in validation, "
        f"{_number(best['values'][metric], metric)} as the mean of {best['seeds']} seed{'s' * (best['seeds'] != 1)}, "
        f"among {sum(one['seeds'] == best['seeds'] for one in results['trials'])} points with as many seeds. "
        f"The model of seed {of['seed']} is in best/model."
    )


def winner(results: dict[str, Any]) -> Section | None:
    """The lead of the winner over the other points."""
    leads, metric = results["leads"], results["metric"]
    if not leads:
        return None
    rows = [
        (
            one["baseline"],
            with_interval(one["difference"], one["interval"], METRICS[metric].measure, sign=True),
            p_value(one["p"]),
            str(one["seeds"]),
        )
        for one in leads
    ]
    title = f"The winner's lead in {_title(metric)}, with 95\u00a0% intervals"
    grid = Grid(title, ("point", "the winner's lead", "p", "seeds"), rows)
    block = table(replace(grid, rows=rows[:_FEW]))
    blocks = [replace(block, told=()), fold(f"all {len(leads)} points", table(grid))] if rows[_FEW:] else [block]
    return Section(
        "winner", "The winner", "How far it is ahead of the other points.", [*blocks, note(*_about_leads(leads))]
    )


def on_test(results: dict[str, Any]) -> Section | None:
    """The results of the winner on the test benchmark, which no earlier choice has used."""
    test = results["test"]
    found = headline(test, {"trained": test, **test.get("systems", {})})
    sentence = (
        f"The winner's model on {test['benchmark']}, which no earlier choice has used, beside its initial encoder and "
        "BM25. best/report.html has all its results."
    )
    return replace(found, id="test", title="The winner on the test", sentence=sentence) if found else None


def front(results: dict[str, Any]) -> Section | None:
    """The objectives in pairs, with the points of the Pareto front marked."""
    done = [one for one in results["trials"] if one["state"] == "done"]
    on_it = [one["point"] for one in done if one["front"]]
    figures, shown = [], results["objectives"]
    for y, x in combinations(shown, 2):
        spots = [
            Spot(name=one["point"], n=0 if one["front"] else 1, x=x_at, y=y_at)
            for one in done
            if (x_at := _at(results, one, x)) and (y_at := _at(results, one, y))
        ]
        if len(spots) > 1:
            axes = [
                axis(_title(name), [v for spot in spots for v in _ends(spot, name == y)], METRICS[name].measure)
                for name in (x, y)
            ]
            figures.append(figure(scatter(f"{_title(y)} against {_title(x)}", spots, *axes)))
    if not figures:
        return None
    sheet = Sheet(
        "front",
        ("point", "on the front", *shown),
        [(one["point"], one["front"], *(one["values"].get(name) for name in shown)) for one in done],
    )
    sentence = (
        f"Round and blue: the Pareto front, {'; '.join(on_it)}. No other point is at least as good in "
        f"{' and '.join(_title(name) for name in shown)}, and better in one."
    )
    blocks = [beside(*figures, style="panels wide charts"), numbers(sheet)]
    return Section("front", "The Pareto front", sentence, blocks)


def trials(results: dict[str, Any]) -> Section:
    """All points: their values, their state, and why a point failed or was stopped."""
    listed = results["trials"]
    grid = points_table(listed)
    state = grid.header.index("state")
    marks: dict[tuple[int, int], Mark] = {
        (n, state): ("verdict fails", "see below") for n, one in enumerate(listed) if one["state"] == "failed"
    }
    told = [f"{one['point']}: {without_secrets(one['why'])}" for one in listed if one["why"]]
    return Section(
        "trials",
        "The points",
        f"Validation: {', '.join(_title(name) for name in _metrics(listed))}. "
        "Each is the mean over the seeds of a point, best first. Seconds are the time of all steps of a point.",
        [table(grid, marks=marks), bullets(told), *_curves(results)],
    )


def points_table(listed: Sequence[dict[str, Any]]) -> Grid:
    """The points as a table, with their state."""
    names = _metrics(listed)
    fields = list(listed[0]["set"]) if " / " in listed[0]["point"] else []  # else the name has them
    rows = [
        (
            one["point"],
            *(_text(one["set"][name]) for name in fields),
            _STATES[one["state"]],
            *(_number(one["values"].get(name), name) for name in names),
            str(one["seeds"]),
            str(one["steps"]),
            f"{one['seconds']:,.0f}",
        )
        for one in listed
    ]
    return Grid(
        "Points, by validation",
        ("point", *fields, "state", *(METRICS[name].short for name in names), "seeds", "steps", "seconds"),
        rows,
    )


def _curves(results: dict[str, Any]) -> list[Block]:
    """The deciding metric by step, for the best points and for some that were stopped early."""
    states = ("done", "stopped early")
    kinds = [[one for one in results["trials"] if one["state"] == state and one["curve"]] for state in states]
    chosen = [one for kind in kinds for one in kind[:_FEW]]
    if not any(len(one["curve"]) > 1 for one in chosen):
        return []
    series = [
        Series(
            name=one["point"],
            n=n,
            points=[(float(step), value) for step, value in one["curve"]],
            dash="4 3" * (one["state"] == "stopped early"),
            hollow=one["state"] == "stopped early",
        )
        for n, one in enumerate(chosen)
    ]
    title = _title(results["metric"])
    x = axis("steps", [0, *(step for one in series for step, _ in one.points)])
    y = axis(title, [value for one in series for _, value in one.points], METRICS[results["metric"]].measure)
    rows = [(one["point"], one["state"], *at) for kind in kinds for one in kind for at in one["curve"]]
    sheet = Sheet("tuning_curves", ("point", "state", "step", results["metric"]), rows)
    words = "The first seed of the best points, by step. Dashed and hollow: points that were stopped early."
    return [
        note(words, told=False),
        beside(figure(lines(f"{title} by step", series, x, y), sheet=sheet), style="charts"),
    ]


def _about_leads(leads: Sequence[dict[str, Any]]) -> list[str]:
    """Notes on the intervals of the winner's leads."""
    unclear = [one["baseline"] for one in leads if one["interval"][0] <= 0 <= one["interval"][1]]
    said = [
        "Not distinguishable from the winner: " + ", ".join(unclear) + "."
        if unclear
        else "The winner is distinguishable from all other finished points."
    ]
    said += bases(leads)
    said.append(
        "The winner was chosen as the best of many on these same questions, so its lead tends to be too large. This "
        "does not affect the test below."
    )
    return said


def _at(results: dict[str, Any], trial: dict[str, Any], metric: str) -> Point | None:
    """A point's value on an axis, with its interval if there is one."""
    arm = results["arms"].get(trial["point"], {})
    settings, measure = METRICS[metric].settings, METRICS[metric].measure
    found = point(arm, arm.get("intervals", {}), settings[0], measure) if len(settings) == 1 else None
    value = trial["values"].get(metric)
    return found or ((value, None) if value is not None and known(value) else None)


def _ends(spot: Spot, upright: bool) -> Sequence[float]:
    value, ends = spot.y if upright else spot.x
    return [value, *(ends or ())]


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _metrics(listed: Sequence[dict[str, Any]]) -> list[str]:
    """The metrics that any point has."""
    return [name for name in METRICS if any(name in one["values"] for one in listed)]


def _title(metric: str) -> str:
    return directed(METRICS[metric].title, METRICS[metric].lower_is_better)


def _number(value: float | None, metric: str) -> str:
    return NONE if value is None else number(value, METRICS[metric].measure)
