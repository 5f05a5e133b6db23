"""One writer: an output folder belongs to one run.

The driver locks `owner.json` for as long as it lives, and the process that trains as rank 0 locks `writer.json`: a
worker may outlive its driver for some seconds, and the next attempt waits for its end. The system lets go of a lock
(flock) when its holder ends, however that happens; a file that is left behind only says who held it last.

Nothing heavy is imported here, so that a start that must be refused costs nothing.
"""

import argparse
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import yaml

OWNER, WRITER = "owner.json", "writer.json"
_OWNED: set[str] = set()
"""Folders that this process owns."""
_SAY_EVERY = 15.0
"""Seconds between lines about a wait."""


@contextmanager
def own(output: Path) -> Iterator[None]:
    """While entered, `output`, made where it is missing, belongs to this process, which may enter it again.

    Raises:
        ValueError: it belongs to another process, or cannot be written to.
    """
    name = os.path.realpath(output)
    if name in _OWNED:
        yield
        return
    made = not output.exists()
    last = _holder(output / OWNER)
    if (lock := _lock(output / OWNER)) is None:
        time.sleep(0.1)  # the owner writes who it is as soon as it has the lock
        raise ValueError(
            f"{output} belongs to a run that is going on: {_holder(output / OWNER) or 'its owner is not known'}. "
            "Wait for its end, or name another --output"
        )
    if last and not last.endswith(_at()):
        print(
            f"the last owner of {output}, {last}, did not sign off. Where the storage keeps the locks of each machine "
            "apart, it may still be at work: look there",
            flush=True,
        )
    _OWNED.add(name)
    try:
        yield
    finally:
        _OWNED.discard(name)
        _release(lock, output / OWNER)
        if made:
            with suppress(OSError):  # it holds what the run has written
                output.rmdir()


def owned(output: Path) -> bool:
    """Whether `output` belongs to another process."""
    if os.path.realpath(output) in _OWNED or not (output / OWNER).exists():
        return False
    if (lock := _lock(output / OWNER)) is None:
        return True
    _release(lock, output / OWNER)
    return False


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """While entered, no other process trains into `output`; waits for one of an earlier attempt, and says so."""
    path, said = output / WRITER, time.monotonic() - _SAY_EVERY + 2
    while (lock := _lock(path)) is None:
        if time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            print(f"waiting for a worker of an earlier attempt to end: {_holder(path)}", flush=True)
        time.sleep(0.2)
    try:
        yield
    finally:
        _release(lock, path)


def named_output(arguments: Sequence[str]) -> str:
    """The `output` that a job's arguments or its config name, read without the job's own classes; empty without one."""
    if {argument.partition("=")[0] for argument in arguments} & {"--dry_run", "--help", "-h", "--print_config"}:
        return ""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--output", action="append", dest="named", nargs="?")
    peek.add_argument("--config", action="append", dest="named", nargs="?", type=_output_of_config)
    named = peek.parse_known_args(list(arguments))[0].named or []
    return next((name for name in reversed(named) if name is not None), "")


def _output_of_config(config: str) -> str | None:
    with suppress(OSError, ValueError, AttributeError, yaml.YAMLError):  # said by the job's own parser
        return yaml.safe_load(Path(config).read_text(encoding="utf-8")).get("output")
    return None


def _lock(path: Path) -> int | None:
    """A descriptor with the lock on `path`, which then says who has it; None where another one has it."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except FileNotFoundError:  # the folder went away meanwhile
            continue
        except OSError as error:
            raise ValueError(f"{path.parent} cannot be written to ({error}): name another --output") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                os.ftruncate(descriptor, 0)
                who = {"pid": os.getpid(), "host": socket.gethostname(), "started": f"{datetime.now():%F %T}"}
                os.pwrite(descriptor, json.dumps(who).encode(), 0)
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass  # as when it is another file: its holder ended and took it away
        except OSError as error:
            os.close(descriptor)
            raise ValueError(
                f"{path} cannot be locked ({error}), so nothing would keep two runs apart: mount that storage with "
                "locks, or name another --output"
            ) from None
        os.close(descriptor)


def _release(lock: int, path: Path) -> None:
    with suppress(OSError):
        path.unlink()
    os.close(lock)


def _holder(path: Path) -> str:
    """Who holds a lock, or held it until it was killed; empty where nobody did."""
    try:
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"process {who['pid']}, since {who['started']}, on {who['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _at() -> str:
    return f", on {socket.gethostname()}"
