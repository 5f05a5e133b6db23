"""The configuration of search: how vectors are kept, and how much memory a search takes."""

from dataclasses import dataclass
from typing import Literal

MOST_ROWS = 65_536
"""Passages in a shard at most."""


@dataclass(frozen=True, kw_only=True)
class RetrievalConfig:
    """Search over vectors.

    Args:
        dtype: how the vectors of passages are kept, `float32` or `float16`; results depend on it. Queries are float32.
        memory: MB that a search takes at most, on each worker. More queries than fit are searched in several passes.
        shard: passages in a shard, at most 65,536. A worker encodes whole shards; if killed, it loses one at most.
        in_memory: an evaluation on more passages than this keeps their vectors in shards on disk, not in memory.
    """

    dtype: Literal["float32", "float16"] = "float32"
    memory: int = 2000
    shard: int = MOST_ROWS
    in_memory: int = 500_000

    def __post_init__(self) -> None:
        if not 1 <= self.shard <= MOST_ROWS:
            raise ValueError(f"retrieval.shard is {self.shard}: it must be between 1 and {MOST_ROWS:,}")
        if self.memory < 1:
            raise ValueError(f"retrieval.memory is {self.memory}: it must be at least 1 MB")
