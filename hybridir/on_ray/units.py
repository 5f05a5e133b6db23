"""Units of work on Ray: actors take one unit after another, and each unit leaves a file, so that it is done once."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import ray
import ray.data
import ray.exceptions
import torch
from ray.data import ActorPoolStrategy, DataContext

from hybridir.on_ray.data import cause, ordered, unwrapped
from hybridir.runs.backend import quiet_libraries
from hybridir.runs.recipe import ScalingConfig

Do = Callable[[int], dict[str, Any]]
"""Does the unit of a number, and returns its outcome, in values that JSON knows."""
MOST_STARTS = 5
"""Times that a unit is begun. Ray itself would put a new actor in the place of a lost one for ever."""


def do_units(scaling: ScalingConfig, make: Callable[[], Do], count: int) -> Iterator[dict[str, Any]]:
    """Does the units 0 to `count` - 1 on `scaling.min_workers` to `scaling.num_workers` actors, each of which calls
    `make` once; yields their outcomes in the order they finish.

    The unit of an actor that is lost is done again by another. An error of the work itself is raised unchanged.
    `ValueError` if a unit is lost `MOST_STARTS` times.
    """
    starts = ray.remote(_Starts).options(num_cpus=0, max_restarts=-1, max_task_retries=-1).remote()
    context = ordered()
    context.execution_options.preserve_order = False
    workers = max(1, min(scaling.num_workers, count))
    pool = ActorPoolStrategy(min_size=min(scaling.min_workers or workers, workers), max_size=workers)
    with DataContext.current(context), unwrapped():
        # Blocks that are there already: a task that reads them could wait for ever for a CPU that an actor holds.
        units = ray.data.from_arrow([pa.table({"id": [unit]}) for unit in range(count)])
        done = units.map_batches(
            _Units,
            fn_constructor_kwargs={"make": make, "starts": starts},
            batch_size=1,
            compute=pool,
            num_cpus=scaling.cpus_per_worker,
            num_gpus=int(scaling.use_gpu),
        )
        for row in done.iter_rows():
            yield json.loads(row["done"])


def each_on_ray(scaling: ScalingConfig, function: Callable[[int], Any], count: int) -> list[Any]:
    """As `each_here`, in tasks with the CPUs and the GPU of a worker; a task whose worker is lost is done again."""
    task = ray.remote(num_cpus=scaling.cpus_per_worker, num_gpus=int(scaling.use_gpu))(_call)
    there = ray.put(function)
    try:
        return ray.get([task.remote(there, n, scaling.cpus_per_worker) for n in range(count)])
    except ray.exceptions.RayTaskError as error:
        raise cause(error) from None


def _call(function: Callable[[int], Any], n: int, threads: int) -> Any:
    torch.set_num_threads(threads)
    return function(n)


class _Starts:
    """Counts how often each unit was begun."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def begin(self, unit: int) -> int:
        self._counts[unit] += 1
        return self._counts[unit]


class _Units:
    def __init__(self, make: Callable[[], Do], starts: Any) -> None:
        quiet_libraries()
        self._make, self._starts = make, starts
        self._do: Do | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        unit = int(batch["id"][0])
        if ray.get(self._starts.begin.remote(unit)) > MOST_STARTS:
            raise ValueError(
                f"{MOST_STARTS} workers ended without an error at the same unit {unit}, as they do where memory is "
                "short (Ray's logs and dmesg say more): raise scaling.cpus_per_worker, so that fewer workers share a "
                "node, and go on with --resume"
            )
        self._do = self._do or self._make()  # here, so that it counts too if the worker ends while it loads
        return {"done": [json.dumps(self._do(unit))]}
