"""Output folders: which kind of results a folder holds, and how a job starts or resumes there.

`folder.json` in the folder names the kind. Every job opens its folder with these functions, so no job mistakes the
results of another kind for its own.
"""

import json
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import yaml

from hybridir.runs.recipe import fixed_part, public
from hybridir.runtime.durable import replace_text
from hybridir.runtime.history import EVENTS
from hybridir.runtime.owner import OWNER, WRITER, own
from hybridir.runtime.plain_yaml import load_yaml, read_yaml
from hybridir.runtime.progress import say, say_last
from hybridir.training.identity import check_saved_terms, with_defaults
from hybridir.training.loop import STOP

NAME = "folder.json"
"""The file that names the kind of results in the folder."""
_NO_RESULTS = {NAME, OWNER, WRITER, "config.yaml", "tracking.json", "tracking.lock", "system.jsonl"}
"""Files left by a job that failed before it had any result: a job may start in such a folder without `--resume`."""
_PREPARED = {"initial", "rejected.jsonl", "data_card.json", "data_card.md", EVENTS, STOP, "units/texts"}
"""What a job writes while it prepares: no results either, if a job has begun there. A new start removes it."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of output folder.

    Attributes:
        name: "training run", "evaluation", ...
        job: the command that resumes it, without options.
        may_change: sections and fields of the recipe that may change on resume. Licences always may.
    """

    name: str
    job: str
    may_change: frozenset[str]

    @property
    def short(self) -> str:
        """The name of the job, or of the study: the first word of the folder's name if none is given."""
        return Path(self.job.split()[-1]).stem


AnyRecipe = TypeVar("AnyRecipe", bound=Any)


def output_folder(named: str, job: str) -> Path:
    """The absolute path of the output folder: `named`, or a new one. `ValueError` if Ray would delete it."""
    leaves = "runtime_resources" in Path(os.path.realpath(named)).parts
    if leaves or (not named and "RAY_ADDRESS" in os.environ):
        raise ValueError(
            "a submitted job runs in a folder that Ray deletes: name an absolute path outside of it as --output"
        )
    return Path(named or f"outputs/{job}-{datetime.now():%Y%m%d-%H%M%S}").absolute()


@contextmanager
def opened(
    recipe: AnyRecipe, kind: Kind, fill: Callable[[AnyRecipe], AnyRecipe] = lambda recipe: recipe, begun: bool = True
) -> Iterator[AnyRecipe]:
    """While entered, the output folder belongs to this process, and its job may start or resume (see `open_folder`).

    Yields the recipe with the path of the folder, then filled in by `fill`. Results may be written after
    `begin_folder`; if the process is asked to stop from then on, the command that resumes the job is printed.
    """
    output = output_folder(recipe.output, kind.short)
    with own(output):
        recipe = fill(replace(recipe, output=str(output)))
        open_folder(recipe, kind, begun)
        try:
            yield recipe
        except (KeyboardInterrupt, SystemExit):
            if kind_of(output):
                say_last(f"continue with: {_resuming(kind.job, output)}")
            raise


def open_folder(recipe: Any, kind: Kind, begun: bool = True) -> None:
    """Checks that the job of `recipe` may start or resume in `recipe.output`; changes nothing.

    If `begun` is false, nothing in the folder depends on the recipe yet, so all its fields may change.

    Raises:
        ValueError: the folder holds results of another kind; it holds results, but `recipe.resume` is false; it holds
            none, but `recipe.resume` is true; a field has changed that may not; or it was started with a term of the
            loss that this version does not have.
    """
    output = Path(recipe.output)
    there, left = kind_of(output), _results(output)
    if there and there != _said(kind) and (left or recipe.resume):
        raise ValueError(
            f"{output} holds another kind of results: {_described(there)}, not {_described(_said(kind))}. Name another "
            f"--output{_instead(there['job'], output)}"
        )
    if not recipe.resume:
        if left:
            if not there:
                raise ValueError(f"{output} holds files that no job has written: name another --output")
            remedy = "add --resume to continue with them, or name another --output"
            raise ValueError(f"{output} holds results already ({there['kind']}): {remedy}")
        return
    if not there:
        raise ValueError(f"{output} holds no {kind.name} to resume: check --output, or omit --resume")
    if begun:
        before = read_yaml(output / "config.yaml")
        defaults = fixed_part(public(type(recipe)()), kind.may_change)
        old = with_defaults(fixed_part(before, kind.may_change), defaults)
        new = fixed_part(load_yaml(_config(recipe)), kind.may_change)
        check_saved_terms(old, new, str(output / "config.yaml"))
        for name in new:
            was, value = (_as_meant(name, config[name]) for config in (old, new))
            if was != value:
                raise ValueError(
                    f"the {kind.name} in {output} was started with {name} {was!r}, but now it is {value!r}: take "
                    "the old value, or name another --output"
                )


def _as_meant(name: str, value: Any) -> Any:
    """A value of a configuration, with what it meant in earlier versions if it was left out."""
    return "test" if (name, value) == ("benchmark.split", None) else value


def begin_folder(recipe: Any, kind: Kind, more: Mapping[str, Any] | None = None) -> None:
    """Makes the folder, and writes `config.yaml` (with the entries of `more`) and the kind. It can then be resumed.

    A new start removes what an earlier one prepared there that was refused or killed before it had any result.
    """
    output = Path(recipe.output)
    output.mkdir(parents=True, exist_ok=True)
    if not recipe.resume and kind_of(output) and not _results(output):
        for name in _PREPARED:
            if (output / name).is_dir():
                shutil.rmtree(output / name)
            else:
                (output / name).unlink(missing_ok=True)
    replace_text(output / "config.yaml", _config(recipe) + (yaml.safe_dump(dict(more)) if more else ""))
    replace_text(output / NAME, json.dumps(_said(kind) | {"may_change": sorted(kind.may_change)}, indent=1))
    say(f"results go to {output}")


def kind_of(output: Path) -> dict[str, str]:
    """`kind` and `job` of the results in a folder; empty if there are none. Older folders have no `folder.json`."""
    if (output / NAME).exists():
        said = read_yaml(output / NAME)
        return {name: str(said.get(name, "unknown")) for name in ("kind", "job")}
    if (output / "belongs_to").exists():  # of version 0.1, as are all below
        name = (output / "belongs_to").read_text(encoding="utf-8")
        if name == "search":
            return {"kind": "tuning", "job": "jobs/tune.py"}
        return {"kind": "study", "job": f"jobs/study.py {name}"}
    if not (output / "config.yaml").exists():
        return {}
    config = read_yaml(output / "config.yaml")
    if "compare_to" in config:
        return {"kind": "evaluation", "job": "jobs/evaluate.py"}
    if "average_of" in config:
        return {"kind": "mean of weights", "job": ""}
    return {"kind": "training run", "job": "jobs/train.py"}


def _results(output: Path) -> bool:
    """Whether a folder holds more than a job leaves that was refused or killed while it prepared: its own results, or
    files of somebody else. Half-written files and folders (`*.tmp`) and folders without files are nothing.
    """
    history = output / "history.jsonl"
    nothing = _NO_RESULTS | (_PREPARED if kind_of(output) else set())
    nothing |= {history.name} if history.exists() and not history.stat().st_size else set()  # opened before step 1
    for path in output.rglob("*"):
        inside = path.relative_to(output)
        within = (inside, *inside.parents)
        if not path.is_dir() and not any(one.suffix == ".tmp" or str(one) in nothing for one in within):
            return True
    return False


def _said(kind: Kind) -> dict[str, str]:
    return {"kind": kind.name, "job": kind.job}


def _described(said: dict[str, str]) -> str:
    return f"{said['kind']} ({said['job']})" if said["job"] else said["kind"]


def _instead(job: str, output: Path) -> str:
    return f", or continue with these results: {_resuming(job, output)}" if job else ""


def _resuming(job: str, output: Path) -> str:
    return f"python {job} --config {shlex.quote(str(output / 'config.yaml'))} --resume"


def _config(recipe: Any) -> str:
    return yaml.safe_dump(public(replace(recipe, resume=False)), sort_keys=False, allow_unicode=True)
