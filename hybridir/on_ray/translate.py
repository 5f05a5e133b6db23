"""Translating on Ray: a pool of actors with the model takes unit after unit from Ray Data.

A worker writes its unit to the output folder, which all nodes see, and returns only counts. The unit of a worker that
is lost is translated again by another one, with the same result.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import ray.data
from ray.data import ActorPoolStrategy, DataContext

from hybridir.on_ray.cluster import cluster, find_room
from hybridir.on_ray.data import ordered, read_shards, unwrapped
from hybridir.on_ray.gauges import show
from hybridir.runs.backend import quiet_libraries
from hybridir.runs.corpus import ShardReader
from hybridir.runs.recipe import ScalingConfig
from hybridir.translation.units import Done, Run, Unit, Work, Worker


@contextmanager
def ray_translation(scaling: ScalingConfig) -> Iterator[tuple[ShardReader, Run]]:
    """While entered, gives what reads pairs and translates units on the cluster in RAY_ADDRESS, or on a local one."""
    with cluster(scaling.num_workers * scaling.cpus_per_worker):
        find_room(scaling)
        yield read_shards, partial(translate_on_ray, scaling)


def translate_on_ray(scaling: ScalingConfig, work: Work, units: Sequence[Unit]) -> Iterator[Done]:
    """Like `translate_here`, on `scaling.min_workers` to `scaling.num_workers` workers, in the order they finish.

    An error of the model itself is raised unchanged.
    """
    context = ordered()
    context.execution_options.preserve_order = False
    workers = max(1, min(scaling.num_workers, len(units)))
    pool = ActorPoolStrategy(min_size=min(scaling.min_workers or workers, workers), max_size=workers)
    with DataContext.current(context), unwrapped():
        rows = ray.data.from_items([vars(unit) for unit in units], override_num_blocks=len(units))
        done = rows.map_batches(
            _Translate,
            fn_constructor_kwargs={"work": work},
            batch_size=1,
            compute=pool,
            num_cpus=scaling.cpus_per_worker,
            num_gpus=int(scaling.use_gpu),
        )
        characters = rejected = 0
        for row in done.iter_rows():
            reasons = json.loads(row["reasons"])
            characters, rejected = characters + row["characters"], rejected + sum(reasons.values())
            show(Path(work.folder).parent.name, characters_translated=characters, translations_rejected=rejected)
            yield Done(Unit(row["shard"], row["language"]), row["seconds"], row["characters"], reasons)


class _Translate:
    def __init__(self, work: Work) -> None:
        quiet_libraries()
        self._worker = Worker(work)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        done = self._worker.translate(Unit(int(batch["shard"][0]), str(batch["language"][0])))
        figures = {"seconds": [done.seconds], "characters": [done.characters], "reasons": [json.dumps(done.reasons)]}
        return batch | figures
