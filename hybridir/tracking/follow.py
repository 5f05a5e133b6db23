"""Writes a run to MLflow while it goes on, without ever being in its way.

Two threads read and write files of the output folder: one measures the machine, one replays to MLflow. Whatever goes
wrong there is said and tried again; it never reaches the run.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from hybridir.runs.recipe import TrackingConfig
from hybridir.runtime.progress import say
from hybridir.runtime.secrets import without_secrets
from hybridir.tracking.machine import Sampler, describe
from hybridir.tracking.remote import MlflowRun
from hybridir.tracking.state import FAILED, KILLED, State, begin, ending, is_incomplete, load, only_writer, save
from hybridir.tracking.target import command, quiet, reason, target, trouble

EVERY, LONGEST_WAIT = 2.0, 30.0
"""Seconds between two passes; after failures it doubles, up to the second one."""
SAY_AFTER = 2
"""Failures in a row after which it is said: one alone may be two runs making the same experiment."""
DEAD_LIMIT, SILENT_LIMIT, FINISH_LIMIT = 5.0, 30.0, 900.0
"""Seconds that the end of a run waits: where it was asked to stop or nothing was ever written, where the server is
gone, where it answers (models are large)."""
SAY_EVERY = 15.0
"""Seconds between lines about what is still to be written at the end."""


@contextmanager
def follow(config: TrackingConfig, output: Path, ended: bool = False) -> Iterator[None]:
    """While entered, the run in `output` (with its `config.yaml`) is written to MLflow; on leaving, it is completed.

    A run that has `ended` before is left as it is, unless its driver was killed before MLflow had all of it.

    It ends as FINISHED if `results.json` was written meanwhile, as KILLED on KeyboardInterrupt or SystemExit, as
    FAILED on any other exception. Exceptions pass through; none comes from here.
    """
    if not config.enabled or (ended and not is_incomplete(output)):
        yield
        return
    follower = _begin(config, output)
    status = FAILED
    try:
        yield
        status = KILLED  # unless there are results
    except (KeyboardInterrupt, SystemExit):
        status = KILLED
        raise
    finally:
        if follower:
            follower.finish(status)


def _begin(config: TrackingConfig, output: Path) -> "_Follower | None":
    try:
        return _Follower(config, output)
    except Exception as error:
        say(f"tracking is off, as it could not begin ({reason(error)}); the run goes on")
        return None


class _Follower:
    """The threads of one attempt, started once the run has its name in `tracking.json`."""

    def __init__(self, config: TrackingConfig, output: Path) -> None:
        self._output, self._target = output, target(config, output)
        self._seconds = config.system_metrics_every
        self._done = threading.Event()
        self._remote: MlflowRun | None = None
        self._sync = threading.Thread(target=self._follow, name="tracking", daemon=True)
        self._measuring = threading.Thread(target=self._measure, name="system metrics", daemon=True)
        self._words: list[str] = []
        self._trouble, self._failures, self._answered = "there is more than fits into the wait", 0, False
        self._lock = threading.Lock()
        self._only_writer = only_writer(output)
        self._only_writer.acquire()
        self._state = begin(load(output), output)
        self._update()
        quiet()
        self._measuring.start()
        self._sync.start()

    def finish(self, otherwise: str) -> None:
        """Waits for the last pass, not for ever, and says where the run is, or how to write it later."""
        with suppress(OSError, ValueError, KeyError):
            self._update(**ending(self._state, self._output, otherwise))
        self._done.set()
        began = said = time.monotonic()
        with suppress(KeyboardInterrupt):
            while self._sync.is_alive() and time.monotonic() - began < self._limit():
                self._sync.join(0.1)
                if time.monotonic() - said > SAY_EVERY:
                    said = time.monotonic()
                    say("tracking: still writing the rest of the run to MLflow (interrupt to leave it for later)")
        self._only_writer.release()
        late = [
            f"tracking: MLflow at {without_secrets(self._target.uri)} has not all of the run ({self._trouble})",
            f"  nothing is lost; write it later with: {command(self._target.uri, self._output)}",
        ]
        for words in self._words or late:
            say(words)

    def _limit(self) -> float:
        if self._state.status == KILLED:  # whoever sends the signal waits
            return DEAD_LIMIT
        if self._remote:
            return FINISH_LIMIT
        return SILENT_LIMIT if self._answered or self._failures < SAY_AFTER else DEAD_LIMIT

    def _update(self, **changes: Any) -> None:
        with self._lock:
            self._state = replace(self._state, **changes)
            save(self._state, self._output)

    def _measure(self) -> None:
        if not self._seconds:
            return
        try:
            Sampler(self._output / "system.jsonl", self._seconds).run(self._done)
        except Exception as error:
            say(f"tracking: the machine is not measured ({reason(error)})")

    def _follow(self) -> None:
        with suppress(Exception):
            self._update(tags=describe())
        wait = 0.0
        while not self._done.wait(wait):
            try:
                self._connected().replay()
                if self._failures >= SAY_AFTER:
                    say("tracking: MLflow answers again")
                wait, self._failures, self._answered = EVERY, 0, True
            except Exception as error:
                self._failed(error)
                wait = min(EVERY * 2 ** min(self._failures - 1, 9), LONGEST_WAIT)
                if self._failures == SAY_AFTER:
                    shown = f"{without_secrets(self._target.uri)}: {self._trouble}"
                    say(f"tracking: MLflow at {shown}; the run goes on, and is written when that is over")
        self._measuring.join(1)  # for its last line
        for wait in (EVERY, 0):
            try:
                self._words = complete(self._connected(), self._state)
                self._update(complete=True)
                return
            except Exception as error:
                self._failed(error)
                time.sleep(wait)

    def _failed(self, error: Exception) -> None:
        self._remote, self._trouble = None, trouble(error)
        self._failures += 1

    def _connected(self) -> MlflowRun:
        """The run in MLflow; after a failure, connected anew."""
        if not self._remote:
            self._remote = MlflowRun(self._target, self._state, self._output)
        return self._remote


def complete(remote: MlflowRun, state: State) -> list[str]:
    """Ends a run whose `state` has ended, with all that its folder holds; what there is to say about it."""
    assert state.ended
    model = remote.end(state.status, state.ended)
    return [f"tracking: {text}" for text in (model, remote.where()) if text]
