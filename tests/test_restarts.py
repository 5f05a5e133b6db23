"""What the driver does when a start of the workers ends, or there is no room for one; without a running Ray."""

import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.exceptions
import ray.train
import torch.distributed as dist
from conftest import read_lines, small_recipe
from ray.train.v2._internal.exceptions import WorkerGroupStartupFailedError, WorkerGroupStartupTimeoutError
from ray.train.v2.api.preemption import PreemptionInfo

from hybridir.history import EVENTS
from hybridir.on_ray import cluster, encode
from hybridir.on_ray import train as on_ray_train
from hybridir.on_ray.cluster import find_room
from hybridir.on_ray.train import train_on_ray
from hybridir.prepare import Prepared
from hybridir.recipe import Recipe, ScalingConfig

MakeRun = Callable[..., Prepared]
DIED = ray.train.WorkerGroupError("died", {0: ray.exceptions.ActorDiedError()})
END = {"step": 8, "stopped": "end"}


@pytest.fixture
def start(
    make_run: MakeRun, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Any, list[str]]]:
    """`start(error, ..., state)`: trains where each start of Ray Train ends so; the last state, and what was noted."""
    run = make_run(tmp_path / "run")
    recipe: Recipe = small_recipe(tmp_path / "run", cache, scaling={"num_workers": 2, "max_failures": 2})

    def train(*endings: Any) -> tuple[Any, list[str]]:
        left = iter(endings)

        def fit(*_: object) -> Any:
            ending = next(left)
            ending = ending(run.job.output) if callable(ending) else ending
            if isinstance(ending, Exception):
                raise ending
            return ending

        monkeypatch.setattr(on_ray_train, "_fit", fit)
        monkeypatch.setattr(on_ray_train, "find_room", lambda *_, **__: 2)
        events = run.job.output / EVENTS
        return train_on_ray(run, recipe), [line["text"] for line in read_lines(events)] if events.exists() else []

    return train


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (DIED, None),
        (ray.train.PreemptionError(PreemptionInfo(None, {})), "PreemptionError"),
        (ray.train.ControllerError(WorkerGroupStartupFailedError("a worker died")), "a worker died"),
        (ray.train.ControllerError(ray.exceptions.RayTaskError("f", "", dist.DistNetworkError("reset"))), "reset"),
        (ray.exceptions.ActorDiedError(), "ActorDiedError"),
    ],
    ids=["worker", "preempted", "while it starts", "while they meet", "controller"],
)
def test_what_was_lost_is_started_again_so_many_times(
    start: Callable[..., tuple[Any, list[str]]], error: Exception, noted: str | None
) -> None:
    state, events = start(error, error, END)
    assert state == END
    assert len(events) == (2 if noted else 0)
    assert all(str(noted) in text for text in events)
    with pytest.raises(
        ConnectionError, match=r"lost 3 times without a new checkpoint, and scaling.max_failures is 2\. .* The last"
    ):
        start(error, error, error, END)


def test_a_new_checkpoint_starts_the_count_anew(start: Callable[..., tuple[Any, list[str]]]) -> None:
    def after_a_checkpoint(output: Path) -> Exception:
        (output / "checkpoints" / "step-00000004").mkdir(parents=True)
        return DIED

    state, _ = start(DIED, DIED, after_a_checkpoint, DIED, END)
    assert state == END
    with pytest.raises(ConnectionError, match="lost 3 times without a new checkpoint"):
        start(DIED, DIED, DIED, END)


def test_room_that_others_have_is_waited_for(start: Callable[..., tuple[Any, list[str]]]) -> None:
    state, events = start(*[ray.train.ControllerError(WorkerGroupStartupTimeoutError(2))] * 5, END)
    assert state == END
    assert len(events) == 5
    assert "others may use the cluster" in events[0]


@pytest.mark.parametrize("error", [FloatingPointError("bad"), MemoryError("full"), OSError(errno.ENOENT, "gone")])
def test_what_would_come_again_is_raised_as_it_is(
    start: Callable[..., tuple[Any, list[str]]], error: Exception
) -> None:
    with pytest.raises(type(error)) as raised:
        start(ray.train.ControllerError(error), END)
    assert raised.value is error


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A cluster of nodes with a CPU each, some of them about to go; it grows by what it is asked for."""
    cluster_of = SimpleNamespace(names=["a"], going={}, asked=[])

    def ask(bundles: list[dict[str, int]]) -> None:
        cluster_of.asked.append(bundles)
        cluster_of.names += [f"new-{n}" for n, _ in enumerate(bundles)]

    def listed() -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 1.0}} for name in cluster_of.names]

    monkeypatch.setattr(ray, "nodes", listed)
    monkeypatch.setattr(ray._private.state.state, "get_draining_nodes", lambda: cluster_of.going)
    monkeypatch.setattr(cluster, "_ask_for", ask)
    monkeypatch.setattr(cluster, "_grows", lambda: True)
    monkeypatch.setattr(cluster.time, "sleep", lambda _: None)
    return cluster_of


def test_who_waits_for_nodes_asks_for_them(nodes: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """An autoscaler adds none for a driver that sleeps; what was asked for is taken back."""
    assert find_room(ScalingConfig(num_workers=4)) == 4
    assert nodes.asked == [[{"CPU": 1}] * 4, []]
    assert "and the run needs 4: waiting for nodes" in capsys.readouterr().out


def test_a_node_that_is_about_to_go_has_no_room(nodes: SimpleNamespace) -> None:
    nodes.names, nodes.going = ["a", "b"], {"b": 0}
    assert find_room(ScalingConfig(num_workers=2, min_workers=1)) == 1
    assert nodes.asked == []


def test_encoding_takes_the_workers_that_there_are(nodes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training on fewer may not be allowed, and has ended."""

    def fit(size: int) -> None:
        assert size == 1
        raise KeyboardInterrupt

    monkeypatch.setattr(encode, "find_room", lambda scaling, **_: fit(find_room(scaling)))
    with pytest.raises(KeyboardInterrupt):
        encode.encode_on_ray(ScalingConfig(num_workers=2), SimpleNamespace(name="x"), ["a"], ["b"])  # type: ignore[arg-type]


HANG = """
import time
from hybridir.on_ray.train import _watched

for _ in _watched(lambda *_: iter("ab"), 1)(None, 0, 2, 0, 1):
    time.sleep(60)
"""


def test_a_worker_that_takes_no_batch_for_long_ends_itself() -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANG], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert 'File "<string>", line 6' in done.stderr
