"""The claims of a study with their verdicts, and the comparisons that decide them."""

from collections import Counter
from collections.abc import Sequence
from html import escape
from typing import Any

from hybridir.reports.html.parts import (
    NONE,
    SETTING_NAMES,
    Section,
    Sheet,
    below,
    between,
    lower_is_better,
    number,
    p_value,
    table,
    title_of,
    with_interval,
)
from hybridir.reports.html.plots import whisker
from hybridir.reports.tables import bases
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.tables import Grid

VERDICTS = {
    "holds": ("✓", "holds"),
    "does not hold": ("✗", "fails"),
    "undecided": ("?", "undecided"),
    "not tested": ("–", "untested"),
}
"""The symbol and the CSS class of each verdict."""
_RELATIONS = {
    "better": ("better than", "the interval lies on the better side of 0"),
    "not worse": ("not worse than", "the interval does not reach the margin on the worse side of 0"),
    "equal": ("equal to", "the interval lies between the margins on both sides of 0"),
}
_MEANS = {
    "holds": "All of its comparisons hold: {}.",
    "does not hold": "At least one of its comparisons is ruled out. The whole interval lies on the worse side of 0 "
    "(better than), beyond the margin on the worse side (not worse than), or outside the margins (equal to).",
    "undecided": "With these questions and seeds the claim may be true or false. This does not mean equal.",
    "not tested": "Numbers are missing: an arm failed, or was left out.",
}
_REACH = 6
"""The number of margins from 0 to either end of a drawing."""


def about(results: dict[str, Any]) -> Section | None:
    """The question of the study, and notes for the reader."""
    if not results.get("about"):
        return None
    told = [without_secrets(note) for note in results.get("notes", [])]
    body = f'<ul class="notes">{"".join(f"<li>{escape(one)}</li>" for one in told)}</ul>\n' * bool(told)
    return Section("about", "The question", results["about"], body, notes=[results["about"], *told])


def ledger(results: dict[str, Any]) -> Section | None:
    """The claims, each with its verdict and the comparisons that decide it."""
    claims = results.get("claims")
    if not claims:
        return None
    parts = [part for claim in claims for part in claim["parts"]]
    titles = results.get("sources", {})
    sources = list(dict.fromkeys(claim["source"] for claim in claims))
    body = _meanings(claims)
    for source in sources:
        own = [claim for claim in claims if claim["source"] == source]
        body += f'<h3 class="apart">{escape(titles.get(source, source))}</h3>\n<p class="note">{_tally(own)}</p>\n'
        body += "".join(_article(claim) for claim in own)
    shown = [part for part in parts if between(part.get("interval"))]
    told = _notes(shown) if shown else []
    body += below("", sheet := _sheet(claims)) + f'<p class="note">{escape(" ".join(told))}</p>\n' * bool(told)
    verdicts = [(claim["text"], titles.get(claim["source"], claim["source"]), verdict(claim)) for claim in claims]
    grids = [Grid("Claims", ("claim", "source", "verdict"), verdicts)]
    compared = [(claim["text"], *row) for claim in claims for row in _grid(claim).rows]
    grids += [Grid("Comparisons that decide the claims", ("claim", *_HEADER), compared)] * bool(compared)
    lead = f"Where is {results['reference']} better, where is it not, and what do these numbers leave open?"
    return Section("claims", "Claims and verdicts", lead, body, grids, [sheet], told)


def verdict(of: dict[str, Any]) -> str:
    """The verdict with its symbol."""
    return f"{VERDICTS[of['verdict']][0]} {of['verdict']}"


_HEADER = ("claimed", "difference", "verdict", "value", "baseline", "p", "margin", "detectable")


def _grid(claim: dict[str, Any]) -> Grid:
    return Grid(claim["text"], _HEADER, [_row(part) for part in claim["parts"]])


def _row(part: dict[str, Any]) -> tuple[str, ...]:
    measure, ends = part["measure"], part.get("interval")
    what = f"{SETTING_NAMES[part['setting']]} {title_of(measure)}"
    which = "" if part["languages"] == "all" else f", {part['languages']} languages"
    return (
        f"{part['arm']} {_RELATIONS[part['relation']][0]} {part['baseline']}: {what}{which}",
        with_interval(part["difference"], ends, measure, sign=True) if between(ends) else NONE,
        verdict(part),
        number(part.get("value"), measure),
        number(part.get("baseline_value"), measure),
        p_value(part.get("p")),
        number(part.get("margin"), measure),
        number(part.get("detectable"), measure),
    )


def _article(claim: dict[str, Any]) -> str:
    drawings = [_drawing(part) for part in claim["parts"]]
    marks = {
        (n, _HEADER.index("verdict")): (f"verdict {VERDICTS[part['verdict']][1]}", _RELATIONS[part["relation"]][1])
        for n, part in enumerate(claim["parts"])
    }
    inner = table(_grid(claim), drawn=("0 and margin", drawings), marks=marks) if claim["parts"] else ""
    return f'<article class="claim"><h4>{_badge(claim["verdict"])} {escape(claim["text"])}</h4>\n{inner}</article>\n'


def _drawing(part: dict[str, Any]) -> str:
    if not between(part.get("interval")):
        return ""
    margin, ends = part.get("margin") or 0.0, part["interval"]
    return whisker(part["difference"], ends, _REACH * margin or max(map(abs, ends)), margin)


def _badge(name: str) -> str:
    symbol, kind = VERDICTS[name]
    return f'<span class="verdict tag {kind}">{symbol} {name}</span>'


def _tally(claims: Sequence[dict[str, Any]]) -> str:
    counted = Counter(claim["verdict"] for claim in claims)
    return " · ".join(f"{counted[name]} {_badge(name)}" for name in VERDICTS if counted[name])


def _meanings(claims: Sequence[dict[str, Any]]) -> str:
    relations = dict.fromkeys(part["relation"] for claim in claims for part in claim["parts"])
    bounds = "; ".join(f"{_RELATIONS[one][0]}, if {_RELATIONS[one][1]}" for one in relations)
    found = {claim["verdict"] for claim in claims} | {part["verdict"] for claim in claims for part in claim["parts"]}
    terms = "".join(
        f"<dt>{_badge(name)}</dt><dd>{escape(text.format(bounds))}</dd>"
        for name, text in _MEANS.items()
        if name in found
    )
    return f'<dl class="says">{terms}</dl>\n'


def _notes(parts: Sequence[dict[str, Any]]) -> list[str]:
    lower = any(lower_is_better(part["measure"]) for part in parts)
    return [
        *bases(parts),
        *["Lower rank distances are better: there a difference below 0 is an improvement."] * lower,
        "Margin: the largest difference that still counts as equal. The drawings show margins as dashes, and end at "
        f"{_REACH} margins (arrow: a value beyond). Detectable: the smallest difference that a benchmark of this size "
        "finds four times in five.",
        "All intervals are 95 % intervals, without a correction for the number of claims: about one in twenty misses "
        "the true difference.",
    ]


def _sheet(claims: Sequence[dict[str, Any]]) -> Sheet:
    names = ("arm", "baseline", "setting", "measure", "languages", "relation", "value", "baseline_value", "difference")
    more = ("p", "detectable", "margin", "seeds", "over")
    rows = [
        (
            *(claim[key] for key in ("id", "source", "text", "verdict")),
            *(part.get(key) for key in names),
            *(part.get("interval") or (None, None)),
            *(part.get(key) for key in more),
            part.get("verdict"),
        )
        for claim in claims
        for part in claim["parts"] or [{}]
    ]
    return Sheet(
        "claims", ("claim", "source", "text", "verdict", *names, "low", "high", *more, "verdict_of_part"), rows
    )
