"""Tables, for the screen and for Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Grid:
    """A table of strings; all columns but the first are right-aligned."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]

    def to_rich(self) -> Table:
        """The table for the screen."""
        table = Table(title=self.title, title_justify="left")
        for n, name in enumerate(self.header):
            table.add_column(name, justify="right" if n else "left")
        for row in self.rows:
            table.add_row(*map(Text, row))  # not str: rich reads brackets in a str as markup
        return table

    def to_markdown(self) -> str:
        """The table in Markdown, with the title above it."""
        rule = ["---", *["---:"] * (len(self.header) - 1)]
        lines = (
            "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
            for row in (self.header, rule, *self.rows)
        )
        return f"**{self.title}**\n\n" + "\n".join(lines) + "\n"


def show(table: Table | Grid) -> None:
    """Prints a table, 100 characters wide if the output is not a terminal."""
    table = table.to_rich() if isinstance(table, Grid) else table
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table)
