"""SIGTERM and Ctrl-C to the job, in a process of its own and without Ray: saved at the next step, nothing lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers import ROOT, read_lines, steady
from helpers import job as job_here

from hybridir.runtime import signals
from hybridir.runtime.signals import INTERRUPTED, handlers_kept, interruptible, saving

OPTIONS = [
    *("--scaling.num_workers", "0", "--train.batch_size", "16", "--train.schedule", "constant"),
    *("--encoder.hidden_size", "32", "--encoder.layers", "1", "--encoder.vocab_size", "1000"),
    *("--validation.batches", "2", "--validation.batch_size", "8", "--data.facts", "300"),
    *("--benchmark.facts", "100", "--benchmark.languages", "[de, en]"),
    *("--train.checkpoint_every", "1000", "--validation.every", "1000"),
]


@pytest.fixture
def start(cache: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the job with this output folder and options; it ends with the test at the latest."""
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with contextlib.ExitStack() as stack:

        def started(output: Path, *arguments: str) -> subprocess.Popen[str]:
            command = [sys.executable, "jobs/train.py", *OPTIONS, "--output", str(output), "--cache", str(cache)]
            # In a session of its own, so that no signal for it reaches this process.
            job = stack.enter_context(subprocess.Popen([*command, *arguments], **options, start_new_session=True))
            stack.callback(job.kill)
            return job

        yield started


def wait_for(happened: Callable[[], bool], job: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 600
    while not happened():
        assert job.poll() is None, job.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


def lines(output: Path) -> list[dict[str, Any]]:
    history = output / "history.jsonl"
    return read_lines(history) if history.exists() else []


@pytest.fixture
def stopped(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> Path:
    """The output of a run that got a Ctrl-C while it trained, after the reader of its stdout had gone (`| tee`)."""
    output = tmp_path / "run"
    job = start(output, "--train.steps", "5000")
    wait_for(lambda: len(lines(output)) > 5, job)
    assert job.stdout
    assert job.stderr
    job.stdout.close()
    job.send_signal(signal.SIGINT)
    err = job.stderr.read()
    assert job.wait() == INTERRUPTED, err
    done = lines(output)
    assert 5 < len(done) < 5000
    assert f"--config {output / 'config.yaml'} --resume" in err
    assert "saving at the next step" in err
    assert "Traceback" not in err
    assert (output / "checkpoints" / f"step-{len(done):08d}" / "manifest.json").exists()
    assert json.loads((output / "tracking.json").read_text(encoding="utf-8"))["status"] == "KILLED"
    return output


def test_a_run_that_is_asked_to_stop_saves_and_goes_on(stopped: Path, cache: Path) -> None:
    steps = len(lines(stopped)) + 1
    again = job_here(*OPTIONS, "--cache", cache, "--train.steps", steps, "--output", stopped, "--resume")
    assert again.returncode == 0, again.stderr
    assert [line["step"] for line in lines(stopped)] == list(range(steps))


@pytest.mark.slow
def test_it_goes_on_as_if_nothing_had_happened(stopped: Path, cache: Path, tmp_path: Path) -> None:
    """As after a kill, which is tested with every change."""
    options = [*OPTIONS, "--cache", cache, "--train.steps", len(lines(stopped)) + 5, "--output"]
    for again in (job_here(*options, stopped, "--resume"), job_here(*options, tmp_path / "whole")):
        assert again.returncode == 0, again.stderr
    assert steady(lines(stopped)) == steady(lines(tmp_path / "whole"))


LONG_STEP = """
import sys, time
from pathlib import Path
from hybridir.runtime.signals import interruptible, saving

with interruptible(), saving(Path(sys.argv[1])):
    Path(sys.argv[1]).with_name("entered").touch()
    time.sleep(600)
"""


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    """While a long step is not at its end."""
    command = [sys.executable, "-c", LONG_STEP, str(tmp_path / "STOP")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as job:
        wait_for((tmp_path / "entered").exists, job)
        job.send_signal(signal.SIGINT)
        wait_for((tmp_path / "STOP").exists, job)
        job.send_signal(signal.SIGTERM)
    assert job.returncode == -signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_before_the_first_step(
    tmp_path: Path, start: Callable[..., subprocess.Popen[str]], number: signal.Signals
) -> None:
    """SIGINT is slow: the same way out of the job, which the test above and that of the handlers send it."""
    output = tmp_path / "run"
    job = start(output)
    wait_for((output / "tracking.json").exists, job)
    job.send_signal(number)
    out, err = job.communicate()
    assert job.returncode == INTERRUPTED
    assert "--resume" in out
    assert "Traceback" not in err
    assert lines(output) == []


def test_a_step_that_does_not_come_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """But a checkpoint that is being written is."""
    monkeypatch.setattr(signals, "PATIENCE", 1)
    writing = tmp_path / "checkpoints" / ".step-00000001.tmp"
    writing.mkdir(parents=True)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt), saving(tmp_path / "STOP") as asked:  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        assert asked.is_set()
        assert (tmp_path / "STOP").exists()
        time.sleep(1.5)
        writing.rmdir()
        time.sleep(60)
    assert time.monotonic() - began > 1.5


@pytest.mark.parametrize("ahead", [0, 86_400])
def test_a_checkpoint_that_nobody_writes_any_more_is_not_waited_for(
    ahead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker was lost, or its storage hangs; also if the clock was set back by a day meanwhile."""
    monkeypatch.setattr(signals, "PATIENCE", 1)
    monkeypatch.setattr(signals, "WRITING", 1)
    work = tmp_path / "checkpoints" / ".step-00000001.tmp"
    work.mkdir(parents=True)
    os.utime(work, (time.time() + ahead,) * 2)
    with pytest.raises(KeyboardInterrupt), saving(tmp_path / "STOP"):  # noqa: PT012
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)


def test_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)]
    with pytest.raises(SystemExit) as ended, interruptible(), saving(Path("/nowhere/STOP")):  # noqa: PT012
        with handlers_kept():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) not in (signal.SIG_IGN, signal.SIG_DFL)
        raise KeyboardInterrupt
    assert ended.value.code == INTERRUPTED
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)] == before


def test_in_another_thread_nothing_is_handled() -> None:
    def use() -> None:
        with interruptible(), saving(Path("/nowhere/STOP")), handlers_kept():
            entered.append(os.getpid())

    entered: list[int] = []
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert entered
