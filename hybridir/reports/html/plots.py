"""Drawings without a library: heat maps as tables with coloured cells, dots with whiskers and bars as SVG.

Colour-blind readers can distinguish the colours (viridis; blue and orange; Okabe and Ito 2008). Colour is never the
only sign: series have shapes, cells have numbers. Text in a cell is black or white, whichever has the higher contrast.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil, floor

from hybridir.reports.html.parts import Point, number, scroll

VIRIDIS = ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725")
ORANGE_BLUE = ("#b35900", "#e8903a", "#f8cfa3", "#f6f5f2", "#b7d3ec", "#5a9bd4", "#14568f")
ORANGE_BLUE_DARK = ("#f5a04a", "#b8651a", "#5e3a1a", "#24262a", "#1c3f5e", "#2a73ad", "#6cb5f2")
SHAPES = (
    '<circle r="4.2"/>',
    '<rect x="-3.8" y="-3.8" width="7.6" height="7.6"/>',
    '<path d="M0-5 4.8 3.8H-4.8Z"/>',
    '<path d="M0-5.4 5.4 0 0 5.4-5.4 0Z"/>',
    '<path d="M-4.8-3.8H4.8L0 5Z"/>',
)


@dataclass(frozen=True)
class Cell:
    """A cell of a heat map. `place` is its position on the colour scale, from 0 to 1; `None` is without colour."""

    text: str
    place: float | None
    small: str = ""
    title: str = ""


@dataclass(frozen=True)
class Scale:
    """A colour scale from the lowest value to the highest, for light and dark pages, with the texts at both ends."""

    ends: tuple[str, str]
    light: tuple[str, ...] = VIRIDIS
    dark: tuple[str, ...] = VIRIDIS

    def legend(self, says: str) -> str:
        """A colour bar with the texts at both ends."""
        bars = "".join(
            f'<i class="{mode}" style="background:linear-gradient(90deg,{",".join(colours)})"></i>'
            for mode, colours in (("light", self.light), ("dark", self.dark))
        )
        low, high = map(escape, self.ends)
        return f'<p class="scale">{escape(says)} <span><b>{low}</b>{bars}<b>{high}</b></span></p>\n'


def heat_map(
    caption: str, corner: str, rows: Mapping[str, Sequence[Cell]], columns: Sequence[str], scale: Scale
) -> str:
    """A table with coloured cells; `rows` holds the cells by name of the row."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    body = "\n".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(_field(cell, scale) for cell in cells)}</tr>'
        for name, cells in rows.items()
    )
    html = (
        f'<table class="heat"><caption><span>{escape(caption)}</span></caption>'
        f'<thead><tr><th scope="col">{escape(corner)}</th>{head}</tr></thead>\n<tbody>{body}</tbody></table>'
    )
    return scroll(caption, html)


def colour(place: float, stops: Sequence[str]) -> str:
    """The colour at `place` (0 to 1) between equally spaced stops."""
    where = min(max(place, 0), 1) * (len(stops) - 1)
    n = min(int(where), len(stops) - 2)
    pairs = zip(_rgb(stops[n]), _rgb(stops[n + 1]), strict=True)
    return "#" + "".join(f"{round(a + (where - n) * (b - a)):02x}" for a, b in pairs)


def ink(background: str) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2, always above 4.5 : 1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (v / 255 for v in _rgb(background))]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#fff"


def legend(names: Sequence[str], bars: bool = False) -> str:
    """The list of names with their marks, or with the colours of their bars."""
    draw = _swatch if bars else mark
    items = "".join(
        f'<li><svg width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">{draw(n)}</svg> {escape(name)}</li>'
        for n, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>\n'


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The round ends of an axis that holds all values (of a measure from 0 to 1), at least a tenth apart."""
    low = max(floor(min(values) * 10), 0) / 10
    return low, max(ceil(max(values) * 10) / 10, low + 0.1)


def dots(title: str, rows: Sequence[str], series: Sequence[Sequence[Point | None]], axis: tuple[float, float]) -> str:
    """A row for each name, with a point and whisker for each series below each other; `axis` is (start, end)."""
    left, right, top, step = 92, 348, 34, 10
    height = step * len(series) + 12
    bottom = top + height * len(rows)
    tenths = round((axis[1] - axis[0]) * 10)
    ticks = [axis[0] + n / 10 for n in range(0, tenths + 1, 1 if tenths <= 5 else 2)]

    def x(value: float) -> str:
        return f"{left + (value - axis[0]) / (axis[1] - axis[0]) * (right - left):.1f}"

    parts = [f'<text class="panel" x="{left}" y="14">{escape(title)}</text>']
    parts += [
        f'<rect class="band" x="0" y="{top + r * height}" width="360" height="{height}"/>'
        for r in range(0, len(rows), 2)
    ]
    parts += [
        f'<path class="line" d="M{x(tick)} {top}V{bottom}"/>'
        f'<text class="tick" x="{x(tick)}" y="{bottom + 16}">{tick:.1f}</text>'
        for tick in ticks
    ]
    for r, name in enumerate(rows):
        y = top + r * height
        parts.append(f'<text class="row" x="{left - 10}" y="{y + height / 2:.1f}">{escape(name)}</text>')
        for n, points in enumerate(series):
            if point := points[r]:
                parts.append(_point(point, x, y + 11 + n * step, n))
    return svg(f"{title}: values by language", 360, bottom + 24, "".join(parts))


def bars(title: str, rows: Sequence[str], series: Mapping[str, Sequence[float]]) -> str:
    """Shares in percent as horizontal bars, one per series in each row."""
    left, right, thick, gap = 74, 370, 13, 12
    most = max((value for values in series.values() for value in values), default=0) or 1
    height = thick * len(series) + gap
    parts = []
    for r, name in enumerate(rows):
        y = r * height + gap / 2
        parts.append(f'<text class="row" x="{left - 10}" y="{y + (height - gap) / 2:.1f}">{escape(name)}</text>')
        for n, values in enumerate(series.values()):
            width = values[r] / most * (right - left)
            at = y + n * thick
            parts.append(
                f'<rect class="bar s{n}" x="{left}" y="{at:.1f}" width="{width:.1f}" height="{thick - 2}"/>'
                f'<text class="value" x="{left + width + 6:.1f}" y="{at + thick / 2 - 1:.1f}">'
                f"{percent(values[r])}</text>"
            )
    return svg(title, 430, round(height * len(rows) + 4), "".join(parts))


def whisker(value: float, interval: Sequence[float], reach: float, margin: float = 0.0) -> str:
    """A difference and its interval, on an axis from -`reach` to `reach` with dashes at -`margin` and `margin`. A value
    beyond the axis is an arrow. The table shows the numbers beside it."""
    centre, half = 65, 58

    def x(at: float) -> str:
        return f"{centre + max(-1.0, min(1.0, at / (reach or 1))) * half:.1f}"

    kind = "clear" if interval[0] > 0 or interval[1] < 0 else "open"
    bounds = f'<path class="margin" d="M{x(-margin)} 1V19M{x(margin)} 1V19"/>' if margin else ""
    side = 5 if value > 0 else -5
    circle = f'<circle cx="{x(value)}" cy="10" r="4"/>'
    beyond = f'<path d="M{x(value)} 5l{side} 5l{-side} 5Z"/>'
    return (
        '<svg width="130" height="20" viewBox="0 0 130 20" aria-hidden="true">'
        f'<path class="zero" d="M{centre} 1V19"/>{bounds}<g class="{kind}">'
        f'<path class="whisker" d="M{x(interval[0])} 10H{x(interval[1])}"/>'
        f"{beyond if abs(value) > reach > 0 else circle}</g></svg>"
    )


def percent(share: float) -> str:
    """A share as the plots show it."""
    return f"{100 * share:.1f} %"


def svg(title: str, width: int, height: int, content: str) -> str:
    """An SVG drawing with a title."""
    size = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
    return f'<svg role="img" {size} aria-label="{escape(title)}"><title>{escape(title)}</title>{content}</svg>\n'


def mark(n: int) -> str:
    """Shape and colour of series n around (0, 0); the first 20 differ."""
    return f'<g class="mark s{n % 4}">{SHAPES[n % len(SHAPES)]}</g>'


def _swatch(n: int) -> str:
    return f'<rect class="bar s{n}" x="-5" y="-5" width="10" height="10"/>'


def _point(point: Point, x: Callable[[float], str], y: float, n: int) -> str:
    value, interval = point
    line = f'<path class="whisker s{n % 4}" d="M{x(interval[0])} {y}H{x(interval[1])}"/>' if interval else ""
    says = f"{number(value)}" + (f" [{number(interval[0])}, {number(interval[1])}]" if interval else "")
    return f'<g><title>{says}</title>{line}<g transform="translate({x(value)} {y})">{mark(n)}</g></g>'


def _field(cell: Cell, scale: Scale) -> str:
    small = f"<small>{escape(cell.small)}</small>" if cell.small else ""
    title = f' title="{escape(cell.title)}"' if cell.title else ""
    style = ""
    if cell.place is not None:
        light, dark = colour(cell.place, scale.light), colour(cell.place, scale.dark)
        style = f' style="--l:{light};--li:{ink(light)};--d:{dark};--di:{ink(dark)}"'
    return f"<td{style}{title}>{escape(cell.text)}{small}</td>"


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
