"""Tables on the page of a study: arms, results, results by language, language bias. Each function returns one section,
or `None` without numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from hybridir.evaluation.metrics import MEASURES, Measure
from hybridir.reports.html.bias_panel import bias_words, pooled_titles
from hybridir.reports.html.charts import axis, slopes
from hybridir.reports.html.parts import (
    NONE,
    SETTING_NAMES,
    Mark,
    Point,
    Section,
    Sheet,
    beside,
    best_of,
    bullets,
    coded,
    directed,
    direction,
    figure,
    fold,
    known,
    language_name,
    lower_is_better,
    note,
    number,
    numbers,
    point,
    point_text,
    table,
    terms,
    title_of,
)
from hybridir.reports.tables import left_out
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.tables import Grid

_FEW = 6
"""The most arms in a plot of slopes."""
Column = tuple[str, Sequence[Point | None]]
"""The measure of a column, and its values."""
Marks = dict[tuple[int, int], Mark]


def _in_settings(chosen: Callable[[Measure], bool]) -> list[tuple[str, str]]:
    """The chosen measures, each with the settings in which it is defined: (setting, name of the measure)."""
    return [
        (setting, name)
        for parallel in (False, True)
        for setting in (["multilingual"] if parallel else SETTING_NAMES)
        for name, one in MEASURES.items()
        if ("parallel" in one.needs) == parallel and chosen(one)
    ]


def plan(results: dict[str, Any]) -> Section | None:
    """The arms: description, state, and cost."""
    if not results["arms"]:
        return None
    planned = len(results["seeds"])
    rows: list[tuple[str, ...]] = []
    told: list[str] = []
    marks: Marks = {}
    for name, arm in results["arms"].items():
        errors = arm.get("errors", {})
        state = "✓ done" if len(arm["seeds"]) >= planned else f"✗ {len(errors)} failed" if errors else "not finished"
        if errors:
            marks[len(rows), 1] = "verdict fails", "see the errors below"
        cost = ((arm.get("steps"), 0), (arm.get("tokens"), 0), (arm.get("seconds"), 1))
        texts = (f"{value:,.{digits}f}" if known(value) else NONE for value, digits in cost)
        rows.append((name, state, f"{len(arm['seeds'])} of {planned}", *texts, arm.get("about", "")))
        told += [f"✗ {name}, seed {seed}: {without_secrets(text)}" for seed, text in errors.items()]
    header = ("arm", "state", "seeds", "steps", "tokens", "seconds", "what it is")
    grid = Grid("Arms, with the steps, tokens and seconds of training one seed", header, rows)
    return Section(
        "arms",
        "The arms",
        f"The compared ways to train. Steps, tokens and seconds are means over seeds. The study is about "
        f"{results['reference']}.",
        [beside(table(grid, marks=marks), style="wrapped"), bullets(told, "error")],
    )


def tables(results: dict[str, Any]) -> Section | None:
    """Results of all arms in all settings, and on trained languages against zero-shot languages."""
    arms = _finished(results)
    if not arms:
        return None
    wanted = _in_settings(lambda one: one.main)
    found = [
        {m: of.get(m) for s, m in wanted if s == setting}
        for arm in arms.values()
        for setting in SETTING_NAMES
        if (of := arm.get(setting))
    ]
    out, untold = left_out(found)
    shown = [what for what in wanted if what[1] not in out]
    headers = {_named(*what): what for what in shown}
    columns = {
        header: (what[1], [point(arm, arm.get("intervals", {}), *what) for arm in arms.values()])
        for header, what in headers.items()
    }
    names = [_label(name, arm, results) for name, arm in arms.items()]
    first, marks = _by_arm("Retrieval quality, with 95\u00a0% intervals", names, columns)
    published = [
        (
            f"published: {one['encoder']}, {one['method']}",
            *(_published(one, *headers[name]) for name in first.header[1:]),
        )
        for one in results.get("published", [])
    ]
    places = [(n, c) for n, row in enumerate(published, len(names)) for c in range(1, len(row))]
    marks |= dict.fromkeys(places, ("published", "published, not measured here"))
    grids = [(Grid(first.title, first.header, [*first.rows, *published]), marks)]
    groups = {
        f"{_named(setting, measure)}, {group}": (
            measure,
            [point(*_of(arm, group, "groups", "group_intervals"), setting, measure) for arm in arms.values()],
        )
        for setting, measure in _in_settings(lambda one: one.compared)
        for group in ("trained", "zero-shot")
    }
    if any(any(column) for name, (_, column) in groups.items() if name.endswith("zero-shot")):
        title = "Languages that were trained on against languages never seen in training (zero-shot)"
        grids.append(_by_arm(title, names, groups))
    blocks = [table(grid, marks=marks) for grid, marks in grids]
    told = [
        f"{direction(m for _, m in shown)} The best value of a column is bold; its lead over the next may be chance."
    ]
    told += [untold] * bool(untold)
    if published:
        told.append(f"Rows marked as published were not measured here: {results.get('published_note', '')}")
    return Section(
        "tables",
        "Results of all arms",
        "Question and passage in the same language (monolingual), in different languages (cross-lingual), and the "
        "passages of all languages searched at once (multilingual); means over seeds.",
        [beside(*blocks, style="wrapped dense"), note(*told)],
    )


def languages(results: dict[str, Any]) -> Section | None:
    """By query language: slopes across a few arms, and a table per setting and measure for all arms."""
    arms = _finished(results)
    zero_shot = results.get("zero_shot_languages", [])
    found = {
        (setting, measure, x, name): at
        for setting, measure in _in_settings(lambda one: one.compared)
        for x in results["languages"]
        for name, arm in arms.items()
        if (at := point(*_of(arm, x, "per_language", "language_intervals"), setting, measure))
    }
    if not found:
        return None

    few = [name for name in _compared(results) if name in arms] if len(arms) > _FEW else list(arms)
    figures, folded = [], []
    for what in dict.fromkeys(key[:2] for key in found):
        own = [x for x in results["languages"] if any((*what, x, name) in found for name in arms)]
        columns = {name: (what[1], [found.get((*what, x, name)) for x in own]) for name in arms}
        names = [f"{coded(x)}, zero-shot" if x in zero_shot else coded(x) for x in own]
        grid, _ = _by_arm(f"{_named(*what)} by language of the question", names, columns, "language")
        folded.append(fold(_named(*what), table(grid)))
        if len(few) > 1:
            rows = {
                language_name(x): [at[0] if (at := columns[name][1][n]) else None for name in few]
                for n, x in enumerate(own)
            }
            figures.append(figure(_slopes(what, few, rows, zero_shot)))
    sheet = Sheet(
        "languages",
        ("setting", "measure", "language", "zero_shot", "arm", "value", "low", "high"),
        [
            (setting, measure, x, int(x in zero_shot), name, value, *(ends or (None, None)))
            for (setting, measure, x, name), (value, ends) in found.items()
        ],
    )
    apart = "; dashed and hollow: zero-shot, never seen in training" if zero_shot else ""
    apart += f"; across the {len(few)} arms that the claims name first" if len(few) < len(arms) else ""
    return Section(
        "languages",
        "By language of the question",
        f"One line per language{apart}. Tables with all arms and 95\u00a0% intervals are folded below.",
        [
            *([beside(*figures, style="panels wide charts")] if figures else []),
            numbers(sheet),
            beside(*folded, style="wrapped"),
        ],
    )


def bias(results: dict[str, Any]) -> Section | None:
    """Measures of language bias, one row per arm."""
    if len(results["languages"]) < 2:
        return None
    arms = _finished(results)
    words = bias_words(dict.fromkeys(key for arm in arms.values() for key in arm.get("bias", {})))
    columns = {
        f"{label} ({best})": (key, [_bias(arm, key) for arm in arms.values()])
        for key, (label, _, best) in words.items()
    }
    names = [_label(name, arm, results) for name, arm in arms.items()]
    grid, _ = _by_arm("Measures of language bias", names, columns)
    if len(grid.header) == 1:
        return None
    told = (
        f"In brackets: 95\u00a0% intervals for {pooled_titles()}; for all other measures, the lowest and the "
        "highest seed."
    )
    says = terms({words[key][0]: words[key][1] for key, column in columns.values() if any(column)})
    return Section(
        "bias",
        "Language bias",
        "Do the arms prefer some languages, whatever the passages say? Each measure shows only one side of the bias.",
        [beside(table(grid), style="wrapped"), note(told), says],
    )


def _named(setting: str, measure: str) -> str:
    return f"{SETTING_NAMES[setting]} {title_of(measure)}"


def _slopes(
    what: tuple[str, str], arms: Sequence[str], rows: Mapping[str, Sequence[float | None]], zero_shot: Sequence[str]
) -> Markup:
    name = directed(_named(*what), lower_is_better(what[1]))
    values = [value for row in rows.values() for value in row if value is not None]
    y = axis(name, values or [0.0], what[1])
    return slopes(f"{name} by language", arms, rows, [language_name(x) for x in zero_shot], y)


def _finished(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The arms that have numbers."""
    return {name: arm for name, arm in results["arms"].items() if any(setting in arm for setting in SETTING_NAMES)}


def _of(arm: dict[str, Any], name: str, values: str, intervals: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The values and intervals of a language, or of a group of languages."""
    return arm.get(values, {}).get(name, {}), arm.get(intervals, {}).get(name, {})


def _label(name: str, arm: dict[str, Any], results: dict[str, Any]) -> str:
    done, planned = len(arm["seeds"]), len(results["seeds"])
    return name if done >= planned else f"{name} ({done} of {planned} seeds)"


def _by_arm(title: str, names: Sequence[str], columns: Mapping[str, Column], corner: str = "arm") -> tuple[Grid, Marks]:
    """The columns that have values as a table, and marks for the best value of each column."""
    shown = {header: column for header, column in columns.items() if any(column[1])}
    marks: Marks = {}
    for place, (header, (measure, column)) in enumerate(shown.items(), 1):
        values = {n: at[0] for n, at in enumerate(column) if at}
        best = best_of(values.values(), measure)
        marks |= {(n, place): ("best", f"best: {header}") for n, v in values.items() if v == best and len(values) > 1}
    rows = [
        (name, *(point_text(column[n], measure) for measure, column in shown.values())) for n, name in enumerate(names)
    ]
    return Grid(title, (corner, *shown), rows), marks


def _published(one: dict[str, Any], setting: str, measure: str) -> str:
    return number(one.get(setting if measure == "mAP" else measure), measure)


def _compared(results: dict[str, Any]) -> list[str]:
    """The reference and the arms that the claims name first, in the order of the plan."""
    named = (part[key] for claim in results.get("claims", []) for part in claim["parts"] for key in ("arm", "baseline"))
    first = list(dict.fromkeys([results["reference"], *named, *results["arms"]]))[:_FEW]
    return [name for name in results["arms"] if name in first]


def _bias(arm: dict[str, Any], key: str) -> Point | None:
    """A measure of bias with its interval, if it has one, else with the lowest and highest seed, if they differ."""
    of = arm.get("bias", {}).get(key, {})
    if at := point(arm, arm.get("intervals", {}), "multilingual", key):
        return at
    if not known(of.get("mean")):
        return None
    return of["mean"], [of["least"], of["greatest"]] if of["least"] < of["greatest"] else None
