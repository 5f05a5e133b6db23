"""Configuration from YAML files and the command line, by jsonargparse: `--config FILE`, `--section.key VALUE`."""

import re
import shutil
import textwrap
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import fields, is_dataclass
from itertools import pairwise, zip_longest
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser, get_loader, set_loader, set_parsing_settings
from yaml import YAMLError

from hybridir.runtime.home import at_home
from hybridir.runtime.left_behind import leave_behind
from hybridir.runtime.owner import files_first
from hybridir.runtime.plain_yaml import check_yaml, not_too_deep
from hybridir.runtime.words import did_you_mean

Config = TypeVar("Config")
_SENTENCE_END = re.compile(r"[.;:] (?=[^`]*(?:`[^`]*`[^`]*)*$)")  # not within `code`
_NO_NUMBER = re.compile(
    r"""Parser key "([\w.]+)":\s+Does not validate against any of the Union subtypes
  Subtypes: \[<class '(int|float)'>, <class 'NoneType'>\].*?Given value: ([^\n]*)""",
    re.DOTALL,
)
_NO_SECTION = re.compile(
    r"""Parser key "([\w.]+)":\s+Unable to load config '([^\n]*)'(?:\n.*Unable to load config .*)?"""
)
_WORDS = ("true", "false", "yes", "no")
_OTHER_DATA = ("--config", "--data", "--data.path", "--data.sources", "--data.format")
"""Options that say which data are meant, so that the default file is not read."""
_ALL = (
    "--help_all shows every field in full, with types and defaults; --print_config the configuration of these options."
)
_load = get_loader("yaml")


def _checked(text: str) -> Any:
    check_yaml(text)
    with not_too_deep():
        return _load(text)


set_loader("yaml", _checked, exceptions=(YAMLError,))
# a value such as `class_path: MODULE.CLASS` imports nothing; the dataclasses of the fields are found by their names
set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["hybridir"])


def parse(
    recipe: type[Config],
    program: str,
    description: str | None,
    arguments: list[str],
    default: Path | None = None,
    shown: Collection[str] = (),
) -> Config:
    """Makes an instance of `recipe` from `arguments`.

    The command line counts more than `--config` files, in whatever order they stand, and a later file more than an
    earlier one. The file `default`, if given, is read if `arguments` name neither a config nor data. Boolean fields
    can be plain flags (`--resume`) or have a value (`--resume false`). Names cannot be abbreviated. `~` in paths is
    the home folder, also in files. `--help` has a line for each field and section in `shown` (all fields if it is
    empty), `--help_all` shows all in full.

    Raises:
        ArgumentError: an argument is unknown or has a wrong type. `recipe` can raise errors of its own.
        ValueError: a file or argument names a class to import, or has aliases that would fill the memory.
    """
    usage = f"{program} [--config FILE] [--section.key VALUE ...]"
    parser = ArgumentParser(prog=program, usage=usage, description=description, exit_on_error=False, allow_abbrev=False)
    omitted = f"; {default.name} when no data are named" if default else ""
    parser.add_argument("--config", action="config", help=f"YAML file{omitted}")
    parser.add_argument("--help_all", action="help", help="show every field and exit")
    parser.add_class_arguments(recipe)
    for action in parser._actions:
        if not action.dest.endswith(".help") and (items := _items(getattr(action, "_typehint", None))):
            action.help = f"{(action.help or '').rstrip('.')}. Fields of each: {items}"
    flags = {f"--{field.name}" for field in fields(recipe) if field.type is bool}  # type: ignore[arg-type]
    following = pairwise([*files_first(arguments), ""])
    arguments = [f"{one}=true" if one in flags and after.lower() not in _WORDS else one for one, after in following]
    if shown and {"-h", "--help"} & {*arguments}:
        width = shutil.get_terminal_size((120, 24)).columns
        about, more = (textwrap.fill(words, width, break_on_hyphens=False) for words in (description or "", _ALL))
        print(f"usage: {usage}\n\n{about}\n\n{_short_help(parser, shown, width)}\n\n{more}")
        raise SystemExit(0)
    if default and not _names_data(arguments):
        arguments = ["--config", str(default), *arguments]
    arguments = leave_behind(recipe, arguments)
    try:
        parsed = parser.parse_args(arguments)
    except ImportError as error:  # jsonargparse refused to import it
        named = re.search("'.*?'", str(error))
        raise ValueError(
            f"{named and named[0]} names a class to import, but only plain values are read: remove it"
        ) from None
    except ArgumentError as error:
        known = [name for action in parser._actions for name in action.option_strings]
        raise ArgumentError(
            None, f"{_plain(str(error), known)}{_nearest(str(error), known)}{_unquoted(str(error))}"
        ) from None
    for name, value in parsed.items():
        if not name.endswith("_prefix"):  # the only texts that are no names of things
            parsed[name] = _at_home(value)
    instances: dict[str, Any] = parser.instantiate(parsed)
    for name in ("config", "help_all"):
        instances.pop(name, None)
    return recipe(**instances)


def _short_help(parser: ArgumentParser, shown: Collection[str], width: int) -> str:
    """An entry for each field or section in `shown`: its values or fields, all of them, or else its first sentence."""
    actions = {action.dest: action for action in parser._actions}
    names = [name for name in ("config", *shown) if name in actions]
    widest = max(map(len, names), default=0)
    lines = []
    for name in names:
        below = [dest[len(name) + 1 :].partition(".")[0] for dest in actions if dest.startswith(f"{name}.")]
        listed = ", ".join(_values(getattr(actions[name], "_typehint", None)) or dict.fromkeys(below))
        text = listed or _SENTENCE_END.split(f"{actions[name].help} ")[0]
        told = textwrap.wrap(text, max(30, width - widest - 6), break_on_hyphens=False, break_long_words=False)
        lines += [f"{option:{widest + 4}}  {part}" for option, part in zip_longest([f"  --{name}"], told, fillvalue="")]
    return "\n".join(lines)


def _values(hint: Any) -> list[str]:
    """The values of a type that lists them, or of the items of such a tuple."""
    if get_origin(hint) is Literal:
        return [*map(str, get_args(hint))]
    return next(filter(None, map(_values, get_args(hint))), [])


def _items(hint: Any) -> str:
    """The fields of the items, with the values that there are, if the type is a tuple of a dataclass, or None."""
    item = next((get_args(kind)[0] for kind in (hint, *get_args(hint)) if get_origin(kind) is tuple), None)
    if not is_dataclass(item):
        return ""

    def shown(name: str, kind: Any) -> str:
        values = get_args(kind) if get_origin(kind) is Literal else ()
        return f"{name} ({', '.join(map(str, values))})" if values else name

    return ", ".join(shown(name, kind) for name, kind in get_type_hints(item).items())


def _names_data(arguments: list[str]) -> bool:
    """Whether the arguments name a config or data other than the embedded sample."""
    named = {one.partition("=")[0].rstrip("+") for one in arguments if one not in ("--data.format=sample",)}
    sample = ("--data.format", "sample") in pairwise(arguments)
    return any(option in named for option in _OTHER_DATA if not (sample and option == "--data.format"))


def _nearest(message: str, known: list[str]) -> str:
    """Suggestions for the unknown names in a message of jsonargparse."""
    fields = {name.rpartition(".")[2] for name in known}
    found: Iterator[str] = (m[1] or m[2] for m in re.finditer(r"(--[\w.]+)|option '(\w+)'", message))
    unknown = [name for name in dict.fromkeys(found) if name not in known]
    return "".join(did_you_mean(name, known if name.startswith("--") else fields) for name in unknown)


def _plain(message: str, known: list[str]) -> str:
    """A message of jsonargparse in one line where a number, or a section, was given another value."""

    def number(found: re.Match[str]) -> str:
        name, kind, value = found.groups()
        with suppress(ValueError, OverflowError):
            if kind == "int" and int(float(value)) == float(value):
                return f"{name} is {value}: write a whole number, {int(float(value))}"
        return f"{name} is {value}: write a {'whole ' * (kind == 'int')}number"

    def section(found: re.Match[str]) -> str:
        name, value = found.groups()
        below = [one[len(name) + 3 :].partition(".")[0] for one in known if one.startswith(f"--{name}.")]
        listed = ", ".join(one for one in dict.fromkeys(below) if one != "help")
        return (
            f"{name} is {value}, but it is a section with fields of its own: {listed}. Set one of them (--{name}.FIELD)"
        )

    return _NO_SECTION.sub(section, _NO_NUMBER.sub(number, message))


def _unquoted(message: str) -> str:
    """The remedy where YAML read a text as a truth value, as the code of Norwegian."""
    given = r"value: .*\b(True|False)\b"
    if "<class 'str'>" not in message or not re.search(given, message):
        return ""
    return "\n  YAML reads no, off, yes and on without quotes as truth values: quote them, as 'no' for Norwegian"


def _at_home(value: Any) -> Any:
    """The value, with `~` at the start of each text in it replaced by the home folder."""
    if isinstance(value, str):
        return at_home(value) if value.startswith("~") else value
    if isinstance(value, list | tuple):
        return type(value)(_at_home(one) for one in value)
    if isinstance(value, dict):
        return {name: _at_home(one) for name, one in value.items()}
    if hasattr(value, "items"):  # a namespace of jsonargparse
        for name, one in list(value.items()):
            value[name] = _at_home(one)
    return value
