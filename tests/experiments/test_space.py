"""Search spaces in words: grids, ranges, the simplex, and what is refused."""

import math
import re
from typing import Any

import numpy as np
import pytest

from hybridir.batches.sampling import Sampling
from hybridir.experiments.space import Range, changes, described, label, parse_space


def test_the_paper_s_grid() -> None:
    space = parse_space({"alpha": "{low: 0, high: 1, step: 0.1}"})
    assert space.is_grid
    assert [point["alpha"] for point in space.points()] == [n / 10 for n in range(11)]
    assert changes({"alpha": 0.3}) == {"sampling": {"mono": 0.3, "mixed": 0.0, "cross": 0.7, "both": 0.0}}
    assert label({"alpha": 0.3}) == "alpha=0.3"


def test_fields_may_be_nested_and_are_crossed() -> None:
    space = parse_space({"train": {"lr": "[1e-3, 2e-3]"}, "loss.temperature": [0.02, 0.05]})
    assert len(space.points()) == 4
    assert space.points()[1] == {"train.lr": 1e-3, "loss.temperature": 0.05}
    assert changes(space.points()[1]) == {"train": {"lr": 1e-3}, "loss": {"temperature": 0.05}}
    assert label(space.points()[1]) == "train.lr=0.001 loss.temperature=0.05"


def test_the_simplex_in_parts_has_every_mix_once() -> None:
    points = parse_space({"mix": {"step": 0.25}}).points()
    weights = [tuple(changes(point)["sampling"].values()) for point in points]
    assert len(set(weights)) == len(weights) == 15
    assert all(sum(float(one) for one in mix) == 1 for mix in weights)
    assert described(points[0]) == {"mono": 0.0, "mixed": 0.0, "cross": 1.0}


@pytest.mark.parametrize("parts", range(1, 12))
def test_any_number_of_parts_sums_to_1(parts: int) -> None:
    points = parse_space({"mix": {"step": 1 / parts}}).points()
    assert len(points) == (parts + 1) * (parts + 2) // 2
    assert len({label(point) for point in points}) == len(points)
    for point in points:
        Sampling(**changes(point)["sampling"])  # type: ignore[arg-type]


def test_draws_from_the_simplex_are_uniform() -> None:
    """Of uniform points a weight is above w with probability (1 - w)^2."""
    random = np.random.default_rng(0)
    space = parse_space({"mix": "simplex"})
    assert not space.is_grid
    names = list(space.dimensions)
    drawn = [space.rounded(dict(zip(names, uniform, strict=True))) for uniform in random.random((4000, 3))]
    weights = np.array([list(changes(point)["sampling"].values())[:3] for point in drawn], dtype=float)
    assert np.allclose(weights.sum(axis=1), 1)
    assert weights.min() >= 0
    for column in weights.T:
        for w in (0.1, 0.5, 0.9):
            assert (column > w).mean() == pytest.approx((1 - w) ** 2, abs=0.03)


def test_drawn_numbers_keep_four_digits_and_their_range() -> None:
    space = parse_space(
        {"train": {"lr": "{low: 1.23434e-4, high: 1e-2, log: true}", "steps": {"low": 10, "high": 99, "integer": True}}}
    )
    assert space.dimensions["train.steps"] == Range(10, 99, integer=True)
    assert space.rounded({"train.lr": 0.00123456, "train.steps": 57}) == {"train.lr": 0.001235, "train.steps": 57}
    assert space.rounded({"train.lr": 1.23434e-4, "train.steps": 10})["train.lr"] == 1.23434e-4
    low, high = space.corners()
    assert low == {"train.lr": 1.23434e-4, "train.steps": 10}
    assert high == {"train.lr": 1e-2, "train.steps": 99}
    assert isinstance(low["train.steps"], int)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({}, "space is empty"),
        ({"alpha": [0.1], "mix": "simplex"}, "leave one out"),
        ({"sampling.mono": [0.1]}, "tune alpha or mix"),
        ({"mix": {"step": 0.3}}, "in quarters"),
        ({"mix": "[0, 1]"}, "in quarters"),
        ({"train.lr": {"low": 2, "high": 1}}, "low must be below high"),
        ({"train.lr": {"low": 0, "high": 1, "log": True}}, "above 0 with log"),
        ({"train.lr": {"low": 1.5, "high": 2, "integer": True}}, "whole numbers"),
        ({"train.lr": {"low": "a", "high": "b"}}, "write \\[A, B, C\\]"),
        ({"train.lr": {"low": 1}}, "write \\[A, B, C\\]"),
        ({"train.lr": {"low": 1, "high": 2, "steps": 1}}, "write \\[A, B, C\\]"),
        ({"train.lr": {"low": 1, "high": 2, "step": 1, "log": True}}, "write \\[A, B, C\\]"),
        ({"train.lr": "gauss(0, 1)"}, "write \\[A, B, C\\]"),
        ({"train.lr": {"low": 1, "high": 2, "log": "false"}}, "write \\[A, B, C\\]"),
        ({"train.lr": {"low": 1, "high": 2, "step": True}}, "no whole number of steps"),
        ({"train.lr": "[a"}, "which is no YAML"),
        ({"train.lr": []}, "write \\[A, B, C\\]"),
        ({"train.lr": [0.1, 0.1]}, "listed twice"),
        ({"train.lr": {"low": 0, "high": 1, "step": 0.3}}, "no whole number of steps"),
        ({"train.lr": {"low": 1, "high": 0, "step": 0.5}}, "no whole number of steps"),
        ({"train.lr": {"low": 0, "high": 1, "step": 1e-9}}, "more than 10,000 values"),
        ({"mix": {"step": 1e-5}}, "in quarters"),
        ({"train.lr": f"{{a: &a [x, x], b: &b [{'*a, ' * 99}], c: [{'*b, ' * 99}]}}"}, "repeats itself by aliases"),
    ],
)
def test_what_is_refused(words: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_space(words)


def test_whole_steps_are_whole_numbers() -> None:
    """As fields of whole numbers need."""
    points = parse_space({"train.batch_size": {"low": 16, "high": 64, "step": 16}}).points()
    assert [point["train.batch_size"] for point in points] == [16, 32, 48, 64]
    assert all(isinstance(point["train.batch_size"], int) for point in points)


def test_the_simplex_of_before_is_refused_with_the_new_spelling() -> None:
    with pytest.raises(ValueError, match=r"is now written \{step: 0.25\}"):
        parse_space({"mix": "simplex(4)"})


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("steps(0, 1, 0.1)", "{low: 0, high: 1, step: 0.1}"),
        ("uniform(0,1)", "{low: 0, high: 1}"),
        ("loguniform(1e-6, 1e-4)", "{low: 1e-6, high: 1e-4, log: true}"),
        ("integer(1, 4)", "{low: 1, high: 4, integer: true}"),
    ],
)
def test_the_words_of_before_are_refused_with_the_new_spelling(old: str, new: str) -> None:
    with pytest.raises(ValueError, match=f"is now written {re.escape(new)}"):
        parse_space({"train.lr": old})
    assert parse_space({"train.lr": new})


def test_a_name_without_a_section_is_refused() -> None:
    with pytest.raises(ValueError, match="write alpha, mix, or SECTION"):
        changes({"lr": 0.1})


def test_a_draw_at_the_edge_of_the_simplex_is_a_mix() -> None:
    weights = changes({"mix.mono": 1.0, "mix.mixed": 0.0, "mix.cross": 1.0})["sampling"]
    assert math.isclose(sum(float(one) for one in weights.values()), 1)
