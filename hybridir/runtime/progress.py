"""Progress on the screen: a bar on a terminal, plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
from numpy import ndarray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from hybridir.runtime.history import EVENTS, Tail, read_history
from hybridir.runtime.secrets import without_secrets

SECONDS = 10
"""Seconds between lines about reading, tokenising, training and encoding, if there is no terminal."""
LOOK = 0.5
"""Seconds between two looks at what is done."""
_T = TypeVar("_T")


class Follow:
    """Context manager: a thread shows the progress of a run, read from the file `history` and the events beside it.

    On a terminal it shows a bar over `steps` steps, elsewhere one line every `every` steps, or `SECONDS` if they take
    longer.
    """

    def __init__(self, history: Path, steps: int, every: int) -> None:
        self._tail, self._steps, self._every = Tail(history), steps, every
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._events = Tail(history.with_name(EVENTS))
        while self._events.read():
            pass  # events of earlier attempts
        self._seen = max(((line["attempt"], line["step"]) for line in read_history(history)), default=(0, -1))

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
            shown_at, done = 0.0, False
            while not done:
                done = self._done.wait(0.5)
                for event in self._events.read():
                    (print if progress.disable else progress.console.print)(without_secrets(event["text"]))
                for line in chain.from_iterable(iter(self._tail.read, [])):
                    if (line["attempt"], line["step"]) <= self._seen:
                        continue
                    self._seen = (line["attempt"], line["step"])
                    if not first:
                        first, shown_at = line, line["time"]
                    progress.update(task, completed=line["step"] + 1, description=describe(line))
                    speed = (line["time"] - first["time"]) / max(1, line["step"] - first["step"])
                    shown = (line["step"] + 1) % self._every == 0 or line["step"] + 1 == self._steps
                    shown |= "validation" in line or line["time"] - shown_at >= SECONDS
                    if progress.disable and shown:
                        shown_at = line["time"]
                        left = speed * (self._steps - line["step"] - 1)
                        print(f"step {line['step'] + 1}/{self._steps}  {describe(line)}  {left:.0f} s left", flush=True)
                    elif "validation" in line:
                        progress.console.print(f"step {line['step'] + 1}  {describe(line)}")


def describe(line: dict[str, Any]) -> str:
    """A line of the history as text."""
    text = (
        f"loss {line['loss']:.4f}  {line['kind']:5}  lr {line['lr']:.1e}  {line['pairs_per_s']:.0f} pairs/s  "
        f"waiting for data {line['data_wait']:.0%}"
    )
    if not (found := line.get("validation")):
        return text
    metrics = {f"{name} mAP": value for name, value in found.get("mAP", {}).items()}
    metrics |= {name: value for name, value in found.items() if name not in ("loss", "mono", "cross", "mAP")}
    shown = "".join(f"  {name} {value:.3f}" for name, value in metrics.items())
    return f"{text}  validation loss {found['loss']:.4f}{shown}"


def watch_chunks(done: str, chunks: Iterable[pa.RecordBatch], total: int) -> Iterator[pa.RecordBatch]:
    """Passes the chunks on and shows how many of `total` have come; `done` is the verb shown, such as `tokenised`."""
    return watch(done, ((chunk, chunk.num_rows, n / total) for n, chunk in enumerate(chunks)))


def watch_encoding(blocks: Iterable[ndarray], total: int, within: Callable[[], int] = lambda: 0) -> Iterator[ndarray]:
    """Passes blocks of embeddings on and shows how many of `total` texts are encoded, if it takes over `SECONDS`.

    `within` says how many texts of the next block are encoded by now: on a CPU, a block can take minutes.
    """

    def counted() -> Iterator[tuple[ndarray, int, float]]:
        done = 0
        for block in blocks:
            done += len(block)
            yield block, len(block), done / total

    return watch("encoded", counted(), "texts", least=SECONDS, within=lambda: ((texts := within()), texts / total))


def watch(
    done: str,
    batches: Iterable[tuple[_T, int, float]],
    unit: str = "rows",
    least: float = 0,
    within: Callable[[], tuple[int, float]] = lambda: (0, 0.0),
    also: Callable[[], str] = str,
) -> Iterator[_T]:
    """Passes batches on and shows progress; `done` is the verb shown, such as `read`.

    Each item is (batch, its number of rows, share of the whole that is done, 0 to 1). `within` gives rows and share of
    what is done of the next batch; it is asked by a thread. Lines end with what `also` returns. The final line, with
    the total, is printed only if everything took at least `least` seconds.
    """
    began = shown = time.monotonic()
    rows, whole = 0, 0.0
    columns = (TextColumn(done), BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    ended = threading.Event()
    with Progress(*columns, disable=not sys.stdout.isatty(), transient=True) as progress:
        task = progress.add_task("", total=1.0)

        def look() -> None:
            nonlocal shown
            while not ended.wait(LOOK):
                more, part = within()
                count, share = rows + more, min(1.0, whole + part)
                progress.update(task, completed=share, description=f"{count:,} {unit}{also()}")
                if progress.disable and time.monotonic() - shown > SECONDS:
                    shown = time.monotonic()
                    spent = shown - began
                    speed = f"{count / spent:,.0f} {unit}/s" if count else f"after {spent:.0f} s"
                    left = f", {spent * (1 - share) / share:,.0f} s left" if share else ""
                    say(f"{done} {count:,} {unit} ({share:.0%}), {speed}{left}{also()}")

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            for batch, size, share in batches:
                rows, whole = rows + size, share
                yield batch
        finally:
            ended.set()
            thread.join()
    seconds = time.monotonic() - began
    if seconds >= least:
        say(f"{done} {rows:,} {unit} in {seconds:.0f} s ({rows / max(seconds, 1e-9):,.0f} {unit}/s){also()}")


def say(message: str) -> None:
    """Prints a line at once, with secrets masked."""
    print(without_secrets(message), flush=True)


def say_last(message: str) -> None:
    """Prints a line as `say` does, and on stderr if the reader of stdout has gone (see `job`)."""
    say(message)
    stream = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if getattr(stream, "gone", False):
        print(without_secrets(message), file=sys.stderr, flush=True)
