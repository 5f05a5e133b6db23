"""SIGTERM and Ctrl-C: training saves at its next step and ends, anything else ends cleanly at once.

A second signal kills the process.
"""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from hybridir.runtime.durable import UNFINISHED, open_alone

INTERRUPTED = 75
"""Exit code (EX_TEMPFAIL) of a run that was asked to stop: its work is saved, and --resume continues it."""
PATIENCE = 20
"""Seconds that a run has to reach its next step; after that it ends with the checkpoints that it has."""
WRITING = 60
"""Seconds without a change after which a half-written checkpoint counts as abandoned."""

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_Handler = Callable[[int, FrameType | None], None]


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside the block, SIGTERM raises KeyboardInterrupt, as Ctrl-C does; KeyboardInterrupt becomes exit code 75."""

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
    """Inside the block, SIGTERM or Ctrl-C creates the file `stop` and sets the event; the run should then end itself.

    If the run has not ended after `PATIENCE` seconds, KeyboardInterrupt is raised as soon as no checkpoint is being
    written.
    """
    asked = threading.Event()

    def save(*_: object) -> None:
        _kill_from_now_on()
        asked.set()
        with suppress(OSError):  # nobody may be reading
            os.write(2, b"saving at the next step; a second signal ends it at once\n")  # print is not safe in a handler
        with suppress(OSError, ValueError):
            os.close(open_alone(stop, os.O_WRONLY))
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
    for work in checkpoints.glob(UNFINISHED):
        with suppress(OSError):  # finished and renamed meanwhile
            changes += [file.stat().st_mtime for file in (work, *work.iterdir())]
    return abs(time.time() - max(changes)) < WRITING  # a time far ahead is that of a clock that was set back


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Inside the block, other code may set signal handlers; afterwards the previous handlers are restored."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            if handler not in (signal.SIG_DFL, None):
                signal.signal(number, handler)


@contextmanager
def _handled(handler: _Handler, at_alarm: _Handler | None = None) -> Iterator[None]:
    """Inside the block, the handlers are set. Does nothing outside the main thread, where Python allows no handlers."""
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
