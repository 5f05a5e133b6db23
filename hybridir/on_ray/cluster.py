"""Joins the cluster that RAY_ADDRESS names, or starts one on this machine that listens on the loopback alone."""

import contextlib
import json
import logging
import math
import os
import sys
import time
from collections.abc import Iterator

from hybridir.progress import say
from hybridir.recipe import ScalingConfig
from hybridir.signals import handlers_kept

_SAY_EVERY = 60.0
"""Seconds between lines about a wait."""

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
    try:
        yield
    finally:
        ray.shutdown()


def find_room(scaling: ScalingConfig, batch_size: int = 0, can_wait: bool = False) -> int:
    """How many workers to start: `num_workers`, or fewer where the nodes have no room and `min_workers` allows it.

    It is the largest number that the batch divides by (0 by any). Where there is room for none, it asks the autoscaler
    for nodes, waits for them, and says so. Nodes that are about to go do not count.

    Raises:
        ValueError: there is no room, no autoscaler that could make some, and waiting is not asked for.
    """
    least = scaling.min_workers or scaling.num_workers
    numbers = [n for n in range(scaling.num_workers, least - 1, -1) if batch_size % n == 0]
    shown = " and ".join(f"{n} {kind}{'s' * (n > 1)}" for kind, n in _needs(scaling).items())
    said = -math.inf
    while True:
        found = room(scaling)
        fitting = [n for n in numbers if n <= found]
        if fitting:
            if said > -math.inf:
                _ask_for([])  # the workers themselves ask from now on
            if fitting[0] < scaling.num_workers:
                say(f"the cluster has room for {found} of {scaling.num_workers} workers: going on with {fitting[0]}")
            return fitting[0]
        lacking = (
            f"the cluster has {len(_nodes())} nodes with room for {found} workers of {shown} each, and the run needs "
            f"{numbers[-1]}"
        )
        if not can_wait and not _grows():
            raise ValueError(
                f"{lacking}: it has no autoscaler, so this would never start. Lower scaling.num_workers or "
                "scaling.cpus_per_worker, set scaling.min_workers, or add nodes"
            )
        if time.monotonic() - said > _SAY_EVERY:
            said = time.monotonic()
            _ask_for([_needs(scaling)] * scaling.num_workers)
            say(f"{lacking}: waiting for nodes")
        time.sleep(1)


def room(scaling: ScalingConfig) -> int:
    """How many workers the nodes that are there can hold, each whole on one node."""
    return sum(min(int(node.get(kind, 0) // n) for kind, n in _needs(scaling).items()) for node in _nodes())


def _nodes() -> list[dict[str, float]]:
    """The resources of each node that stays."""
    import ray

    going = ray._private.state.state.get_draining_nodes()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in going]


def _needs(scaling: ScalingConfig) -> dict[str, int]:
    """The resources of a worker."""
    return {"CPU": scaling.cpus_per_worker} | ({"GPU": 1} if scaling.use_gpu else {})


def _ask_for(bundles: list[dict[str, int]]) -> None:
    """Names to the autoscaler, if there is one, what all nodes together must hold: it adds none without a demand."""
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)


def _grows() -> bool:
    """Whether the cluster may get more nodes by itself.

    Without an autoscaler, Ray's monitor reports each node as a type of its own, named after it.
    """
    from ray.experimental.internal_kv import _internal_kv_get

    report = json.loads(_internal_kv_get("__autoscaling_status") or "{}").get("autoscaler_report")
    joined = "RAY_ADDRESS" in os.environ
    return joined and (not report or any(not kind.startswith("node_") for kind in report["active_nodes"]))
