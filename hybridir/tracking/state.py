"""`tracking.json`: facts about a run that MLflow needs and no other file of its folder has."""

import json
import os
import time
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from hybridir.runtime.durable import open_alone, replace_text
from hybridir.runtime.history import last_attempt
from hybridir.runtime.secrets import masked

LOCK_WAIT = 2.0
"""Seconds to wait for another writer to finish."""
RUNNING, FINISHED, KILLED, FAILED = "RUNNING", "FINISHED", "KILLED", "FAILED"


@dataclass(frozen=True, kw_only=True)
class State:
    """What a folder knows about its run in MLflow. An attempt is one start of the run.

    Attributes:
        key: identifies the run in MLflow, over all attempts.
        parent: key of the parent run (study or tuning); empty for none.
        started: start of the first attempt, unix milliseconds.
        ended: end of the last attempt, unix milliseconds; None while it goes on.
        status: RUNNING, FINISHED, KILLED or FAILED.
        results_before: modification time (ns) of `results.json` when the last attempt began; 0 without one.
        attempts_before: number of the last attempt in the history when the last attempt began.
        finished_before: end of the run (unix ms) if it was FINISHED when the last attempt began; else None.
        tags: describe code and machine.
        complete: whether MLflow has everything.
    """

    key: str
    parent: str = ""
    started: int
    ended: int | None = None
    status: str = RUNNING
    results_before: int = 0
    attempts_before: int = 0
    finished_before: int | None = None
    tags: dict[str, str]
    complete: bool = False


def load(output: Path) -> State:
    """The state saved in a folder, or a new one; `ValueError` if the file is damaged."""
    path = output / "tracking.json"
    if path.exists():
        try:
            return State(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(
                f"{path} is damaged: delete it. MLflow then gets the run again, as a new one beside the old one"
            ) from None
    return State(key=uuid.uuid4().hex, started=now(), tags={})


def save(state: State, output: Path) -> None:
    """Replaces the file atomically, without secrets."""
    replace_text(output / "tracking.json", json.dumps(masked(asdict(state)), indent=1, ensure_ascii=False))


def is_incomplete(output: Path) -> bool:
    """Whether the run is tracked and, as far as its folder knows, MLflow does not have all of it."""
    try:
        return (output / "tracking.json").exists() and not load(output).complete
    except ValueError:
        return True


def begin(state: State, output: Path) -> State:
    """The state at the start of an attempt."""
    results, attempts = results_time(output), last_attempt(output / "history.jsonl")
    finished_before = state.ended if state.status == FINISHED else None
    if state.status == RUNNING and results:  # the driver was killed, perhaps after the results were written
        if results != state.results_before:
            finished_before = results // 10**6
        elif attempts == state.attempts_before:
            finished_before = state.finished_before
    return replace(
        state,
        status=RUNNING,
        ended=None,
        complete=False,
        results_before=results,
        attempts_before=attempts,
        finished_before=finished_before,
    )


def ending(state: State, output: Path, otherwise: str, ended: int | None = None) -> dict[str, Any]:
    """The fields that change when an attempt ends, at `ended` (unix ms; omitted: now).

    The status is FINISHED if the attempt wrote results and `otherwise` is not FAILED; else it is `otherwise`. But a run
    that was FINISHED before stays as it was if the attempt trained nothing and wrote no results.
    """
    idle = last_attempt(output / "history.jsonl") <= state.attempts_before
    if idle and state.finished_before and results_time(output) == state.results_before:
        return {"status": FINISHED, "ended": state.finished_before}
    finished = otherwise != FAILED and results_time(output) not in (0, state.results_before)
    return {"status": FINISHED if finished else otherwise, "ended": ended or now()}


def results_time(output: Path) -> int:
    """Modification time of `results.json` in ns; 0 without one."""
    path = output / "results.json"
    return path.stat().st_mtime_ns if path.exists() else 0


def only_writer(output: Path) -> FileLock:
    """The lock of the process that writes the folder to MLflow; the system releases it if that process dies."""
    os.close(open_alone(output / "tracking.lock", os.O_RDWR))
    return FileLock(output / "tracking.lock", timeout=LOCK_WAIT, thread_local=False)


def now() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 10**6
