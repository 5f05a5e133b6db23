"""Output folders: what kind of results one holds, and how a job begins there or goes on.

`folder.json` in the folder names the kind. Every job opens its folder here, so results of one kind are never taken for
those of another.
"""

import json
import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from hybridir.runs.recipe import fixed_part, public
from hybridir.runtime.durable import replace_text
from hybridir.runtime.owner import OWNER, WRITER
from hybridir.runtime.progress import say

NAME = "folder.json"
"""The file that says what kind of results the folder holds."""
_NO_RESULTS = {NAME, OWNER, WRITER, "config.yaml", "tracking.json", "tracking.lock", "system.jsonl"}
"""Files that a job leaves behind when it fails before it has any result: it may begin there once more."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a job fills a folder with.

    Attributes:
        name: "training run", "evaluation", ...
        job: the command that goes on with it, without its options.
        may_change: sections and fields of the recipe that may differ when it goes on. Licences always may.
    """

    name: str
    job: str
    may_change: frozenset[str]


def output_folder(named: str, job: str) -> Path:
    """The absolute path of the folder of the results, `named` or new; `ValueError` where it would not stay."""
    leaves = "runtime_resources" in Path.cwd().parts and not Path(named).is_absolute()
    if leaves or (not named and "RAY_ADDRESS" in os.environ):
        raise ValueError(
            "a submitted job runs in a folder of Ray's that goes with it: name an --output that stays, from / on"
        )
    return Path(named or f"outputs/{job}-{datetime.now():%Y%m%d-%H%M%S}").absolute()


def open_folder(recipe: Any, kind: Kind, begun: bool = True) -> None:
    """Checks that `recipe` may begin in `recipe.output`, or go on there; changes nothing.

    With `begun` false nothing has been done there that depends on the recipe, so that it may be another one.

    Raises:
        ValueError: the folder holds results of another kind, holds results and `recipe.resume` is not set, holds none
            and it is set, or was begun with another value of a field that may not change.
    """
    output = Path(recipe.output)
    there = kind_of(output)
    if there and there != {"kind": kind.name, "job": kind.job}:
        raise ValueError(
            f"{output} holds another kind of results, {_described(there)}; this would be {_described(_said(kind))}: "
            f"name another --output, or go on with what is there: {_way_on(there['job'], output)}"
        )
    if not recipe.resume:
        found = {path.name for path in output.iterdir() if path.suffix != ".tmp"} if output.exists() else set()
        if found - _NO_RESULTS:
            if not there:
                raise ValueError(f"{output} holds other files: name another --output")
            remedy = "add --resume to go on with them, or name another --output"
            raise ValueError(f"{output} holds results already ({there['kind']}): {remedy}")
        return
    if not there:
        raise ValueError(f"{output} holds no {kind.name} to resume: check --output, or leave --resume out")
    if begun:
        before = _read(output / "config.yaml")
        defaults = fixed_part(public(type(recipe)()), kind.may_change)
        old = defaults | fixed_part(before, kind.may_change)  # fields that came later had their defaults
        new = fixed_part(yaml.safe_load(_config(recipe)), kind.may_change)
        for name, value in new.items():
            if old[name] != value:
                raise ValueError(
                    f"the {kind.name} in {output} was begun with {name} {old[name]!r}, now it is {value!r}: take the "
                    "same value, or name another --output"
                )


def begin_folder(recipe: Any, kind: Kind, more: Mapping[str, Any] | None = None) -> None:
    """Writes `config.yaml`, with `more`, and the kind of the folder, made if missing: it can be resumed from now on."""
    output = Path(recipe.output)
    output.mkdir(parents=True, exist_ok=True)
    replace_text(output / "config.yaml", _config(recipe) + (yaml.safe_dump(dict(more)) if more else ""))
    replace_text(output / NAME, json.dumps(_said(kind) | {"may_change": sorted(kind.may_change)}, indent=1))
    say(f"results go to {output}")


def kind_of(output: Path) -> dict[str, str]:
    """`kind` and `job` of the results in a folder; empty where it holds none. Knows folders without `folder.json`."""
    if (output / NAME).exists():
        said = _read(output / NAME)
        return {name: str(said.get(name, "unknown")) for name in ("kind", "job")}
    if (output / "belongs_to").exists():
        name = (output / "belongs_to").read_text(encoding="utf-8")
        if name == "search":
            return {"kind": "tuning", "job": "jobs/tune.py"}
        return {"kind": "study", "job": f"jobs/study.py {name}"}
    if not (output / "config.yaml").exists():
        return {}
    config = _read(output / "config.yaml")
    if "compare_to" in config:
        return {"kind": "evaluation", "job": "jobs/evaluate.py"}
    if "average_of" in config:
        return {"kind": "mean of weights", "job": "jobs/study.py"}
    return {"kind": "training run", "job": "jobs/train.py"}


@contextmanager
def way_on_said(kind: Kind, output: Path) -> Iterator[None]:
    """Says how to go on where the process is asked to stop."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say(f"go on with: {_way_on(kind.job, output)}")
        raise


def _read(file: Path) -> dict[str, Any]:
    """A file of YAML or JSON; `ValueError` naming it where it holds anything else."""
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, FileNotFoundError) as error:
        raise ValueError(f"{file} cannot be read ({error}): mend it, or name another --output") from None
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no names with values: mend it, or name another --output")
    return found


def _said(kind: Kind) -> dict[str, str]:
    return {"kind": kind.name, "job": kind.job}


def _described(said: dict[str, str]) -> str:
    return f"{said['kind']} ({said['job']})"


def _way_on(job: str, output: Path) -> str:
    return f"python {job} --config {shlex.quote(str(output / 'config.yaml'))} --resume"


def _config(recipe: Any) -> str:
    return yaml.safe_dump(public(replace(recipe, resume=False)), sort_keys=False, allow_unicode=True)
