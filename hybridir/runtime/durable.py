"""Writes files that survive a crash of the machine, and explains storage errors."""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock

PERMANENT = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
}
"""Numbers of storage errors that a retry cannot fix."""


def sync(path: Path) -> None:
    """Flushes a file, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Flushes all files in a folder to the disk."""
    for file in folder.iterdir():
        sync(file)


@contextmanager
def replaced(file: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and puts what was written there in the place of `file`.

    Readers find the old file or the whole new one, even after a crash; after an error the old one stays.
    """
    written = file.with_name(f".{file.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield written
        sync(written)
        written.replace(file)
        sync(file.parent)
    finally:
        written.unlink(missing_ok=True)


def replace_text(file: Path, text: str) -> None:
    """Replaces a text file: see `replaced`."""
    with replaced(file) as written:
        written.write_text(text, encoding="utf-8")


@contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """Gives a temporary folder to fill, which then becomes `folder`; None if `folder` is there already.

    For caches that processes share: one process makes the folder, the others wait for it. The folder is either whole or
    not there; what a killed process has left behind is removed.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            yield None
            return
        for stale in folder.parent.glob(f"{folder.name}-*.tmp"):
            shutil.rmtree(stale, ignore_errors=True)
        work = folder.with_name(f"{folder.name}-{uuid.uuid4().hex}.tmp")
        work.mkdir()
        try:
            yield work
            sync_files(work)
            work.rename(folder)
            sync(folder.parent)
        finally:
            shutil.rmtree(work, ignore_errors=True)


@contextmanager
def storage_explained(path: Path) -> Iterator[None]:
    """Inside the block, a storage error becomes an `OSError` that names `path`, the free space and the remedy."""
    try:
        yield
    except Exception as error:  # safetensors raises a class of its own, with the error number only in the message
        found = re.search(r"os error (\d+)", str(error))
        number = error.errno if isinstance(error, OSError) else found and int(found[1])
        if not number:
            raise
        free = shutil.disk_usage(next(folder for folder in path.parents if folder.exists())).free
        raise OSError(
            number,
            f"{path} cannot be written: {os.strerror(number)} ({free / 1e6:,.1f} MB are free). "
            "Everything saved before is intact: make room there or fix the permissions, then continue with --resume",
        ) from error
