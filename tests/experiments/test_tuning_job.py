"""Tuning as a job, with Optuna, ASHA, DDP and a killed driver: minutes each. In short: test_tuning."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ROOT, pairs_of
from test_tuning import LANGUAGES, results_of, trained

from hybridir.data.config import Source
from hybridir.data.records import Pair
from hybridir.experiments.one_run import STOPPED
from hybridir.runtime.history import read_history

TINY = (
    *("--encoder.layers", "1", "--encoder.hidden_size", "32", "--encoder.vocab_size", "400", "--train.batch_size", "8"),
    *("--validation.batches", "2", "--validation.batch_size", "4", "--validation.languages", "[de, en]"),
    *("--sampling.languages", "[de, en]", "--benchmark.facts", "80", "--benchmark.languages", "[de, en, es]"),
    *("--train.warmup_steps", "2", "--validation.every", "5", "--tracking.enabled", "false"),
)
SAMPLE = ("--data.facts", "80", "--data.languages", "[de, en, es]")


def command(output: Path, cache: Path, *more: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "jobs" / "tune.py"),
        *TINY,
        "--output",
        str(output),
        "--cache",
        str(cache),
        *more,
    ]


def run(arguments: list[str], folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_worse_points_are_stopped_early(cache: Path, tmp_path: Path) -> None:
    """Optuna with ASHA: some points are stopped, some fail before they have a metric, and no process is left."""
    ranges = "{train.lr: {low: 1e-5, high: 1e5, log: true}, mix: simplex}"
    more = ("--space", ranges, "--points", "10", "--stop_early", "--finalists", "1", "--train.steps", "60")
    done = run(command(tmp_path / "out", cache, *SAMPLE, *more))
    assert (tmp_path / "out" / "results.json").exists(), done.stderr
    results = results_of(tmp_path / "out")
    states = [one["state"] for one in results["trials"]]
    assert len(states) == 10
    assert set(states) == {"done", "stopped early", "failed"}
    assert done.returncode == 1
    assert f"error: {states.count('failed')} points failed, see the page" in done.stderr
    for one in results["trials"]:
        if one["state"] == "stopped early":
            assert "1 in 3 goes on" in one["why"]
            assert one["steps"] < 60
            assert (Path(one["folder"]) / "seed-0" / STOPPED).exists()
            assert not (Path(one["folder"]) / "seed-0" / "checkpoints").exists()
        if one["state"] == "failed":
            assert "no update was made" in one["why"]
    assert sum(one["seeds"] == 2 for one in results["trials"]) == 1
    running = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert str(tmp_path) not in running
    again = run(command(tmp_path / "out", cache, *SAMPLE, *more, "--resume"))
    assert "was stopped early: it stays stopped" in again.stdout
    assert [one["set"] for one in results_of(tmp_path / "out")["trials"]] == [one["set"] for one in results["trials"]]


@pytest.mark.slow
def test_points_trained_by_two_workers_each(cache: Path, tmp_path: Path) -> None:
    """One after the other on two CPUs, with data under a path that is relative to where the job was started."""
    with open(tmp_path / "pairs.jsonl", "w", encoding="utf-8") as file:
        for pair in pairs_of(Source(format="sample", facts=80, languages=LANGUAGES)):
            assert isinstance(pair, Pair)
            row = {"group_id": pair.group_id, "language": pair.language, "query": pair.query}
            file.write(json.dumps(row | {"passage": pair.passage.text}) + "\n")
    data = ("--data.format", "jsonl", "--data.path", "pairs.jsonl", "--data.languages", "[de, en]")
    more = ("--data.validation_share", "0.2", "--space.alpha", "[0.2, 0.8]", "--seeds", "2", "--train.steps", "10")
    done = run(command(tmp_path / "out", cache, *data, *more, "--scaling.num_workers", "2", "--stop_early"), tmp_path)
    assert done.returncode == 0, done.stderr
    listed = results_of(tmp_path / "out")["trials"]
    assert {one["state"] for one in listed} <= {"done", "stopped early"}
    lines = list(read_history(Path(listed[0]["folder"]) / "seed-1" / "history.jsonl"))
    assert {line["world_size"] for line in lines} == {2}


@pytest.mark.slow
def test_killed_tuning_goes_on(cache: Path, tmp_path: Path) -> None:
    """SIGKILL of the driver: no finished point is trained twice, and the winner is that of undisturbed tuning."""
    more = (*SAMPLE, "--space.alpha", "[0, 0.25, 0.5, 0.75, 1]", "--seeds", "1", "--train.steps", "60")
    more += ("--train.checkpoint_every", "5")
    assert run(command(tmp_path / "whole", cache, *more)).returncode == 0
    output = tmp_path / "killed"
    process = subprocess.Popen(command(output, cache, *more), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    until = time.monotonic() + 300
    while sum(1 for _ in output.glob("arms/*/*/results.json")) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    process.kill()
    process.wait()
    before = trained(output)
    assert before
    done = run(command(output, cache, *more, "--resume"))
    assert done.returncode == 0, done.stderr
    assert {name: when for name, when in trained(output).items() if name in before} == before
    assert done.stdout.count("is finished: it stays as it is") >= 2
    whole, killed = (results_of(folder) for folder in (tmp_path / "whole", output))
    assert [one["set"] for one in killed["trials"]] == [one["set"] for one in whole["trials"]]
    assert killed["winner"]["point"] == whole["winner"]["point"]
    for one in killed["trials"]:
        steps = [line["step"] for line in read_history(Path(one["folder"]) / "seed-0" / "history.jsonl")]
        assert steps == list(range(60))
