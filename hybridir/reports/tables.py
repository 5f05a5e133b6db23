"""The table of results for the screen, and the sentences below comparisons."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import SETTINGS

_FIRST_K = re.compile(r"(?:R|success)@(?!1$)\d+")
"""Measures that are 1 if all right answers, or one, are among the first k, for k above 1."""
_FIRST, _FRAME = max(map(len, SETTINGS)) + 2, 3
"""Columns of the screen: of the names of settings, which are indented, and of what frames a cell."""


def settings_of(results: Mapping[str, Any]) -> list[str]:
    """The settings to show: with passages in one language, all three are the same, and the first is shown alone."""
    one = len(results.get("languages", [])) < 2 and "mAP" not in results.get("crosslingual", {})
    return [name for name in SETTINGS if "mAP" in results.get(name, {})][: 1 if one else None]


def left_out(values: Iterable[Mapping[str, Any]]) -> tuple[set[str], str]:
    """The measures that tell nothing in a table of these values, and a sentence about them; "" if it needs none.

    R@1 where it is success@1, as no query has several right answers. And R@k and success@k, k above 1, that are 1 for
    every system: so they are for any system, where k reaches the number of passages that are searched.
    """
    values = list(values)
    found = {name: {of[name] for of in values if of.get(name) is not None} for name in MEASURES}
    full = [name for name in found if _FIRST_K.fullmatch(name) and found[name] == {1.0}]
    repeated = {"R@1"} if all(of.get("R@1") == of.get("success@1") for of in values) else set()
    note = f"Left out, as 1 for every system in every setting: {', '.join(MEASURES[name].title for name in full)}."
    return {*full, *repeated}, note if full else ""


@dataclass(frozen=True)
class ResultsTable:
    """The main measures in each setting, below the name of each system (name -> results), for the screen.

    80 columns are enough: a name too long for its column goes on in the next line, and measures that have no room
    beside the others stand in a further table. Without those of `left_out`.
    """

    title: str
    systems: Mapping[str, Mapping[str, Any]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows = {
            system: [(setting, results[setting]) for setting in settings_of(results)]
            for system, results in self.systems.items()
        }
        values = [of for found in rows.values() for _, of in found]
        main = [{name: of[name] for name, one in MEASURES.items() if one.main and name in of} for of in values]
        out, told = left_out(main)
        shown = [name for name in MEASURES if name not in out and any(name in of for of in main)]
        title = self.title
        for names in _side_by_side({name: _width(name, values) for name in shown}, options.max_width):
            yield _table(title, rows, names)
            title = f"{self.title}, further measures"
        if told:
            yield Text(told)


def _table(title: str, rows: Mapping[str, Sequence[tuple[str, Mapping[str, float]]]], names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold", min_width=_FIRST)
    for name in names:
        title = MEASURES[name].title
        table.add_column(title, justify="right", min_width=max(map(len, title.split())))
    for system, found in rows.items():
        table.add_row(Text(system))
        for setting, of in found:
            table.add_row(f"  {setting}", *(_cell(of, name) for name in names))
        table.add_section()
    return table


def _cell(of: Mapping[str, float], name: str) -> str:
    return f"{of[name]:.{MEASURES[name].digits}f}" if name in of else ""


def _width(name: str, values: Iterable[Mapping[str, float]]) -> int:
    return max(map(len, [*MEASURES[name].title.split(), *(_cell(of, name) for of in values)]))


def _side_by_side(widths: Mapping[str, int], most: int) -> list[list[str]]:
    """The measures, in order, that fit beside one another in a table of at most so many columns."""
    tables: list[list[str]] = []
    room = 0
    for name, width in widths.items():
        room -= width + _FRAME
        if room < 0:
            tables.append([])
            room = most - _FIRST - _FRAME - 1 - width - _FRAME
        tables[-1].append(name)
    return tables


def bases(compared: Sequence[dict[str, Any]], p: bool = True) -> list[str]:
    """Sentences that say how intervals (and `p`) of differences are computed, and for which models they hold."""
    kinds: dict[tuple[str, int], list[str]] = {}
    for row in compared:
        names = kinds.setdefault((row["over"], row["seeds"]), [])
        if row["baseline"] not in names:
            names.append(row["baseline"])
    return [f"Against {', '.join(names)}: {_basis(*kind, p)}." for kind, names in kinds.items()]


def _basis(over: str, seeds: int, p: bool) -> str:
    if over == "clusters":
        of = f"the mean of these {seeds} training seeds" if seeds > 1 else "these models as they are"
        test = ", p is from a paired randomisation test over them" * p
        return f"intervals resample clusters of questions{test}, for {of}"
    found = f"intervals{' and p' * p} are from a t test over clusters of questions and {seeds} training seeds"
    if over == "clusters and seeds":
        return f"{found}, and hold for other seeds too"
    return f"{found} of one system; they hold for other seeds of that system, and for the one model of the other system"
