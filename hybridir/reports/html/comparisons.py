"""Is the encoder better than another system? Differences, always with their intervals."""

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from hybridir.evaluation.settings import SETTINGS
from hybridir.reports.html.parts import (
    SETTING_NAMES,
    Section,
    Sheet,
    between,
    coded,
    fold,
    lower_is_better,
    note,
    number,
    numbers,
    p_value,
    table,
    title_of,
    with_interval,
)
from hybridir.reports.html.plots import whisker
from hybridir.reports.tables import bases, settings_of
from hybridir.runtime.tables import Grid
from hybridir.runtime.words import listed

ALPHA = 0.05
_DISAGREE = "interval and test disagree"
_WORDS = {"better than": ("better",), "worse than": ("worse",), "not distinguishable from": ("", _DISAGREE)}
"""What a sentence says, and the verdicts for which it says so."""
_DETECTABLE = "Detectable: the smallest difference that a benchmark of this size finds four times in five."
_NEEDS = "A verdict needs an interval without 0 and a p of at most .05; no verdict does not mean equal."
_SPOKEN = {"trained": "The trained model", "untrained": "the untrained one"}
"""What a sentence calls the systems of a training run."""


def comparisons(results: dict[str, Any]) -> Section | None:
    """Differences to the other systems, with a verdict if interval and test agree."""
    found = _compared(results)
    overall = [one for one in found if not one.get("language")]
    by_language = [one for one in found if one.get("language") in results.get("languages", [])]
    if not overall and not by_language:
        return None
    blocks = []
    if overall:
        grid = _comparison_grid("Differences, with 95\u00a0% intervals", overall)
        blocks.append(table(grid, grouped=True, drawn=("against 0", _whiskers(overall))))
    if by_language:
        grid = _comparison_grid("Differences by language of the question, with 95\u00a0% intervals", by_language)
        inner = table(grid, grouped=True, drawn=("against 0", _whiskers(by_language)))
        blocks.append(fold(f"By language of the question ({len(by_language)} comparisons)", inner))
    return Section(
        "comparisons",
        "Comparisons",
        "How far is it from the others, and could the difference be chance?",
        [*blocks, numbers(_comparison_sheet(found)), note(*_notes(found))],
    )


def verdicts(results: dict[str, Any]) -> list[str]:
    """A sentence against each other system: in which settings mAP is better, worse, or not distinguishable."""
    found = _overall(results)
    sentences = []
    for baseline in dict.fromkeys(one["baseline"] for one in found):
        parts: list[str] = []
        for name, words in _WORDS.items():
            own = [one for one in found if one["baseline"] == baseline and _verdict(one) in words]
            where = [f"{SETTING_NAMES[one['setting']].lower()} ({_difference(one)})" for one in own]
            other = "it" if parts else _SPOKEN.get(baseline, baseline)
            parts += [f"{name} {other} in {listed(where)} retrieval"] * bool(own)
        who = _SPOKEN.get(results["encoder"], results["encoder"])
        sentences.append(f"{who} is {listed(parts)}, by mAP, with 95\u00a0% intervals.")
    return sentences


def for_screen(results: dict[str, Any]) -> list[str]:
    """The sentences of `verdicts`, and in brackets what explains them."""
    found = _overall(results)
    legend = bases(found, p=False)
    legend += [_DETECTABLE] * (not all(map(_verdict, found)))
    legend += [_NEEDS] * (_DISAGREE in map(_verdict, found))
    return [*verdicts(results), *(f"({sentence.removesuffix('.')})" for sentence in legend)]


def _overall(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The differences in mAP over all languages."""
    return [one for one in _compared(results) if not one.get("language") and one["measure"] == "mAP"]


def _difference(one: dict[str, Any]) -> str:
    """The difference with its interval; where nothing is shown, with the smallest that could have been."""
    least = "" if _verdict(one) else f", detectable {number(one.get('detectable'), one['measure'])}"
    return with_interval(one["difference"], one["interval"], one["measure"], sign=True) + least


def _compared(results: dict[str, Any]) -> list[dict[str, Any]]:
    """The differences that have an interval, in settings that are shown: by system, the overall ones first."""
    shown = settings_of(results)
    found = [one for one in results.get("comparisons", []) if between(one.get("interval")) and one["setting"] in shown]
    baselines = list(dict.fromkeys(one["baseline"] for one in found))
    return sorted(found, key=lambda one: (baselines.index(one["baseline"]), bool(one.get("language")), _place(one)))


def _notes(found: Sequence[dict[str, Any]]) -> list[str]:
    """Explanations of the columns."""
    missing = any(one.get("language") and one.get("p_holm") is None for one in found)
    return [
        *bases(found),
        "Holm p: p corrected for the number of languages, or pairs of languages, that were tested.",
        *["If the Holm p is missing, there are too few clusters for any p to pass the correction."] * missing,
        _DETECTABLE,
        _NEEDS,
    ]


def _comparison_grid(title: str, found: Sequence[dict[str, Any]]) -> Grid:
    rows = []
    for one in found:
        measure = one["measure"]
        what = f"{SETTING_NAMES[one['setting']]}, {title_of(measure)}"
        against = f"Against {one['baseline']}"
        language = one.get("language")
        rows.append(
            (
                f"{against}: {what}" if language else against,
                coded(language) if language else what,
                with_interval(one["difference"], one["interval"], measure, sign=True),
                _verdict(one),
                number(one["value"], measure),
                number(one["baseline_value"], measure),
                p_value(one.get("p")),
                p_value(one.get("p_holm")),
                number(one.get("detectable"), measure),
            )
        )
    by_language = any(one.get("language") for one in found)
    header = (
        "compared with",
        "language" if by_language else "measure",
        "difference",
        "verdict",
        "value",
        "baseline",
        "p",
        "Holm p",
        "detectable",
    )
    return Grid(title, header, rows)


def _place(one: dict[str, Any]) -> tuple[int, str]:
    return SETTINGS.index(one["setting"]), one["measure"]


def _verdict(one: dict[str, Any]) -> str:
    """ "better" or "worse" if interval and test both find a difference, with a remark if Holm's p does not; or ""."""
    low, high = one["interval"]
    excluded, found = not low <= 0 <= high, one["p"] <= ALPHA
    if excluded != found:
        return _DISAGREE
    if not found:
        return ""
    better = (low > 0) != lower_is_better(one["measure"])
    doubt = ", not after Holm" if (one.get("p_holm") or 0) > ALPHA else ""
    return ("better" if better else "worse") + doubt


def _whiskers(found: Sequence[dict[str, Any]]) -> list[Markup]:
    """Drawings of the differences; those with the same baseline and measure have the same axis."""
    reach: dict[tuple[str, str], float] = {}
    for one in found:
        key = one["baseline"], one["measure"]
        reach[key] = max(reach.get(key, 0.0), *map(abs, one["interval"]))
    return [whisker(one["difference"], one["interval"], reach[one["baseline"], one["measure"]]) for one in found]


def _comparison_sheet(found: Sequence[dict[str, Any]]) -> Sheet:
    names = ("system", "baseline", "setting", "language", "measure", "value", "baseline_value", "difference")
    more = ("p", "p_holm", "detectable")
    rows = [(*(one.get(k) for k in names), *one["interval"], *(one.get(k) for k in more)) for one in found]
    return Sheet("comparisons", (*names, "low", "high", *more), rows)
