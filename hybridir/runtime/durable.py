"""Files that outlast a crash of the machine, and errors of storage with what to do about them."""

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
"""Errors of storage that trying again does not mend."""


def sync(path: Path) -> None:
    """Returns when a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path) -> None:
    """Returns when the files in a folder are on the disk."""
    for file in folder.iterdir():
        sync(file)


def replace_text(file: Path, text: str) -> None:
    """Writes a file in one go: whoever reads it, also after a crash, finds the old text or the new one."""
    written = file.with_name(f"{file.name}.{uuid.uuid4().hex}.tmp")
    written.write_text(text, encoding="utf-8")
    sync(written)
    written.replace(file)


@contextmanager
def storage_explained(path: Path) -> Iterator[None]:
    """While entered, an error of storage becomes an `OSError` naming `path`, the free space and what to do."""
    try:
        yield
    except Exception as error:  # safetensors has a class of its own, with the number in its words
        found = re.search(r"os error (\d+)", str(error))
        number = error.errno if isinstance(error, OSError) else found and int(found[1])
        if not number:
            raise
        free = shutil.disk_usage(next(folder for folder in path.parents if folder.exists())).free
        raise OSError(
            number,
            f"{path} cannot be written: {os.strerror(number)} ({free / 1e6:,.1f} MB are free). "
            "What was saved before is whole: make room there, or mend the permissions, and go on with --resume",
        ) from error
