"""The space of tuning: the fields of the recipe that are tuned, and the values to try for each, in plain YAML.

- `[0, 0.1, 0.2]` is a list of values; `{low: 0, high: 1, step: 0.1}` stands for 0, 0.1, ... 1.
- `{low: 0, high: 1}` is a range. `{low: 1e-6, high: 1e-4, log: true}` is a range with a logarithmic scale,
  `{low: 1, high: 9, integer: true}` a range of whole numbers.

Two names set several fields. `alpha` sets hybrid batches: monolingual with probability alpha, else cross-lingual. `mix`
sets the weights of monolingual, mixed and cross-lingual batches: `simplex` allows all weights that sum to 1,
`{step: 0.25}` lists those that are multiples of 0.25.

A point has one value for each name.
"""

import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from hybridir.runtime.plain_yaml import load_yaml

Value = float | int | str | bool
_KEYS = {"low", "high", "step", "log", "integer"}
Point = Mapping[str, Value]
MIX = ("mono", "mixed", "cross")
MOST_VALUES = 10_000
"""Values that steps may stand for."""
DIGITS = 4
"""Significant digits of a value that is drawn from a range. A point's name shows all of them."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: drawn on a logarithmic scale with `log`, whole numbers with `integer`."""

    low: float
    high: float
    log: bool = False
    integer: bool = False


@dataclass(frozen=True)
class Space:
    """The list of values, or the range, of each name."""

    dimensions: Mapping[str, Sequence[Value] | Range]

    @property
    def is_grid(self) -> bool:
        return not any(isinstance(one, Range) for one in self.dimensions.values())

    def points(self) -> list[Point]:
        """All points of a grid."""
        values = [one for one in self.dimensions.values() if not isinstance(one, Range)]
        return [dict(zip(self.dimensions, chosen, strict=True)) for chosen in itertools.product(*values)]

    def corners(self) -> list[Point]:
        """Two points: all first values and lower ends, and all last values and upper ends."""

        def at(one: Sequence[Value] | Range, last: bool) -> Value:
            if not isinstance(one, Range):
                return one[-last]
            end = one.high if last else one.low
            return int(end) if one.integer else end

        return [{name: at(one, last) for name, one in self.dimensions.items()} for last in (False, True)]

    def rounded(self, drawn: Mapping[str, Any]) -> Point:
        """The point that is trained and named: drawn values, rounded to `DIGITS`."""
        point: dict[str, Value] = {}
        for name, value in drawn.items():
            of = self.dimensions[name]
            if isinstance(of, Range) and not of.integer:
                value = min(max(float(f"{value:.{DIGITS}g}"), of.low), of.high)
            point[name] = value
        return point


def parse_space(words: Mapping[str, Any]) -> Space:
    """Reads a space from a config, where `{"train.lr": ...}` and `{"train": {"lr": ...}}` mean the same.

    Raises:
        ValueError: naming the entry that is wrong, and what to write.
    """
    flat: dict[str, Any] = {}
    for name, of in words.items():
        is_section = isinstance(of, dict) and not _KEYS & of.keys()
        flat |= {f"{name}.{field}": one for field, one in of.items()} if is_section else {name: of}
    if not flat:
        raise ValueError("space is empty: name a field to tune, such as --space.alpha '{low: 0, high: 1, step: 0.1}'")
    if "alpha" in flat and "mix" in flat:
        raise ValueError("space has alpha and mix, but both set the weights of batch kinds: leave one out")
    dimensions: dict[str, Sequence[Value] | Range] = {}
    for name, text in flat.items():
        if name.removeprefix("sampling.") in (*MIX, "both"):
            raise ValueError(f"space.{name} cannot be tuned alone, as the weights must sum to 1: tune alpha or mix")
        dimensions |= _simplex(text) if name == "mix" else {name: _dimension(name, text)}
    return Space(dimensions)


def changes(point: Point) -> dict[str, dict[str, Value]]:
    """The fields that a point sets, by section of the recipe; `ValueError` for a name without a section."""
    found: dict[str, dict[str, Value]] = {}
    weights = _weights(point)
    if weights:
        found["sampling"] = {**dict(zip(MIX, weights, strict=True)), "both": 0.0}
    for name, value in point.items():
        if name.partition(".")[0] in ("alpha", "mix"):
            continue
        section, _, field = name.partition(".")
        if not field:
            raise ValueError(f"space.{name} names no field: write alpha, mix, or SECTION.FIELD, such as train.lr")
        found.setdefault(section, {})[field] = value
    return found


def label(point: Point) -> str:
    """The short name of a point; equal points have equal names."""
    return " ".join(f"{name}={_text(value)}" for name, value in described(point).items())


def values_of(point: Point) -> str:
    """The values of a point alone, without their names; equal points have equal ones."""
    return " / ".join(_text(value) for value in described(point).values())


def described(point: Point) -> dict[str, Value]:
    """The values of a point by name; a mix is given by its three weights."""
    words: dict[str, Value] = {}
    if any(name.partition(".")[0] == "mix" for name in point):
        words |= dict(zip(MIX, _weights(point) or (), strict=True))
    return words | {name: value for name, value in point.items() if name.partition(".")[0] != "mix"}


def _weights(point: Point) -> list[float] | None:
    """Weights of monolingual, mixed and cross-lingual batches; None if the point sets none."""
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
    # Exponential variables divided by their sum are uniform on the simplex.
    exponential = [-math.log(min(max(float(u), 1e-9), 1 - 1e-9)) for u in draws if u is not None]
    mono, mixed = (round(one / sum(exponential), DIGITS) for one in exponential[:2])
    return [mono, mixed, _rest(mono, mixed)]


def _rest(*weights: float) -> float:
    return max(0.0, round(1 - sum(weights), 2 * DIGITS))


def _simplex(words: Any) -> dict[str, Sequence[Value] | Range]:
    words = _parsed("mix", words)
    if words == "simplex":
        return {f"mix.{name}": Range(0.0, 1.0) for name in MIX}
    step = _number(words["step"]) if isinstance(words, dict) and words.keys() == {"step"} else None
    parts = round(1 / step) if isinstance(step, int | float) and 0 < step <= 1 else 0
    if not parts or (parts + 1) * (parts + 2) // 2 > MOST_VALUES or not math.isclose(parts * float(str(step)), 1):
        raise ValueError(
            f"space.mix is {words!r}: write simplex, or {{step: 0.25}} for all weights in quarters; 1 / step must be a "
            f"whole number, of at most {MOST_VALUES:,} mixes"
        )
    grid = [(a, b, parts - a - b) for a in range(parts + 1) for b in range(parts + 1 - a)]
    return {"mix": ["/".join(map(str, one)) for one in grid]}


def _dimension(name: str, words: Any) -> Sequence[Value] | Range:
    words = _parsed(name, words)
    hint = (
        f"space.{name} is {words!r}: write [A, B, C] or {{low: A, high: B}}; the second form can also have one of "
        "step: C, log: true, integer: true"
    )
    if isinstance(words, dict):
        low, high = (_number(words.get(end)) for end in ("low", "high"))
        known = words.keys() <= _KEYS and sum(one in words for one in ("step", "log", "integer")) <= 1
        known &= all(isinstance(words.get(one, False), bool) for one in ("log", "integer"))
        if not known or isinstance(low, bool | str | None) or isinstance(high, bool | str | None):
            raise ValueError(hint)
        if "step" in words:
            return _steps(hint, low, high, _number(words["step"]))
        log, integer = (bool(words.get(one, False)) for one in ("log", "integer"))
        if not low < high or (log and low <= 0) or (integer and (low != int(low) or high != int(high))):
            raise ValueError(f"{hint}; low must be below high (and above 0 with log; both whole numbers with integer)")
        return Range(float(low), float(high), log, integer)
    if not isinstance(words, list) or not words or not all(isinstance(one, Value) for one in words):
        raise ValueError(hint)
    values = [_number(one) for one in words]
    if len(set(values)) < len(values):
        raise ValueError(f"{hint}; a value is listed twice")
    return values


def _steps(hint: str, low: float, high: float, step: Value | None) -> Sequence[Value]:
    n = round((high - low) / step) if isinstance(step, int | float) and not isinstance(step, bool) and step else 0
    if n < 1 or abs(low + n * float(step or 0) - high) > 1e-9 * abs(high - low):
        raise ValueError(f"{hint}; from {low:g} to {high:g} there is no whole number of steps of {step}")
    if n >= MOST_VALUES:
        raise ValueError(f"{hint}; these are more than {MOST_VALUES:,} values: leave out step to draw from the range")
    values = [float(f"{low + k * float(step or 0):.10g}") for k in range(n + 1)]
    whole = all(isinstance(one, int) for one in (low, high, step))
    return [int(value) for value in values] if whole else values


def _parsed(name: str, words: Any) -> Any:
    """Parses YAML from the command line; `ValueError` for the syntax of earlier versions, with the new syntax."""
    if not isinstance(words, str):
        return words
    if found := re.fullmatch(r"(steps|uniform|loguniform|integer|simplex)\((.*)\)", words.replace(" ", "")):
        ends = [*found[2].split(","), "B", "C"]
        now = {
            "steps": f"{{low: {ends[0]}, high: {ends[1]}, step: {ends[2]}}}",
            "uniform": f"{{low: {ends[0]}, high: {ends[1]}}}",
            "loguniform": f"{{low: {ends[0]}, high: {ends[1]}, log: true}}",
            "integer": f"{{low: {ends[0]}, high: {ends[1]}, integer: true}}",
            "simplex": f"{{step: {1 / int(ends[0]) if ends[0].isdigit() and int(ends[0]) else 0.25:.10g}}}",
        }[found[1]]
        raise ValueError(f"space.{name} is {words!r}, which is now written {now}")
    try:
        return load_yaml(words)
    except yaml.YAMLError as error:
        raise ValueError(
            f"space.{name} is {words!r}, which is no YAML ({error}): write [A, B, C], for example"
        ) from None


def _number(value: Any) -> Any:
    """A number, also from text, because YAML reads `1e-3` as text; any other value as it is."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _text(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)
