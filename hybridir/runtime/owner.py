"""Locks that give an output folder to one run at a time.

The driver locks `owner.json` as long as it lives. The process that trains as rank 0 locks `writer.json`: a worker can
outlive its driver by some seconds, and the next attempt waits for the end of that worker. The operating system releases
a lock (flock) when its holder ends for any reason. A file that remains without a lock only tells who held it last.

This module imports nothing heavy, so that a second start on the same folder is refused at once.
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
from itertools import islice
from pathlib import Path

import yaml

from hybridir.runtime.durable import check_links, open_alone
from hybridir.runtime.home import at_home
from hybridir.runtime.plain_yaml import load_yaml

OWNER, WRITER = "owner.json", "writer.json"
_OWNED: set[str] = set()
"""Real paths of the folders that this process owns."""
_SAY_EVERY = 15.0
"""Seconds between messages while waiting."""


@contextmanager
def own(output: Path) -> Iterator[None]:
    """Inside the block, `output` belongs to this process. Creates the folder if it is missing; blocks can be nested.

    Raises:
        ValueError: `output` belongs to another process, cannot be written to, or has links that lead out of it.
    """
    name = os.path.realpath(output)
    if name in _OWNED:
        yield
        return
    made = not output.exists()
    check_links(output)
    last = _holder(output / OWNER)
    if (lock := _lock(output / OWNER)) is None:
        time.sleep(0.1)  # the owner locks the file first and then writes its name
        raise ValueError(
            f"{output} belongs to a run that is going on: {_holder(output / OWNER) or 'unknown owner'}. "
            "Wait until it ends, or name another --output"
        )
    if last and not last.endswith(_at()):
        print(
            f"the last owner of {output} ({last}) did not end cleanly. If machines do not share locks on this storage, "
            "it may still be running: check that machine",
            flush=True,
        )
    _OWNED.add(name)
    try:
        yield
    finally:
        _OWNED.discard(name)
        _release(lock, output / OWNER)
        if made:
            with suppress(OSError):  # it is not empty: the run has written to it
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
    """Inside the block, no other process trains into `output`. First waits, with a message, for one that still does."""
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


def files_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with the `--config` files first, so that the command line counts wherever it names a file."""
    files: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for one in rest:
        if one == "--config":
            files += [one, *islice(rest, 1)]
        else:
            (files if one.startswith("--config=") else others).append(one)
    return [*files, *others]


def named_output(arguments: Sequence[str]) -> str:
    """The output folder in a job's arguments or config file, found without importing the job.

    Empty if none is named, or if the job only shows something (`--help`, `--dry_run`, `--print_config`).
    """
    if {argument.partition("=")[0] for argument in arguments} & {"--dry_run", "--help", "-h", "--print_config"}:
        return ""
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument("--output", action="append", dest="named", nargs="?")
    peek.add_argument("--config", action="append", dest="named", nargs="?", type=_output_of_config)
    named = peek.parse_known_args(files_first(arguments))[0].named or []
    return at_home(next((name for name in reversed(named) if name is not None), ""))


def _output_of_config(config: str) -> str | None:
    with suppress(OSError, ValueError, AttributeError, yaml.YAMLError):  # the job's own parser reports it
        return load_yaml(Path(config).read_text(encoding="utf-8")).get("output")
    return None


def _lock(path: Path) -> int | None:
    """Locks `path`, writes the holder into it and returns the descriptor; None if another process holds the lock."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = open_alone(path, os.O_RDWR)
        except FileNotFoundError:  # the folder was removed meanwhile
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
            pass  # the last holder removed the file: try again, as for a file that replaced it
        except OSError as error:
            os.close(descriptor)
            raise ValueError(
                f"{path} cannot be locked ({error}), so two runs could write to the same folder: mount the storage "
                "with locks enabled, or name another --output"
            ) from None
        os.close(descriptor)


def _release(lock: int, path: Path) -> None:
    with suppress(OSError):
        path.unlink()
    os.close(lock)


def _holder(path: Path) -> str:
    """Who holds the lock on `path`, or held it until it was killed; empty if unknown."""
    try:
        if not path.is_file():  # somebody's pipe would never end
            return ""
        who = json.loads(path.read_text(encoding="utf-8"))
        return f"process {who['pid']}, since {who['started']}, on {who['host']}"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _at() -> str:
    return f", on {socket.gethostname()}"
