"""Sections of the study of robustness: RR@10 under noise by arm, family and language, examples, and attacks.

`results["robustness"]` holds what noise did to the queries; RR@10 itself is in the arms, as in any study.
"""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from hybridir.evaluation.families import by_family, script_of
from hybridir.reports.html import noise
from hybridir.reports.html.charts import DASHES, Series, axis, lines
from hybridir.reports.html.parts import (
    NONE,
    Section,
    Sheet,
    beside,
    coded,
    figure,
    language_name,
    listed,
    note,
    number,
    numbers,
    table,
)
from hybridir.reports.html.plots import ORANGE_BLUE, ORANGE_BLUE_DARK, Cell, Scale, heat_map, percent
from hybridir.runtime.tables import Grid

_MEASURE = "RR@10"


def arms(results: dict[str, Any]) -> Section | None:
    """RR@10 of each arm without noise and under each condition, within languages."""
    found = _cells(results)
    named = {name: arm for name, arm in results["arms"].items() if "conditions" in arm}
    if not found or not named:
        return None
    header = ("arm", "no noise", *found, "mean under noise", "lost")
    rows = []
    for name, arm in named.items():
        plain = arm["monolingual"][_MEASURE]
        noisy = [arm["conditions"][cell]["monolingual"][_MEASURE] for cell in found]
        mean = fmean(noisy)
        rows.append((name, *map(number, (plain, *noisy, mean)), number(plain - mean, sign=True)))
    title = "RR@10 without and under each noise, in the language of the question: means over languages and seeds"
    told = (
        "RR@10 is 1 if a right passage stands first, 1/2 if second, and so on, and 0 if none is among the first ten. "
        "The number after the name of a noise is the share of a question that is changed (asr: of its words).",
        "An arm that is better without noise is mostly better with it, and has more to lose: read both. The intervals "
        "of differences stand with the claims.",
    )
    return Section(
        "noise", "With and without noise", "What is still found?", [table(Grid(title, header, rows)), note(*told)]
    )


def curves(results: dict[str, Any]) -> Section | None:
    """RR@10 of the reference arm over the severity of each kind of noise, a line for each family."""
    found, arm = _cells(results), _arm(results)
    figures, rows = [], []
    for kind in dict.fromkeys(cell["kind"] for cell in found.values()):
        of_kind = sorted(
            (c["severity"], name) for name, c in found.items() if c["kind"] == kind and c["severity"] != "one"
        )
        if len(of_kind) < 2:
            continue
        applies = list(found[of_kind[0][1]]["changed"])
        series = []
        for n, (family, languages) in enumerate(by_family(applies).items()):
            values = [(0.0, fmean(_value(arm, "", x) for x in languages))]
            values += [(float(s), fmean(_value(arm, name, x) for x in languages)) for s, name in of_kind]
            series.append(Series(name=family.name, n=n, points=values, dash=DASHES[n % len(DASHES)]))
            rows += [(kind, family.name, *at) for at in values]
        x = axis("severity", [0.0, *(float(s) for s, _ in of_kind)])
        y = axis(f"{_MEASURE}: {kind}", [0.0, *(value for one in series for _, value in one.points)])
        figures.append(figure(lines(f"{_MEASURE} over the severity of {kind}, by language family", series, x, y)))
    if not figures:
        return None
    sheet = Sheet("severity", ("noise", "family", "severity", _MEASURE), rows)
    return Section(
        "severity",
        "More noise, by language family",
        f"How {results['robustness']['arm']} does as more of each question is changed: the mean over the languages of "
        "a family that the noise applies to.",
        [beside(*figures, style="panels wide charts"), numbers(sheet)],
    )


def languages(results: dict[str, Any]) -> Section | None:
    """A heat map: what is lost by kind of noise and language, with the shares of questions that were changed."""
    found, arm = _cells(results), _arm(results)
    drops = {
        (name, x): _value(arm, "", x) - _value(arm, name, x) for name, cell in found.items() for x in cell["changed"]
    }
    if not drops:
        return None
    most = max(0.05, *(abs(value) for value in drops.values()))

    def cell(name: str, x: str) -> Cell:
        if (name, x) not in drops:
            return Cell(NONE, None, title=f"{name} does not apply to {language_name(x)}")
        texts, tokens = (found[name][what][x] for what in ("changed", "tokens"))
        says = f"{name}, {language_name(x)}: {percent(texts)} of the questions changed, {percent(tokens)} as tokens"
        lost = drops[name, x]
        return Cell(number(lost, sign=True), 0.5 - lost / most / 2, f"{percent(texts)}, {percent(tokens)}", says)

    rows = {name: [cell(name, x) for x in results["languages"]] for name in found}
    scale = Scale((number(most), number(-most, sign=True)), ORANGE_BLUE, ORANGE_BLUE_DARK)
    sheet = Sheet(
        "noise_by_language",
        ("noise", "language", "plain", "noisy", "lost", "texts changed", "tokens changed"),
        [
            (
                name,
                x,
                _value(arm, "", x),
                _value(arm, name, x),
                lost,
                found[name]["changed"][x],
                found[name]["tokens"][x],
            )
            for (name, x), lost in drops.items()
        ],
    )
    drawn = heat_map(
        f"{_MEASURE} lost by {results['robustness']['arm']}, by noise and language of question and passages",
        rows,
        list(results["languages"]),
        scale,
        "lost",
        sheet,
        corner="noise ↓ language →",
    )
    told = (
        "Below each number: the shares of questions whose text changed, and whose tokens changed for the model. Where "
        "the second is smaller, the tokenizer undoes the noise (it ignores case or accents).",
        "The same share of changed letters is not the same harm: one Chinese character says more than one German "
        "letter. So this does not rank languages.",
    )
    return Section("languages_noise", "Noise by language", "Where does noise cost most?", [drawn, note(*told)])


def families(results: dict[str, Any]) -> Section:
    """The families and scripts of the languages, and what cannot be told apart."""
    of = by_family(results["languages"])
    rows = [
        (family.name, family.glottocode or NONE, listed(list(map(coded, xs))), listed(sorted({*map(script_of, xs)})))
        for family, xs in of.items()
    ]
    single = sum(len(xs) == 1 for xs in of.values())
    told = (
        "Families are those of Glottolog's top level with their glottocodes (glottolog.org, CC BY 4.0); scripts are "
        "the usual ones, as in CLDR.",
        f"{single} of {len(of)} families have one language here: what belongs to the family, to the script and to the "
        "way of typing cannot be told apart, and a difference between families is one between these languages.",
    )
    grid = Grid("Languages by family", ("family", "glottocode", "languages", "scripts"), rows)
    return Section("families", "Families and scripts", "Which languages are these?", [table(grid), note(*told)])


def examples(results: dict[str, Any]) -> Section | None:
    """For each language the question that loses most, before and after, and what stands first then."""
    found = results.get("robustness", {}).get("examples")
    if not found:
        return None
    header = ("language", "question", "with noise", "rank", "now first")
    rows = [(coded(x["language"]), x["before"], x["after"], f"1 → {x['rank']:,}", x["found"][:120]) for x in found]
    title = f"Under {found[0]['condition']}: the question of each language that falls farthest"
    return Section(
        "worst",
        "Worst examples",
        f"Questions that {results['robustness']['arm']} answers first without noise: extremes, not what is usual.",
        [table(Grid(title, header, rows))],
    )


def attacked(results: dict[str, Any]) -> Section | None:
    """Attacks on a part of the questions, as on the page of an evaluation."""
    return noise.attacked(results.get("robustness", {}))


def _cells(results: dict[str, Any]) -> Mapping[str, dict[str, Any]]:
    return results.get("robustness", {}).get("cells", {})


def _arm(results: dict[str, Any]) -> dict[str, Any]:
    return results["arms"].get(results.get("robustness", {}).get("arm"), {})


def _value(arm: Mapping[str, Any], condition: str, language: str) -> float:
    of = arm["conditions"][condition] if condition else arm
    return float(of["per_language"][language]["monolingual"][_MEASURE])
