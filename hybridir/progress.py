"""Shows a training run on the screen by following its history file: the same for one process and for many."""

import json
import sys
import threading
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hybridir.history import read_history


class Follow:
    """While entered, a thread shows new lines of `history`: a bar on a terminal, else a line every `every` steps."""

    def __init__(self, history: Path, steps: int, every: int) -> None:
        self._history, self._steps, self._every = history, steps, every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._seen = max(((line["attempt"], line["step"]) for line in read_history(history)), default=(0, -1))
        self._offset = 0

    def __enter__(self) -> "Follow":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Progress(*columns, TimeRemainingColumn(), disable=not sys.stdout.isatty()) as progress:
            task = progress.add_task("", total=self._steps, completed=self._seen[1] + 1)
            first: dict[str, Any] | None = None
            done = False
            while not done:
                done = self._done.wait(0.5)
                for line in self._unseen():
                    self._seen = (line["attempt"], line["step"])
                    first = first or line
                    progress.update(task, completed=line["step"] + 1, description=describe(line))
                    speed = (line["time"] - first["time"]) / max(1, line["step"] - first["step"])
                    shown = (line["step"] + 1) % self._every == 0 or line["step"] + 1 == self._steps
                    if progress.disable and (shown or "validation" in line):
                        left = speed * (self._steps - line["step"] - 1)
                        print(f"step {line['step'] + 1}/{self._steps}  {describe(line)}  {left:.0f} s left", flush=True)
                    elif "validation" in line:
                        progress.console.print(f"step {line['step'] + 1}  {describe(line)}")

    def _unseen(self) -> list[dict[str, Any]]:
        """Whole lines written since the last call, of steps not shown yet."""
        if not self._history.exists():
            return []
        with open(self._history, "rb") as file:
            if self._history.stat().st_size < self._offset:  # cut back by a resume
                self._offset = 0
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [line for line in map(json.loads, whole.splitlines()) if (line["attempt"], line["step"]) > self._seen]


def describe(line: dict[str, Any]) -> str:
    """A line of the history in words."""
    text = (
        f"loss {line['loss']:.4f}  {line['kind']:5}  lr {line['lr']:.1e}  {line['pairs_per_s']:.0f} pairs/s  "
        f"waiting for data {line['data_wait']:.0%}"
    )
    return text + (f"  validation loss {line['validation']['loss']:.4f}" if "validation" in line else "")
