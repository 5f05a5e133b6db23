"""Progress of a study or of tuning on the screen: a line for each run that ends, and one every 30 s on the others."""

import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from hybridir.experiments.one_run import ArmRun
from hybridir.runtime.history import last_line
from hybridir.runtime.secrets import without_secrets

EVERY = 30.0
"""Seconds between two lines about runs in progress."""


class ArmProgress:
    """While entered, a thread reads the histories of `runs` and prints how far they are.

    `expected` has the estimated seconds of each run, by output folder. `total` is the number of runs if not all of them
    are known at the start (see `began`).
    """

    def __init__(self, runs: Sequence[ArmRun], expected: dict[Path, float], total: int | None = None) -> None:
        self._going = {run.output: run for run in runs}
        self._expected, self._total, self._ended = expected, total or len(runs), 0
        self._screen = sys.stdout  # a run in this process redirects it to its log
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._began = time.monotonic()

    def __enter__(self) -> "ArmProgress":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def began(self, run: ArmRun) -> None:
        """Adds a run that has started."""
        self._going[run.output] = run

    def ended(self, run: ArmRun, error: str, how: str = "") -> None:
        """Prints that a run has ended: with its error if it failed, else with `how`."""
        self._going.pop(run.output, None)
        self._ended += 1
        if error:
            how = f"failed: {error.partition(chr(10))[0]} (full error: {run.output}.log)"
        self._say(f"{self._ended} of {self._total}  {run.label} {how or 'done'}{self._left()}")

    def _left(self) -> str:
        """The time left: the estimate, corrected by how wrong it has been so far; empty without an estimate."""
        going = list(self._going.values())
        left = sum((1 - _share(run)) * self._expected.get(run.output, 0.0) for run in going)
        past = sum(self._expected.values()) - left
        if not self._going or not past:
            return ""
        return f", about {duration(left * (time.monotonic() - self._began) / past)} left"

    def _tell(self) -> None:
        while not self._done.wait(EVERY):
            found = [(run, share) for run in list(self._going.values()) if (share := _share(run))]
            if told := [f"{run.label} {share:.0%}" for run, share in found]:
                self._say(f"  {', '.join(told[:8])}{', ...' if len(told) > 8 else ''}")

    def _say(self, words: str) -> None:
        print(without_secrets(words), file=self._screen, flush=True)


def duration(seconds: float) -> str:
    """Seconds as text, in s, min or h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _share(run: ArmRun) -> float:
    """The share of the training that is done. For `train.tokens` it is an estimate: every step counts like the last."""
    line, train = last_line(run.output / "history.jsonl"), run.recipe.train
    if not line:
        return 0.0
    done = (line["step"] + 1) * (line["tokens"] if train.tokens else 1)
    return min(1.0, done / (train.tokens or train.steps or done))
