"""Heat maps of query language by passage language."""

from math import ceil
from typing import Any

from hybridir.reports.html.parts import (
    Block,
    Section,
    Sheet,
    Systems,
    beside,
    between,
    coded,
    fold,
    known,
    note,
    number,
    numbers,
)
from hybridir.reports.html.plots import ORANGE_BLUE, ORANGE_BLUE_DARK, Cell, Scale, heat_map, limits

Pairs = dict[tuple[str, str], float]


def pairs(results: dict[str, Any], systems: Systems) -> Section | None:
    """Heat maps of query by passage language: mAP of every system, and the difference to the first baseline."""
    languages = results.get("languages", [])
    found = {name: values for name, one in systems.items() if (values := pair_values(results, one))}
    if len(languages) < 2 or results["encoder"] not in found:
        return None
    low, high = limits([value for values in found.values() for value in values.values()])
    scale = Scale((f"{low:.1f}", f"{high:.1f}"))

    def drawn(name: str) -> Block:
        rows = {
            coded(x): [_cell(found[name].get((x, y)), f"{x} → {y}", low, high) for y in languages] for x in languages
        }
        return heat_map(f"mAP of {name}", rows, languages, scale, "mAP")

    sheet = Sheet(
        "language_pairs",
        ("system", "query_language", "passage_language", "mAP"),
        [(name, *pair, value) for name, values in found.items() for pair, value in values.items()],
    )
    first, *others = found
    blocks = [drawn(first), numbers(sheet)]
    if others:
        blocks += _difference_map(results, others[0], found[first], found[others[0]])
        blocks.append(fold("The other systems, on the same scale", beside(*map(drawn, others)), opened=len(others) < 4))
    return Section(
        "pairs",
        "Language by language",
        "How well questions in one language (rows) find passages in another (columns), among the passages of that "
        "language alone. The diagonal is the monolingual setting.",
        blocks,
    )


def pair_values(results: dict[str, Any], system: dict[str, Any]) -> Pairs:
    """mAP of a system by (language of the question, language of the passages)."""
    codes, of = results.get("languages", []), system.get("per_pair", {})
    found = {(x, y): of.get(f"{x}-{y}", {}).get("mAP") for x in codes for y in codes}
    return {pair: value for pair, value in found.items() if known(value)}


def _cell(value: float | None, title: str, low: float, high: float) -> Cell:
    return Cell("", None) if value is None else Cell(_short(value), (value - low) / (high - low), title=title)


def _difference_map(results: dict[str, Any], baseline: str, after: Pairs, before: Pairs) -> list[Block]:
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
    sheet = Sheet(
        "language_pair_differences",
        ("query_language", "passage_language", "mAP", "baseline_mAP", "difference", "low", "high"),
        [
            (*pair, after[pair], before[pair], *((None,) * 3 if change[1] is None else change))
            for pair, change in both.items()
        ],
    )
    signed = [change[1] is not None for change in both.values()]
    encoder = results["encoder"]
    return [
        heat_map(f"{encoder} compared with {baseline}", rows, languages, scale, "difference in mAP", sheet),
        note(
            f"Blue: {encoder} is higher; orange: {baseline} is.",
            *["A cell with a sign holds the difference and its 95\u00a0% interval."] * any(signed),
            *[f"Other cells hold both values, {baseline} below."] * (not all(signed)),
            "Single pairs vary by chance, so look for patterns here, and for verdicts above.",
            told=False,
        ),
    ]


def _short(value: float, sign: bool = False) -> str:
    """A number without the 0 before the point, to fit into a cell."""
    return number(value, sign=sign).replace("0.", ".", 1) if abs(value) < 1 else number(value, sign=sign)
