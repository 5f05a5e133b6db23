"""One writer: who owns an output folder, and who is refused."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import ROOT, small_recipe

from hybridir.runs.training_run import open_output
from hybridir.runtime import owner
from hybridir.runtime.owner import OWNER, WRITER, named_output, own, writing

HOLD = """
import sys
from pathlib import Path
from hybridir.runtime import owner

with getattr(owner, sys.argv[1])(Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def held(what: str, output: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that owns `output`, or writes to it, until its input is closed."""
    command = [sys.executable, "-c", HOLD, what, str(output)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process


def test_a_second_start_is_refused_before_anything_heavy_is_imported(tmp_path: Path) -> None:
    with held("own", tmp_path / "run") as process:
        command = [sys.executable, "-X", "importtime", "jobs/train.py", f"--output={tmp_path / 'run'}"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    imports = {line.split("|")[-1].strip() for line in done.stderr.splitlines() if line.startswith("import time")}
    assert done.returncode == 1
    assert f"belongs to a run that is going on: process {process.pid}, since 20" in done.stderr
    assert {"yaml", "hybridir.runtime.owner"} <= imports
    assert not imports & {"torch", "ray", "transformers", "mlflow", "pyarrow", "numpy", "hybridir.runs.recipe"}


def test_what_a_killed_owner_leaves_behind_does_not_hold(tmp_path: Path) -> None:
    output = tmp_path / "run"
    with held("own", output) as process:
        process.send_signal(signal.SIGKILL)
    assert json.loads((output / OWNER).read_text(encoding="utf-8"))["pid"] == process.pid
    with own(output), own(output):
        assert json.loads((output / OWNER).read_text(encoding="utf-8"))["pid"] == os.getpid()
        (output / "history.jsonl").touch()
    assert [path.name for path in output.iterdir()] == ["history.jsonl"]


def test_a_folder_that_nothing_was_written_to_goes_again(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="typo"), own(tmp_path / "run"):
        raise ValueError("typo")
    assert not (tmp_path / "run").exists()
    with own(tmp_path):
        pass
    assert tmp_path.exists()


def test_an_owner_on_another_machine_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with held("own", tmp_path) as process:
        process.send_signal(signal.SIGKILL)
    monkeypatch.setattr(owner.socket, "gethostname", lambda: "elsewhere")
    with own(tmp_path):
        assert f"process {process.pid}" in capsys.readouterr().out


def test_where_nothing_can_be_written_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"cannot be written to .* name another --output"):
        own(tmp_path / "file" / "run").__enter__()


def test_a_worker_waits_for_that_of_a_driver_that_was_killed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with held("writing", tmp_path) as old, held("own", tmp_path):
        wait = subprocess.Popen([sys.executable, "-c", HOLD, "writing", str(tmp_path)], stdin=subprocess.PIPE, cwd=ROOT)
        said, until = "", time.monotonic() + 60
        while "\n" not in said and time.monotonic() < until:
            time.sleep(0.1)
            said += capfd.readouterr().out
        assert said.startswith(f"waiting for a worker of an earlier attempt to end: process {old.pid}")
        old.kill()
        wait.communicate(timeout=30)
        assert capfd.readouterr().out == "held\n"
    assert not (tmp_path / WRITER).exists()
    with writing(tmp_path):
        pass


def test_a_resume_waits_for_it_too(tmp_path: Path) -> None:
    """It may still remove checkpoints."""
    recipe = replace(small_recipe(tmp_path / "run", tmp_path / "cache"), resume=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("seed: 0", encoding="utf-8")
    thread = threading.Thread(target=open_output, args=(recipe,))
    with writing(tmp_path / "run"):
        thread.start()
        thread.join(2)
        assert (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8") == "seed: 0"
    thread.join(30)
    assert (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8") != "seed: 0"


@pytest.mark.parametrize(
    ("arguments", "output"),
    [
        (["--output", "a"], "a"),
        (["--train.steps", "3", "--output=a", "--resume"], "a"),
        (["--config", "{config}"], "of config"),
        (["--config={config}", "--output", "a"], "a"),
        (["--output", "a", "--config", "{config}"], "a"),
        (["--output", "a", "--config", "/nowhere.yaml"], "a"),
        (["--output", "a", "--dry_run"], ""),
        (["--outputs", "a"], ""),
        (["--output"], ""),
        ([], ""),
    ],
)
def test_the_output_is_found_in_arguments_and_config(arguments: list[str], output: str, tmp_path: Path) -> None:
    """As the job's own parser takes them: the command line counts more than the file."""
    config = tmp_path / "config.yaml"
    config.write_text("output: of config\nseed: 3\n", encoding="utf-8")
    assert named_output([argument.format(config=config) for argument in arguments]) == output
