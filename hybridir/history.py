"""`history.jsonl`: one line a step, the one record that progress, tracking and reports are made from."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class History:
    """Appends lines; on resume, lines of steps that will be done again move to `history.discarded.jsonl`."""

    def __init__(self, directory: Path, start_step: int) -> None:
        self.path = directory / "history.jsonl"
        lines = list(read_history(self.path))
        redone = [line for line in lines if line["step"] >= start_step]
        self.attempt = 1 + max((line["attempt"] for line in lines), default=0)
        if redone:
            with open(directory / "history.discarded.jsonl", "a", encoding="utf-8") as file:
                file.writelines(json.dumps(line) + "\n" for line in redone)
        if self.path.exists():
            kept = directory / "history.jsonl.tmp"
            kept.write_text(
                "".join(json.dumps(line) + "\n" for line in lines if line["step"] < start_step), encoding="utf-8"
            )
            kept.replace(self.path)
        self._file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 (open as long as the run)

    def append(self, line: dict[str, Any]) -> None:
        """Writes a line and hands it to the operating system."""
        self._file.write(json.dumps(line | {"attempt": self.attempt}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_history(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a history; a last line that was cut off while it was written is left out."""
    if path.exists():
        with open(path, encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)
