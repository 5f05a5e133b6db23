"""Ray Data: the pass that tokenises a corpus, and the stream that brings a rank its batches.

A stream has one block for every few steps and keeps their order, so the rows (step, rank) arrive one after the other on
any number of workers. Its tasks take no CPU of their own: on a small machine the workers hold them all. One task at a
time suffices, for a step takes about a millisecond to draw.
"""

import functools
from collections.abc import Iterable, Iterator

import pyarrow as pa
import ray.data
from ray.data import DataContext, Datasource, ReadTask, TaskPoolStrategy
from ray.data.block import BlockMetadata

from hybridir.collate import BatchSource, TokenBatch, from_table, to_table
from hybridir.tokens import TokenJob

STEPS_PER_BLOCK = 16


def tokenize_chunks(job: TokenJob, n_chunks: int) -> Iterator[pa.RecordBatch]:
    """`job.run` of every chunk, in order, on all CPUs of the cluster; memory does not grow with the corpus."""
    with DataContext.current(_ordered()):
        chunks = ray.data.range(n_chunks, override_num_blocks=n_chunks)
        done = chunks.map_batches(_tokenize, batch_size=None, fn_kwargs={"job": job})
        for table in done.iter_batches(batch_size=None, batch_format="pyarrow"):
            yield from table.to_batches()


def stream(source: BatchSource, start: int, end: int, rank: int, world_size: int) -> Iterator[TokenBatch]:
    """The batches of a rank, by a Ray Data pipeline of its own."""
    blocks = max(1, -(-(end - start) // STEPS_PER_BLOCK))
    with DataContext.current(_ordered()):
        rows = ray.data.read_datasource(
            PlanSource(source, start, end, rank, world_size),
            num_cpus=0,
            compute=TaskPoolStrategy(size=1),
            override_num_blocks=blocks,
        )
    return map(from_table, rows.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=2))


class PlanSource(Datasource):
    """The batches of one rank as a Ray Data source: a row a step, in order."""

    def __init__(self, source: BatchSource, start: int, end: int, rank: int, world_size: int) -> None:
        super().__init__()
        self._source, self._steps, self._rank, self._world_size = source, range(start, end), rank, world_size

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: object, **__: object) -> list[ReadTask]:
        tasks = []
        for first in self._steps[::STEPS_PER_BLOCK]:
            steps = range(first, min(first + STEPS_PER_BLOCK, self._steps.stop))
            read = functools.partial(_draw, self._source, steps, self._rank, self._world_size)
            metadata = BlockMetadata(num_rows=len(steps), size_bytes=None, input_files=None, exec_stats=None)
            tasks.append(ReadTask(read, metadata))
        return tasks


def _draw(source: BatchSource, steps: range, rank: int, world_size: int) -> Iterable[pa.Table]:
    return [to_table([source.batch(step, rank, world_size) for step in steps])]


def _tokenize(chunks: dict, job: TokenJob) -> pa.Table:
    return pa.Table.from_batches([job.run(int(chunk)) for chunk in chunks["id"]])


def _ordered() -> DataContext:
    """Settings that keep the order of rows and the screen clean."""
    context = DataContext.get_current().copy()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    return context
