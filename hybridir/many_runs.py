"""An output folder of many runs, which a study and a search fill: what it belongs to, and who computes the runs."""

import shlex
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from hybridir.arm import ArmRun
from hybridir.durable import replace_text
from hybridir.owner import OWNER
from hybridir.progress import say
from hybridir.recipe import Recipe, TrackingConfig, public
from hybridir.run import Track

NAME = "belongs_to"
"""The file that says what fills the folder."""
MAY_CHANGE = ("scaling", "tracking", "output", "cache", "resume", "dry_run")
"""Sections that may differ when it goes on."""


@dataclass(frozen=True)
class Runner:
    """What computes runs.

    Attributes:
        start: does all runs, in any order, and gives each as it ends, with what went wrong (see `arm.attempt`).
        at_once: how many at a time, as far as is known.
        track: while entered, what fills the folder is tracked.
        record: (config, folder of a run that has ended, of what it is part of): writes the run down below that.
    """

    start: Callable[[Sequence[ArmRun]], Iterable[tuple[ArmRun, str]]]
    at_once: int
    track: Track
    record: Callable[[TrackingConfig, Path, Path], None]


def open_folder(recipe: Recipe, name: str, may_change: Collection[str]) -> None:
    """Refuses the output folder where it holds something else, or was begun otherwise than `recipe` has it.

    Else it belongs to `name`. `ValueError` with the remedy.
    """
    output = Path(recipe.output)
    file, config = output / NAME, output / "config.yaml"
    if not recipe.resume and {path.name for path in output.iterdir()} - {OWNER}:
        raise ValueError(f"{output} is not empty: add --resume to go on with it, or name another --output")
    if not recipe.resume:
        return
    if not file.exists() or file.read_text(encoding="utf-8") != name:
        raise ValueError(f"{output} holds no {name} to resume: check --output, or leave --resume out")
    before = yaml.safe_load(config.read_text(encoding="utf-8"))
    for field, value in yaml.safe_load(_config(recipe)).items():
        if field not in (*MAY_CHANGE, *may_change) and before.get(field) != value:
            raise ValueError(
                f"what is in {output} was begun with {field} {before.get(field)}, now it is {value}: take the same, "
                "or name another --output"
            )


def begin_folder(recipe: Recipe, name: str) -> None:
    """From now on the folder belongs to `name`, and can be resumed."""
    replace_text(Path(recipe.output) / "config.yaml", _config(recipe))
    replace_text(Path(recipe.output) / NAME, name)


def copy_cards(folder: Path, output: Path) -> None:
    """Takes what says what the data hold from the folder that they were looked at in."""
    for file in ("data_card.json", "data_card.md", "rejected.jsonl"):
        shutil.copy(folder / file, output)


@contextmanager
def way_on_said(command: str, output: Path) -> Iterator[None]:
    """Says how to go on where the process is asked to stop."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        say(f"go on with: python {command} --config {shlex.quote(str(output / 'config.yaml'))} --resume")
        raise


def _config(recipe: Recipe) -> str:
    return yaml.safe_dump(public(replace(recipe, resume=False)), sort_keys=False, allow_unicode=True)
