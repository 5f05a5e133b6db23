"""Settings of a config file that do not count, because the command line names what they do not go with.

A prefix or a pooling that was chosen for one model is wrong for another. So where the command line names another
`encoder.name` than a config file, the other fields of `encoder` in that file do not count. And a run has one length:
where the command line names it in steps, epochs or tokens, that of the file does not count.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import yaml

from hybridir.runtime.plain_yaml import load_yaml
from hybridir.runtime.progress import say

_LENGTHS = ("--train.steps", "--train.epochs", "--train.tokens")


def leave_behind(recipe: type[Any], arguments: list[str]) -> list[str]:
    """The arguments, with fields of config files set back to their defaults where they do not count.

    What was set back of `encoder` is printed. Fields that stand on the command line after the file count as ever.
    """
    has_length = any(field.name == "train" for field in fields(recipe))
    defaults = next((asdict(f.default_factory()) for f in fields(recipe) if f.name == "encoder"), {})  # type: ignore
    joined = _joined(arguments)
    found: list[str] = []
    for n, argument in enumerate(joined):
        found.append(argument)
        option, _, file = argument.partition("=")
        if option != "--config":
            continue
        options = {one.partition("=")[0] for one in joined[n + 1 :]}
        if has_length and not options.isdisjoint(_LENGTHS):
            found += [f"{length}=null" for length in _LENGTHS if length not in options]
        names = [one.partition("=")[2] for one in joined[n + 1 :] if one.startswith("--encoder.name=")]
        written = _encoder_of(file)
        given = [name for name, value in defaults.items() if name != "name" and written.get(name, value) != value]
        if names and given and names[-1] != (written.get("name") or ""):
            values = ", ".join(f"encoder.{name} {written[name]!r}" for name in given)
            say(
                f"note: settings of {file} for the encoder {written.get('name') or 'built there'} do not count for "
                f"{names[-1]}: {values}. Name on the command line what you want to keep"
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


def _encoder_of(file: str) -> dict[str, Any]:
    """The section `encoder` of a config file; empty if there is none. That a file is broken, the parser tells."""
    try:
        found = load_yaml(Path(file).expanduser().read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return {}
    section = found.get("encoder") if isinstance(found, dict) else None
    return section if isinstance(section, dict) else {}
