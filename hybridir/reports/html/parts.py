"""The small parts of a page: numbers as text, tables, and the CSV file behind a plot."""

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any
from urllib.parse import quote

from babel import Locale, UnknownLocaleError

from hybridir.evaluation.metrics import MEASURES
from hybridir.runtime.tables import Grid

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
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.header, *self.rows])
        return text.getvalue()

    def link(self) -> str:
        """A link that contains the whole CSV file, so that the page needs no other file."""
        data = quote(self.to_csv())
        return (
            f'<a class="csv" download="{self.name}.csv" href="data:text/csv;charset=utf-8,{data}">{self.name}.csv</a>'
        )


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading. `grids` and `notes` also go into `table.md`, `sheets` into `plots/`."""

    id: str
    title: str
    sentence: str
    body: str
    grids: Sequence[Grid] = ()
    sheets: Sequence[Sheet] = field(default=())
    notes: Sequence[str] = ()

    def to_html(self) -> str:
        """The section as HTML: heading, sentence, body."""
        return (
            f'<section aria-labelledby="{self.id}"><h2 id="{self.id}">{escape(self.title)}</h2>\n'
            f'<p class="lead">{escape(self.sentence)}</p>\n{self.body}</section>\n'
        )

    def to_markdown(self) -> str:
        """The tables, then the notes as a list; "" if there are none."""
        notes = "".join(f"- {note}\n" for note in self.notes)
        return "\n".join([*(grid.to_markdown() for grid in self.grids), *([notes] if notes else [])])


def title_of(measure: str) -> str:
    """The title of a measure; a validation metric keeps its name."""
    return MEASURES[measure].title if measure in MEASURES else measure


def lower_is_better(measure: str) -> bool:
    """Whether lower values of a measure, or of a validation metric, are better."""
    return measure == "loss" or (measure in MEASURES and MEASURES[measure].lower_is_better)


def direction(measures: Iterable[str]) -> str:
    """A sentence that says which of these measures are better if higher, and which if lower."""
    lower = [title_of(measure) for measure in measures if lower_is_better(measure)]
    return f"Higher is better{f', except for {listed(lower)}' if lower else ''}."


def listed(names: Sequence[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


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


def scroll(label: str, content: str) -> str:
    """A box that scrolls sideways independently of the page, also by keyboard."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{content}</div>\n'


def details(summary: str, content: str) -> str:
    """Content that is folded until the reader opens it."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}</details>\n"


def table(
    grid: Grid,
    grouped: bool = False,
    drawn: tuple[str, Sequence[str]] | None = None,
    marks: Mapping[tuple[int, int], Mark] | None = None,
) -> str:
    """A grid as HTML. Columns of words are aligned to the left, all others to the right.

    Args:
        grid: the texts of the cells; an interval after a value is shown below it.
        grouped: whether the first column holds the titles of groups of rows.
        drawn: heading and drawings (one per row) of an additional last column.
        marks: emphasis of cells, by row and column of the grid.
    """
    names = [*grid.header[grouped:], *([drawn[0]] if drawn else [])]
    columns = list(zip(*(row[grouped:] for row in grid.rows), strict=True))
    words = [any(map(_is_words, column)) for column in columns] + [False] * bool(drawn)
    head = "".join(
        f'<th scope="col"{_words(left)}>{escape(name)}</th>' for name, left in zip(names, words, strict=True)
    )
    lines: list[str] = []
    group = None
    for n, row in enumerate(grid.rows):
        if grouped and row[0] != group:
            group = row[0]
            close = "</tbody><tbody>" if lines else ""
            lines.append(
                f'{close}<tr class="group"><th scope="rowgroup" colspan="{len(names)}">'
                f"<span>{escape(group)}</span></th></tr>"
            )
        first, *rest = row[grouped:]
        drawing = f'<td class="drawn">{drawn[1][n]}</td>' if drawn else ""
        own = [(marks or {}).get((n, column)) for column in range(grouped + 1, len(row))]
        cells = "".join(map(_cell, rest, words[1:], own))
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}{drawing}</tr>')
    body = "\n".join(lines)
    caption = f"<caption><span>{escape(grid.title)}</span></caption>"
    html = f"<table>{caption}<thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table>"
    return scroll(grid.title, html)


def coded(code: str) -> str:
    """Name and code of a language."""
    return f"{language_name(code)} ({code})" if language_name(code) != code else code


def below(legend: str, sheet: Sheet) -> str:
    """The block below a plot: its legend, and a link to its numbers."""
    return f'<div class="below">{legend}<p>Numbers: {sheet.link()}</p></div>\n'


def _is_words(text: str) -> bool:
    return bool(text) and not re.match(r"[−+<]? ?[\d–]", text)


def _words(left: bool, mark: Mark | None = None) -> str:
    names = " ".join(["words"] * left + ([mark[0]] if mark else []))
    return (f' class="{names}"' if names else "") + (f' title="{escape(mark[1])}"' if mark else "")


def _cell(text: str, words: bool, mark: Mark | None) -> str:
    html = re.sub(r" (\[.*\])$", r' <span class="interval">\1</span>', escape(text))
    return f"<td{_words(words, mark)}>{html}</td>"
