"""Tables for the screen."""

from typing import Any

from rich.console import Console
from rich.table import Table

from hybridir.evaluate import SETTINGS

COLUMNS = ("mAP", "R@1", "R@10", "success@1")


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


def show(table: Table) -> None:
    """Prints a table, 100 columns wide where the output is not a terminal."""
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table)
