"""Units of work on Ray: actors take one unit after another, and each unit leaves a file, so that it is done once."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, DataContext

from hybridir.on_ray.data import ordered, unwrapped
from hybridir.runs.backend import quiet_libraries
from hybridir.runs.recipe import ScalingConfig

Do = Callable[[int], dict[str, Any]]
"""Does a unit, given by its number, and says what came of it, in values that JSON knows."""


def do_units(scaling: ScalingConfig, make: Callable[[], Do], count: int) -> Iterator[dict[str, Any]]:
    """Does the units 0 to `count` - 1 on `scaling.min_workers` to `scaling.num_workers` actors, each of which calls
    `make` once; yields what came of them in the order they finish.

    The unit of an actor that is lost is done again by another. An error of the work itself is raised unchanged.
    """
    context = ordered()
    context.execution_options.preserve_order = False
    workers = max(1, min(scaling.num_workers, count))
    pool = ActorPoolStrategy(min_size=min(scaling.min_workers or workers, workers), max_size=workers)
    with DataContext.current(context), unwrapped():
        rows = ray.data.range(count, override_num_blocks=count)
        done = rows.map_batches(
            _Units,
            fn_constructor_kwargs={"make": make},
            batch_size=1,
            compute=pool,
            num_cpus=scaling.cpus_per_worker,
            num_gpus=int(scaling.use_gpu),
        )
        for row in done.iter_rows():
            yield json.loads(row["done"])


class _Units:
    def __init__(self, make: Callable[[], Do]) -> None:
        quiet_libraries()
        self._do = make()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"done": [json.dumps(self._do(int(batch["id"][0])))]}
