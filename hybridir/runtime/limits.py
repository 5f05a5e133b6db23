"""Limits that the system sets to a process: how to raise those that an error comes from."""

import re
import resource
import threading
from collections.abc import Iterator

from hybridir.runtime.cpus import usable_cpus

_FILES = re.compile(r"Too many open files|os error 2[34]\b", re.I)
_PROCESSES = re.compile(r"can't start new thread|Resource temporarily unavailable|pthread_create|os error 11\b", re.I)
_DISK = re.compile(r"No space left on device|Disk quota exceeded|os error (28|122)\b|requested and \d+ written", re.I)
_LENGTH = re.compile(r"File too large|os error 27\b", re.I)
_MEMORY = re.compile(r"Cannot allocate memory|Unable to allocate|os error 12\b|^$", re.I)


def remedy(error: BaseException) -> str:
    """What raises the limit that an error, or one that it comes from, has met; "" if it comes from no limit."""
    said = "\n".join(map(str, _chain(error)))
    if _FILES.search(said):
        return _raised("open files", resource.RLIMIT_NOFILE, "-n", "nofile")
    if _PROCESSES.search(said):
        return _raised("threads and processes", resource.RLIMIT_NPROC, "-u", "nproc")
    if _LENGTH.search(said) and (limit := resource.getrlimit(resource.RLIMIT_FSIZE)[0]) != resource.RLIM_INFINITY:
        return f"a file may have at most {limit} bytes here: raise the limit by `ulimit -f unlimited`"
    if _DISK.search(said) and "make room" not in said:
        return "a disk is full: make room where --output, --cache and TMPDIR lie (`df` shows how much there is)"
    if (isinstance(error, MemoryError) or str(error)) and _MEMORY.search(str(error)):
        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        told = "" if limit == resource.RLIM_INFINITY else f" (`ulimit -v` is {limit // 1024} KB)"
        return f"there is not enough memory{told}: make batches smaller, as by --train.batch_size, or raise it"
    return ""


def check_threads() -> None:
    """`ValueError` if about as many threads cannot be started as numerical libraries start when they are imported.

    Some libraries end the process without a word where the limit is met.
    """
    done = threading.Event()
    started = []
    try:
        for _ in range(2 * usable_cpus() + 8):
            thread = threading.Thread(target=done.wait, daemon=True)
            thread.start()
            started.append(thread)
    except RuntimeError as error:
        raise ValueError(f"{len(started)} threads could be started, which is too few") from error
    finally:
        done.set()
        for thread in started:
            thread.join()


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it comes from, the last first."""
    while error:
        yield error
        error = error.__cause__ or error.__context__


def _raised(what: str, limit: int, option: str, word: str) -> str:
    soft, hard = (float("inf") if n == resource.RLIM_INFINITY else n for n in resource.getrlimit(limit))
    enough = next((n for n in (4096, 65536) if n > soft), 1_000_000)
    told = f"at most {soft} {what} at a time are allowed here: raise the limit by `ulimit {option} {enough}`"
    if hard < enough:
        told += f", which beyond {hard} an administrator must allow ({word} in /etc/security/limits.conf)"
    return f"{told}; in a container, by its options, such as --ulimit {word}={enough} or --pids-limit of docker"
