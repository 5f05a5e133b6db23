"""Translating on Ray: a pool of actors with the model takes unit after unit from Ray Data.

A worker writes its unit to the output folder, which all nodes see, and returns only counts. The unit of a worker that
is lost is translated again by another one, with the same result.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path

from hybridir.on_ray.cluster import cluster, find_room
from hybridir.on_ray.data import read_shards
from hybridir.on_ray.gauges import show
from hybridir.on_ray.units import Do, do_units
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
    characters = rejected = 0
    for row in do_units(scaling, partial(_translate, work, list(units)), len(units)):
        done = Done(Unit(**row.pop("unit")), **row)
        characters, rejected = characters + done.characters, rejected + sum(done.reasons.values())
        show(Path(work.folder).parent.name, characters_translated=characters, translations_rejected=rejected)
        yield done


def _translate(work: Work, units: Sequence[Unit]) -> Do:
    worker = Worker(work)
    return lambda n: asdict(worker.translate(units[n]))
