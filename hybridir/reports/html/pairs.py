"""Heat maps of query language by passage language."""

from html import escape
from math import ceil
from typing import Any

from hybridir.reports.html.parts import Section, Sheet, Systems, below, between, coded, known, number
from hybridir.reports.html.plots import ORANGE_BLUE, ORANGE_BLUE_DARK, Cell, Scale, heat_map, limits


def pairs(results: dict[str, Any], systems: Systems) -> Section | None:
    """Heat maps of query by passage language: mAP, and the difference to the first baseline."""
    languages = results.get("languages", [])
    values = _pair_values(results)
    if len(languages) < 2 or not values:
        return None
    low, high = limits(list(values.values()))
    scale = Scale((f"{low:.1f}", f"{high:.1f}"))
    rows = {coded(x): [_pair_cell(values.get((x, y)), f"{x} → {y}", low, high) for y in languages] for x in languages}
    sheet = Sheet("language_pairs", ("query_language", "passage_language", "mAP"), [(*k, v) for k, v in values.items()])
    body = heat_map(f"mAP of {results['encoder']}", "question ↓ passage →", rows, languages, scale)
    body += below(scale.legend("mAP"), sheet)
    sheets = [sheet]
    others = [name for name in systems if name != results["encoder"]]
    if others and (before := _pair_values(systems[others[0]])):
        html, sheet = _difference_map(results, others[0], values, before)
        body, sheets = body + html, [*sheets, sheet]
    return Section(
        "pairs",
        "Language by language",
        "How well questions in one language (rows) find passages in another (columns), among the passages of that "
        "language alone. The diagonal is the monolingual setting.",
        body,
        sheets=sheets,
    )


def _pair_values(results: dict[str, Any]) -> dict[tuple[str, str], float]:
    pairs = results.get("per_pair", {})
    codes = results.get("languages") or sorted({part for pair in pairs for part in pair.split("-")})
    found = {(x, y): pairs.get(f"{x}-{y}", {}).get("mAP") for x in codes for y in codes}
    return {pair: value for pair, value in found.items() if known(value)}


def _pair_cell(value: float | None, title: str, low: float, high: float) -> Cell:
    return Cell("", None) if value is None else Cell(_short(value), (value - low) / (high - low), title=title)


def _difference_map(
    results: dict[str, Any], baseline: str, after: dict[tuple[str, str], float], before: dict[tuple[str, str], float]
) -> tuple[str, Sheet]:
    """A heat map of differences. A cell shows the difference if it has an interval, else both values."""
    compared = {
        (one["language"], one["setting"]): (one["difference"], *one["interval"])
        for one in results.get("comparisons", [])
        if (one["baseline"], one["measure"]) == (baseline, "mAP") and between(one.get("interval"))
    }

    def difference(x: str, y: str) -> tuple[float, float | None, float | None]:
        """The difference in mAP, with the ends of its interval if there is one."""
        key = (x, "monolingual") if x == y else (f"{x}-{y}", "crosslingual")
        return compared.get(key, (after[x, y] - before[x, y], None, None))

    both = {pair: difference(*pair) for pair in after if pair in before}
    reach = ceil(max((abs(change[0]) for change in both.values()), default=0) * 20) / 20 or 0.05
    scale = Scale((f"−{reach:.2f}", f"+{reach:.2f}"), ORANGE_BLUE, ORANGE_BLUE_DARK)

    def cell(x: str, y: str) -> Cell:
        if (x, y) not in both:
            return Cell("", None)
        change, low, high = both[x, y]
        title = f"{x} → {y}: {number(after[x, y])}, {baseline} {number(before[x, y])}"
        place = 0.5 + change / (2 * reach)
        if low is None or high is None:
            return Cell(_short(after[x, y]), place, _short(before[x, y]), title)
        return Cell(_short(change, True), place, f"{_short(low)} {_short(high)}", title)

    languages = results["languages"]
    rows = {coded(x): [cell(x, y) for y in languages] for x in languages}
    caption = f"{results['encoder']} compared with {baseline}"
    sheet = Sheet(
        "language_pair_differences",
        ("query_language", "passage_language", "mAP", "baseline_mAP", "difference", "low", "high"),
        [
            (*pair, after[pair], before[pair], *((None,) * 3 if change[1] is None else change))
            for pair, change in both.items()
        ],
    )
    signed = [change[1] is not None for change in both.values()]
    says = "A cell with a sign holds the difference and its 95\u00a0% interval. " if any(signed) else ""
    says += "" if all(signed) else f"Other cells hold both values, {escape(baseline)} below. "
    note = (
        f'<p class="note">Blue: {escape(results["encoder"])} is higher; orange: {escape(baseline)} is. {says}'
        "Single pairs vary by chance, so look for patterns here, and for verdicts above.</p>\n"
    )
    return heat_map(caption, "question ↓ passage →", rows, languages, scale) + below(
        scale.legend("difference in mAP"), sheet
    ) + note, sheet


def _short(value: float, sign: bool = False) -> str:
    """A number without the 0 before the point, to fit into a cell."""
    return number(value, sign=sign).replace("0.", ".", 1) if abs(value) < 1 else number(value, sign=sign)
