"""The table of results for the screen, and the sentences below comparisons."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.settings import SETTINGS


def results_table(title: str, systems: dict[str, dict[str, Any]]) -> Table:
    """The main measures in each setting, for each system (name -> results)."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("setting")
    main = {name: one for name, one in MEASURES.items() if one.main}
    for one in main.values():
        table.add_column(one.title, justify="right")
    for system, results in systems.items():
        for setting in SETTINGS:
            if "mAP" not in (values := results[setting]):
                continue
            cells = [f"{values[name]:.{one.digits}f}" if name in values else "" for name, one in main.items()]
            table.add_row(system if setting == SETTINGS[0] else "", setting, *cells)
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
