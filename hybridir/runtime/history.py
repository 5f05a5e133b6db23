"""`history.jsonl`, one line per step: progress, tracking and reports are made from this file alone."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from hybridir.runtime.durable import appended, replace_text, storage_explained, sync

EVENTS = "events.jsonl"
"""Name of the file with all other events of a run, such as a damaged checkpoint or a lost worker."""


class History:
    """Appends lines to `directory/history.jsonl`.

    Lines of `start_step` and later steps, which a resumed run does again, move to `history.discarded.jsonl`. Each start
    of the run is an attempt; attempts are numbered from 1. Raises `OSError` with a remedy if a file cannot be written.
    """

    def __init__(self, directory: Path, start_step: int) -> None:
        self.path = directory / "history.jsonl"
        lines = list(read_history(self.path))
        redone = [line for line in lines if line["step"] >= start_step]
        kept = [line for line in lines if line["step"] < start_step]
        self.attempt = 1 + max((line["attempt"] for line in lines), default=0)
        if missing := set(range(start_step)) - {line["step"] for line in kept}:
            note(directory, f"{self.path} lacks {len(missing)} of the {start_step} steps before the checkpoint")
        with storage_explained(self.path):
            if redone:
                with appended(directory / "history.discarded.jsonl") as file:
                    file.writelines(json.dumps(line) + "\n" for line in redone)
                sync(directory / "history.discarded.jsonl")
            if self.path.exists():
                replace_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
            self._file = appended(self.path)
            sync(directory)

    def append(self, line: dict[str, Any]) -> None:
        """Writes a line to the file. It survives a crash of the process; a crash of the machine only after `sync`."""
        with storage_explained(self.path):
            self._file.write(json.dumps(line | {"attempt": self.attempt}) + "\n")
            self._file.flush()

    def sync(self) -> None:
        """Flushes all lines to the disk."""
        with storage_explained(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def note(directory: Path, text: str) -> None:
    """Appends an event to the run in `directory`; `progress.Follow` shows it on the screen."""
    with storage_explained(directory / EVENTS), appended(directory / EVENTS) as file:
        file.write(json.dumps({"time": time.time(), "text": text}) + "\n")


def last_attempt(path: Path) -> int:
    """The number of the last attempt that wrote to a history; 0 if it has no lines."""
    return max((line["attempt"] for line in read_history(path)), default=0)


def last_line(path: Path) -> dict[str, Any] | None:
    """The last complete line of a history, read from the end of the file; None if there is none."""
    if not path.exists():
        return None
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - (1 << 16)))
        return next(_whole(reversed(file.readlines())), None)


def read_history(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a history, without lines that a crash cut off or damaged; `History` reports how many are missing."""
    if path.exists():
        with open(path, "rb") as file:
            yield from _whole(file)


def _whole(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        with suppress(ValueError):  # a crash of the machine can leave zero bytes
            if line.endswith(b"\n"):
                yield json.loads(line)


class Tail:
    """Reads a file of JSON lines while it is written. If a resumed run replaces the file, reading starts over."""

    def __init__(self, path: Path) -> None:
        self._path, self._file, self._offset = path, -1, 0

    def read(self, at_most: int = 1 << 20) -> list[dict[str, Any]]:
        """The complete lines since the last call, at most `at_most` bytes of them; empty if there are none."""
        if not self._path.exists():
            return []
        with open(self._path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != self._file or status.st_size < self._offset:
                self._file, self._offset = status.st_ino, 0
            file.seek(self._offset)
            text = file.read(at_most)
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return list(_whole(whole.splitlines(keepends=True)))
