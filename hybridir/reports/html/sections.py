"""Sections of the page of an evaluation. Each function turns `results.json` into one, or `None` without numbers.

`systems` holds results by name: first those of the encoder, then those of the systems that it is compared with.
"""

import json
from html import escape
from typing import Any

from hybridir.evaluation.intervals import FEW_CLUSTERS
from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import SETTINGS
from hybridir.reports.html.parts import (
    SETTING_NAMES,
    Point,
    Section,
    Sheet,
    Systems,
    below,
    coded,
    details,
    direction,
    language_name,
    number,
    point,
    point_text,
    scroll,
    table,
    title_of,
    with_interval,
)
from hybridir.reports.html.plots import dots, legend, limits
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.tables import Grid

_LONGEST = 400
"""The most characters of a text shown in the examples."""


def headline(results: dict[str, Any], systems: Systems) -> Section | None:
    """The table of measures by setting, for every system, with notes."""
    shown = [s for s in SETTINGS if any("mAP" in one.get(s, {}) for one in systems.values())]
    wanted = [m for m, one in MEASURES.items() if one.main or "parallel" not in one.needs]  # the rest: see bias_panel
    names = [m for m in wanted if any(m in one.get(s, {}) for one in systems.values() for s in shown)]
    if not names:
        return None
    rows = []
    for setting in shown:
        for system, one in systems.items():
            if values := one.get(setting):
                ends = one.get("intervals", {}).get(setting, {})
                cells = (
                    with_interval(values.get(m), ends.get(m, {}).get("interval"), m) if m in values else ""
                    for m in names
                )
                rows.append((_group(setting, systems), system, *cells))
    title = "Retrieval quality by setting, with 95\u00a0% intervals"
    grid = Grid(title, ("setting", "system", *(title_of(m) for m in names)), rows)
    notes = (
        f'<p class="note">{escape(direction(names))} '
        "R@1 of a question with R right answers is at most 1/R, so in the multilingual setting R@1 is small even for a "
        "perfect ranking; success@1 says how often the first passage is right. Intervals resample whole clusters "
        "(articles, territories) with all their questions and translations. They hold for these models as they are, "
        "not for other training seeds.</p>\n"
    )
    told = [without_secrets(note) for note in (*results.get("notes", []), *_few_clusters(results))]
    notes += f'<ul class="notes">{"".join(f"<li>{escape(one)}</li>" for one in told)}</ul>\n' * bool(told)
    return Section(
        "results",
        "Results",
        "How well the right passages are found when question and passage share a language (monolingual), when they "
        "never do (cross-lingual), and when the passages of all languages are searched at once (multilingual).",
        table(grid, grouped=True) + notes,
        [grid],
        notes=told,
    )


def languages(results: dict[str, Any], systems: Systems) -> Section | None:
    """mAP by query language: dots with intervals, for all systems."""
    shown = [s for s in SETTINGS if any("mAP" in one.get(s, {}) for one in results.get("per_language", {}).values())]
    if not shown:
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
    panels = "".join(
        dots(
            SETTING_NAMES[s],
            [language_name(x) for x in order],
            [[points.get((s, name, x)) for x in order] for name in systems],
            axis,
        )
        for s in shown
    )
    grid = Grid(
        "mAP by language of the question, with 95\u00a0% intervals",
        ("setting", "language", *systems),
        [
            (
                SETTING_NAMES[s],
                coded(x),
                *(point_text(points.get((s, name, x))) for name in systems),
            )
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
        f'{legend(list(systems))}<div class="panels">{panels}</div>{below("", sheet)}'
        + details("The numbers", table(grid, True)),
        [grid],
        [sheet],
    )


def examples(results: dict[str, Any]) -> Section | None:
    """A few questions with what was retrieved for them."""
    found = results.get("examples")
    if not found:
        return None
    return Section(
        "examples",
        "Examples",
        "A few questions, the passages ranked first for them among those of all languages, and the ranks of their "
        "right answers.",
        "".join(map(_example, found)),
    )


def provenance(results: dict[str, Any]) -> Section | None:
    """How the results were made: command, fingerprints, versions, time, configuration."""
    made = results.get("provenance", {})
    if not made:
        return None
    facts = {f"fingerprint of the {name}": str(sha) for name, sha in made.get("fingerprints", {}).items()}
    facts |= {key: _listed(made[key]) for key in ("versions", "seconds") if key in made}
    facts |= {"time": str(made["time"])} if "time" in made else {}
    told = [f"{name}: {text}" for name, text in facts.items()]
    command = without_secrets(made.get("command", ""))
    shown = f'<pre class="command"><code>{escape(command)}</code></pre>\n' if command else ""
    config = json.dumps(made.get("config", {}), indent=2, ensure_ascii=False, default=str)
    return Section(
        "made",
        "How it was made",
        "All that is needed to reproduce the numbers.",
        shown
        + f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in facts.items())}</dl>\n"
        + (
            details("Configuration", f"<pre><code>{escape(without_secrets(config))}</code></pre>")
            if "config" in made
            else ""
        ),
        notes=[*([f"made by: `{command}`"] if command else []), *told],
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
    counted = (
        f"{values['n_queries']:,} {'question and language combinations' if setting == 'crosslingual' else 'questions'}"
    )
    left_out = f", {values['excluded']:,} excluded (no right answer)" if values.get("excluded") else ""
    return f"{SETTING_NAMES[setting]}: {counted}{left_out}"


def _example(one: dict[str, Any]) -> str:
    answers = "".join(
        f'<li>{_tag(answer["language"])} <span class="rank">{answer["rank"]:,}</span></li>'
        for answer in sorted(one.get("answers", []), key=lambda answer: answer["rank"])
    )
    rows = "".join(
        f'<tr class="{"right" if hit["relevant"] else "wrong"}"><td>{hit["rank"]:,}</td>'
        f'<td class="words mark">{"✓ right" if hit["relevant"] else "✗ wrong"}</td>'
        f'<td class="words">{_tag(hit["language"])}</td><td class="words">{_text(hit["text"], hit["language"])}</td>'
        f"<td>{number(hit.get('score'))}</td></tr>\n"
        for hit in one.get("retrieved", [])
    )
    head = (
        '<th scope="col">rank</th><th scope="col" class="words">found</th><th scope="col" class="words">language</th>'
        '<th scope="col" class="words">passage</th><th scope="col">score</th>'
    )
    caption = f"Retrieved for {one['query_id']}"
    found = f'<p class="answers">Ranks of the right answers:</p><ul class="answers">{answers}</ul>' if answers else ""
    return (
        f"<article><h3>{_tag(one['language'])} {_text(one['text'], one['language'])}</h3>\n{found}"
        + scroll(
            caption,
            f'<table class="hits"><caption class="hidden">{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
            f"<tbody>{rows}</tbody></table>",
        )
        + "</article>\n"
    )


def _tag(language: str) -> str:
    return f'<abbr class="tag" title="{escape(language_name(language))}">{escape(language)}</abbr>'


def _text(text: str, language: str) -> str:
    shown = text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
    return f'<span lang="{escape(language)}" dir="auto">{escape(shown)}</span>'


def _listed(values: dict[str, Any]) -> str:
    return " · ".join(f"{k} {f'{v:,.1f}' if isinstance(v, float) else v}" for k, v in values.items())
