"""Joins the cluster that RAY_ADDRESS names, or starts one on this machine that listens on the loopback alone."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

# Read by Ray when it is imported or starts its processes; what the user has set stays.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # bind to 127.0.0.1
    "RAY_num_workers_soft_limit": "8",  # else idle processes end after a second and start again
    "OMP_WAIT_POLICY": "PASSIVE",
}


@contextlib.contextmanager
def cluster(num_cpus: int, num_gpus: int = 0) -> Iterator[None]:
    """A running Ray: the cluster of RAY_ADDRESS, else a local one with at least `num_cpus`, ended on leaving.

    Where it has fewer CPUs or GPUs than asked for, that is said: a cluster that does not grow would wait for ever.
    """
    joined = "RAY_ADDRESS" in os.environ
    for name, value in (_QUIET if joined else _QUIET | _LOCAL).items():
        os.environ.setdefault(name, value)
    if not joined and "ray" not in sys.modules:  # read when Ray is imported: later, only half of it would take effect
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    local = (
        {}
        if joined
        else {"address": "local", "num_cpus": max(num_cpus, len(os.sched_getaffinity(0))), "include_dashboard": False}
    )
    print(f"{'joining the Ray cluster' if joined else 'starting Ray on this machine'} (about 10 s)", flush=True)
    ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
    for kind, wanted in (("CPU", num_cpus), ("GPU", num_gpus)):
        if (there := ray.cluster_resources().get(kind, 0)) < wanted:
            print(f"the cluster has {there:.0f} {kind}s and the run needs {wanted}: waiting for it to grow", flush=True)
    try:
        yield
    finally:
        ray.shutdown()
