"""What every job does around its work: it locks its output folder, handles signals, and tells errors in one line.

Nothing heavy is imported here, so that a start on a folder of another process is refused at once.
"""

import errno
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError

from hybridir.runtime.limits import check_threads
from hybridir.runtime.owner import named_output, own
from hybridir.runtime.secrets import errors_masked
from hybridir.runtime.signals import interruptible

EXPECTED = (ArgumentError, ValueError, FloatingPointError, MemoryError, OSError)
"""Errors whose message names the cause and the remedy: they are printed without a traceback."""


class _Patient(io.FileIO):
    """An output stream that goes on when nobody reads it any more: from then on it writes to nowhere."""

    gone = False
    """Whether nobody reads it any more, as far as it has been noticed."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):  # the reader of a pipe has ended, or the terminal is gone
                raise
            self.gone = True
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def _write_patiently() -> None:
    """Output never ends a job: not if its reader goes away, nor if its encoding lacks a character."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper):
            raw = io.BufferedWriter(_Patient(stream.fileno(), "wb", closefd=False))
            patient = io.TextIOWrapper(raw, stream.encoding, "backslashreplace", line_buffering=True)
            setattr(sys, name, patient)


@contextmanager
def job(arguments: Sequence[str]) -> Iterator[ExitStack]:
    """While entered, the output folder that `arguments` name belongs to this process.

    Yields an `ExitStack`: contexts entered on it are closed when the job ends. SIGTERM and Ctrl-C end the job with exit
    code 75 (see `signals`), `EXPECTED` errors with exit code 1 and their message. Secrets are masked in all errors.
    """
    _write_patiently()
    if sys.stderr.isatty():  # somebody waits, and the imports that follow take seconds
        print("starting", file=sys.stderr)
    with interruptible(), errors_masked(*EXPECTED), ExitStack() as stack:
        check_threads()
        if output := named_output(arguments):
            stack.enter_context(own(Path(output).absolute()))
        yield stack
