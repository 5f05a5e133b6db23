"""The skeleton of all jobs: output that nobody reads, and terminals that lack characters, end no run."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from hybridir.runtime.secrets import errors_masked

TALK = """
import sys, time
from pathlib import Path
from hybridir.runtime.job import job

with job([]):
    print("ready …", flush=True)
    sys.stdin.readline()
    for _ in range(3):
        print("nobody reads this", flush=True)
        print("nor this", file=sys.stderr, flush=True)
    Path(sys.argv[1]).write_text("done")
"""


@pytest.mark.parametrize("merged", [False, True])
def test_a_reader_that_goes_away_ends_nothing(tmp_path: Path, merged: bool) -> None:
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    streams["stderr"] = subprocess.STDOUT if merged else subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", TALK, str(tmp_path / "end")], cwd=ROOT, text=True, **streams)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready …\n"
    process.stdout.close()
    if process.stderr:
        process.stderr.close()
    process.stdin.write("\n")
    process.stdin.close()
    assert process.wait(60) == 0
    assert (tmp_path / "end").read_text(encoding="utf-8") == "done"


def test_on_a_terminal_a_job_speaks_at_once() -> None:
    ours, theirs = pty.openpty()
    code = "import sys; from hybridir.runtime.job import job\nwith job([]): print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=theirs, check=True)
    assert os.read(ours, 100) == b"starting\r\n"
    assert done.stdout == b"False\n"
    for end in (ours, theirs):
        os.close(end)


def test_a_terminal_that_lacks_a_character(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [sys.executable, "-c", TALK, str(tmp_path / "end")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, input="\n", check=True)
    assert done.stdout.startswith("ready \\u2026\n")


LIMITED = """
import os, resource, sys
from contextlib import suppress
from hybridir.runtime.job import job

if not os.getuid():  # root may start as many as it likes
    os.setgid(54321)
    os.setuid(54321)
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]),) * 2)
opened = []
with job([]):
    try:
        opened += (open(os.devnull) for _ in range(99))
    except OSError as error:
        raise BaseException("a panic in Rust") from error
"""


@pytest.mark.parametrize(
    ("limit", "most", "error", "what", "command"),
    [
        ("RLIMIT_NOFILE", 24, "a panic in Rust", "24 open files", "-n"),
        ("RLIMIT_NPROC", 1, "0 threads could be started, which is too few", "1 threads and processes", "-u"),
    ],
)
def test_limits_of_the_system_are_named_with_what_raises_them(
    limit: str, most: int, error: str, what: str, command: str
) -> None:
    start = [sys.executable, "-c", LIMITED, limit, str(most)]
    done = subprocess.run(start, cwd=ROOT, capture_output=True, text=True, check=False)
    told = f"error: {error}\nat most {what} at a time are allowed here: raise the limit by `ulimit {command} 4096`"
    assert done.stderr.startswith(told)
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_an_error_without_a_word_is_told() -> None:
    with pytest.raises(SystemExit, match="not enough memory"), errors_masked(MemoryError):
        raise MemoryError
