"""Plots on two axes as SVG, without a library: points with whiskers, lines with bands, slopes.

Colours repeat after four, shapes after five: a series is identified by the name at its point or line end, and by its
shape or dashes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product
from math import ceil, floor, log10

from markupsafe import Markup

from hybridir.reports.html.parts import Point, between, number
from hybridir.reports.html.plots import draw, mark, svg

DASHES = ("", "7 3", "2 3", "9 3 2 3", "4 2 1 2 1 2")
_WIDTH, _TOP, _BOTTOM, _LEFT, _RIGHT = 480, 36, 356, 56, 460
_GUTTER = 138
"""The width that is kept free on the right for the names of lines."""
_LETTER, _LINE = 6.9, 15.0
"""The approximate width of a letter and height of a line of text."""
_FEW = 12
"""Each point of a line is marked if the line has at most this many."""
_WAYS = [way for way in product((11.0, 20.0, 32.0, 46.0, 62.0), (1, -1, 0), (0, -1, 1)) if any(way[1:])]
"""Places for a name around its point, best first: distance, right (1) or left (-1), below (1) or above (-1)."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


@dataclass(frozen=True)
class Axis:
    """An axis from its first tick to its last; `measure` decides how values are written."""

    title: str
    ticks: Sequence[float]
    texts: Sequence[str]
    measure: str = "mAP"

    def place(self, value: float, start: float, end: float) -> float:
        """The position of a value if the axis is drawn from `start` to `end`."""
        low, high = self.ticks[0], self.ticks[-1]
        return start + (value - low) / (high - low) * (end - start)


@dataclass(frozen=True, kw_only=True)
class Spot:
    """A point of a scatter plot; `n` chooses its shape and colour."""

    name: str
    n: int
    x: Point
    y: Point
    seeds: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line. `band` has (low, high) for each of its points; `dots` are further values; `hollow` is for its marks."""

    name: str
    n: int
    points: Sequence[tuple[float, float]]
    band: Sequence[Sequence[float] | None] = ()
    dots: Sequence[tuple[float, float]] = ()
    dash: str = ""
    hollow: bool = False


def axis(title: str, values: Sequence[float], measure: str = "mAP") -> Axis:
    """An axis that holds all values, with at most eight round ticks."""
    low, high = min(values), max(values)
    least = ((high - low) or abs(high) / 10 or 1.0) / 6
    power = 10.0 ** floor(log10(least))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))
    first, last = floor(low / step + 1e-9), ceil(high / step - 1e-9)
    if first == last:
        first, last = first - 1, last + 1
    digits = max(0, -floor(log10(step) + 1e-9))
    ticks = [n * step for n in range(first, last + 1)]
    return Axis(title, ticks, [f"{tick:,.{digits}f}".replace("-", "−") for tick in ticks], measure)


def scatter(title: str, spots: Sequence[Spot], x: Axis, y: Axis) -> Markup:
    """Means with names and with whiskers on both axes, and faint dots for the single seeds."""
    at = [(x.place(one.x[0], _LEFT, _RIGHT), y.place(one.y[0], _BOTTOM, _TOP)) for one in spots]
    parts = _frame(x, y, _RIGHT)
    for one in spots:
        parts += [_dot(x.place(a, _LEFT, _RIGHT), y.place(b, _BOTTOM, _TOP), one.n) for a, b in one.seeds]
    for one, (h, v) in zip(spots, at, strict=True):
        path = ""
        if one.x[1]:
            low, high = (x.place(end, _LEFT, _RIGHT) for end in one.x[1])
            path += f"M{low:.1f} {v:.1f}H{high:.1f}"
        if one.y[1]:
            low, high = (y.place(end, _BOTTOM, _TOP) for end in one.y[1])
            path += f"M{h:.1f} {low:.1f}V{high:.1f}"
        line = draw('<path class="whisker faint s{}" d="{}"/>', one.n % 4, path) if path else ""
        says = f"{one.name}: {_says(one.x, x)}; {_says(one.y, y)}"
        parts.append(draw("<g><title>{}</title>{}{}</g>", says, line, _at(h, v, one.n)))
    parts += _names_beside([one.name for one in spots], at)
    return svg(title, _WIDTH, _BOTTOM + 48, parts)


def lines(title: str, series: Sequence[Series], x: Axis, y: Axis) -> Markup:
    """Lines with bands, each with its name at its right end."""
    right = _WIDTH - _GUTTER
    slanted = max(map(len, x.texts)) * _LETTER > (right - _LEFT) / max(len(x.texts) - 1, 1)
    parts = _frame(x, y, right, slanted)

    def place(point: Sequence[float]) -> tuple[float, float]:
        return x.place(point[0], _LEFT, right), y.place(point[1], _BOTTOM, _TOP)

    for one in series:
        ends = [(p[0], *band) for p, band in zip(one.points, one.band, strict=False) if band]
        if len(ends) > 1:
            around = [(a, high) for a, _, high in ends] + [(a, low) for a, low, _ in reversed(ends)]
            parts.append(draw('<path class="area s{}" d="M{}Z"/>', one.n % 4, _path(map(place, around))))
        parts += [_dot(*place(dot), one.n) for dot in one.dots]
    spread = _spread([place(one.points[-1])[1] for one in series])
    for one, height in zip(series, spread, strict=True):
        at = [place(point) for point in one.points]
        few, label = len(at) <= _FEW, right + 24
        marks = [_at(*where, one.n, one.hollow) for where in at] if few else []
        marks.append(_at(label, height, one.n, one.hollow))
        says = "".join(f"; {text} {_number(b, y)}" for text, (_, b) in zip(_texts(one, x), one.points, strict=True))
        parts.append(
            draw(
                '<g>{}<path class="lead-line" d="M{}"/><path class="curve s{}"{} d="M{}"/>{}'
                '<text x="{}" y="{:.1f}">{}</text></g>',
                draw("<title>{}</title>", one.name + says) if few else "",
                _path([at[-1], (label - 10, height)]),
                one.n % 4,
                draw(' stroke-dasharray="{}"', one.dash) if one.dash else "",
                _path(at),
                Markup("").join(marks),
                *(label + 8, height, _short(one.name)),
            )
        )
    return svg(title, _WIDTH, _BOTTOM + (86 if slanted else 48), parts)


def slopes(
    title: str, columns: Sequence[str], rows: Mapping[str, Sequence[float | None]], apart: Sequence[str], y: Axis
) -> Markup:
    """A line for each row across the columns, from left to right; rows named in `apart` are dashed and hollow."""
    x = Axis("", range(len(columns)), [_short(name, 13) for name in columns])
    series = [
        Series(name=name, n=n, points=points, dash="4 3" * (name in apart), hollow=name in apart)
        for n, (name, values) in enumerate(rows.items())
        if (points := [(float(place), value) for place, value in enumerate(values) if value is not None])
    ]
    return lines(title, series, x, y)


def _frame(x: Axis, y: Axis, right: float, slanted: bool = False) -> list[Markup]:
    """Grid, ticks and titles of both axes."""
    parts = [draw('<text class="value" x="2" y="14">{}</text>', y.title)]
    up = '<path class="line" d="M{0} {1:.1f}H{2}"/><text class="tick end" x="{3}" y="{1:.1f}">{4}</text>'
    for tick, text in zip(y.ticks, y.texts, strict=True):
        parts.append(draw(up, _LEFT, y.place(tick, _BOTTOM, _TOP), right, _LEFT - 7, text))
    turned = ' class="tick end" transform="rotate(-35 {0:.1f} {3})"' if slanted else ' class="tick"'
    across = f'<path class="line" d="M{{0:.1f}} {{1}}V{{2}}"/><text x="{{0:.1f}}" y="{{3}}"{turned}>{{4}}</text>'
    for tick, text in zip(x.ticks, x.texts, strict=True):
        parts.append(draw(across, x.place(tick, _LEFT, right), _TOP, _BOTTOM, _BOTTOM + 16, text))
    if x.title:
        parts.append(draw('<text class="value end" x="{}" y="{}">{}</text>', right, _BOTTOM + 38, x.title))
    return parts


def _names_beside(names: Sequence[str], at: Sequence[tuple[float, float]]) -> list[Markup]:
    """Names next to their points, each in the nearest free place, joined to its point by a line if that is far."""
    taken: list[Box] = [(h - 6, v - 6, h + 6, v + 6) for h, v in at]
    parts = []
    for name, (h, v) in zip(map(_short, names), at, strict=True):
        boxes = [_box(len(name) * _LETTER, h, v, way) for way in _WAYS]
        found = min(boxes, key=lambda one: _outside(one) + sum(_overlap(one, other) for other in taken))
        taken.append(found)
        left, top, right, bottom = found
        near = min(max(h, left), right), min(max(v, top), bottom)
        if abs(near[0] - h) + abs(near[1] - v) > 15:
            parts.append(draw('<path class="lead-line" d="M{}"/>', _path([(h, v), near])))
        parts.append(draw('<text class="halo" x="{:.1f}" y="{:.1f}">{}</text>', left, (top + bottom) / 2, name))
    return parts


def _box(width: float, h: float, v: float, way: tuple[float, int, int]) -> Box:
    far, across, down = way
    left = h + {1: far, 0: -width / 2, -1: -far - width}[across]
    middle = v + down * (far if across else far + 3)
    return left, middle - _LINE / 2, left + width, middle + _LINE / 2


def _overlap(one: Box, other: Box) -> float:
    width, height = (min(one[n + 2], other[n + 2]) - max(one[n], other[n]) for n in (0, 1))
    return width * height if width > 0 and height > 0 else 0.0


def _outside(one: Box) -> float:
    left, top, right, bottom = one
    return 100 * sum(max(0.0, out) for out in (_LEFT - left, _TOP - top, right - _WIDTH, bottom - _BOTTOM))


def _spread(places: Sequence[float]) -> list[float]:
    """Heights moved apart so that lines of text do not overlap, in the same order, within the frame if possible."""
    order = sorted(range(len(places)), key=places.__getitem__)
    found = list(places)
    for above, below in pairwise(order):
        found[below] = max(found[below], found[above] + _LINE)
    limit = float(_BOTTOM)
    for n in reversed(order):
        found[n] = min(found[n], limit)
        limit = found[n] - _LINE
    return found


def _texts(one: Series, x: Axis) -> list[str]:
    named = dict(zip(x.ticks, x.texts, strict=True))
    return [named.get(a, f"{a:g}") for a, _ in one.points]


def _says(point: Point, of: Axis) -> str:
    return f"{of.title} {_number(point[0], of)} {between(point[1], of.measure)}".rstrip()


def _number(value: float, of: Axis) -> str:
    return number(value, of.measure)


def _path(points: Sequence[tuple[float, float]] | map) -> str:
    return "L".join(f"{h:.1f} {v:.1f}" for h, v in points)


def _at(h: float, v: float, n: int, hollow: bool = False) -> Markup:
    inner = draw('<g class="hollow">{}</g>', mark(n)) if hollow else mark(n)
    return draw('<g transform="translate({:.1f} {:.1f})">{}</g>', h, v, inner)


def _dot(h: float, v: float, n: int) -> Markup:
    return draw('<circle class="seed s{}" cx="{:.1f}" cy="{:.1f}" r="2.2"/>', n % 4, h, v)


def _short(name: str, most: int = 17) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"
