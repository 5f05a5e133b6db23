"""Ray Data: reading and tokenising a corpus, and the stream of batches for a rank.

A stream has one block for `STEPS_PER_BLOCK` steps and keeps the order of blocks, so that a rank gets its steps in order
on any number of workers. Its tasks reserve no CPU, since on a small machine the training workers hold all of them. One
task at a time is enough: drawing a step takes about a millisecond.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import pyarrow as pa
import ray.data
import ray.exceptions
from ray.data import DataContext, Datasource, ExecutionResources, ReadTask, TaskPoolStrategy
from ray.data.block import BlockMetadata

from hybridir.batches.stream import BatchSource, TokenBatch, from_table, to_table
from hybridir.batches.token_cache import TokenJob
from hybridir.data.intake import to_batches
from hybridir.data.records import Shard

STEPS_PER_BLOCK = 16
READING_BYTES = 128_000_000
"""Limit for rows in the object store that are read and not yet written."""


def tokenize_chunks(job: TokenJob, n_chunks: int) -> Iterator[pa.RecordBatch]:
    """`job.run` of every chunk, in order, on all CPUs of the cluster. Memory does not grow with the corpus."""
    with DataContext.current(ordered()):
        chunks = ray.data.range(n_chunks, override_num_blocks=n_chunks)
        done = chunks.map_batches(_tokenize, batch_size=None, fn_kwargs={"job": job})
        with unwrapped():
            for table in done.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from table.to_batches()


def read_shards(shards: Sequence[Shard]) -> Iterator[pa.RecordBatch]:
    """The checked rows of all shards, as record batches in order, read on all CPUs of the cluster."""
    functions = [functools.partial(_read, shard, number) for number, shard in enumerate(shards)]
    context = ordered()
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=READING_BYTES)
    with DataContext.current(context):
        rows = ray.data.read_datasource(Tasks(functions), override_num_blocks=len(functions))
        with unwrapped():
            for table in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
                yield from table.to_batches()


@contextmanager
def unwrapped() -> Iterator[None]:
    """While entered, the original error of a Ray task is raised, without Ray's wrapper."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        raise cause(error) from None


def cause(error: BaseException) -> BaseException:
    """The original error inside Ray's wrappers."""
    inner = getattr(error, "cause", None) or error.__cause__
    return cause(inner) if inner else error


def stream(source: BatchSource, start: int, end: int, rank: int, world_size: int) -> Iterator[TokenBatch]:
    """The batches of a rank for the steps from `start` to before `end`, by a Ray Data pipeline of its own."""
    blocks = [range(first, min(first + STEPS_PER_BLOCK, end)) for first in range(start, end, STEPS_PER_BLOCK)]
    functions = [functools.partial(_draw, source, steps, rank, world_size) for steps in blocks]
    with DataContext.current(ordered()):
        rows = ray.data.read_datasource(
            Tasks(functions),
            num_cpus=0,
            compute=TaskPoolStrategy(size=1),
            override_num_blocks=max(1, len(functions)),
        )
    with unwrapped():
        yield from map(from_table, rows.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=2))


class Tasks(Datasource):
    """A data source of tables: each function makes some in a task of its own, in order."""

    def __init__(self, functions: Sequence[Callable[[], Iterable[pa.Table]]]) -> None:
        super().__init__()
        self._functions = functions

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ReadTask]:
        unknown = BlockMetadata(num_rows=None, size_bytes=None, input_files=None, exec_stats=None)
        return [ReadTask(function, unknown) for function in self._functions]


def _draw(source: BatchSource, steps: range, rank: int, world_size: int) -> Iterable[pa.Table]:
    return [to_table([source.batch(step, rank, world_size) for step in steps])]


def _read(shard: Shard, number: int) -> Iterable[pa.Table]:
    return (pa.Table.from_batches([batch]) for batch in to_batches(shard.read(), number))


def _tokenize(chunks: dict, job: TokenJob) -> pa.Table:
    return pa.Table.from_batches([job.run(int(chunk)) for chunk in chunks["id"]])


def ordered() -> DataContext:
    """Settings of Ray Data that keep the order of rows, raise original errors and print nothing."""
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.raise_original_map_exception = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context
