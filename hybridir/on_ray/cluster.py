"""Joins the cluster that RAY_ADDRESS names, or starts one on this machine that listens on the loopback alone."""

import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from hybridir.runs.recipe import ScalingConfig
from hybridir.runtime.progress import say
from hybridir.runtime.signals import handlers_kept

_SAY_EVERY = 60.0
"""Seconds between lines about a wait."""
_NODES_TAKE = 600.0
"""Seconds that new nodes get to start before a run goes on with fewer."""
CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")
"""The autoscaler's configuration, where `ray up` puts it: on the head, on which submitted jobs run."""

# Read by Ray when it is imported or starts its processes; what the user has set stays.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths are those of the driver
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # bind to 127.0.0.1
    "RAY_num_workers_soft_limit": "8",  # else idle processes end after a second and start again
    "OMP_WAIT_POLICY": "PASSIVE",
}


@contextlib.contextmanager
def cluster(num_cpus: int) -> Iterator[None]:
    """A running Ray: the cluster of RAY_ADDRESS, else a local one with at least `num_cpus`, ended on leaving."""
    joined = "RAY_ADDRESS" in os.environ
    for name, value in (_QUIET if joined else _QUIET | _LOCAL).items():
        os.environ.setdefault(name, value)
    if not joined and "ray" not in sys.modules:  # read when Ray is imported: later, only half of it would take effect
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors are raised
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    local = (
        {}
        if joined
        else {"address": "local", "num_cpus": max(num_cpus, len(os.sched_getaffinity(0))), "include_dashboard": False}
    )
    print(f"{'joining the Ray cluster' if joined else 'starting Ray on this machine'} (about 10 s)", flush=True)
    with handlers_kept():
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    if joined:
        _ask_for([])  # what a driver asked for that was killed while it waited
    try:
        yield
    finally:
        ray.shutdown()


def find_room(scaling: ScalingConfig, batch_size: int = 0, enough: int | None = None, can_wait: bool = False) -> int:
    """How many workers to start: `num_workers`, or fewer where the nodes have no room and `min_workers` allows it.

    It is the largest number that the batch divides by (0 by any). Where nodes may come, it asks the autoscaler for
    them, waits, and says so: for `min_workers` as long as it takes, for `enough` (all, if omitted) as long as nodes
    take to start. Nodes that are about to go do not count.

    Raises:
        ValueError: there is not room enough, and never will be; with `can_wait`, lost nodes may come back.
    """
    least = scaling.min_workers or scaling.num_workers
    numbers = [n for n in range(scaling.num_workers, least - 1, -1) if batch_size % n == 0]
    shown = " and ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in _needs(scaling).items())
    enough = scaling.num_workers if enough is None else enough
    began, said = time.monotonic(), -math.inf
    try:
        while True:
            found, most = room(scaling), _most(scaling)
            fitting = [n for n in numbers if n <= found]
            hoped_for = max((n for n in numbers if n <= min(enough, most)), default=0)
            if fitting and (fitting[0] >= hoped_for or time.monotonic() - began > _NODES_TAKE):
                if fitting[0] < (wanted := scaling.num_workers):
                    say(f"the cluster has room for {found} of {wanted} workers: going on with {fitting[0]}")
                return fitting[0]
            lacking = (
                f"the cluster has {len(_nodes())} nodes with room for {found} workers of {shown} each, and the run "
                f"needs {numbers[-1]}"
            )
            if most < numbers[-1] and not can_wait:
                raise ValueError(
                    f"{lacking}: it has no autoscaler that makes room for more than {most}, so this would never start. "
                    "Lower scaling.num_workers or scaling.cpus_per_worker, set scaling.min_workers, or add nodes"
                )
            _ask_for([_needs(scaling)] * scaling.num_workers)  # each time: another job may have taken it back
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                say(f"{lacking}{f' to {hoped_for}' if fitting else ''}: waiting for nodes")
            time.sleep(1)
    finally:
        if said > -math.inf:
            _ask_for([])  # the workers themselves ask from now on


def room(scaling: ScalingConfig) -> int:
    """How many workers the nodes that are there can hold, each whole on one node."""
    return sum(_room_on(node, scaling) for node in _nodes())


def _room_on(node: Mapping[str, float], scaling: ScalingConfig) -> int:
    return min(int(node.get(kind, 0) // n) for kind, n in _needs(scaling).items())


def free_places() -> None:
    """Takes back the places that a lost controller of Ray Train had for its workers, on a cluster of this driver's own.

    On one with a dashboard Ray does so itself.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

    if "RAY_ADDRESS" in os.environ or ray._private.worker.global_worker.mode != ray.SCRIPT_MODE:
        return  # the places of others may be among them
    for name in placement_group_table():
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(name))))


def _nodes() -> list[dict[str, float]]:
    """The resources of each node that stays."""
    import ray

    going = ray._private.state.state.get_draining_nodes()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in going]


def _needs(scaling: ScalingConfig) -> dict[str, int]:
    """The resources of a worker."""
    return {"CPU": scaling.cpus_per_worker} | ({"GPU": 1} if scaling.use_gpu else {})


def _ask_for(bundles: list[dict[str, int]]) -> None:
    """Names to the autoscaler, if there is one, what all nodes together must hold: it adds none without a demand.

    It keeps to that until it hears something else.
    """
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)


def _most(scaling: ScalingConfig) -> float:
    """How many workers there may ever be room for; infinite where the autoscaler's limits are not known here."""
    if not _grows():
        return room(scaling)
    if not (file := CLUSTER_FILE.expanduser()).exists():
        return math.inf
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    kinds = dict(config["available_node_types"])
    if not all(kind["resources"] for kind in kinds.values()):  # as for machines of one's own
        return math.inf
    most, left = _room_on(kinds.pop(config["head_node_type"])["resources"], scaling), config["max_workers"]
    by_room = [(_room_on(kind["resources"], scaling), kind.get("max_workers", left)) for kind in kinds.values()]
    for each, nodes in sorted(by_room, reverse=True):
        most, left = most + each * min(nodes, left), max(0, left - nodes)
    return max(most, room(scaling))


def _grows() -> bool:
    """Whether the cluster may get more nodes by itself.

    Without an autoscaler, Ray's monitor reports each node as a type of its own, named after it.
    """
    from ray.experimental.internal_kv import _internal_kv_get

    report = json.loads(_internal_kv_get("__autoscaling_status") or "{}").get("autoscaler_report")
    joined = "RAY_ADDRESS" in os.environ
    return joined and (not report or any(not kind.startswith("node_") for kind in report["active_nodes"]))
