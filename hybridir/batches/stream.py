"""Turns batches of the plan into token ids and lengths: what a worker receives for a step.

There is no padding here: the encoder decides how texts are laid out in a forward pass.

Shapes: b items of one rank, n hard negatives an item, T tokens of all texts of the rank.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from hybridir.batches.noise import NoisyQueries
from hybridir.batches.plan import Plan
from hybridir.batches.sampling import Sampling
from hybridir.batches.token_cache import TokenCache, TokenJob
from hybridir.data.corpus import Corpus


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """One rank's part of a global batch. Its texts are b queries, then b positives, then b * n hard negatives."""

    step: int
    rank: int
    kind: str
    ids: np.ndarray  # int32 [T]
    lengths: np.ndarray  # int32 [b + b + b * n]
    passage_group: np.ndarray  # int64 [b + b * n], of positives and hard negatives
    example: np.ndarray  # uint64 [b, 3]: key of the group, index of the query language, of the passage language

    def digests(self) -> np.ndarray:
        """A hash of each item (its group, languages and token ids) as it arrived at the worker, int64 [b]."""
        texts = np.split(self.ids, np.cumsum(self.lengths)[:-1])
        size = len(self.example)
        hashes = []
        for item, example in enumerate(self.example):
            digest = hashlib.blake2b(example.tobytes(), digest_size=8)
            n = len(texts) // size - 2
            for text in (texts[item], texts[size + item], *texts[2 * size + item * n : 2 * size + (item + 1) * n]):
                digest.update(len(text).to_bytes(4, "little") + text.tobytes())
            hashes.append(int.from_bytes(digest.digest(), "little", signed=True))
        return np.array(hashes, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class BatchSource:
    """A plan over a tokenised corpus, as a small value to send to other processes, which then open the files."""

    corpus: str  # folder
    tokens: str  # folder of the token cache
    sampling: Sampling
    batch_size: int
    seed: int
    part: str = "train"
    token_job: TokenJob | None = None  # how texts with noise become tokens; needed only for these

    def plan(self) -> Plan:
        """The plan; opened once a process."""
        return _open(self)[0]

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> TokenBatch:
        """The part of one rank of the global batch of `step`."""
        plan, cache, noise = _open(self)
        batch = plan.batch(step).part(rank, world_size)
        queries = cache.query.take(batch.query_row)
        texts = noise.replace(queries, batch) if noise else queries
        texts += cache.passage.take(batch.passage_row)
        texts += cache.negatives.take(batch.negatives.ravel())
        example = (plan.corpus.group_key[batch.groups], batch.query_language, batch.passage_language)
        groups = [plan.corpus.passage_group[batch.groups], plan.corpus.negative_group[batch.negatives.ravel()]]
        return TokenBatch(
            step=step,
            rank=rank,
            kind=batch.kind,
            ids=np.concatenate(texts),
            lengths=np.array([len(text) for text in texts], dtype=np.int32),
            passage_group=np.concatenate(groups),
            example=np.stack([column.astype(np.uint64) for column in example], axis=1),  # mixed types become floats
        )


Stream = Callable[[BatchSource, int, int, int, int], Iterator[TokenBatch]]
"""(source, start, end, rank, world size) -> the batches of one rank for the steps start to end - 1, in order."""


def local_stream(source: BatchSource, start: int, end: int, rank: int, world_size: int) -> Iterator[TokenBatch]:
    """The `Stream` without Ray: draws batches in this process."""
    return (source.batch(step, rank, world_size) for step in range(start, end))


def to_table(batches: list[TokenBatch]) -> pa.Table:
    """An Arrow table with one row for each batch."""
    lists = ("ids", "lengths", "passage_group", "example")
    columns = {name: [getattr(batch, name) for batch in batches] for name in ("step", "rank", "kind")}
    columns |= {name: [getattr(batch, name).ravel() for batch in batches] for name in lists}
    return pa.table(columns)


def from_table(row: pa.Table) -> TokenBatch:
    """The batch in a table of one row."""
    values = {name: row[name][0] for name in row.column_names}
    arrays = {n: v.values.to_numpy() for n, v in values.items() if isinstance(v, pa.ListScalar)}
    arrays["example"] = arrays["example"].reshape(-1, 3)
    return TokenBatch(**{name: value.as_py() for name, value in values.items() if name not in arrays}, **arrays)


@lru_cache(maxsize=4)
def _open(source: BatchSource) -> tuple[Plan, TokenCache, NoisyQueries | None]:
    plan = Plan(Corpus.open(source.corpus), source.sampling, source.batch_size, source.seed, source.part)
    noise = None
    if source.sampling.noise.probability:
        assert source.token_job, "texts with noise are tokenised on the way"
        noise = NoisyQueries(plan, source.token_job)
    return plan, TokenCache(source.tokens), noise
