"""Drawings without a library: heat maps as tables with coloured cells, dots with whiskers and bars as SVG.

Colour-blind readers can distinguish the colours (viridis; blue and orange; Okabe and Ito 2008). Colour is never the
only sign: series have shapes, cells have numbers. Text in a cell is black or white, whichever has the higher contrast.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import Any

from markupsafe import Markup

from hybridir.reports.html.parts import Block, Point, Sheet, between, number

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

    def style(self, place: float) -> str:
        """The colours of a cell at `place`, and of its text, on light and dark pages, as variables for CSS."""
        light, dark = colour(place, self.light), colour(place, self.dark)
        return f"--l:{light};--li:{ink(light)};--d:{dark};--di:{ink(dark)}"


def heat_map(
    caption: str,
    rows: Mapping[str, Sequence[Cell]],
    columns: Sequence[str],
    scale: Scale,
    says: str,
    sheet: Sheet | None = None,
    corner: str = "question ↓ passage →",
) -> Block:
    """A table with coloured cells, its scale with the words `says`, and a link to its numbers.

    `rows` holds the cells by name of the row; `corner` says what rows and columns are.
    """
    values = {"caption": caption, "rows": rows, "columns": columns, "scale": scale, "says": says, "sheet": sheet}
    values["corner"] = corner
    return Block("heat_map.html", values, sheets=[sheet] if sheet else ())


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


def draw(shape: str, *values: Any, **named: Any) -> Markup:
    """A piece of SVG, or several; all values in it are escaped."""
    return Markup(shape).format(*values, **named)


def legend(names: Sequence[str], bars: bool = False) -> Markup:
    """The list of names with their marks, or with the colours of their bars."""
    sign = _swatch if bars else mark
    shape = '<li><svg width="14" height="14" viewBox="-7 -7 14 14" aria-hidden="true">{}</svg> {}</li>'
    return draw('<ul class="legend">{}</ul>\n', Markup("").join(draw(shape, sign(n), x) for n, x in enumerate(names)))


def limits(values: Sequence[float]) -> tuple[float, float]:
    """The round ends of an axis that holds all values (of a measure from 0 to 1), at least a tenth apart."""
    low = max(floor(min(values) * 10), 0) / 10
    return low, max(ceil(max(values) * 10) / 10, low + 0.1)


def dots(
    title: str, rows: Sequence[str], series: Sequence[Sequence[Point | None]], ends: tuple[float, float]
) -> Markup:
    """A row for each name, with a point and whisker for each series below each other; the axis goes between `ends`."""
    left, right, top, step = 92, 348, 34, 10
    height = step * len(series) + 12
    bottom = top + height * len(rows)
    tenths = round((ends[1] - ends[0]) * 10)
    ticks = [ends[0] + n / 10 for n in range(0, tenths + 1, 1 if tenths <= 5 else 2)]

    def x(value: float) -> float:
        return left + (value - ends[0]) / (ends[1] - ends[0]) * (right - left)

    parts = [draw('<text class="panel" x="{}" y="14">{}</text>', left, title)]
    band = '<rect class="band" x="0" y="{}" width="360" height="{}"/>'
    parts += [draw(band, top + r * height, height) for r in range(0, len(rows), 2)]
    line = '<path class="line" d="M{0:.1f} {1}V{2}"/><text class="tick" x="{0:.1f}" y="{3}">{4:.1f}</text>'
    parts += [draw(line, x(tick), top, bottom, bottom + 16, tick) for tick in ticks]
    for r, name in enumerate(rows):
        y = top + r * height
        parts.append(draw('<text class="row" x="{}" y="{:.1f}">{}</text>', left - 10, y + height / 2, name))
        parts += [_point(at, x, y + 11 + n * step, n) for n, points in enumerate(series) if (at := points[r])]
    return svg(f"{title}: values by language", 360, bottom + 24, parts)


def bars(title: str, rows: Sequence[str], series: Mapping[str, Sequence[float]]) -> Markup:
    """Shares in percent as horizontal bars, one per series in each row."""
    left, right, thick, gap = 74, 370, 13, 12
    most = max((value for values in series.values() for value in values), default=0) or 1
    height = thick * len(series) + gap
    bar = '<rect class="bar s{}" x="{}" y="{:.1f}" width="{:.1f}" height="{}"/>'
    parts = []
    for r, name in enumerate(rows):
        y = r * height + gap / 2
        parts.append(draw('<text class="row" x="{}" y="{:.1f}">{}</text>', left - 10, y + (height - gap) / 2, name))
        for n, values in enumerate(series.values()):
            width, at = values[r] / most * (right - left), y + n * thick
            parts.append(draw(bar, n, left, at, width, thick - 2))
            value = '<text class="value" x="{:.1f}" y="{:.1f}">{}</text>'
            parts.append(draw(value, left + width + 6, at + thick / 2 - 1, percent(values[r])))
    return svg(title, 430, round(height * len(rows) + 4), parts)


def whisker(value: float, interval: Sequence[float], reach: float, margin: float = 0.0) -> Markup:
    """A difference and its interval, on an axis from -`reach` to `reach` with dashes at -`margin` and `margin`. A value
    beyond the axis is an arrow. The table shows the numbers beside it."""
    centre, half = 65, 58

    def x(at: float) -> float:
        return centre + max(-1.0, min(1.0, at / (reach or 1))) * half

    kind = "clear" if interval[0] > 0 or interval[1] < 0 else "open"
    bounds = draw('<path class="margin" d="M{:.1f} 1V19M{:.1f} 1V19"/>', x(-margin), x(margin)) if margin else ""
    side = 5 if value > 0 else -5
    beyond = abs(value) > reach > 0
    shape = '<path d="M{0:.1f} 5l{1} 5l{2} 5Z"/>' if beyond else '<circle cx="{0:.1f}" cy="10" r="4"/>'
    return draw(
        '<svg width="130" height="20" viewBox="0 0 130 20" aria-hidden="true"><path class="zero" d="M{} 1V19"/>{}'
        '<g class="{}"><path class="whisker" d="M{:.1f} 10H{:.1f}"/>{}</g></svg>',
        *(centre, bounds, kind, x(interval[0]), x(interval[1]), draw(shape, x(value), side, -side)),
    )


def percent(share: float) -> str:
    """A share as the plots show it."""
    return f"{100 * share:.1f} %"


def svg(title: str, width: int, height: int, content: Sequence[Markup]) -> Markup:
    """An SVG drawing with a title."""
    return draw(
        '<svg role="img" width="{0}" height="{1}" viewBox="0 0 {0} {1}" aria-label="{2}"><title>{2}</title>{3}</svg>\n',
        *(width, height, title, Markup("").join(content)),
    )


def mark(n: int) -> Markup:
    """Shape and colour of series n around (0, 0); the first 20 differ."""
    return draw('<g class="mark s{}">{}</g>', n % 4, Markup(SHAPES[n % len(SHAPES)]))


def _swatch(n: int) -> Markup:
    return draw('<rect class="bar s{}" x="-5" y="-5" width="10" height="10"/>', n)


def _point(at: Point, x: Callable[[float], float], y: float, n: int) -> Markup:
    value, ends = at
    line = draw('<path class="whisker s{}" d="M{:.1f} {}H{:.1f}"/>', n % 4, x(ends[0]), y, x(ends[1])) if ends else ""
    shape = '<g><title>{}</title>{}<g transform="translate({:.1f} {})">{}</g></g>'
    return draw(shape, f"{number(value)} {between(ends)}".rstrip(), line, x(value), y, mark(n))


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
