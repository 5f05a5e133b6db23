"""Writes a run to MLflow while it goes on, without disturbing it.

There are two threads: one measures the machine and writes to the output folder, the other replays the folder's files to
MLflow. Their errors are reported and retried; they never reach the run.
"""

import threading
import time
from collections.abc import Iterator, Sequence
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
"""Seconds between two passes. After each failure the wait doubles, up to `LONGEST_WAIT`."""
SAY_AFTER = 2
"""Failures in a row before a message: a single one may come from two runs that create the same experiment."""
DEAD_LIMIT, SILENT_LIMIT, FINISH_LIMIT = 5.0, 30.0, 900.0
"""Seconds that the end of a run waits for MLflow: if the run was asked to stop or MLflow never answered; if MLflow does
not answer any more; if it answers (models are large)."""
SAY_EVERY = 15.0
"""Seconds between messages while the end of a run waits for MLflow."""


@contextmanager
def follow(config: TrackingConfig, output: Path, ended: bool = False, named: Sequence[str] = ()) -> Iterator[None]:
    """While entered, the run in `output` (with its `config.yaml`) is written to MLflow; on leaving, so is the rest.

    `named` are the URIs that the caller named: where `config` comes from a file, credentials go to no other server.
    For a run that `ended` earlier, only what is missing is written (its driver may have been killed too early).

    The status is FAILED after an exception other than KeyboardInterrupt and SystemExit. Otherwise it is FINISHED if
    `results.json` was written meanwhile, else KILLED. Exceptions of the run pass through; tracking itself raises none.
    """
    if not config.enabled or (ended and not is_incomplete(output)):
        yield
        return
    follower = _begin(config, output, named)
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


def _begin(config: TrackingConfig, output: Path, named: Sequence[str]) -> "_Follower | None":
    try:
        return _Follower(config, output, named)
    except Exception as error:
        say(f"tracking is off because it could not start ({reason(error)}); the run goes on")
        return None


class _Follower:
    """The two threads of one attempt. They start once the run's key is in `tracking.json`."""

    def __init__(self, config: TrackingConfig, output: Path, named: Sequence[str]) -> None:
        self._output, self._target = output, target(config, output, named)
        self._seconds = config.system_metrics_every
        self._done = threading.Event()
        self._remote: MlflowRun | None = None
        self._sync = threading.Thread(target=self._follow, name="tracking", daemon=True)
        self._measuring = threading.Thread(target=self._measure, name="system metrics", daemon=True)
        self._words: list[str] = []
        self._trouble, self._failures, self._answered = "there was not enough time", 0, False
        self._lock = threading.Lock()
        self._only_writer = only_writer(output)
        self._only_writer.acquire()
        self._state = begin(load(output), output)
        self._update()
        quiet()
        self._measuring.start()
        self._sync.start()

    def finish(self, otherwise: str) -> None:
        """Waits for the last pass, up to a limit. Then prints where the run is, or the command that writes it later."""
        with suppress(OSError, ValueError, KeyError):
            self._update(**ending(self._state, self._output, otherwise))
        self._done.set()
        began = said = time.monotonic()
        with suppress(KeyboardInterrupt):
            while self._sync.is_alive() and time.monotonic() - began < self._limit():
                self._sync.join(0.1)
                if time.monotonic() - said > SAY_EVERY:
                    said = time.monotonic()
                    say("tracking: still writing the rest of the run to MLflow (Ctrl-C leaves it for later)")
        self._only_writer.release()
        late = [
            f"tracking: MLflow at {without_secrets(self._target.uri)} does not have all of the run ({self._trouble})",
            f"  nothing is lost; write it later with: {command(self._target.uri, self._output)}",
        ]
        for words in self._words or late:
            say(words)

    def _limit(self) -> float:
        if self._state.status == KILLED:  # whoever sent the signal is waiting
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
            say(f"tracking: CPU, memory and GPU use are not recorded ({reason(error)})")

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
                    say(f"tracking: MLflow at {shown}; the run goes on, and is written later")
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
        """The run in MLflow; after a failure, over a new connection."""
        if not self._remote:
            self._remote = MlflowRun(self._target, self._state, self._output)
        return self._remote


def complete(remote: MlflowRun, state: State) -> list[str]:
    """Writes everything in the folder of a run whose `state` has ended, and ends it in MLflow; returns messages."""
    assert state.ended
    model = remote.end(state.status, state.ended)
    return [f"tracking: {text}" for text in (model, remote.where()) if text]
