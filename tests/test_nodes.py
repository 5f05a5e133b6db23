"""A simulated cluster loses a node, and the run goes on with what is left."""

import random
from pathlib import Path

import pytest
from faults import Run, cluster_for


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
