"""Sections of the page of an evaluation. Each function turns `results.json` into one, or `None` without numbers.

`systems` holds results by name: first those of the encoder, then those of the systems that it is compared with.
"""

import json
from typing import Any

from hybridir.evaluation.intervals import FEW_CLUSTERS
from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import SETTINGS
from hybridir.reports.html.parts import (
    SETTING_NAMES,
    Block,
    Mark,
    Point,
    Section,
    Sheet,
    Systems,
    beside,
    best_of,
    bullets,
    coded,
    direction,
    figure,
    fold,
    language_name,
    note,
    number,
    numbers,
    point,
    point_text,
    table,
    title_of,
    with_interval,
)
from hybridir.reports.html.plots import dots, legend, limits
from hybridir.reports.tables import left_out, settings_of
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.tables import Grid


def headline(results: dict[str, Any], systems: Systems) -> Section | None:
    """The table of measures by setting, for every system, with notes."""
    shown = [s for s in settings_of(results) if any("mAP" in one.get(s, {}) for one in systems.values())]
    wanted = [m for m, one in MEASURES.items() if one.main or "parallel" not in one.needs]  # the rest: see bias_panel
    found = [one.get(s, {}) for one in systems.values() for s in shown]
    out, untold = left_out(found)
    names = [m for m in wanted if m not in out and any(m in of for of in found)]
    if not names:
        return None
    rows: list[tuple[str, ...]] = []
    marks: dict[tuple[int, int], Mark] = {}
    for setting in shown:
        measured = {system: one[setting] for system, one in systems.items() if one.get(setting)}
        for column, measure in enumerate(names, 2):
            own = {len(rows) + n: of[measure] for n, of in enumerate(measured.values()) if measure in of}
            best = best_of(own.values(), measure) if len(own) > 1 else None
            marks |= {
                (row, column): ("best", f"best {title_of(measure)}") for row, value in own.items() if value == best
            }
        for system, values in measured.items():
            ends = systems[system].get("intervals", {}).get(setting, {})
            cells = (
                with_interval(values.get(m), ends.get(m, {}).get("interval"), m) if m in values else "" for m in names
            )
            rows.append((_group(setting, systems), system, *cells))
    grid = Grid(
        "Retrieval quality by setting, with 95\u00a0% intervals", ("setting", "system", *map(title_of, names)), rows
    )
    told = [without_secrets(one) for one in (*results.get("notes", []), *_few_clusters(results))]
    told += [untold] * bool(untold)
    languages = (
        " when question and passage share a language (monolingual), when they never do (cross-lingual), and when the "
        "passages of all languages are searched at once (multilingual)"
    )
    return Section(
        "results",
        "Results",
        f"How well the right passages are found{languages * (len(shown) > 1)}.",
        [
            table(grid, grouped=True, marks=marks),
            note(
                direction(names) + " The best value of each column and setting is bold; its lead may be chance.",
                *[
                    "R@1 of a question with R right answers is at most 1/R, so in the multilingual setting R@1 is "
                    "small even for a perfect ranking; success@1 says how often the first passage is right."
                ]
                * ("R@1" in names and len(shown) > 1),
                "Intervals resample whole clusters (articles, territories) with all their questions and translations. "
                "They hold for these models as they are, not for other training seeds.",
                told=False,
            ),
            bullets(told),
        ],
    )


def languages(results: dict[str, Any], systems: Systems) -> Section | None:
    """mAP by query language: dots with intervals, for all systems."""
    per_language = results.get("per_language", {}).values()
    shown = [s for s in settings_of(results) if any("mAP" in one.get(s, {}) for one in per_language)]
    if not shown or len(results["languages"]) < 2:
        return None

    def at(system: dict[str, Any], language: str, setting: str) -> Point | None:
        values, ends = (system.get(key, {}).get(language, {}) for key in ("per_language", "language_intervals"))
        return point(values, ends, setting)

    points = {
        (s, name, x): found
        for s in shown
        for name, system in systems.items()
        for x in results["languages"]
        if (found := at(system, x, s))
    }
    encoder = next(iter(systems))
    order = sorted(results["languages"], key=lambda x: -points.get((shown[0], encoder, x), (0.0, None))[0])
    axis = limits([end for value, ends in points.values() for end in (value, *(ends or ()))])
    names = [language_name(x) for x in order]
    panels = [
        figure(dots(SETTING_NAMES[s], names, [[points.get((s, one, x)) for x in order] for one in systems], axis))
        for s in shown
    ]
    grid = Grid(
        "mAP by language of the question, with 95\u00a0% intervals",
        ("setting", "language", *systems),
        [
            (SETTING_NAMES[s], coded(x), *(point_text(points.get((s, name, x))) for name in systems))
            for s in shown
            for x in order
        ],
    )
    sheet = Sheet(
        "languages",
        ("setting", "system", "language", "mAP", "low", "high"),
        [(s, name, x, value, *(ends or (None, None))) for (s, name, x), (value, ends) in points.items()],
    )
    return Section(
        "languages",
        "By language of the question",
        f"mAP for the questions of each language, with 95\u00a0% intervals. Languages are ordered by the values of "
        f"{encoder} in the first panel. All panels have the same axis.",
        [
            figure("", legend=legend(list(systems))),
            beside(*panels, style="panels"),
            numbers(sheet),
            fold("The numbers", table(grid, grouped=True)),
        ],
    )


def examples(results: dict[str, Any]) -> Section | None:
    """Questions with what was retrieved for them and their right passages, by language: gains before losses."""
    found = results.get("examples")
    if not found:
        return None
    by_language: dict[str, list[dict[str, Any]]] = {}
    for one in sorted(found, key=lambda one: -one.get("gain", 0)):
        by_language.setdefault(one["language"], []).append(_example(one))
    against = next((one["against"] for one in found if "against" in one), "")
    lead = f"the largest gain and the largest loss in average precision against {against}" * bool(against)
    return Section(
        "examples",
        "Examples",
        f"For each language {lead or 'a question found badly and one found well'}: the passages ranked first among "
        "those of all languages, then the best right answer, and the one in the question's language, if they come "
        "later. These are extremes: what is usual is above.",
        [
            fold(f"{coded(x)}: {_gains(own)}", Block("examples.html", {"examples": own}), opened=n == 0)
            for n, (x, own) in enumerate(by_language.items())
        ],
    )


def provenance(results: dict[str, Any]) -> Section | None:
    """How the results were made: command, fingerprints, versions, time, configuration."""
    made = results.get("provenance", {})
    if not made:
        return None
    facts = {f"fingerprint of the {name}": str(sha) for name, sha in made.get("fingerprints", {}).items()}
    facts |= {key: _listed(made[key]) for key in ("versions", "seconds") if key in made}
    facts |= {"time": str(made["time"])} if "time" in made else {}
    command = without_secrets(made.get("command", ""))
    config = json.dumps(made["config"], indent=2, ensure_ascii=False, default=str) if "config" in made else ""
    told = [*([f"made by: `{command}`"] if command else []), *(f"{name}: {text}" for name, text in facts.items())]
    values = {"command": command, "facts": facts, "config": without_secrets(config)}
    return Section(
        "made", "How it was made", "All that is needed to reproduce the numbers.", [Block("made.html", values, told)]
    )


def _few_clusters(results: dict[str, Any]) -> list[str]:
    asked = [results[s] for s in SETTINGS if results.get(s, {}).get("n_queries")]
    fewest = min((one.get("n_clusters", FEW_CLUSTERS) for one in asked), default=FEW_CLUSTERS)
    few = f"There are only {fewest} clusters of questions: intervals from so few are too narrow, p-values too coarse."
    return [few] if fewest < FEW_CLUSTERS else []


def _group(setting: str, systems: Systems) -> str:
    values: dict[str, Any] = next(one[setting] for one in systems.values() if one.get(setting))
    if "n_queries" not in values:
        return SETTING_NAMES[setting]
    asked = "question and language combinations" if setting == "crosslingual" else "questions"
    left_out = f", {values['excluded']:,} excluded (no right answer)" if values.get("excluded") else ""
    return f"{SETTING_NAMES[setting]}: {values['n_queries']:,} {asked}{left_out}"


def _example(one: dict[str, Any]) -> dict[str, Any]:
    """The values of an example for its template."""
    answers = sorted(one.get("answers", []), key=lambda answer: answer["rank"])
    hits = [hit | {"later": False} for hit in one.get("retrieved", [])]
    last = max((hit["rank"] for hit in hits), default=0)
    best = [*answers[:1], *(answer for answer in answers if answer["language"] == one["language"])]
    for answer in best:
        if answer["rank"] > last:
            hits.append({"score": None, "relevant": True, "later": True} | answer)
            last = answer["rank"]
    return one | {
        "hits": hits,
        "ranks": [{"before": None} | answer for answer in answers],
        "before": f" ({one['against']} in brackets)" if "against" in one else "",
        "says": _says(one),
    }


def _says(one: dict[str, Any]) -> str:
    if "gain" not in one:
        return ""
    now, before = (number(value) for value in (one["AP"], one["AP"] - one["gain"]))
    return f"Average precision {now}, with {one['against']} {before}: {number(one['gain'], sign=True)}."


def _gains(own: list[dict[str, Any]]) -> str:
    gains = [number(one["gain"], sign=True) for one in own if "gain" in one]
    return " and ".join(gains) or f"{len(own)} question{'s' * (len(own) != 1)}"


def _listed(values: dict[str, Any]) -> str:
    return " · ".join(f"{k} {f'{v:,.1f}' if isinstance(v, float) else v}" for k, v in values.items())
