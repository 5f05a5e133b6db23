"""The table of results for the screen, and the sentences below comparisons."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import SETTINGS


def settings_of(results: Mapping[str, Any]) -> list[str]:
    """The settings to show: with passages in one language, all three are the same, and the first is shown alone."""
    one = len(results.get("languages", [])) < 2 and "mAP" not in results.get("crosslingual", {})
    return [name for name in SETTINGS if "mAP" in results.get(name, {})][: 1 if one else None]


def repeats_success(values: Iterable[Mapping[str, Any]]) -> bool:
    """Whether R@1 is success@1 in all these values, as it is where no query has several right answers."""
    return all(of.get("R@1") == of.get("success@1") for of in values)


def results_table(title: str, systems: dict[str, dict[str, Any]]) -> Table:
    """The main measures in each setting, below the name of each system (name -> results).

    80 columns are enough: a name too long for its column goes on in the next line. R@1 is left out where it is
    success@1.
    """
    rows = {
        system: [(setting, results[setting]) for setting in settings_of(results)] for system, results in systems.items()
    }
    values = [of for found in rows.values() for _, of in found]
    main = {name: one for name, one in MEASURES.items() if one.main and any(name in of for of in values)}
    if repeats_success(values):
        main.pop("R@1", None)
    table = Table(title=title, title_justify="left")
    table.add_column("", overflow="fold", min_width=max(map(len, SETTINGS)) + 2)
    for one in main.values():
        table.add_column(one.title, justify="right", min_width=max(map(len, one.title.split())))
    for system, found in rows.items():
        table.add_row(Text(system))
        for setting, of in found:
            cells = (f"{of[name]:.{one.digits}f}" if name in of else "" for name, one in main.items())
            table.add_row(f"  {setting}", *cells)
        table.add_section()
    return table


def bases(compared: Sequence[dict[str, Any]]) -> list[str]:
    """Sentences that say how intervals and p of differences are computed, and for which models they hold."""
    kinds: dict[tuple[str, int], list[str]] = {}
    for row in compared:
        names = kinds.setdefault((row["over"], row["seeds"]), [])
        if row["baseline"] not in names:
            names.append(row["baseline"])
    return [f"Against {', '.join(names)}: {_basis(*kind)}." for kind, names in kinds.items()]


def _basis(over: str, seeds: int) -> str:
    if over == "clusters":
        of = f"the mean of these {seeds} training seeds" if seeds > 1 else "these models as they are"
        return f"intervals resample clusters of questions, p is from a paired randomisation test over them, for {of}"
    found = f"intervals and p are from a t test over clusters of questions and {seeds} training seeds"
    if over == "clusters and seeds":
        return f"{found}, and hold for other seeds too"
    return f"{found} of one system; they hold for other seeds of that system, and for the one model of the other system"
