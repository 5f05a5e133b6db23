"""Search over the vectors of an index, in bounded memory.

Shapes: Q queries, P passages, S those of a shard, D dimension, N some of the passages, L languages.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from io import BufferedReader

import numpy as np
import torch

from hybridir.data.records import Benchmark
from hybridir.retrieval.nearest import rank_vectors, top_k
from hybridir.retrieval.parts import ROWS, SCORES, Block
from hybridir.retrieval.search import Ranking
from hybridir.retrieval.shards import Index, Shard, raw

Places = range | np.ndarray
"""The positions of the passages of a shard, rising."""


def rank_sharded(
    query_QD: np.ndarray, passages: "Sharded", benchmark: Benchmark, depth: int, memory: int, device: str = "cpu"
) -> Ranking:
    """As `rank_vectors`, with at most `memory` MB for vectors, lists and buffers."""
    size = at_a_time(query_QD.shape, passages, len(benchmark.languages) * depth, memory)
    found = []
    for start in range(0, len(query_QD), size):
        some = slice(start, start + size)
        part = replace(
            benchmark,
            queries=benchmark.queries[some],
            relevant=benchmark.relevant[some],
            grades=benchmark.grades[some],
            own=benchmark.own[some],
        )
        found.append(rank_vectors(query_QD[some], passages, part, depth, device))
    names = ("above", "relevant_score", "top_score", "top_place")
    return Ranking(*(np.concatenate([getattr(one, name) for one in found]) for name in names))


def top_k_sharded(
    query_QD: np.ndarray, passages: "Sharded", k: int, memory: int, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """As `top_k` over all languages together, with at most `memory` MB; after the last passage -inf and -1."""
    size = at_a_time(query_QD.shape, passages, k, memory)
    found = [top_k(query_QD[n : n + size], passages, k, device) for n in range(0, len(query_QD), size)]
    scores, places = zip(*found, strict=True)
    return np.concatenate(scores), np.concatenate(places)


def at_a_time(shape: tuple[int, ...], passages: "Sharded", kept: int, memory: int) -> int:
    """How many queries fit into `memory` MB, if `kept` passages are kept of each.

    Raises `ValueError` if not even some do.
    """
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
    """The vectors of an index, for a search: read into buffers that are used again, while the search works.

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
        self.dimension = index.about(self._shards[0][0])["dimension"] if self._shards else 0

    @property
    def memory(self) -> int:
        """Bytes of the buffers: two shards as they are on the disk, and one in float32."""
        most = max((shard.rows for shard, _ in self._shards), default=0)
        size = self._index.dtype.itemsize
        return most * self.dimension * (2 * size + (4 if size < 4 else 0))

    def blocks(self) -> Iterator[Block]:
        most = max((shard.rows for shard, _ in self._shards), default=0)
        raw = [np.empty((most, self.dimension), dtype=self._index.dtype) for _ in range(2)]
        wide = np.empty((most, self.dimension), dtype=np.float32) if self._index.dtype != np.float32 else None
        with ThreadPoolExecutor(1) as reader:
            reads = [reader.submit(self._read, shard, raw[n]) for n, (shard, _) in enumerate(self._shards[:1])]
            for n, (shard, places) in enumerate(self._shards):
                vector_SD = reads.pop().result()
                if n + 1 < len(self._shards):
                    reads.append(reader.submit(self._read, self._shards[n + 1][0], raw[(n + 1) % 2]))
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
