"""Writes files that survive a crash of the machine, and explains storage errors."""

import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


def replace_text(file: Path, text: str) -> None:
    """Replaces a file atomically: readers find the old text or the new text, even after a crash."""
    written = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
    written.write_text(text, encoding="utf-8")
    sync(written)
    written.replace(file)


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
