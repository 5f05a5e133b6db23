"""Settings of a config file that are ignored, because they do not fit what the command line says.

- The command line names another `encoder.name`: the other fields of `encoder` in the file are ignored, since a prefix
  or a pooling that was chosen for one model is wrong for another.
- The command line gives the length of the run, in steps, epochs or tokens: the length in the file is ignored.
- The file has a term of the loss that this version no longer has: it is ignored if it was switched off.
"""

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from hybridir.runtime.home import at_home
from hybridir.runtime.plain_yaml import read_yaml
from hybridir.runtime.progress import say
from hybridir.runtime.words import did_you_mean

_LENGTHS = ("--train.steps", "--train.epochs", "--train.tokens")


def leave_behind(recipe: type[Any], arguments: list[str]) -> list[str]:
    """The arguments, which have files first, with fields of files set back to their defaults where they do not count.

    What was set back of `encoder` is printed. Fields that stand on the command line count as ever.

    Raises:
        ValueError: a file cannot be read, has another value in the place of a section, or switches on a term of the
            loss that there is not (see `check_terms`).
    """
    has_length = any(field.name == "train" for field in fields(recipe))
    sections = {f.name: asdict(f.default_factory()) for f in fields(recipe) if f.name in ("encoder", "loss")}  # type: ignore
    defaults, loss = sections.get("encoder", {}), sections.get("loss", {})
    joined = _joined(arguments)
    found: list[str] = []
    for n, argument in enumerate(joined):
        found.append(argument)
        option, _, file = argument.partition("=")
        if option != "--config":
            continue
        content = _content(file)
        for field in fields(recipe):
            if is_dataclass(field.type) and not isinstance(value := content.get(field.name, {}), dict | str):
                raise ValueError(f"{file} has {field.name} {value!r}, but it is a section: write its fields below it")
        if gone := loss and check_terms(_section(content, "loss"), loss, file):
            kept = {name: value for name, value in content["loss"].items() if name not in gone}
            say(f"note: {file} has loss.{', loss.'.join(gone)} with weight 0, which this version does not have")
            found[-1] = f"--config={yaml.safe_dump(content | {'loss': kept}, default_flow_style=True)}"
        options = {one.partition("=")[0] for one in joined[n + 1 :]}
        if has_length and not options.isdisjoint(_LENGTHS):
            found += [f"{length}=null" for length in _LENGTHS if length not in options]
        names = [one.partition("=")[2] for one in joined[n + 1 :] if one.startswith("--encoder.name=")]
        written = _section(content, "encoder")
        given = [name for name, value in defaults.items() if name != "name" and written.get(name, value) != value]
        if names and given and names[-1] != (written.get("name") or ""):
            values = ", ".join(f"encoder.{name} {written[name]!r}" for name in given)
            say(
                f"note: {names[-1] or 'a new encoder'} is used without the settings that {file} has for "
                f"{written.get('name') or 'the encoder built there'}: {values}. Name those to keep on the command line"
            )
            found += [f"--encoder.{name}={json.dumps(defaults[name])}" for name in given]
    return found


def _joined(arguments: list[str]) -> list[str]:
    """`--config FILE` and `--encoder.name NAME` as one argument each."""
    found: list[str] = []
    for argument in arguments:
        if found and found[-1] in ("--config", "--encoder.name"):
            found[-1] += f"={argument}"
        else:
            found.append(argument)
    return found


def check_terms(written: Mapping[str, Any], known: Collection[str], where: str) -> list[str]:
    """The terms of a loss, by name in `written`, that are not `known`, and that were switched off.

    Raises:
        ValueError: one that is not known has a weight above 0. The message begins with `where` it was written.
    """
    weights = {
        name: term["weight"]
        for name, term in written.items()
        if name not in known and isinstance(term, dict) and "weight" in term
    }
    for name, weight in weights.items():
        if weight != 0:
            raise ValueError(
                f"{where} has loss.{name}.weight {weight}, but this version has no loss {name}"
                f"{did_you_mean(name, known)}: continue with the version that has it, or start a new run without it"
            )
    return list(weights)


def _content(file: str) -> dict[str, Any]:
    """The content of a config file; empty if there is none, which the parser tells."""
    path = at_home(file)
    return read_yaml(Path(path)) if os.path.isfile(path) else {}


def _section(content: dict[str, Any], name: str) -> dict[str, Any]:
    section = content.get(name)
    return section if isinstance(section, dict) else {}
