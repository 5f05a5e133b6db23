"""What every job does around its work: it locks its output folder, handles signals, and tells errors in one line.

Nothing heavy is imported here, so that a start on a folder of another process is refused at once.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jsonargparse import ArgumentError

from hybridir.runtime.owner import named_output, own
from hybridir.runtime.secrets import errors_masked
from hybridir.runtime.signals import interruptible

EXPECTED = (ArgumentError, ValueError, FloatingPointError, MemoryError, OSError)
"""Errors whose message names the cause and the remedy: they are printed without a traceback."""


@contextmanager
def job(arguments: Sequence[str]) -> Iterator[ExitStack]:
    """While entered, the output folder that `arguments` name belongs to this process.

    Gives a stack for whatever else is to be left at the end of the job. SIGTERM and Ctrl-C leave as exit code 75 (see
    `signals`), `EXPECTED` errors as exit code 1 with their message; secrets are masked in all errors.
    """
    with interruptible(), errors_masked(*EXPECTED), ExitStack() as stack:
        if output := named_output(arguments):
            stack.enter_context(own(Path(output).absolute()))
        yield stack
