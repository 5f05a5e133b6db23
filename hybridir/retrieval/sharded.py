"""Search over the vectors of an index, in bounded memory.

Shapes: Q queries, P passages, S those of a shard, D dimension, N some of the passages, L languages.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, replace
from io import BufferedReader
from typing import Any, Protocol

import numpy as np
import torch

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.nearest import rank_part, top_k, translated
from hybridir.retrieval.parts import ROWS, SCORES, Block
from hybridir.retrieval.search import Ranking
from hybridir.retrieval.shards import Index, Shard, raw
from hybridir.retrieval.ties import keep_best

Places = range | np.ndarray
"""The positions of the passages of a shard, ascending."""


class Each(Protocol):
    """Calls a function with 0 to `count` - 1, in any processes, and returns the results in order."""

    def __call__(self, function: Callable[[int], Any], count: int, /) -> list[Any]: ...


def each_here(function: Callable[[int], Any], count: int) -> list[Any]:
    """In this process, one call after another."""
    return [function(n) for n in range(count)]


@dataclass(frozen=True)
class Means:
    """The resources of a search: at most `memory` MB for vectors, results and buffers on each worker, its device, and
    the workers, each of which searches a part of the shards."""

    memory: int = RetrievalConfig().memory
    device: str = "cpu"
    workers: int = 1
    each: Each = each_here


def rank_sharded(
    query_QD: np.ndarray, passages: "Sharded", benchmark: Benchmark, depth: int, means: Means = Means()
) -> Ranking:
    """As `rank_vectors`: each worker ranks over its shards, then counts are added, and the best passages merged."""
    asked = replace(benchmark, queries=(), passages=Passages(), grades=())  # so that no text goes to a worker
    parts = passages.parts(means.workers)
    found = means.each(lambda n: _rank(query_QD, parts[n], asked, depth, means), len(parts))
    first = found[0]
    for one in found[1:]:
        shape = first.top_score.shape
        score, place = (
            np.concatenate([getattr(x, name) for x in (first, one)], axis=2).reshape(shape[0] * shape[1], 2 * depth)
            for name in ("top_score", "top_place")
        )
        score, place = keep_best(score, place, depth) if depth else (score, place)
        first = Ranking(first.above + one.above, one.relevant_score, score.reshape(shape), place.reshape(shape))
    return replace(first, translated=translated(passages, benchmark)) if depth else first


def _rank(query_QD: np.ndarray, passages: "Sharded", benchmark: Benchmark, depth: int, means: Means) -> Ranking:
    size = at_a_time(query_QD.shape, passages, len(benchmark.languages) * depth, means.memory)
    found = []
    for start in range(0, len(query_QD), size):
        some = slice(start, start + size)
        part = replace(benchmark, relevant=benchmark.relevant[some], own=benchmark.own[some])
        found.append(rank_part(query_QD[some], passages, part, depth, means.device))
    names = ("above", "relevant_score", "top_score", "top_place")
    return Ranking(*(np.concatenate([getattr(one, name) for one in found]) for name in names))


def top_k_sharded(
    query_QD: np.ndarray, passages: "Sharded", k: int, means: Means = Means()
) -> tuple[np.ndarray, np.ndarray]:
    """As `top_k` over all languages together; after the last passage -inf and -1."""
    parts = passages.parts(means.workers)
    score, place = zip(*means.each(lambda n: _top(query_QD, parts[n], k, means), len(parts)), strict=True)
    return keep_best(np.concatenate(score, axis=1), np.concatenate(place, axis=1), k)


def _top(query_QD: np.ndarray, passages: "Sharded", k: int, means: Means) -> tuple[np.ndarray, np.ndarray]:
    size = at_a_time(query_QD.shape, passages, k, means.memory)
    found = [top_k(query_QD[n : n + size], passages, k, means.device) for n in range(0, len(query_QD), size)]
    scores, places = zip(*found, strict=True)
    return np.concatenate(scores), np.concatenate(places)


def at_a_time(shape: tuple[int, ...], passages: "Sharded", kept: int, memory: int) -> int:
    """How many queries fit into `memory` MB, if `kept` passages are kept for each; `ValueError` if too few do."""
    n_queries, dimension = shape
    rows = min(n_queries, ROWS)
    fixed = passages.memory + 16 * SCORES + 64 * rows * kept + 2**24
    each = 8 * dimension + 24 * kept + 1
    room = memory * 10**6 - fixed
    if room < each * rows:
        raise ValueError(
            f"retrieval.memory is {memory} MB: this search takes {(fixed + each * rows) / 1e6:,.0f} MB at least, "
            f"{passages.memory / 1e6:,.0f} of them for shards. Allow more, or make the index with a smaller "
            "retrieval.shard"
        )
    return max(1, min(n_queries, room // each))


class Sharded:
    """The vectors of an index, for a search: read ahead into two buffers while the search works.

    Args:
        index: a complete index.
        numbers: the languages to search, and the number of each in the result; see `Index.together`.
        places: the positions of the passages of each shard; omitted, those of the index.
    """

    def __init__(self, index: Index, numbers: Mapping[str, int], places: Iterable[Places] | None = None) -> None:
        given = [shard.places for shard in index.shards] if places is None else list(places)
        self._index, self._number = index, dict(numbers)
        pairs = [(s, p) for s, p in zip(index.shards, given, strict=True) if s.language in self._number]
        self._shards = sorted(pairs, key=lambda pair: self._number[pair[0].language])
        self._own = self._shards
        self.dimension = index.about(self._shards[0][0])["dimension"] if self._shards else 0

    def parts(self, count: int) -> list["Sharded"]:
        """Splits the blocks among at most `count` parts; `at` finds all positions in every part."""
        if count == 1:
            return [self]
        parts = [copy(self) for _ in range(max(1, min(count, len(self._shards))))]
        for n, part in enumerate(parts):
            part._own = self._shards[n :: len(parts)]
        return parts

    @property
    def memory(self) -> int:
        """Bytes of the buffers: two shards as they are on the disk, and one in float32."""
        most = max((shard.rows for shard, _ in self._own), default=0)
        size = self._index.dtype.itemsize
        return most * self.dimension * (2 * size + (4 if size < 4 else 0))

    def blocks(self) -> Iterator[Block]:
        most = max((shard.rows for shard, _ in self._own), default=0)
        raw = [np.empty((most, self.dimension), dtype=self._index.dtype) for _ in range(2)]
        wide = np.empty((most, self.dimension), dtype=np.float32) if self._index.dtype != np.float32 else None
        with ThreadPoolExecutor(1) as reader:
            reads = [reader.submit(self._read, shard, raw[n]) for n, (shard, _) in enumerate(self._own[:1])]
            for n, (shard, places) in enumerate(self._own):
                vector_SD = reads.pop().result()
                if n + 1 < len(self._own):
                    reads.append(reader.submit(self._read, self._own[n + 1][0], raw[(n + 1) % 2]))
                if wide is not None:  # torch converts float16 faster than numpy
                    torch.from_numpy(wide[: shard.rows]).copy_(torch.from_numpy(vector_SD))
                    vector_SD = wide[: shard.rows]
                place_S = np.asarray(places, dtype=np.int64)
                if shard.dropped:
                    kept = np.delete(np.arange(shard.rows), shard.dropped)
                    vector_SD, place_S = vector_SD[kept], place_S[kept]
                yield Block(self._number[shard.language], place_S, vector_SD)

    def at(self, place_N: np.ndarray) -> np.ndarray:
        found_ND = np.empty((len(place_N), self.dimension), dtype=np.float32)
        left = len(place_N)
        for shard, places in self._shards:
            _, row_M, which_M = np.intersect1d(np.asarray(places), place_N, return_indices=True)
            with self._open(shard) as file:
                first = file.tell()
                size = self.dimension * self._index.dtype.itemsize
                for row, which in zip(row_M.tolist(), which_M.tolist(), strict=True):
                    data = os.pread(file.fileno(), size, first + row * size)
                    found_ND[which] = np.frombuffer(data, dtype=self._index.dtype)
            left -= len(row_M)
        assert left == 0, "every position is in a shard"
        return found_ND

    def _read(self, shard: Shard, buffer: np.ndarray) -> np.ndarray:
        with self._open(shard) as file:
            vector_SD = buffer[: shard.rows]
            count = file.readinto(raw(vector_SD))
        if (
            count != vector_SD.nbytes
            or hashlib.sha256(raw(vector_SD)).hexdigest() != self._index.about(shard)["sha256"]
        ):
            raise ValueError(f"{file.name} is damaged: remove it, and continue with python jobs/encode.py --resume")
        return vector_SD

    @contextmanager
    def _open(self, shard: Shard) -> Iterator[BufferedReader]:
        """The file of a shard, at its first vector."""
        about = self._index.about(shard)
        with open(self._index.file("vectors", shard, "npy"), "rb") as file:
            np.lib.format.read_magic(file)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            if fortran or dtype != self._index.dtype or shape != (about["rows"], self.dimension):
                raise ValueError(f"{file.name} holds {dtype} {shape}: remove it, and continue with --resume")
            yield file
