"""The claims of a study with their verdicts, and the comparisons that decide them."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from hybridir.reports.html.parts import (
    NONE,
    SETTING_NAMES,
    Block,
    Section,
    Sheet,
    between,
    lower_is_better,
    note,
    number,
    numbers,
    p_value,
    render,
    table,
    terms,
    title_of,
    with_interval,
)
from hybridir.reports.html.plots import whisker
from hybridir.reports.tables import bases
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


def summary(results: dict[str, Any]) -> str:
    """The outcome of a study in a sentence."""
    claims = shown_claims(results)
    if not claims:
        return ""
    counted = Counter(claim["verdict"] for claim in claims)
    counts = " · ".join(f"{counted[name]} {VERDICTS[name][0]} {name}" for name in VERDICTS if counted[name])
    few = " With so few training seeds, the verdicts hold for these trained models only." * bool(_models_only(claims))
    return f"Claims: {counts}.{few}"


def ledger(results: dict[str, Any]) -> Section | None:
    """The claims, each with its verdict and the comparisons that decide it."""
    claims = shown_claims(results)
    if not claims:
        return None
    titles = results.get("sources", {})
    sources: dict[str, list[dict[str, Any]]] = {}
    for claim in claims:
        sources.setdefault(titles.get(claim["source"], claim["source"]), []).append(claim)
    articles = [(title, _tally(own), [_article(claim) for claim in own]) for title, own in sources.items()]
    rows = [(claim["text"], title, verdict(claim)) for title, own in sources.items() for claim in own]
    grids = [Grid("Claims", ("claim", "source", "verdict"), rows)]
    compared = [(claim["text"], *row) for claim in claims for row in _grid(claim).rows]
    grids += [Grid("Comparisons that decide the claims", ("claim", *_HEADER), compared)] * bool(compared)
    parts = [part for claim in claims for part in claim["parts"] if between(part.get("interval"))]
    hidden = [claim["text"] for claim in results["claims"] if claim not in claims]
    left_out = "Claims not shown, because arms or conditions of theirs were left out: " + " ".join(hidden)
    return Section(
        "claims",
        "Claims and verdicts",
        f"Where is {results['reference']} better, where is it not, and what do these numbers leave open?",
        [
            _meanings(claims),
            Block("claims.html", {"sources": articles}, grids),
            numbers(_sheet(claims)),
            *([note(*_notes(parts))] if parts else []),
            *([note(left_out)] if hidden else []),
        ],
    )


def shown_claims(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The claims without those that were not tested because an arm or a condition was left out."""
    there = {
        name for kind in ("arms", "conditions", "composed", "composed_conditions") for name in results.get(kind, ())
    }
    return [
        claim
        for claim in results.get("claims", [])
        if claim["verdict"] != "not tested" or {*claim.get("arms", ()), *claim.get("conditions", ())} <= there
    ]


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
    ours, theirs = part.get("condition", ""), part.get("baseline_condition", "")
    if ours != theirs:
        which += f" ({ours or 'plain'} against {theirs or 'plain'})"
    elif ours:
        which += f" ({ours})"
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


def _article(claim: dict[str, Any]) -> tuple[list[Markup], str, Block | None]:
    """The badges of a claim, its text, and the table of its comparisons."""
    badges = [_badge(claim["verdict"])]
    if only := _models_only([claim]):
        badges.append(_tag("untested", only))
    if not claim["parts"]:
        return badges, claim["text"], None
    drawings = [_drawing(part) for part in claim["parts"]]
    marks = {
        (n, _HEADER.index("verdict")): (f"verdict {VERDICTS[part['verdict']][1]}", _RELATIONS[part["relation"]][1])
        for n, part in enumerate(claim["parts"])
    }
    return badges, claim["text"], table(_grid(claim), drawn=("0 and margin", drawings), marks=marks)


def _models_only(claims: Sequence[dict[str, Any]]) -> str:
    """For which models the verdicts hold, if there were too few seeds to say anything about others; else ""."""
    seeds = {part["seeds"] for claim in claims for part in claim["parts"] if part.get("over") == "clusters"}
    return f"for these {'two' if seeds == {1} else 2 * max(seeds)} models only" if seeds else ""


def _drawing(part: dict[str, Any]) -> Markup | str:
    if not between(part.get("interval")):
        return ""
    margin, ends = part.get("margin") or 0.0, part["interval"]
    return whisker(part["difference"], ends, _REACH * margin or max(map(abs, ends)), margin)


def _badge(name: str) -> Markup:
    symbol, kind = VERDICTS[name]
    return _tag(kind, f"{symbol} {name}")


def _tag(kind: str, words: str) -> Markup:
    return Markup(render("badge.html", {"kind": kind, "words": words}))


def _tally(claims: Sequence[dict[str, Any]]) -> list[tuple[int, Markup]]:
    counted = Counter(claim["verdict"] for claim in claims)
    return [(counted[name], _badge(name)) for name in VERDICTS if counted[name]]


def _meanings(claims: Sequence[dict[str, Any]]) -> Block:
    relations = dict.fromkeys(part["relation"] for claim in claims for part in claim["parts"])
    bounds = "; ".join(f"{_RELATIONS[one][0]}, if {_RELATIONS[one][1]}" for one in relations)
    found = {claim["verdict"] for claim in claims} | {part["verdict"] for claim in claims for part in claim["parts"]}
    return terms({_badge(name): text.format(bounds) for name, text in _MEANS.items() if name in found})


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
    more = ("p", "detectable", "margin", "seeds", "over", "condition", "baseline_condition")
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
