"""Runs of a study in MLflow, below the run of the study: each is written once, when it has ended."""

from dataclasses import replace
from pathlib import Path

from hybridir.history import read_history
from hybridir.progress import say
from hybridir.recipe import TrackingConfig
from hybridir.tracking.follow import complete
from hybridir.tracking.remote import MlflowRun
from hybridir.tracking.state import FINISHED, load, results_time, save
from hybridir.tracking.target import command, quiet, target, trouble


def record(config: TrackingConfig, output: Path, study: Path) -> None:
    """Writes the finished run in `output` to MLflow below that of the folder `study`, where that is written too.

    What keeps it from that is said, and how to write it later; it is not raised.
    """
    if not config.enabled:
        return
    quiet()
    goal = target(config, study)
    try:
        state = load(output)
        if state.complete:
            return
        ended = results_time(output) // 10**6
        first = next(read_history(output / "history.jsonl"), None)
        started = round((first["time"] - first["seconds"]) * 1000) if first else ended
        above = load(study)
        state = replace(state, status=FINISHED, started=started, ended=ended, tags=above.tags, parent=above.key)
        save(state, output)
        complete(MlflowRun(goal, state, output), state)
        save(replace(state, complete=True), output)
    except Exception as error:
        say(f"tracking: {output.name} is not written ({trouble(error)}); later: {command(goal.uri, output)}")
