"""Tables for the screen, Markdown and CSV. Text from data is shown as it is, and never read as markup or formulas."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rich.console import Console, RenderableType
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
            "| " + " | ".join(row) + " |"
            for row in (map(plain, self.header), rule, *(map(plain, row) for row in self.rows))
        )
        return f"**{plain(self.title)}**\n\n" + "\n".join(lines) + "\n"


_MARKUP = re.compile(
    r"[|`*~]|\\(?=[!-/:-@\[-`{-~])"  # table cells, code, emphasis; a backslash that would escape
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis too, unless inside a word
    r"|\](?=[(\[:])|<(?=[A-Za-z/!?])|&(?=#?\w+;)"  # links and pictures, HTML, entities
)
_BLOCK = re.compile(r"[#>+=-]|\d+[.)]")


def plain(text: str) -> str:
    """Text that Markdown shows as it is: in a table cell or inside a line."""
    return _MARKUP.sub(lambda found: f"\\{found[0]}", " ".join(text.split("\n")).replace("\r", " "))


def notes(texts: Iterable[str]) -> str:
    """A list in Markdown, of texts that it shows as they are."""
    return "".join(f"- {paragraph(text)}\n" for text in texts)


def paragraph(text: str) -> str:
    """Text that Markdown shows as it is, where a line begins."""
    shown = plain(text).lstrip()
    found = _BLOCK.match(shown)
    return f"{shown[: found.end() - 1]}\\{shown[found.end() - 1 :]}" if found else shown


def inline(text: str) -> str:
    """A name or path as code inside a line of Markdown."""
    return plain(text) if "`" in text or "\n" in text else f"`{text}`"


def fenced(text: str, language: str) -> str:
    """A block of code in Markdown, whatever the text holds."""
    longest = max((len(ticks) for ticks in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def to_csv(rows: Iterable[Sequence[Any]]) -> str:
    """CSV of rows; what a spreadsheet would compute as a formula gets an apostrophe before it. Numbers stay."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_no_formula(cell) for cell in row] for row in rows)
    return text.getvalue()


def _no_formula(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    shown = cell.replace("\r", " ")  # the csv module does not quote it, and readers take it for the end of a row
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return shown
    with suppress(ValueError):
        float(cell)
        return shown
    return f"'{shown}"


def show(table: RenderableType | Grid) -> None:
    """Prints a table, 100 characters wide if the output is not a terminal."""
    table = table.to_rich() if isinstance(table, Grid) else table
    console = Console()
    (console if console.is_terminal else Console(width=100)).print(table)
