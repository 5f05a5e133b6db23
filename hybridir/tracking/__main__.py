"""Adds to MLflow what it lacks of a run that has ended: python -m hybridir.tracking OUTPUT."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from filelock import Timeout

from hybridir.runs.recipe import TrackingConfig
from hybridir.runtime.durable import check_links
from hybridir.runtime.plain_yaml import read_yaml
from hybridir.runtime.progress import say
from hybridir.runtime.secrets import errors_masked, without_secrets
from hybridir.tracking.follow import complete
from hybridir.tracking.remote import MlflowRun
from hybridir.tracking.state import KILLED, RUNNING, ending, load, only_writer, save
from hybridir.tracking.target import Target, command, target, trouble


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m hybridir.tracking", description=__doc__)
    parser.add_argument("output", type=Path, help="output folder of a run that has ended")
    parser.add_argument("--uri", help="MLflow server or database; default: that of the run's config.yaml")
    arguments = parser.parse_args()
    with errors_masked(ValueError):
        _write(arguments.output.absolute(), arguments.uri)


def _write(output: Path, uri: str | None) -> None:
    if not (output / "config.yaml").exists():
        raise ValueError(f"{output} holds no run (there is no config.yaml): give the --output folder of a run")
    check_links(output)
    config = read_yaml(output / "config.yaml").get("tracking", {})
    goal = target(TrackingConfig(**config | ({"uri": uri} if uri else {})), output, [uri] if uri else [])
    try:
        with only_writer(output):
            _complete(output, goal)
    except Timeout:
        raise ValueError(f"the run in {output} is still going on, and writes to MLflow itself: wait for it") from None


def _complete(output: Path, goal: Target) -> None:
    state = load(output)
    if state.status == RUNNING:  # its driver was killed
        state = replace(state, **ending(state, output, KILLED, _last_sign(output)))
    save(state, output)
    try:
        said = complete(MlflowRun(goal, state, output), state)
    except Exception as error:
        shown = f"{without_secrets(goal.uri)}: {trouble(error)}"
        sys.exit(f"error: MLflow at {shown}. Nothing is lost; try again with: {command(goal.uri, output)}")
    save(replace(state, complete=True), output)
    for words in said:
        say(words)


def _last_sign(output: Path) -> int:
    """When the run last wrote one of its files, in unix milliseconds."""
    names = ("results.json", "history.jsonl", "config.yaml")
    return max((output / name).stat().st_mtime_ns for name in names if (output / name).exists()) // 10**6


if __name__ == "__main__":
    main()
