"""Joins the Ray cluster in RAY_ADDRESS, or starts one on this machine that listens on the loopback address only."""

import contextlib
import json
import logging
import math
import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hybridir.on_ray.token import check_token_file
from hybridir.runs.recipe import ScalingConfig
from hybridir.runtime.cpus import usable_cpus
from hybridir.runtime.plain_yaml import load_yaml
from hybridir.runtime.progress import say
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.signals import handlers_kept

_SAY_EVERY = 60.0
"""Seconds between messages about a wait."""
_NODES_TAKE = 600.0
"""Seconds to wait for new nodes before a run goes on with fewer workers."""
_ANSWER_TAKES = 40.0
"""Seconds that a cluster may take to answer, and to be joined."""
_LONGEST_ROOT = 26
"""Bytes: a socket's path has at most 107, with `/rayXXXXXXXX/r/session_DATE_TIME_PID/sockets/plasma_store` in it."""
CLUSTER_FILE = Path("~/ray_bootstrap_config.yaml")
"""The autoscaler's configuration, as `ray up` puts it on the head node, where submitted jobs run too."""

# Ray reads these when it is imported or starts processes. Values that the user has set are kept.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # keep the driver's folder for relative paths
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
}
_LOCAL = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # bind to 127.0.0.1
    "RAY_num_workers_soft_limit": "8",  # otherwise idle processes end after a second and start again
    "OMP_WAIT_POLICY": "PASSIVE",
}

_TOKEN = secrets.token_hex(32)
"""For local clusters of this process. Without it Ray writes one to ~/.ray, which all users of the machine can read."""


@contextlib.contextmanager
def cluster(num_cpus: int) -> Iterator[None]:
    """While entered, this process is connected to a Ray cluster.

    If it is connected already, nothing changes, also at the end. Otherwise it connects to the cluster in RAY_ADDRESS,
    or starts a local one with at least `num_cpus` CPUs.

    Raises:
        ValueError: the cluster does not answer; other users can read its token; or the path of the temporary folder is
            too long for a socket.
    """
    joined = "RAY_ADDRESS" in os.environ
    for name, value in (_QUIET if joined else _QUIET | _LOCAL).items():
        os.environ.setdefault(name, value)
    if not joined and "ray" not in sys.modules:  # Ray reads it at import; later it would only half work
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    if not joined and os.environ.get("RAY_AUTH_MODE") != "token":
        print(
            "Ray starts without a token, so other users of this machine could run commands as you: set RAY_AUTH_MODE="
            "token before Ray is imported",
            flush=True,
        )
    import ray

    if ray.is_initialized():
        yield
        return
    has_token = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"} & os.environ.keys()
    if "RAY_AUTH_TOKEN" not in os.environ and (joined or has_token):
        check_token_file()
    if joined:
        _check_answers(os.environ["RAY_ADDRESS"])
    cpus = max(num_cpus, usable_cpus())
    folder, local = "", dict[str, Any]()
    if not joined:
        folder = _session_folder()
        local = {"address": "local", "num_cpus": cpus, "include_dashboard": False}
        local |= {"_temp_dir": os.path.join(folder, "r")}  # Ray opens its own folder to all: not its parent
        ray._private.ray_constants.ENABLE_RAY_CLUSTER = False  # 127.0.0.1 also where Ray was imported before
    own_token = {} if joined or has_token else {"RAY_AUTH_TOKEN": _TOKEN}
    os.environ.update(own_token)
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)  # errors arrive as exceptions
    logging.getLogger("ray.train").setLevel(logging.WARNING)
    print(f"{'joining the Ray cluster' if joined else 'starting Ray on this machine'} (about 10 s)", flush=True)
    try:
        with handlers_kept():
            ray.init(log_to_driver=False, logging_level=logging.ERROR, **local)
        if joined:
            _ask_for([])  # withdraws the request of a driver that was killed while waiting
        yield
    except Exception:
        if folder:
            say(f"Ray's logs of this run are kept in {folder}: delete it when you need them no more")
            folder = ""
        raise
    finally:
        ray.shutdown()
        for name in own_token:
            os.environ.pop(name, None)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def _session_folder() -> str:
    """A new folder for Ray's logs and sockets that only this user can open; Ray's own /tmp/ray is open to all.

    `ValueError` if its path is too long for a socket.
    """
    root = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(os.fsencode(root)) > _LONGEST_ROOT:
        raise ValueError(
            f"the folder for temporary files, {root}, is too long for Ray's sockets: set RAY_TMPDIR to a folder with a "
            f"path of at most {_LONGEST_ROOT} bytes, such as /tmp"
        )
    return tempfile.mkdtemp(prefix="ray", dir=root)


def _check_answers(address: str) -> None:
    """`ValueError` if no cluster can be joined at `address`, at which Ray itself may wait for ever.

    A port that nobody listens on is refused at once. What listens may be a proxy, so that a process of its own joins
    first, which can be ended: Ray in this one could not be.
    """
    try:
        if address in ("", "local"):
            raise OSError("it names none")
        if found := re.fullmatch(r"(?:ray://)?\[?([^/]+?)\]?:(\d+)", address):
            socket.create_connection((found[1], int(found[2])), timeout=_ANSWER_TAKES / 4).close()
        join = [sys.executable, "-P", "-c", "import ray; ray.init(log_to_driver=False)"]
        subprocess.run(join, capture_output=True, text=True, timeout=_ANSWER_TAKES, check=True)
    except (OSError, OverflowError, subprocess.SubprocessError) as error:
        told = (error.stderr or "").strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
        why = "timed out" if isinstance(error, subprocess.TimeoutExpired) else told[-1] if told else error
        gone = "; auto is the cluster that was started last on this machine, which may have ended" * (address == "auto")
        raise ValueError(
            f"no Ray cluster answers at RAY_ADDRESS={address} ({without_secrets(str(why))}{gone}): start it, correct "
            "the address, or unset RAY_ADDRESS to work on this machine alone"
        ) from None


def find_room(scaling: ScalingConfig, batch_size: int = 0, enough: int | None = None, can_wait: bool = False) -> int:
    """How many workers to start: `num_workers`, or fewer if the nodes have no room and `min_workers` allows it.

    It is the largest such number that divides `batch_size` (0: any). If the cluster can grow, this asks the autoscaler
    for nodes, waits and reports the wait: without limit for `min_workers` workers, and ten minutes for `enough` of them
    (omitted: `num_workers`). Nodes that are about to go do not count.

    Raises:
        ValueError: there is too little room and never will be more. With `can_wait` it waits: lost nodes may come back.
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
                    f"{lacking}: no autoscaler can make room for more than {most}, so this would never start. "
                    "Lower scaling.num_workers or scaling.cpus_per_worker, set scaling.min_workers, or add nodes"
                )
            _ask_for([_needs(scaling)] * scaling.num_workers)  # repeated: another job may have withdrawn it
            if time.monotonic() - said > _SAY_EVERY:
                said = time.monotonic()
                say(f"{lacking}{f' to {hoped_for}' if fitting else ''}: waiting for nodes")
            time.sleep(1)
    finally:
        if said > -math.inf:
            _ask_for([])  # from now on the workers are the demand


def room(scaling: ScalingConfig, free: bool = False) -> int:
    """How many workers fit on the present nodes, each of them on a single node; `free`: beside what runs there."""
    return sum(_room_on(node, scaling) for node in _nodes(free))


def _room_on(node: Mapping[str, float], scaling: ScalingConfig) -> int:
    return min(int(node.get(kind, 0) // n) for kind, n in _needs(scaling).items())


def free_places() -> None:
    """Removes the placement groups that a lost controller of Ray Train left, on the driver's own local cluster only.

    On a cluster with a dashboard Ray removes them itself.
    """
    import ray
    from ray.util.placement_group import PlacementGroup, placement_group_table, remove_placement_group

    if "RAY_ADDRESS" in os.environ or ray._private.worker.global_worker.mode != ray.SCRIPT_MODE:
        return  # a shared cluster: they may belong to other jobs
    for name in placement_group_table():
        remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(name))))


def _nodes(free: bool = False) -> list[dict[str, float]]:
    """The resources of each live node that is not about to go; `free`: what nobody uses of them."""
    import ray

    going = ray._private.state.state.get_draining_nodes()
    left = ray._private.state.available_resources_per_node() if free else {}
    nodes = [node for node in ray.nodes() if node["Alive"] and node["NodeID"] not in going]
    return [left.get(node["NodeID"], {}) if free else node["Resources"] for node in nodes]


def _needs(scaling: ScalingConfig) -> dict[str, int]:
    """The resources of one worker."""
    return {"CPU": scaling.cpus_per_worker} | ({"GPU": 1} if scaling.use_gpu else {})


def _ask_for(bundles: list[dict[str, int]]) -> None:
    """Tells the autoscaler, if there is one, which resources to provide in total. Without a demand it adds no nodes.

    The request holds until the next one.
    """
    from ray.autoscaler.sdk import request_resources

    request_resources(bundles=bundles)


def _most(scaling: ScalingConfig) -> float:
    """The largest number of workers that can ever fit; infinite if the autoscaler's limits are not known here."""
    if not _grows():
        return room(scaling)
    if not (file := CLUSTER_FILE.expanduser()).exists():
        return math.inf
    config = load_yaml(file.read_text(encoding="utf-8"))
    kinds = dict(config["available_node_types"])
    if not all(kind["resources"] for kind in kinds.values()):  # on-premise clusters do not declare them
        return math.inf
    most, left = _room_on(kinds.pop(config["head_node_type"])["resources"], scaling), config["max_workers"]
    by_room = [(_room_on(kind["resources"], scaling), kind.get("max_workers", left)) for kind in kinds.values()]
    for each, nodes in sorted(by_room, reverse=True):
        most, left = most + each * min(nodes, left), max(0, left - nodes)
    return max(most, room(scaling))


def _grows() -> bool:
    """Whether the cluster can add nodes by itself.

    Without an autoscaler, Ray's monitor reports each node as a separate node type, named after the node.
    """
    from ray.experimental.internal_kv import _internal_kv_get

    report = json.loads(_internal_kv_get("__autoscaling_status") or "{}").get("autoscaler_report")
    joined = "RAY_ADDRESS" in os.environ
    return joined and (not report or any(not kind.startswith("node_") for kind in report["active_nodes"]))
