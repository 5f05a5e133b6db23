"""A simulated cluster loses a node: a run, an evaluation and a study go on with what is left."""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from faults import Nodes, cluster_for
from helpers import ROOT, read_lines, small_recipe, steady

from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder, build_small_encoder
from hybridir.model.tokenizer import load_tokenizer
from hybridir.on_ray.train import train_on_ray
from hybridir.runs.prepare import Prepared, prepare
from hybridir.runs.recipe import Recipe
from hybridir.runs.training_run import open_output
from hybridir.runtime.history import last_line, read_history
from hybridir.training.loop import Job, train

PATIENCE = 400.0
"""Seconds for what is waited for."""
STEPS, EVERY = 100, 20
"""Of a run, and between its checkpoints."""
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


def lose_a_node(
    recipe: Recipe, another: bool, monkeypatch: pytest.MonkeyPatch
) -> tuple[Prepared, list[dict[str, Any]]]:
    """Trains on two nodes with a worker each, of which one is lost, and `another` one comes or not; the history."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    history, ended = Path(recipe.output) / "history.jsonl", list[dict[str, Any]]()
    with cluster_for("node") as (nodes, _), connected(nodes):
        monkeypatch.setenv("RAY_ADDRESS", nodes.address)
        prepared = prepare(recipe, open_output(recipe))
        thread = threading.Thread(target=lambda: ended.append(train_on_ray(prepared, recipe)), daemon=True)
        thread.start()
        wait_for(lambda: (last_line(history) or {"step": 0})["step"] > EVERY, Path(recipe.output) / "config.yaml")
        nodes.lose(random.Random(0))
        if another:
            nodes.add()
        thread.join(PATIENCE)
    assert ended
    assert ended[0]["stopped"] == "end"
    return prepared, read_lines(history)


TRAIN = {"steps": STEPS, "checkpoint_every": EVERY, "schedule": "constant"}


def train_undisturbed(job: Job, initial: EncoderConfig) -> None:
    train(job, Encoder.load(initial), torch.device("cpu"))


@pytest.mark.slow
def test_a_run_that_loses_a_node_ends_as_undisturbed(
    make_run: Callable[..., Prepared],
    on_ranks: Callable[..., None],
    tmp_path: Path,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another node comes; history and weights are those of two ranks that nothing happens to."""
    sections = {"train": TRAIN, "scaling": {"num_workers": 2}}
    prepared, lines = lose_a_node(small_recipe(tmp_path / "lost", cache, **sections), True, monkeypatch)
    assert {line["attempt"] for line in lines} == {1, 2}
    whole = make_run(tmp_path / "whole", **sections)
    on_ranks(2, train_undisturbed, whole.job, whole.initial)
    assert steady(lines) == steady(read_lines(whole.job.output / "history.jsonl"))
    last = f"checkpoints/step-{STEPS:08d}/model.safetensors"
    assert (prepared.job.output / last).read_bytes() == (whole.job.output / last).read_bytes()


@pytest.mark.slow
def test_a_run_goes_on_with_the_nodes_that_are_left(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Slow: Ray waits a minute for the lost node. In short: another one comes, above, and `find_room` in test_ray."""
    recipe = small_recipe(tmp_path / "run", cache, train=TRAIN, scaling={"num_workers": 2, "min_workers": 1})
    prepared, lines = lose_a_node(recipe, False, monkeypatch)
    assert [line["step"] for line in lines] == list(range(STEPS))
    alone = next(n for n, line in enumerate(lines) if line["world_size"] == 1)
    assert alone >= EVERY
    assert alone % EVERY == 0
    assert [line["world_size"] for line in lines] == [2] * alone + [1] * (STEPS - alone)
    wanted = (prepared.job.source.batch(step).digests().tobytes() for step in range(STEPS))
    assert [line["example_ids_sha256"] for line in lines] == [hashlib.sha256(digests).hexdigest() for digests in wanted]
    assert "the cluster has room for 1 of 2 workers: going on with 1" in capfd.readouterr().out


@contextlib.contextmanager
def connected(nodes: Nodes) -> Iterator[None]:
    """This process is a driver of that cluster."""
    import ray

    ray.init(address=nodes.address, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_encoding_goes_on_without_a_node(small_run: Prepared, tmp_path: Path) -> None:
    """The numbers are those of one process that nothing happens to."""
    tokenizer = load_tokenizer(small_run.initial.name, None)
    large = EncoderConfig(hidden_size=192, layers=2, vocab_size=400, dropout=0.0)
    build_small_encoder(large, tokenizer, 0).double().save(tmp_path / "encoder")
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
    assert "an encoding worker was lost" in log.read_text(encoding="utf-8")
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
