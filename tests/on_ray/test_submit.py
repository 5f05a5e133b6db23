"""Jobs submitted to a Ray that asks for a token: their output, their failures, and who is refused."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from helpers import ROOT

SMALL = (
    *("--data.facts", "80", "--data.languages", "[de, en, es]", "--sampling.languages", "[de, en]"),
    *("--validation.languages", "[de, en]", "--encoder.layers", "1", "--encoder.hidden_size", "32"),
    *("--encoder.vocab_size", "400", "--train.batch_size", "8", "--validation.batches", "2", "--train.steps", "8"),
    *("--validation.batch_size", "4", "--validation.every", "4"),
    *("--benchmark.facts", "80", "--benchmark.languages", "[de, en, es]", "--tracking.enabled", "false"),
)


@dataclass
class Head:
    """A head of Ray in processes of its own."""

    address: str
    environment: dict[str, str]

    def submit(self, *command: str) -> subprocess.CompletedProcess[str]:
        """What the command line of a user gives: the job's log, and its status."""
        ray = str(Path(sys.executable).with_name("ray"))
        arguments = [ray, "job", "submit", "--address", self.address, "--working-dir", str(ROOT), "--", *command]
        return subprocess.run(arguments, env=self.environment, capture_output=True, text=True, timeout=500)


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    """`ray start --head --block` with a token, on the loopback."""
    folder = tmp_path_factory.mktemp("head")
    token = folder / "token"
    token.write_text("a" * 40, encoding="utf-8")
    token.chmod(0o600)
    gcs, dashboard, client, agent = (str(_free_port()) for _ in range(4))
    plain = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    plain["PATH"] = f"{Path(sys.executable).parent}:{plain['PATH']}"  # as in an environment that is active
    secured = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
    ray = str(Path(sys.executable).with_name("ray"))
    start = [ray, "start", "--head", "--block", "--num-cpus", "2", "--port", gcs]
    start += ["--dashboard-port", dashboard, "--ray-client-server-port", client, "--dashboard-agent-listen-port", agent]
    start += ["--dashboard-host", "127.0.0.1", "--temp-dir", f"/tmp/ray-{os.getpid()}"]
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        process = subprocess.Popen(start, env=plain | secured, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{dashboard}"
    until = time.monotonic() + 400
    while _status(f"{address}/api/version", "a" * 40) != 200:
        assert process.poll() is None, (folder / "log.txt").read_text(encoding="utf-8")
        assert time.monotonic() < until, "the dashboard does not come"
        time.sleep(0.5)
    found = Head(address, plain | secured)
    while found.submit("true").returncode:  # the part of Ray that takes jobs comes later
        assert time.monotonic() < until, (folder / "log.txt").read_text(encoding="utf-8")
    yield found
    process.terminate()
    process.wait(60)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _status(url: str, token: str | None = None, body: bytes | None = None) -> int:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.slow
def test_every_job_runs_through_job_submit(head: Head, tmp_path: Path) -> None:
    """Its log arrives, its results lie where it was told, whatever becomes of the job's own folder."""
    runs = {name: tmp_path / name for name in ("train", "evaluate", "tune", "study")}
    own = ("--output", "{}", "--cache", str(tmp_path / "cache"))
    commands = {
        "train": ("python", "jobs/train.py", *SMALL),
        "evaluate": (
            *("python", "jobs/evaluate.py", "--encoder.name", str(runs["train"]), "--benchmark.facts", "80"),
            *("--benchmark.languages", "[de, en, es]", "--scaling.num_workers", "1", "--tracking.enabled", "false"),
        ),
        "tune": ("python", "jobs/tune.py", *SMALL, "--space.alpha", "[0.2, 0.8]", "--seeds", "1"),
        "study": (
            *("python", "jobs/study.py", "alpha", *SMALL, "--arms", "['0', '0.5', '1']", "--seeds", "1"),
            *("--scaling.num_workers", "1"),
        ),
    }
    for name, command in commands.items():
        more = [one.format(runs[name]) for one in (own[:2] if name == "evaluate" else own)]
        done = head.submit(*command, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "joining the Ray cluster" in done.stdout
        assert str(runs[name] / "report.html") in done.stdout
        assert json.loads((runs[name] / "results.json").read_text(encoding="utf-8"))["benchmark"]


@pytest.mark.slow
def test_a_job_that_fails_is_reported_as_failed(head: Head, tmp_path: Path) -> None:
    done = head.submit("python", "jobs/train.py", *SMALL, "--output", str(tmp_path / "out"), "--train.batch_size", "9")
    assert done.returncode == 1
    assert "is not a multiple of scaling.num_workers" in done.stdout
    unnamed = head.submit("python", "jobs/train.py", *SMALL)
    assert unnamed.returncode == 1
    assert "name an absolute path" in unnamed.stdout


@pytest.mark.slow
def test_who_has_no_token_is_refused(head: Head, tmp_path: Path) -> None:
    jobs, body = f"{head.address}/api/jobs/", json.dumps({"entrypoint": "true"}).encode()
    assert _status(jobs, "a" * 40) == 200
    assert _status(jobs) == 401
    assert _status(jobs, "b" * 40) == 403
    assert _status(jobs, None, body) == 401
    assert _status(jobs, "b" * 40, body) == 403
    plain = {k: v for k, v in head.environment.items() if not k.startswith("RAY_AUTH")} | {"HOME": "/nonexistent"}
    marker = tmp_path / "ran"
    assert Head(head.address, plain).submit("touch", str(marker)).returncode != 0
    assert not marker.exists()
    assert head.submit("touch", str(marker)).returncode == 0
    assert marker.exists()
