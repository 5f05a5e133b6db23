"""The MLflow that runs are written to: its settings, checks before it is called, and short error messages."""

import logging
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

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
CREDENTIALS = re.compile(
    "MLFLOW_TRACKING_(USERNAME|PASSWORD|TOKEN|AWS_SIGV4|AUTH|CLIENT_CERT_PATH)|PGPASSWORD|MYSQL_PWD"
    "|DATABRICKS_(TOKEN|PASSWORD|CLIENT_SECRET|CONFIG_PROFILE|AZURE_CLIENT_SECRET)"
    "|AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN|PROFILE|WEB_IDENTITY_TOKEN_FILE)"
    "|AZURE_STORAGE_(ACCESS_KEY|CONNECTION_STRING)|GOOGLE_APPLICATION_CREDENTIALS"
)
"""Environment variables with which MLflow, a database's client or the client of the place that a server names for files
logs in to whatever server a URI names."""
_TABLES = {"experiments", "registered_models", "alembic_version"}
"""Tables by which a database is known as MLflow's."""
_CREDENTIAL_FILES = ("~/.mlflow/credentials", "~/.databrickscfg", "~/.aws/credentials", "~/.pgpass")
"""Files that the same clients read."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The MLflow of a run: `uri` (may hold credentials: never show it), experiment, name of the registered model.

    `named` are the URIs that the caller named, not a file: only to their servers go the credentials of this user.
    """

    uri: str
    experiment: str
    model_name: str
    named: tuple[str, ...] = ()

    def file(self) -> Path | None:
        """The sqlite file; None if `uri` names something else."""
        found = re.match(r"sqlite(\+\w+)?:///", self.uri)
        return Path(unquote(self.uri[found.end() :].partition("?")[0])).absolute() if found else None

    def location(self) -> str | None:
        """URI for the artifacts of a new experiment: beside the sqlite file; None lets the server choose."""
        file = self.file()
        return (file.parent / "mlartifacts").as_uri() if file else None

    @contextmanager
    def set_up(self) -> Iterator[None]:
        """While entered, no other run sets up the same sqlite file, and the file is known to be writable.

        MLflow creates its tables without a lock: two processes that do so at once destroy the file. If the file cannot
        be written, MLflow reports it only after minutes; this raises OSError or sqlite3.Error at once, and ValueError
        for a database of something else, or a server that would get credentials though only a file has named it.
        """
        self._check_origin()
        file = self.file()
        if file and not file.parent.is_dir():
            raise FileNotFoundError(f"there is no folder {file.parent}")
        with FileLock(f"{file}.lock", timeout=DATABASE_TIMEOUT) if file else nullcontext():
            if file:
                with closing(sqlite3.connect(file, timeout=DATABASE_TIMEOUT)) as database:
                    database.execute("begin immediate")
                    found = {
                        name for (name,) in database.execute("select name from sqlite_master where type = 'table'")
                    }
                if found and found.isdisjoint(_TABLES):  # a config of somebody else may name any database of this user
                    raise ValueError(f"{file} is a database of something else: name another by --tracking.uri or --uri")
            yield

    def _check_origin(self) -> None:
        """`ValueError` if credentials of this user would be sent to a server that only a file names."""
        has = sorted(filter(CREDENTIALS.fullmatch, os.environ))
        has += [file for file in _CREDENTIAL_FILES if os.path.exists(os.path.expanduser(file))]
        if urlsplit(self.uri).scheme.partition("+")[0] == "sqlite" or not has:
            return
        named = [os.environ.get("MLFLOW_TRACKING_URI", ""), *self.named]
        if "\\" not in self.uri and _origin(self.uri) in map(_origin, named):  # parsers differ about a backslash
            return
        raise ValueError(
            f"only a file names this server, and {has[0]} would be sent there: if you trust the server, name it by "
            "MLFLOW_TRACKING_URI, --tracking.uri or --uri (in Python: follow(..., named=[URI]))"
        )


def named_uris(arguments: Sequence[str]) -> list[str]:
    """The URIs that a job's arguments name, not its config file."""
    return [
        value or after
        for (one, after) in pairwise([*arguments, ""])
        for option, _, value in [one.partition("=")]
        if option == "--tracking.uri"
    ]


def _origin(uri: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port."""
    parts = urlsplit(uri)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def target(config: TrackingConfig, output: Path, named: Sequence[str]) -> Target:
    """The MLflow for the run in `output`; `named`: the URIs that the caller named, see `Target`."""
    beside = re.sub(r"%(?=[0-9A-Fa-f]{2})|[?]", lambda one: quote(one[0]), str(output.absolute().parent / "mlflow.db"))
    uri = config.uri or f"sqlite:///{beside}"  # MLflow decodes it
    return Target(uri=uri, experiment=config.experiment, model_name=config.model_name, named=tuple(named))


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
