"""Runs of a study or a search in MLflow, below its own: each is written when it has ended."""

import time
from dataclasses import replace
from pathlib import Path

from hybridir.experiments.one_run import STOPPED
from hybridir.runs.recipe import TrackingConfig
from hybridir.runtime.history import read_history
from hybridir.runtime.progress import say
from hybridir.tracking.follow import complete
from hybridir.tracking.remote import MlflowRun
from hybridir.tracking.state import FAILED, FINISHED, KILLED, State, load, now, results_time, save
from hybridir.tracking.target import Target, command, quiet, target, trouble

PATIENCE = 30.0
"""Seconds for the run above to appear."""


def record(config: TrackingConfig, output: Path, study: Path) -> None:
    """Writes the run in `output` that has ended to MLflow below that of the folder `study`, where that is written too.

    It is FINISHED with results, KILLED if it was stopped early, else FAILED. What keeps it from that is said, and how
    to write it later; it is not raised.
    """
    if not config.enabled or not (output / "config.yaml").exists():  # it failed before it was a run
        return
    status = FINISHED if results_time(output) else KILLED if (output / STOPPED).exists() else FAILED
    quiet()
    goal = target(config, study)
    try:
        state = load(output)
        if state.complete and state.status == status:
            return
        lines = list(read_history(output / "history.jsonl"))
        ended = results_time(output) // 10**6 or (round(lines[-1]["time"] * 1000) if lines else now())
        started = round((lines[0]["time"] - lines[0]["seconds"]) * 1000) if lines else ended
        above = load(study)
        state = replace(state, status=status, started=started, ended=ended, tags=above.tags, parent=above.key)
        save(state, output)
        complete(_connected(goal, state, output), state)
        save(replace(state, complete=True), output)
    except Exception as error:
        say(f"tracking: {output.name} is not written ({trouble(error)}); later: {command(goal.uri, output)}")


def _connected(goal: Target, state: State, output: Path) -> MlflowRun:
    """The run, once the one above it is there: that is written by a thread, which needs some seconds to begin."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return MlflowRun(goal, state, output)
        except LookupError:
            if time.monotonic() > until:
                raise
            time.sleep(0.5)
