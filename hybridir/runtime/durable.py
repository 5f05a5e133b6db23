"""Writes files so that they survive a crash, and no link leads a write elsewhere; explains storage errors.

Everything in an output folder or a cache is written by one of these: `replaced`, `replace_text` and `replaced_folder`
put something whole in the place of what was there; `appended` and `open_alone` change an ordinary file in place.
"""

import errno
import os
import re
import shutil
import stat
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from filelock import FileLock

PERMANENT = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR),
}
"""Numbers of storage errors that a retry cannot fix."""
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Numbers of errors that can come from nothing but writing, whatever else is done meanwhile."""
UNFINISHED = ".*.tmp"
"""Pattern of the names of files and folders that are being written, or whose writer was killed."""


def sync(path: Path) -> None:
    """Flushes a file, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_alone(file: Path, flags: int) -> int:
    """Opens a file to change it in place, or makes it; returns the descriptor.

    `ValueError` if it is a link, has a second name or is no ordinary file: in a folder that somebody else made, this
    would change a file elsewhere. Other storage errors are `OSError`.
    """
    refused = ValueError(f"{file} is a link or no ordinary file, so writing to it could change another one: remove it")
    try:
        descriptor = os.open(file, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):  # a symbolic link; a pipe that nobody reads, or a socket
            raise refused from None
        if error.errno == errno.EISDIR:
            raise ValueError(f"{file} is a folder, but a file is to be written there: remove it") from None
        raise
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_nlink <= 1:
        return descriptor
    os.close(descriptor)
    raise refused


def appended(file: Path) -> TextIO:
    """Opens a text file to add lines to it, as `open_alone` does."""
    return os.fdopen(open_alone(file, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8")


def check_links(folder: Path) -> None:
    """`ValueError` if something in `folder` is no ordinary file or folder.

    What is written to a folder that is a symbolic link lands elsewhere; who reads a pipe waits for ever.
    """
    for parent, names, files in os.walk(folder):
        for path in (os.path.join(parent, name) for name in names):
            if os.path.islink(path):
                raise ValueError(f"{path} is a symbolic link to another folder: remove it, or name another --output")
        for path in (os.path.join(parent, name) for name in files):
            if not os.path.isfile(path) and os.path.exists(path):
                raise ValueError(f"{path} is a pipe, socket or device: remove it, or name another --output")


@contextmanager
def replaced(file: Path) -> Iterator[Path]:
    """Gives a temporary path to write to, and puts what was written there in the place of `file`.

    Readers find the old file or the whole new one, even after a crash; after an error the old one stays. That a disk is
    full is told as by `storage_explained`.
    """
    written = file.with_name(f".{file.name[:100]}.{uuid.uuid4().hex}.tmp")
    with storage_explained(file, _FULL):
        try:
            yield written
            if file.is_dir() and not file.is_symlink():
                raise ValueError(f"{file} is a folder, but a file is to be written there: remove it")
            sync(written)
            written.replace(file)
            sync(file.parent)
        finally:
            written.unlink(missing_ok=True)


def replace_text(file: Path, text: str) -> None:
    """Replaces a text file: see `replaced`."""
    with replaced(file) as written:
        written.write_text(text, encoding="utf-8")


def copy_file(file: Path, folder: Path) -> None:
    """Copies a file into a folder, under its own name: see `replaced`."""
    with replaced(folder / file.name) as written:
        shutil.copyfile(file, written)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """Yields an empty temporary folder to fill, which then replaces `folder`.

    Only one process at a time may do so. `folder` is always either complete or absent; after an error the old one
    stays. Temporary folders that a killed process has left are removed. That a disk is full is told as by
    `storage_explained`.
    """
    work, old = (folder.with_name(f".{folder.name}{end}.tmp") for end in ("", ".old"))
    with storage_explained(folder, _FULL):
        remove(work)
        work.mkdir(parents=True)
        try:
            yield work
            for file in (*work.rglob("*"), work):
                sync(file)
            if os.path.lexists(folder):
                remove(old)
                folder.rename(old)
            work.rename(folder)
            sync(folder.parent)
        finally:
            with suppress(OSError):
                if old.exists() and not folder.exists():
                    old.rename(folder)
                remove(old)
                remove(work)


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with all that it holds, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def made_once(folder: Path) -> Iterator[Path | None]:
    """Gives a temporary folder to fill, which then becomes `folder`; None if `folder` is there already.

    For caches that processes share: one process makes the folder (see `replaced_folder`), the others wait for it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if folder.exists():
            yield None
            return
        with replaced_folder(folder) as work:
            yield work


class _Explained(OSError):
    """A storage error that names the place and the remedy already."""


@contextmanager
def storage_explained(path: Path, numbers: Collection[int] = ()) -> Iterator[None]:
    """Inside the block, a storage error becomes an `OSError` that names `path`, the free space and the remedy.

    With `numbers`, only errors with one of these.
    """
    try:
        yield
    except _Explained:
        raise
    except Exception as error:  # safetensors raises a class of its own, with the error number only in the message
        found = re.search(r"os error (\d+)", str(error))
        number = error.errno if isinstance(error, OSError) else found and int(found[1])
        if not number and isinstance(error, OSError) and re.search(r"\d+ requested and \d+ written", str(error)):
            number = errno.ENOSPC  # NumPy keeps the number to itself
        if not number or (numbers and number not in numbers):
            raise
        free = shutil.disk_usage(next(folder for folder in path.parents if folder.exists())).free
        raise _Explained(
            number,
            f"{path} cannot be written: {os.strerror(number)} ({free / 1e6:,.1f} MB are free). Everything saved before "
            "is intact: make room there or fix the permissions, then start again, with --resume if results had begun",
        ) from error
