"""Configuration from YAML files and the command line, by jsonargparse: `--config FILE`, `--section.key VALUE`."""

from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser

Config = TypeVar("Config")


def parse(
    recipe: type[Config], program: str, description: str | None, arguments: list[str], default: Path | None = None
) -> Config:
    """The recipe that `arguments` give; without `--config` that of the file `default`, if there is one.

    Fields that are true or false can stand as plain flags (`--resume`). Raises `jsonargparse.ArgumentError` and what
    the recipe itself raises.
    """
    parser = ArgumentParser(prog=program, description=description, exit_on_error=False)
    omitted = f"; {default.name} when omitted" if default else ""
    parser.add_argument("--config", action="config", help=f"YAML file{omitted}")
    parser.add_class_arguments(recipe)
    flags = {f"--{field.name}" for field in fields(recipe) if field.type is bool}  # type: ignore[arg-type]
    arguments = [f"{argument}=true" if argument in flags else argument for argument in arguments]
    if default and not any(argument.split("=")[0] == "--config" for argument in arguments):
        arguments = ["--config", str(default), *arguments]
    parsed: dict[str, Any] = parser.instantiate(parser.parse_args(arguments))
    del parsed["config"]
    return recipe(**parsed)
