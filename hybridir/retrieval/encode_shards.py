"""Encodes the shards of an index. A shard is encoded once, and then stays on disk."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from hybridir.model.config import EncoderConfig
from hybridir.model.distributed import pick_device
from hybridir.model.encoder import BLOCK, Encoder
from hybridir.retrieval.shards import Index
from hybridir.runtime.cpus import usable_cpus

PROBE, PROBED = -1, 64
"""The number of a probe instead of a shard, and how many texts it encodes. A probe is only timed."""


@dataclass(frozen=True)
class Work:
    """What a process needs to encode shards: the index, the encoder, the device; 0 threads are as many as cores."""

    index: Index
    encoder: EncoderConfig
    use_gpu: bool = False
    threads: int = 0


@dataclass(frozen=True)
class Done:
    """A shard (or the probe) that is encoded: its number, rows, seconds, and the dimension of its vectors."""

    number: int
    rows: int
    seconds: float
    dimension: int


Run = Callable[[Work, Sequence[int]], Iterator[Done]]
"""Encodes the shards of these numbers in any order, and yields each when it is on disk: `encode_shards_here`, or on
workers elsewhere."""


def encode_shards_here(work: Work, numbers: Sequence[int]) -> Iterator[Done]:
    """Encodes shards in this process, one after another."""
    return map(Worker(work).encode, numbers)


class Worker:
    """Loads the encoder with its first shard, and encodes shards."""

    def __init__(self, work: Work) -> None:
        self._work = work

    def encode(self, number: int) -> Done:
        """Encodes a shard and writes its vectors, or times a probe."""
        index = self._work.index
        if number == PROBE:
            texts = index.passages(index.waiting()[0])[1][:PROBED]
            self._encoder.encode(texts[:1], "passage")
            began = time.monotonic()
            found = self._encoder.encode(texts, "passage")
            return Done(PROBE, len(texts), time.monotonic() - began, found.shape[1])
        began = time.monotonic()
        (shard,) = (one for one in index.shards if one.number == number)
        texts = index.passages(shard)[1]
        blocks = [self._encoder.encode(texts[n : n + BLOCK], "passage") for n in range(0, len(texts), BLOCK)]
        vector_SD = np.concatenate(blocks)
        index.write(shard, vector_SD)
        return Done(number, shard.rows, time.monotonic() - began, vector_SD.shape[1])

    @cached_property
    def _encoder(self) -> Encoder:
        torch.set_num_threads(self._work.threads or usable_cpus())
        return Encoder.load(self._work.encoder).to(pick_device(self._work.use_gpu))
