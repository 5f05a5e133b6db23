"""Encoding an index on Ray: each worker loads the encoder once, and takes one whole shard after another."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial

from hybridir.on_ray.cluster import cluster, find_room
from hybridir.on_ray.gauges import show
from hybridir.on_ray.units import Do, do_units
from hybridir.retrieval.encode_shards import Done, Run, Work, Worker
from hybridir.runs.recipe import ScalingConfig


@contextmanager
def ray_encoding(scaling: ScalingConfig) -> Iterator[Run]:
    """While entered, gives what encodes shards on the cluster in RAY_ADDRESS, or on a local one."""
    with cluster(scaling.num_workers * scaling.cpus_per_worker):
        find_room(scaling)
        yield partial(encode_shards_on_ray, scaling)


def encode_shards_on_ray(scaling: ScalingConfig, work: Work, numbers: Sequence[int]) -> Iterator[Done]:
    """Like `encode_shards_here`, on the workers of `scaling`, in the order they finish."""
    rows = 0
    for row in do_units(scaling, partial(_encode, work, list(numbers)), len(numbers)):
        done = Done(**row)
        rows += done.rows
        show(work.index.folder.name, texts_encoded=rows)
        yield done


def _encode(work: Work, numbers: Sequence[int]) -> Do:
    worker = Worker(work)
    return lambda n: asdict(worker.encode(numbers[n]))
