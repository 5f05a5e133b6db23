"""The runs of a study or of tuning as Ray tasks: as many at a time as the cluster has room for."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import ray
import ray.exceptions

from hybridir.experiments.one_run import ArmRun, attempt
from hybridir.on_ray.cluster import cluster, find_room, room
from hybridir.on_ray.data import read_shards, tokenize_chunks
from hybridir.on_ray.encode import encode_on_ray
from hybridir.on_ray.train import train_on_ray
from hybridir.runs.backend import Backend, here
from hybridir.runs.recipe import ScalingConfig

RETRIES = 3
"""How often a run is given to another worker after its worker was lost. It goes on from its checkpoint."""


@contextmanager
def ray_arms(scaling: ScalingConfig) -> Iterator["RayArms"]:
    """While entered, gives a `RayArms` on the cluster in RAY_ADDRESS, or on a local one that ends on leaving."""
    with cluster(scaling.num_workers * scaling.cpus_per_worker):
        find_room(replace(scaling, min_workers=None))
        yield RayArms(scaling)


class RayArms:
    """`start` and `at_once` of a `hybridir.experiments.one_run.Runner`, on Ray."""

    def __init__(self, scaling: ScalingConfig) -> None:
        self._scaling = scaling

    @property
    def at_once(self) -> int:
        """How many runs there is room for now; at least 1."""
        return max(1, room(self._scaling) // self._scaling.num_workers)

    def start(self, runs: Sequence[ArmRun]) -> Iterator[tuple[ArmRun, str]]:
        """Yields each run when it ends, with its error message (empty if it succeeded)."""
        waiting = list(runs)
        going: dict[ray.ObjectRef, ArmRun] = {}
        holds = run_resources(self._scaling)
        cpus, gpus = (holds.pop(kind, 0.0) for kind in ("CPU", "GPU"))
        task = ray.remote(max_retries=RETRIES, num_cpus=cpus, num_gpus=gpus, resources=holds)(_attempt)
        while waiting or going:
            # Runs with one worker queue in Ray, where the autoscaler sees them; DDP runs would take each other's room.
            while waiting and (self._scaling.num_workers == 1 or len(going) < self.at_once):
                run = waiting.pop(0)
                going[task.remote(run)] = run
            for done in ray.wait(list(going))[0]:
                yield going.pop(done), _outcome(done)


def run_resources(scaling: ScalingConfig) -> dict[str, float]:
    """The Ray resources of the process that computes a run, or that drives it if the run uses DDP.

    A process that drives DDP reserves no CPU, since its own workers might wait for that CPU; it runs on the head node.
    """
    if scaling.num_workers > 1:
        return {"node:__internal_head__": 0.001}
    return {"CPU": float(scaling.cpus_per_worker)} | ({"GPU": 1.0} if scaling.use_gpu else {})


def run_backend(scaling: ScalingConfig) -> Backend:
    """The backend of a run in the process that `run_resources` describes."""
    if scaling.num_workers == 1:
        return here(scaling.use_gpu)
    return Backend(train_on_ray, read_shards, tokenize_chunks, partial(encode_on_ray, scaling))


def _attempt(run: ArmRun) -> str:
    return attempt(run, run_backend(run.recipe.scaling))


def _outcome(done: ray.ObjectRef) -> str:
    try:
        return ray.get(done)
    except ray.exceptions.RayError as error:
        return f"Ray gave up on the run after {RETRIES} retries ({str(error).strip().partition(chr(10))[0]})"
