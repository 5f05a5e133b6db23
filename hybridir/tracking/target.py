"""The MLflow that runs are written to: its settings, checks before it is called, and short error messages."""

import logging
import os
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from hybridir.runs.recipe import TrackingConfig
from hybridir.runtime.secrets import without_secrets

UPLOAD_TIMEOUT, DATABASE_TIMEOUT = 300, 60
"""Seconds that a server may take to store one file, and seconds to wait while other runs set up the same database."""
DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's environment variables, unless the user set them: quiet, no telemetry, short waits for a dead server."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The MLflow of a run: `uri` (may hold credentials: never show it), experiment, name of the registered model."""

    uri: str
    experiment: str
    model_name: str

    def file(self) -> Path | None:
        """The sqlite file; None if `uri` names something else."""
        if not self.uri.startswith("sqlite:///"):
            return None
        return Path(self.uri.removeprefix("sqlite:///").partition("?")[0]).absolute()

    def location(self) -> str | None:
        """URI for the artifacts of a new experiment: beside the sqlite file; None lets the server choose."""
        file = self.file()
        return (file.parent / "mlartifacts").as_uri() if file else None

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """While entered, no other run sets up the same sqlite file, and the file is known to be writable.

        MLflow creates its tables without a lock: two processes that do so at once destroy the file. If the file cannot
        be written, MLflow reports it only after minutes; this raises OSError or sqlite3.Error at once.
        """
        file = self.file()
        if file and not file.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {file.parent}")
        with FileLock(f"{file}.lock", timeout=DATABASE_TIMEOUT) if file else nullcontext():
            if file:
                with closing(sqlite3.connect(file, timeout=DATABASE_TIMEOUT)) as database:
                    database.execute("begin immediate")
            yield


def target(config: TrackingConfig, output: Path) -> Target:
    """The MLflow for the run in `output`."""
    uri = config.uri or f"sqlite:///{output.absolute().parent / 'mlflow.db'}"
    return Target(uri=uri, experiment=config.experiment, model_name=config.model_name)


def command(uri: str, output: Path) -> str:
    """The command that writes the folder to MLflow later."""
    return f"python -m hybridir.tracking {shlex.quote(str(output))} --uri {shlex.quote(without_secrets(uri))}"


def trouble(error: BaseException) -> str:
    """Why a run could not be written to MLflow: a few words without secrets."""
    text = str(error)
    for sign, words in SIGNS.items():
        if sign in text:
            return f"no answer: {words}"
    return f"it could not be written: {reason(error)}"


SIGNS = {
    "Connection refused": "connection refused",
    "Name or service not known": "unknown host",
    "Failed to resolve": "unknown host",
    "No route to host": "no route to host",
    "timed out": "timed out",
    "Connection reset": "connection reset",
    "Connection aborted": "connection broken off",
    "too many 50": "the server fails",
}
"""Connection problems: a part of the long error message, and the words to show instead."""


def reason(error: BaseException) -> str:
    """An error in one line of about 200 characters at most, without secrets."""
    lines = without_secrets(str(error)).strip().splitlines() or [""]
    line = f"{type(error).__name__}: {lines[0]}"
    return line if len(line) <= 200 else line[:200].rpartition(" ")[0] + " ..."


def quiet() -> None:
    """Sets `DEFAULTS` and silences MLflow's own messages, which hold addresses; this room prints errors itself."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in ("mlflow", "alembic", "sqlalchemy", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def patience() -> Iterator[None]:
    """While entered, requests may take `UPLOAD_TIMEOUT`, unless the user set another timeout."""
    name = "MLFLOW_HTTP_REQUEST_TIMEOUT"
    before = os.environ[name]
    if before == DEFAULTS[name]:
        os.environ[name] = str(UPLOAD_TIMEOUT)
    try:
        yield
    finally:
        os.environ[name] = before
