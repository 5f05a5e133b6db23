"""Is the encoder better than another system? Differences, always with their intervals."""

from collections.abc import Sequence
from html import escape
from typing import Any

from hybridir.evaluation.settings import SETTINGS
from hybridir.reports.html.parts import (
    SETTING_NAMES,
    Section,
    Sheet,
    below,
    between,
    coded,
    details,
    lower_is_better,
    number,
    p_value,
    table,
    title_of,
    with_interval,
)
from hybridir.reports.html.plots import whisker
from hybridir.reports.tables import bases
from hybridir.runtime.tables import Grid

ALPHA = 0.05


def comparisons(results: dict[str, Any]) -> Section | None:
    """Differences to the other systems, with a verdict if interval and test agree."""
    found = [one for one in results.get("comparisons", []) if between(one.get("interval"))]
    baselines = list(dict.fromkeys(one["baseline"] for one in found))
    found.sort(key=lambda one: (baselines.index(one["baseline"]), bool(one.get("language")), _place(one)))
    overall = [one for one in found if not one.get("language")]
    by_language = [one for one in found if one.get("language") in results.get("languages", [])]
    if not overall and not by_language:
        return None
    first = _comparison_grid("Differences, with 95\u00a0% intervals", overall)
    second = _comparison_grid("Differences by language of the question, with 95\u00a0% intervals", by_language)
    body = table(first, grouped=True, drawn=("against 0", _whiskers(overall))) if overall else ""
    if by_language:
        inner = table(second, grouped=True, drawn=("against 0", _whiskers(by_language)))
        body += details(f"By language of the question ({len(by_language)} comparisons)", inner)
    sheet = _comparison_sheet(found)
    told = _notes(found)
    body += below("", sheet) + f'<p class="note">{escape(" ".join(told))}</p>\n'
    return Section(
        "comparisons",
        "Comparisons",
        f"Is {results['encoder']} better than the others, or could the difference be chance?",
        body,
        [grid for grid, rows in ((first, overall), (second, by_language)) if rows],
        [sheet],
        told,
    )


def _notes(found: Sequence[dict[str, Any]]) -> list[str]:
    """Explanations of the columns."""
    missing = any(one.get("language") and one.get("p_holm") is None for one in found)
    return [
        *bases(found),
        "Holm p: p corrected for the number of languages, or pairs of languages, that were tested.",
        *["If the Holm p is missing, there are too few clusters for any p to pass the correction."] * missing,
        "Detectable: the smallest difference that a benchmark of this size finds four times in five.",
        "A verdict needs an interval without 0 and a p of at most .05; no verdict does not mean equal.",
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
        return "interval and test disagree"
    if not found:
        return ""
    better = (low > 0) != lower_is_better(one["measure"])
    doubt = ", not after Holm" if (one.get("p_holm") or 0) > ALPHA else ""
    return ("better" if better else "worse") + doubt


def _whiskers(found: Sequence[dict[str, Any]]) -> list[str]:
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
