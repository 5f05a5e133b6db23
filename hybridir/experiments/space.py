"""A search space in words: by field of the recipe, what values it may take.

`[0, 0.1, 0.2]` lists values, `steps(0, 1, 0.1)` all from 0 to 1, `uniform(LOW, HIGH)`, `loguniform(LOW, HIGH)` and
`integer(LOW, HIGH)` are ranges. Two names stand for several fields: `alpha` for hybrid batches (monolingual with
probability alpha, else cross-lingual), and `mix` for the weights of monolingual, mixed and cross-lingual batches,
`simplex` for all of them, `simplex(4)` for those in quarters.

A point is a value for each name.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import yaml

Value = float | int | str | bool
Point = Mapping[str, Value]
MIX = ("mono", "mixed", "cross")
DIGITS = 4
"""Significant ones of a value drawn from a range: a point's name holds them all."""


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`."""

    kind: Literal["uniform", "loguniform", "integer"]
    low: float
    high: float


@dataclass(frozen=True)
class Space:
    """What is searched: by name its values, or a range of them."""

    dimensions: Mapping[str, Sequence[Value] | Range]

    @property
    def is_grid(self) -> bool:
        return not any(isinstance(one, Range) for one in self.dimensions.values())

    def points(self) -> list[Point]:
        """All of a grid."""
        values = [one for one in self.dimensions.values() if not isinstance(one, Range)]
        return [dict(zip(self.dimensions, chosen, strict=True)) for chosen in itertools.product(*values)]

    def corners(self) -> list[Point]:
        """The points of all first values and lower ends, and of all last values and upper ends."""

        def at(one: Sequence[Value] | Range, last: bool) -> Value:
            if not isinstance(one, Range):
                return one[-last]
            end = one.high if last else one.low
            return int(end) if one.kind == "integer" else end

        return [{name: at(one, last) for name, one in self.dimensions.items()} for last in (False, True)]

    def rounded(self, drawn: Mapping[str, Any]) -> Point:
        """A point as it is trained and named."""
        point: dict[str, Value] = {}
        for name, value in drawn.items():
            of = self.dimensions[name]
            if isinstance(of, Range) and of.kind != "integer":
                value = min(max(float(f"{value:.{DIGITS}g}"), of.low), of.high)
            point[name] = value
        return point


def parse_space(words: Mapping[str, Any]) -> Space:
    """`{"train.lr": ...}` and `{"train": {"lr": ...}}` are the same. `ValueError` naming what is not understood."""
    flat: dict[str, Any] = {}
    for name, of in words.items():
        flat |= {f"{name}.{field}": one for field, one in of.items()} if isinstance(of, dict) else {name: of}
    if not flat:
        raise ValueError("space is empty: name what is searched, --space.alpha 'steps(0, 1, 0.1)' for example")
    if "alpha" in flat and "mix" in flat:
        raise ValueError("space has alpha and mix, and both set the weights of batches: leave one out")
    dimensions: dict[str, Sequence[Value] | Range] = {}
    for name, text in flat.items():
        if name.removeprefix("sampling.") in (*MIX, "both"):
            raise ValueError(f"space.{name} alone would not sum to 1 with the others: search alpha or mix")
        dimensions |= _simplex(str(text)) if name == "mix" else {name: _dimension(name, text)}
    return Space(dimensions)


def changes(point: Point) -> dict[str, dict[str, Value]]:
    """What a point changes in a recipe, by section; `ValueError` for a name that is no field of a section."""
    found: dict[str, dict[str, Value]] = {}
    weights = _weights(point)
    if weights:
        found["sampling"] = {**dict(zip(MIX, weights, strict=True)), "both": 0.0}
    for name, value in point.items():
        if name.partition(".")[0] in ("alpha", "mix"):
            continue
        section, _, field = name.partition(".")
        if not field:
            raise ValueError(f"space.{name} names no field: write alpha, mix, or SECTION.FIELD such as train.lr")
        found.setdefault(section, {})[field] = value
    return found


def label(point: Point) -> str:
    """A point in words, short; the same for the same point."""
    return " ".join(f"{name}={_text(value)}" for name, value in described(point).items())


def described(point: Point) -> dict[str, Value]:
    """A point by name, a mix by its weights."""
    words: dict[str, Value] = {}
    if any(name.partition(".")[0] == "mix" for name in point):
        words |= dict(zip(MIX, _weights(point) or (), strict=True))
    return words | {name: value for name, value in point.items() if name.partition(".")[0] != "mix"}


def _weights(point: Point) -> list[float] | None:
    """Of monolingual, mixed and cross-lingual batches."""
    if "alpha" in point:
        alpha = float(point["alpha"])
        return [alpha, 0.0, _rest(alpha)]
    if "mix" in point:
        parts = [int(one) for one in str(point["mix"]).split("/")]
        mono, mixed = (round(part / sum(parts), DIGITS) for part in parts[:2])
        return [mono, mixed, _rest(mono, mixed)]
    draws = [point.get(f"mix.{name}") for name in MIX]
    if None in draws:
        return None
    # Exponential variables over their sum are uniform on the simplex.
    exponential = [-math.log(min(max(float(u), 1e-9), 1 - 1e-9)) for u in draws if u is not None]
    mono, mixed = (round(one / sum(exponential), DIGITS) for one in exponential[:2])
    return [mono, mixed, _rest(mono, mixed)]


def _rest(*weights: float) -> float:
    return max(0.0, round(1 - sum(weights), 2 * DIGITS))


def _simplex(text: str) -> dict[str, Sequence[Value] | Range]:
    if text == "simplex":
        return {f"mix.{name}": Range("uniform", 0.0, 1.0) for name in MIX}
    if not (found := re.fullmatch(r"simplex\((\d+)\)", text)) or not (parts := int(found[1])):
        raise ValueError(f"space.mix is {text!r}: write simplex, or simplex(4) for all weights in quarters")
    grid = [(a, b, parts - a - b) for a in range(parts + 1) for b in range(parts + 1 - a)]
    return {"mix": ["/".join(map(str, one)) for one in grid]}


def _dimension(name: str, text: Any) -> Sequence[Value] | Range:
    hint = (
        f"space.{name} is {text!r}: write [A, B, C], steps(FROM, TO, STEP), uniform(A, B), loguniform(A, B) or "
        "integer(A, B)"
    )
    if isinstance(text, str):
        if found := re.fullmatch(r"(uniform|loguniform|integer)\(([^,]+),([^,]+)\)", text.replace(" ", "")):
            return _range(hint, found[1], found[2], found[3])
        if found := re.fullmatch(r"steps\(([^,]+),([^,]+),([^,]+)\)", text.replace(" ", "")):
            return _steps(hint, found[1], found[2], found[3])
        text = yaml.safe_load(text)
    if not isinstance(text, list) or not text or not all(isinstance(one, Value) for one in text):
        raise ValueError(hint)
    text = [_number(one) for one in text]
    if len(set(text)) < len(text):
        raise ValueError(f"{hint}; a value is named twice")
    return text


def _range(hint: str, kind: str, low: str, high: str) -> Range:
    try:
        ends = (float(low), float(high))
    except ValueError:
        raise ValueError(hint) from None
    fits = ends[0] < ends[1] and (kind != "loguniform" or ends[0] > 0)
    if not fits or (kind == "integer" and any(end != int(end) for end in ends)):
        raise ValueError(f"{hint}, A below B (above 0 for loguniform, whole numbers for integer)")
    return Range(kind, *ends)  # type: ignore[arg-type]  # one of the three


def _steps(hint: str, *texts: str) -> Sequence[Value]:
    try:
        low, high, step = (float(one) for one in texts)
        n = round((high - low) / step)
    except (ValueError, ZeroDivisionError):
        raise ValueError(hint) from None
    if n < 1 or abs(low + n * step - high) > 1e-9 * abs(high - low):
        raise ValueError(f"{hint}; from {texts[0]} to {texts[1]} there is no whole number of steps of {texts[2]}")
    return [float(f"{low + k * step:.10g}") for k in range(n + 1)]


def _number(value: Value) -> Value:
    """`1e-3` is a text in YAML."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
