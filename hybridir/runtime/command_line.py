"""Configuration from YAML files and the command line, by jsonargparse: `--config FILE`, `--section.key VALUE`."""

import re
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import ArgumentParser, get_loader, set_loader, set_parsing_settings
from yaml import YAMLError

from hybridir.runtime.left_behind import leave_behind
from hybridir.runtime.plain_yaml import check_yaml

Config = TypeVar("Config")
_WORDS = ("true", "false", "yes", "no")
_load = get_loader("yaml")


def _checked(text: str) -> Any:
    check_yaml(text)
    return _load(text)


set_loader("yaml", _checked, exceptions=(YAMLError,))
# a value such as `class_path: MODULE.CLASS` imports nothing; the dataclasses of the fields are found by their names
set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["hybridir"])


def parse(
    recipe: type[Config], program: str, description: str | None, arguments: list[str], default: Path | None = None
) -> Config:
    """Makes an instance of `recipe` from `arguments`. Without `--config`, the file `default` is read, if given.

    Boolean fields can be plain flags (`--resume`) or have a value (`--resume false`). Names cannot be abbreviated.

    Raises:
        ArgumentError: an argument is unknown or has a wrong type. `recipe` can raise errors of its own.
        ValueError: a file or argument names a class to import, or has aliases that would fill the memory.
    """
    parser = ArgumentParser(prog=program, description=description, exit_on_error=False, allow_abbrev=False)
    omitted = f"; {default.name} when omitted" if default else ""
    parser.add_argument("--config", action="config", help=f"YAML file{omitted}")
    parser.add_class_arguments(recipe)
    flags = {f"--{field.name}" for field in fields(recipe) if field.type is bool}  # type: ignore[arg-type]
    following = pairwise([*arguments, ""])
    arguments = [f"{one}=true" if one in flags and after.lower() not in _WORDS else one for one, after in following]
    if default and not any(argument.split("=")[0] == "--config" for argument in arguments):
        arguments = ["--config", str(default), *arguments]
    arguments = leave_behind(recipe, arguments)
    try:
        namespace = parser.parse_args(arguments)
    except ImportError as error:  # jsonargparse refused to import it
        named = re.search("'.*?'", str(error))
        raise ValueError(f"{named and named[0]} names a class to import: values only are read, remove it") from None
    parsed: dict[str, Any] = parser.instantiate(namespace)
    del parsed["config"]
    return recipe(**parsed)
