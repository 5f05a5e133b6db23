"""`tracking.json`: what a run's folder has to say to MLflow that its other files do not."""

import json
import time
import uuid
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock

from hybridir.runtime.durable import replace_text
from hybridir.runtime.history import last_attempt
from hybridir.runtime.secrets import without_secrets

LOCK_WAIT = 2.0
"""Seconds for another writer to be done."""
RUNNING, FINISHED, KILLED, FAILED = "RUNNING", "FINISHED", "KILLED", "FAILED"


@dataclass(frozen=True, kw_only=True)
class State:
    """A run as its folder knows it.

    Attributes:
        key: names the run in MLflow, over all attempts.
        parent: likewise the run that it stands below; empty for none.
        started: unix milliseconds of the first attempt.
        ended: unix milliseconds of the last one; None while it goes on.
        status: RUNNING, FINISHED, KILLED or FAILED.
        results_before: modification time (ns) of `results.json` when the last attempt began; 0 without one.
        attempts_before: attempts with lines in the history then.
        finished_before: when the run ended, if it was FINISHED then.
        tags: of code and machine.
        complete: whether MLflow has all of it.
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
    """The state of a folder; a new one where there is none."""
    path = output / "tracking.json"
    if path.exists():
        try:
            return State(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise ValueError(
                f"{path} is damaged: delete it, and the run is written to MLflow anew, beside what is there of it"
            ) from None
    return State(key=uuid.uuid4().hex, started=now(), tags={})


def save(state: State, output: Path) -> None:
    """Replaces the file in one go."""
    text = json.dumps(asdict(state), indent=1, ensure_ascii=False)
    replace_text(output / "tracking.json", without_secrets(text))


def is_incomplete(output: Path) -> bool:
    """Whether a run is to be in MLflow, and is not there with all it has, as far as that is known."""
    try:
        return (output / "tracking.json").exists() and not load(output).complete
    except ValueError:
        return True


def begin(state: State, output: Path) -> State:
    """The state as an attempt begins."""
    results, attempts = results_time(output), last_attempt(output / "history.jsonl")
    finished_before = state.ended if state.status == FINISHED else None
    if state.status == RUNNING and results:  # killed, perhaps after all was done
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
    """What changes when an attempt ends (`ended` unix ms, now if omitted).

    Its status is `otherwise`; but FINISHED where `otherwise` is not FAILED and the attempt wrote results, and as before
    where the run was FINISHED and the attempt trained nothing.
    """
    idle = last_attempt(output / "history.jsonl") <= state.attempts_before
    if idle and state.finished_before and results_time(output) == state.results_before:
        return {"status": FINISHED, "ended": state.finished_before}
    finished = otherwise != FAILED and results_time(output) not in (0, state.results_before)
    return {"status": FINISHED if finished else otherwise, "ended": ended or now()}


def results_time(output: Path) -> int:
    """Modification time of `results.json` in ns, 0 without one."""
    path = output / "results.json"
    return path.stat().st_mtime_ns if path.exists() else 0


def only_writer(output: Path) -> FileLock:
    """Held by who writes the folder to MLflow; let go of by the system if that process dies."""
    return FileLock(output / "tracking.lock", timeout=LOCK_WAIT, thread_local=False)


def now() -> int:
    """Unix milliseconds."""
    return time.time_ns() // 10**6
