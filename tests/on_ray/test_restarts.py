"""What the driver does when a start of the workers ends, or there is no room for one; without a running Ray."""

import errno
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.exceptions
import ray.train
import torch
import torch.distributed as dist
from helpers import ROOT, read_lines, small_recipe
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.preemption import PreemptionInfo

from hybridir.on_ray import cluster, encode
from hybridir.on_ray import train as on_ray_train
from hybridir.on_ray.cluster import find_room
from hybridir.on_ray.train import train_on_ray
from hybridir.runs.prepare import Prepared
from hybridir.runs.recipe import Recipe, ScalingConfig
from hybridir.runtime.history import EVENTS

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


def test_after_a_notice_the_workers_are_started_again(start: Callable[..., tuple[Any, list[str]]]) -> None:
    """And what a worker left half written is removed."""

    def at_a_notice(output: Path) -> dict[str, Any]:
        (output / "checkpoints" / ".step-00000004.tmp").mkdir(parents=True)
        return {"step": 3, "stopped": "signal"}

    def without_half_written(output: Path) -> dict[str, Any]:
        assert not list((output / "checkpoints").iterdir())
        return END

    state, events = start(at_a_notice, without_half_written)
    assert state == END
    assert events == ["a node is about to go: saved at step 3, starting the workers again"]


def test_a_worker_that_does_not_see_the_storage_of_the_driver(small_run: Prepared) -> None:
    task = on_ray_train._Task(small_run.job, small_run.initial, 1, 600, Path("/nowhere/attempt.here"))
    with pytest.raises(ValueError, match=r"does not see the driver's /nowhere/attempt.here: set --output to a folder"):
        on_ray_train._work({"task": task})
    job = replace(small_run.job, source=replace(small_run.job.source, tokens="/nowhere/tokens-1"))
    task = on_ray_train._Task(job, small_run.initial, 1, 600, Path(__file__))
    with pytest.raises(ValueError, match=r"does not see the driver's /nowhere/tokens-1: set --cache to a folder"):
        on_ray_train._work({"task": task})


RESET = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:552] Read error [127.0.0.1]:5243: Connection reset by peer. "
    "This is typically caused by a remote worker hanging or bugs in the application. Check the logs of the remote "
    "worker before reporting an error. GLHF!"
)
CLOSED = "[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:36121."
WAITED = "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 20000ms for recv operation"
POLLED = "A worker health check has been hanging for 20.31 seconds. Marking the worker as dead.\nWorker info: ..."
ECC = "CUDA error: uncorrectable ECC error encountered\nSearch for `cudaErrorECCUncorrectable' in ..."
ASSERT = "CUDA error: device-side assert triggered\nSearch for `cudaErrorAssert' in ..."


@pytest.mark.parametrize(
    ("error", "noted"),
    [
        (OSError(errno.ENOSPC, "full"), None),
        (OSError(errno.EROFS, "read only"), None),
        (OSError(errno.ESTALE, "stale"), "was lost"),
        (RuntimeError(RESET), "was lost"),
        (RuntimeError(CLOSED), "was lost"),
        (RuntimeError(WAITED), "gave no answer for 300 s"),
        (dist.DistStoreError("wait timeout after 20000ms, timed out"), "gave no answer for 300 s"),
        (WorkerHealthCheckTimeoutError(POLLED), "gave no answer for 300 s"),
        (ray.exceptions.ActorDiedError(), "was lost"),
        (torch.AcceleratorError(ECC), "was lost"),
        (torch.AcceleratorError(ASSERT), None),
        (torch.AcceleratorError("CUDA error: out of memory"), None),
        (torch.OutOfMemoryError("CUDA out of memory"), None),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), None),
        (MemoryError("out of memory"), None),
        (FloatingPointError("not finite"), None),
    ],
)
def test_what_is_tried_again(make_run: MakeRun, tmp_path: Path, error: Exception, noted: str | None) -> None:
    job = make_run(tmp_path / "run").job
    watch = on_ray_train._watch(job, ScalingConfig())
    if noted:
        watch.after_exception(None, {0: error})
        [event] = read_lines(job.output / EVENTS)
        assert f" {noted} after step 0, and is replaced (" in event["text"]
    else:
        with pytest.raises(type(error)):
            watch.after_exception(None, {1: ray.exceptions.ActorDiedError(), 0: error})


def test_a_worker_that_ray_ends_for_its_memory_is_named_with_its_batch(small_run: Prepared) -> None:
    killed = ray.exceptions.OutOfMemoryError("Task was killed due to the node running low on memory.")
    with pytest.raises(MemoryError, match=r"step 0, with 4 pairs .* longest text of \d+ tokens"):
        on_ray_train._watch(small_run.job, ScalingConfig()).after_exception(None, {0: killed})


def test_room_that_others_have_is_waited_for(
    start: Callable[..., tuple[Any, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as it takes; but if nobody has it, something else is wrong, and would be for ever."""
    late = [ray.train.ControllerError(WorkerGroupStartupTimeoutError(2))] * 5
    monkeypatch.setattr(on_ray_train, "room", lambda _, free: 1)
    state, events = start(*late, END)
    assert state == END
    assert len(events) == 5
    assert "others may use the cluster" in events[0]
    monkeypatch.setattr(on_ray_train, "room", lambda _, free: 2)
    with pytest.raises(ConnectionError, match="lost 3 times without a new checkpoint"):
        start(*late)


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
    cluster_of = SimpleNamespace(names=["a"], going={}, asked=[], grows=True)

    def ask(bundles: list[dict[str, int]]) -> None:
        cluster_of.asked.append(bundles)
        cluster_of.names += [f"new-{n}" for n, _ in enumerate(bundles[1:])]

    def listed() -> list[dict[str, Any]]:
        return [{"NodeID": name, "Alive": True, "Resources": {"CPU": 1.0}} for name in cluster_of.names]

    monkeypatch.setattr(ray, "nodes", listed)
    monkeypatch.setattr(ray._private.state.state, "get_draining_nodes", lambda: cluster_of.going)
    monkeypatch.setattr(cluster, "_ask_for", ask)
    monkeypatch.setattr(cluster, "_grows", lambda: cluster_of.grows)
    monkeypatch.setattr(cluster, "CLUSTER_FILE", Path("/nowhere"))
    monkeypatch.setattr(cluster.time, "sleep", lambda _: None)
    return cluster_of


def test_who_waits_for_nodes_asks_for_them(nodes: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    """An autoscaler adds none for a driver that sleeps; what was asked for is taken back."""
    assert find_room(ScalingConfig(num_workers=4)) == 4
    assert nodes.asked == [[{"CPU": 1}] * 4, []]
    assert find_room(ScalingConfig(num_workers=4)) == 4
    assert nodes.asked == [[{"CPU": 1}] * 4, []], "nobody waited, and nobody else's nodes are taken back"
    assert "and the run needs 4: waiting for nodes" in capsys.readouterr().out


def test_a_node_that_is_about_to_go_has_no_room(nodes: SimpleNamespace) -> None:
    nodes.names, nodes.going, nodes.grows = ["a", "b"], {"b": 0}, False
    assert find_room(ScalingConfig(num_workers=2, min_workers=1)) == 1
    assert nodes.asked == []


def test_nodes_get_time_to_come_before_a_run_goes_on_with_fewer(
    nodes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fewer = ScalingConfig(num_workers=3, min_workers=1)
    assert find_room(fewer, enough=1) == 1, "as many as ran before"
    capsys.readouterr()
    assert find_room(fewer) == 3
    assert "and the run needs 1 to 3: waiting for nodes" in capsys.readouterr().out
    nodes.names = ["a"]
    monkeypatch.setattr(cluster, "_NODES_TAKE", 0.0)
    assert find_room(fewer) == 1
    assert capsys.readouterr().out == "the cluster has room for 1 of 3 workers: going on with 1\n"


LIMITS = """
max_workers: 3
head_node_type: head
available_node_types:
  head: {resources: {CPU: 1, GPU: 0}, max_workers: 0}
  small: {resources: {CPU: 1}, max_workers: 5}
  large: {resources: {CPU: 4, GPU: 2}, max_workers: 2}
"""


@pytest.mark.parametrize(
    ("scaling", "most"), [({"num_workers": 10}, 10), ({"num_workers": 4, "use_gpu": True}, 4), ({"num_workers": 11}, 0)]
)
def test_more_than_the_autoscaler_may_ever_start_is_refused(
    nodes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scaling: dict[str, Any], most: int
) -> None:
    """By its configuration: the head, two large nodes and a small one hold ten workers, or four with a GPU."""
    (tmp_path / "limits.yaml").write_text(LIMITS, encoding="utf-8")
    monkeypatch.setattr(cluster, "CLUSTER_FILE", tmp_path / "limits.yaml")
    if not most:
        with pytest.raises(ValueError, match="needs 11: no autoscaler can make room for more than 10, so"):
            find_room(ScalingConfig(**scaling))
        return
    assert cluster._most(ScalingConfig(**scaling)) == most
    with pytest.raises(ValueError, match=f"needs {most + 1}: .* for more than {most}"):
        find_room(ScalingConfig(**scaling | {"num_workers": most + 1}))


def test_what_was_asked_for_is_taken_back_when_the_wait_is_interrupted(
    nodes: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        find_room(ScalingConfig(num_workers=4))
    assert nodes.asked == [[{"CPU": 1}] * 4, []]


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
    done = subprocess.run([sys.executable, "-c", HANG], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert 'File "<string>", line 6' in done.stderr
