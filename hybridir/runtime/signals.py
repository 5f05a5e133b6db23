"""SIGTERM and Ctrl-C: a run that trains saves at its next step and ends, anything else ends at once and cleanly.

The second signal kills.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

INTERRUPTED = 75
"""Exit code (EX_TEMPFAIL) of a run that was asked to stop: what it did is saved, and --resume goes on."""
PATIENCE = 20
"""Seconds to the next step; a run that does not reach it ends with the checkpoints that it has."""
WRITING = 60
"""Seconds without a change after which a checkpoint that is being written counts as given up."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_Handler = Callable[[int, FrameType | None], None]


@contextmanager
def interruptible() -> Iterator[None]:
    """While entered, SIGTERM raises KeyboardInterrupt, as Ctrl-C does; that leaves here as exit code 75."""

    def end(*_: object) -> None:
        _kill_from_now_on()
        raise KeyboardInterrupt

    with _handled(end):
        try:
            yield
        except KeyboardInterrupt:
            raise SystemExit(INTERRUPTED) from None


@contextmanager
def saving(stop: Path) -> Iterator[threading.Event]:
    """While entered, SIGTERM or Ctrl-C makes the file `stop` and sets the event; the run is to end by itself.

    KeyboardInterrupt where it takes longer than `PATIENCE` and no checkpoint is being written just then.
    """
    asked = threading.Event()

    def save(*_: object) -> None:
        _kill_from_now_on()
        asked.set()
        os.write(2, b"saving at the next step; once more to end at once\n")  # print is not safe in a handler
        with suppress(OSError):
            stop.touch()
        signal.alarm(PATIENCE)

    def give_up(*_: object) -> None:
        if _is_written(stop.parent / "checkpoints"):
            signal.alarm(1)
        else:
            raise KeyboardInterrupt

    with _handled(save, give_up):
        yield asked


def _is_written(checkpoints: Path) -> bool:
    """Whether a checkpoint is being written."""
    changes = [0.0]
    for work in checkpoints.glob(".step-*.tmp"):
        with suppress(OSError):  # it is whole now
            changes += [file.stat().st_mtime for file in (work, *work.iterdir())]
    return time.time() - max(changes) < WRITING


@contextmanager
def handlers_kept() -> Iterator[None]:
    """While entered, others may set handlers of signals; those set before hold again afterwards."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler not in (signal.SIG_DFL, None):
                signal.signal(number, handler)


@contextmanager
def _handled(handler: _Handler, at_alarm: _Handler | None = None) -> Iterator[None]:
    """While entered, these handle the signals; Python knows handlers in its main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handlers = dict.fromkeys(_SIGNALS, handler) | ({signal.SIGALRM: at_alarm} if at_alarm else {})
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        if at_alarm:
            signal.alarm(0)
        for number, old in before.items():
            signal.signal(number, old)


def _kill_from_now_on() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
