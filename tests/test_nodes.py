"""A simulated cluster loses a node: a run, an evaluation and a study go on with what is left."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, steady
from faults import Run, cluster_for

from hybridir.encoder import EncoderConfig, build_small_encoder
from hybridir.history import read_history
from hybridir.prepare import Prepared
from hybridir.tokens import load_tokenizer

PATIENCE = 400.0
"""Seconds for what is waited for."""
STUDY = (
    *("alpha", "--arms", "['0', '0.5', '1']", "--seeds", "1", "--train.steps", "30", "--train.checkpoint_every", "5"),
    *("--benchmark.facts", "200", "--tracking.enabled", "false"),
)


def wait_for(what: Callable[[], bool], log: Path) -> None:
    until = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < until, log.read_text(encoding="utf-8")
        time.sleep(0.1)


def start(job: str, log: Path, environment: dict[str, str], *arguments: str) -> "subprocess.Popen[str]":
    with open(log, "w", encoding="utf-8") as out:
        command = [sys.executable, f"jobs/{job}.py", *arguments]
        return subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=environment, text=True)


@pytest.mark.slow
def test_a_run_goes_on_with_the_nodes_that_are_left(tmp_path: Path) -> None:
    with cluster_for("node") as (nodes, environment):
        assert nodes
        run = Run(tmp_path / "shrunk", 24, environment, "--scaling.min_workers", "1")
        run.wait_for(lambda lines: len(lines) > 12)
        nodes.lose(random.Random(0))
        run.wait_for(lambda lines: len(lines) == 24)
        assert run.process.wait() == 0
    lines = run.lines()
    assert [line["step"] for line in lines] == list(range(24))
    assert {line["world_size"] for line in lines[:10]} == {2}
    assert {line["world_size"] for line in lines[13:]} == {1}
    assert "room for 1 of 2 workers: going on with 1" in run.log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_encoding_goes_on_without_a_node(small_run: Prepared, tmp_path: Path) -> None:
    """The numbers are those of one process that nothing happens to."""
    tokenizer = load_tokenizer(small_run.initial.name, None)
    large = EncoderConfig(hidden_size=192, layers=4, vocab_size=400, dropout=0.0)
    build_small_encoder(large, tokenizer, 0).save(tmp_path / "encoder")
    what = ("--encoder.name", str(tmp_path / "encoder"), "--benchmark.split", "all", "--tracking.enabled", "false")
    log, output = tmp_path / "log.txt", tmp_path / "on-ray"
    with cluster_for("node") as (nodes, environment):
        assert nodes
        on_ray = ("--scaling.num_workers", "2", "--output", str(output))
        process = start("evaluate", log, environment | {"COLUMNS": "200"}, *what, *on_ray)
        wait_for(lambda: "encoded" in log.read_text(encoding="utf-8"), log)
        assert process.poll() is None, "the encoder is too fast for this test"
        nodes.lose(random.Random(0))
        assert process.wait(PATIENCE) == 0, log.read_text(encoding="utf-8")
    here = ("--scaling.num_workers", "0", "--output", str(tmp_path / "alone"))
    alone = start("evaluate", tmp_path / "alone.txt", dict(os.environ), *what, *here)
    assert alone.wait(PATIENCE) == 0
    ours, expected = (
        json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in (output, tmp_path / "alone")
    )
    assert "a worker that encodes was lost" in log.read_text(encoding="utf-8")
    for setting in ("monolingual", "crosslingual", "multilingual"):
        assert ours[setting] == pytest.approx(expected[setting], rel=1e-6)


@pytest.mark.slow
def test_a_study_goes_on_without_a_node(tmp_path: Path) -> None:
    """An arm that was lost goes on elsewhere from its checkpoint; all end as on one machine."""
    log, output = tmp_path / "log.txt", tmp_path / "lost"
    common = (*STUDY, "--scaling.num_workers", "1", "--cache", str(tmp_path / "cache"), "--output")
    with cluster_for("node") as (nodes, environment):
        assert nodes
        process = start("study", log, environment, *common, str(output))
        going = output / "arms" / "0.5" / "seed-0" / "history.jsonl"
        wait_for(lambda: going.exists() and len(list(read_history(going))) > 12, log)
        nodes.lose(random.Random(0))
        assert process.wait(PATIENCE) == 0, log.read_text(encoding="utf-8")
    undisturbed = start("study", tmp_path / "whole.txt", dict(os.environ), *common, str(tmp_path / "whole"))
    assert undisturbed.wait(PATIENCE) == 0

    def histories(folder: Path) -> dict[str, list[dict[str, Any]]]:
        files = sorted((folder / "arms").glob("*/seed-*/history.jsonl"))
        return {str(file.relative_to(folder)): steady(list(read_history(file))) for file in files}

    assert len(histories(output)) == 3
    assert histories(output) == histories(tmp_path / "whole")
