"""A node that is about to go: the run saves at its next step and goes on without that node."""

import hashlib
import json
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import read_lines, small_recipe

from hybridir.on_ray.train import train_on_ray
from hybridir.runs.prepare import prepare
from hybridir.runs.training_run import open_output
from hybridir.runtime.history import last_line

STEPS = 400


@pytest.mark.slow
def test_a_node_with_notice(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The two workers are on a node that is told to drain; another one with room for them comes."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    sections = {
        "train": {"steps": STEPS, "checkpoint_every": 1000, "schedule": "constant"},
        "validation": {"every": 1000},
        "scaling": {"num_workers": 2},
    }
    recipe = replace(small_recipe(tmp_path / "run", cache, **sections), output=str(tmp_path / "run"))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        first = nodes.add_node(num_cpus=2)
        ray.init(address=nodes.address, log_to_driver=False)
        output = open_output(recipe)
        prepared = prepare(recipe, output)
        ended: list[dict] = []
        thread = threading.Thread(target=lambda: ended.append(train_on_ray(prepared, recipe)))
        thread.start()
        while not (line := last_line(output / "history.jsonl")) or line["step"] < 5:
            time.sleep(0.05)
        notice = ("--node-id", first.node_id, "--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot")
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--address", nodes.address, *notice]
        subprocess.run([*command, "--deadline-remaining-seconds", "90"], check=True)
        told = time.monotonic()
        while not (output / "events.jsonl").exists() and thread.is_alive():
            time.sleep(0.1)
        print(f"saved {time.monotonic() - told:.1f} s after the notice")
        nodes.add_node(num_cpus=2)
        thread.join()
    finally:
        ray.shutdown()
        nodes.shutdown()
    assert ended[0]["stopped"] == "end"
    lines = read_lines(output / "history.jsonl")
    assert {line["attempt"] for line in lines} == {1, 2}
    assert not (output / "history.discarded.jsonl").exists(), "no step was done twice"
    assert (
        "a node is about to go: saved at step"
        in json.loads((output / "events.jsonl").read_text(encoding="utf-8"))["text"]
    )
    assert [line["step"] for line in lines] == list(range(STEPS))
    whole = (prepared.job.source.batch(step) for step in range(STEPS))
    hashes = [hashlib.sha256(batch.digests().tobytes()).hexdigest() for batch in whole]
    assert [line["example_ids_sha256"] for line in lines] == hashes
