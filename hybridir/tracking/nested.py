"""Runs of a study or of tuning, as child runs of its own run in MLflow; each is written when it has ended."""

import time
from collections.abc import Sequence
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
"""Seconds to wait until MLflow has the parent run."""


def record(config: TrackingConfig, output: Path, study: Path, named: Sequence[str] = ()) -> None:
    """Writes the ended run in `output` to the MLflow of the folder `study`, as a child of that folder's run.

    Its status is FINISHED if it has results, KILLED if it was stopped early, else FAILED. An error of MLflow is not
    raised but printed, with the command that writes the run later. `named`: as for `follow`.
    """
    if not config.enabled or not (output / "config.yaml").exists():  # it failed before it had a config
        return
    status = FINISHED if results_time(output) else KILLED if (output / STOPPED).exists() else FAILED
    quiet()
    goal = target(config, study, named)
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
        _write(goal, state, output)
        save(replace(state, complete=True), output)
    except Exception as error:
        say(f"tracking: {output.name} is not in MLflow ({trouble(error)}); write it with: {command(goal.uri, output)}")


def _write(goal: Target, state: State, output: Path) -> None:
    """Writes the run once MLflow has its parent, which a thread writes; waits while that thread locks the database.

    Any other error gets a second try: it may come from a row, of the experiment or the data set, which that thread has
    created at the same moment. What is written twice is stored once.
    """
    until, tried_again = time.monotonic() + PATIENCE, False
    while True:
        try:
            complete(MlflowRun(goal, state, output), state)
            return
        except Exception as error:
            waits = isinstance(error, LookupError) or "database is locked" in str(error)
            if time.monotonic() > until or (tried_again and not waits):
                raise
            tried_again |= not waits
            time.sleep(0.5)
