"""Configuration from the command line: whole names alone, plain flags and flags with a value."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from jsonargparse import ArgumentError

from hybridir.runtime.command_line import parse


@dataclass(frozen=True, kw_only=True)
class Model:
    name: str = "small"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    model: Model = field(default_factory=Model)
    resume: bool = False
    dry_run: bool = False
    output: str = ""


def recipe(*arguments: str) -> Recipe:
    return parse(Recipe, "program", None, list(arguments))


@pytest.mark.parametrize(
    "arguments", [("--model.nam", "big"), ("--model.nam=big",), ("--mod.name", "big"), ("--res",), ("--outp", "a")]
)
def test_abbreviations_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError, match=f"unrecognized arguments: {arguments[0]}"):
        recipe(*arguments)


@pytest.mark.parametrize(
    ("arguments", "resume"),
    [
        (["--resume"], True),
        (["--resume", "true"], True),
        (["--resume", "Yes"], True),
        (["--resume", "false"], False),
        (["--resume", "no"], False),
        (["--resume=false"], False),
        (["--resume", "true", "--resume", "false"], False),
    ],
)
def test_flags(arguments: list[str], resume: bool) -> None:
    expected = Recipe(model=Model(name="big"), resume=resume, dry_run=True, output="a")
    assert recipe(*arguments, "--dry_run", "--model.name", "big", "--output", "a") == expected
    assert recipe("--output", "a", "--dry_run", "--model.name", "big", *arguments) == expected


def test_the_command_line_is_above_the_file(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("resume: true\noutput: of config\n")
    assert recipe("--config", str(config), "--resume", "false") == Recipe(output="of config")
