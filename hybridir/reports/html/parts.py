"""The small parts of a page: blocks that templates show, numbers as text, and the CSV file behind a plot."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any
from urllib.parse import quote

from babel import Locale, UnknownLocaleError
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from hybridir.evaluation.metrics import MEASURES
from hybridir.runtime.tables import Grid, notes, to_csv
from hybridir.runtime.words import listed

NONE = "–"
SETTING_NAMES = {"monolingual": "Monolingual", "crosslingual": "Cross-lingual", "multilingual": "Multilingual"}
Systems = dict[str, dict[str, Any]]
"""Results by name of the system; the one that the page is about comes first."""
Point = tuple[float, Sequence[float] | None]
"""A value and its interval, or None."""
Mark = tuple[str, str]
"""The emphasis of a table cell: its CSS class, and its title in words."""


@dataclass(frozen=True)
class Sheet:
    """The numbers behind a plot in full precision, for a CSV file; `None` is an empty cell."""

    name: str
    header: tuple[str, ...]
    rows: Sequence[tuple[Any, ...]]

    def to_csv(self) -> str:
        """The content of the CSV file, with a header line."""
        return to_csv([self.header, *self.rows])

    @property
    def address(self) -> str:
        """An address that contains the whole CSV file, so that the page needs no other file."""
        return f"data:text/csv;charset=utf-8,{quote(self.to_csv())}"


@dataclass(frozen=True)
class Block:
    """A piece of a page: a template and its values. `told` goes into `table.md`, `sheets` into `plots/`."""

    template: str
    values: Mapping[str, Any]
    told: Sequence[Grid | str] = ()
    sheets: Sequence[Sheet] = ()

    def __html__(self) -> str:
        return render(self.template, self.values)


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    id: str
    title: str
    sentence: str
    blocks: Sequence[Block]


def to_markdown(blocks: Sequence[Block]) -> str:
    """The tables of blocks, then their notes as a list; "" if there are none."""
    told = [one for block in blocks for one in block.told]
    listed = notes(one for one in told if isinstance(one, str))
    return "\n".join([*(one.to_markdown() for one in told if isinstance(one, Grid)), *([listed] if listed else [])])


def render(template: str, values: Mapping[str, Any]) -> str:
    """A template of this package with its values; all text in them is escaped."""
    return _templates().get_template(template).render(values)


@cache
def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("hybridir.reports.html"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"language_name": language_name, "number": number}
    return found


def note(*texts: str, told: bool = True, style: str = "note") -> Block:
    """A paragraph of sentences."""
    return Block("note.html", {"texts": texts, "style": style}, texts if told else ())


def bullets(texts: Sequence[str], style: str = "") -> Block:
    """A list of notes; nothing if there are none."""
    return Block("bullets.html", {"texts": texts, "style": style}, texts)


def terms(said: Mapping[Any, str], told: bool = False, style: str = "says") -> Block:
    """Terms (or blocks) and what is to be said about them."""
    return Block("terms.html", {"said": said, "style": style}, [f"{k}: {v}" for k, v in said.items()] if told else ())


def fold(summary: str, *blocks: Block, opened: bool = False) -> Block:
    """Blocks that are folded until the reader opens them."""
    return _around("fold.html", blocks, {"summary": summary, "opened": opened})


def beside(*blocks: Block, style: str = "panels wide") -> Block:
    """Blocks in a box: side by side, or of another style."""
    return _around("beside.html", blocks, {"style": style})


def figure(drawing: Markup | str, caption: str = "", legend: Markup | str = "", sheet: Sheet | None = None) -> Block:
    """A drawing with its caption, its legend, and a link to its numbers."""
    values = {"drawing": drawing, "caption": caption, "legend": legend, "sheet": sheet}
    return Block("figure.html", values, sheets=[sheet] if sheet else ())


def numbers(sheet: Sheet) -> Block:
    """A link to the numbers of the plots above."""
    return Block("numbers.html", {"sheet": sheet, "legend": ""}, sheets=[sheet])


def table(
    grid: Grid,
    grouped: bool = False,
    drawn: tuple[str, Sequence[Markup | str]] | None = None,
    marks: Mapping[tuple[int, int], Mark] | None = None,
) -> Block:
    """A grid as a table, without columns that have no values. Columns of words are aligned to the left.

    Args:
        grid: the texts of the cells; an interval after a value is shown below it.
        grouped: whether the first column holds the titles of groups of rows.
        drawn: heading and drawings (one per row) of an additional last column.
        marks: emphasis of cells, by row and column of the grid.
    """
    first = int(grouped)
    there = [n for n in range(len(grid.header)) if n <= first or any(row[n] not in ("", NONE) for row in grid.rows)]
    words = {n: any(_is_words(row[n]) for row in grid.rows) for n in there}

    def cell(row: int, column: int) -> dict[str, str]:
        name, title = (marks or {}).get((row, column), ("", ""))
        value, interval = re.fullmatch(r"(.*?)(?: (\[.*\]))?", grid.rows[row][column], re.DOTALL).groups("")  # type: ignore[union-attr]
        kind = " ".join(filter(None, ("words" * words[column], name)))
        return {"text": value, "interval": interval, "kind": kind, "title": title}

    rows = [
        {
            "group": row[0] if grouped else "",
            "name": row[first],
            "cells": [cell(n, column) for column in there if column > first],
            "drawing": drawn[1][n] if drawn else "",
        }
        for n, row in enumerate(grid.rows)
    ]
    head = [(grid.header[n], words[n]) for n in there if n >= first]
    values = {
        "caption": grid.title,
        "head": head,
        "drawn": drawn[0] if drawn else "",
        "groups": [(title, list(own)) for title, own in groupby(rows, key=lambda row: row["group"])],
    }
    kept = Grid(grid.title, tuple(grid.header[n] for n in there), [tuple(row[n] for n in there) for row in grid.rows])
    return Block("table.html", values, [kept])


def title_of(measure: str) -> str:
    """The title of a measure; one that another version wrote keeps its name."""
    return MEASURES[measure].title if measure in MEASURES else measure


def directed(title: str, lower: bool) -> str:
    """A title that says so if lower values are better."""
    return f"{title} (lower is better)" if lower else title


def lower_is_better(measure: str) -> bool:
    """Whether lower values of a measure are better."""
    return measure in MEASURES and MEASURES[measure].lower_is_better


def best_of(values: Iterable[float], measure: str) -> float:
    """The best of the values of a measure."""
    return (min if lower_is_better(measure) else max)(values)


def direction(measures: Iterable[str]) -> str:
    """A sentence that says which of these measures are better if higher, and which if lower."""
    lower = list(dict.fromkeys(title_of(measure) for measure in measures if lower_is_better(measure)))
    return f"Higher is better{f', except for {listed(lower)}' if lower else ''}."


def known(value: float | None) -> bool:
    """Whether there is a value, and it is finite."""
    return value is not None and math.isfinite(value)


def number(value: float | None, measure: str = "mAP", sign: bool = False) -> str:
    """A value as the page shows it, with the decimals of its measure."""
    if value is None or not math.isfinite(value):
        return NONE
    digits = MEASURES[measure].digits if measure in MEASURES else 3
    text = f"{value:{'+' if sign else ''},.{digits}f}"
    return text.replace("-", "−")


def p_value(value: float | None) -> str:
    """A p-value with three decimals; the smallest as "< 0.001"."""
    return NONE if value is None or not known(value) else "< 0.001" if value < 0.001 else f"{value:.3f}"


def between(interval: Sequence[float] | None, measure: str = "mAP", sign: bool = False) -> str:
    """An interval in brackets; "" if there is none."""
    if not interval or not all(map(known, interval)):
        return ""
    return f"[{', '.join(number(end, measure, sign) for end in interval)}]"


def with_interval(value: float | None, interval: Sequence[float] | None, measure: str, sign: bool = False) -> str:
    """`value [low, high]`, or the value alone."""
    return f"{number(value, measure, sign)} {between(interval, measure, sign)}".rstrip()


def point(values: Mapping[str, Any], intervals: Mapping[str, Any], setting: str, measure: str = "mAP") -> Point | None:
    """A value of `{setting: {measure: value}}` with its interval, if there is one; `None` without a value."""
    value, ends = (of.get(setting, {}).get(measure) for of in (values, intervals))
    return (value, ends if between(ends) else None) if value is not None and known(value) else None


def point_text(found: Point | None, measure: str = "mAP") -> str:
    """`value [low, high]`, or a dash."""
    return with_interval(*found, measure) if found else NONE


def language_name(code: str) -> str:
    """The English name of a language, or its code if CLDR has no name for it."""
    try:
        return Locale.parse(code, sep="-" if "-" in code else "_").get_display_name("en") or code
    except (UnknownLocaleError, ValueError):
        return code


def coded(code: str) -> str:
    """Name and code of a language."""
    return f"{language_name(code)} ({code})" if language_name(code) != code else code


def _around(template: str, blocks: Sequence[Block], values: dict[str, Any]) -> Block:
    told = [one for block in blocks for one in block.told]
    return Block(template, values | {"blocks": blocks}, told, [one for block in blocks for one in block.sheets])


def _is_words(text: str) -> bool:
    return bool(text) and not re.match(r"[−+<]? ?[\d–]", text)
