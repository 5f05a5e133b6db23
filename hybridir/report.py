"""Tables, for the screen and for Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from hybridir.evaluate import SETTINGS

COLUMNS = ("mAP", "R@1", "R@10", "success@1")


@dataclass(frozen=True)
class Grid:
    """A table of texts; all columns but the first are aligned to the right."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def to_rich(self) -> Table:
        """For the screen."""
        table = Table(title=self.title, title_justify="left")
        for n, name in enumerate(self.header):
            table.add_column(name, justify="right" if n else "left")
        for row in self.rows:
            table.add_row(*map(Text, row))  # as they are: brackets in a string would be read as markup
        return table

    def to_markdown(self) -> str:
        """With the title above."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        lines = (
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
            for row in (self.header, rule, *self.rows)
        )
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n"


def results_table(title: str, systems: dict[str, dict[str, Any]]) -> Table:
    """Settings by measure for each system (name -> results), with the rank distance of the pooled setting."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("setting")
    for name in (*COLUMNS, "rank distance"):
        table.add_column(name, justify="right")
    for system, results in systems.items():
        for setting in SETTINGS:
            if "mAP" not in (values := results[setting]):
                continue
            cells = [f"{values[name]:.3f}" for name in COLUMNS]
            distance = f"{values['rank_distance']:.0f}" if "rank_distance" in values else ""
            table.add_row(system if setting == SETTINGS[0] else "", setting, *cells, distance)
        table.add_section()
    return table


def bases(compared: Sequence[dict[str, Any]]) -> list[str]:
    """What intervals and p of differences rest on, and for which models they hold: a sentence for each kind."""
    kinds: dict[tuple[str, int], list[str]] = {}
    for row in compared:
        names = kinds.setdefault((row["over"], row["seeds"]), [])
        if row["baseline"] not in names:
            names.append(row["baseline"])
    return [f"Against {', '.join(names)}: {_basis(*kind)}." for kind, names in kinds.items()]


def _basis(over: str, seeds: int) -> str:
    if over == "clusters":
        of = f"the mean of these {seeds} training seeds" if seeds > 1 else "these models as they are"
        return f"intervals resample clusters of questions, p is of a paired randomisation test over them, for {of}"
    found = f"intervals and p are of a t test over clusters of questions and {seeds} training seeds"
    if over == "clusters and seeds":
        return f"{found}, and hold for other seeds too"
    return (
        f"{found} of one system; they hold for its other seeds too, and for this one model of the system with one seed"
    )


def show(table: Table | Grid) -> None:
    """Prints a table, 100 columns wide where the output is not a terminal."""
    table = table.to_rich() if isinstance(table, Grid) else table
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table)
