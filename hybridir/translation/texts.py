"""The distinct texts of a corpus in one language, in shards, and the numbers of the texts of each pair.

A text that stands in many pairs, such as a passage with several questions, is translated once.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hybridir.data.corpus import Corpus
from hybridir.data.intake import hash_of
from hybridir.runtime.durable import made_once

_PLACES = pa.schema([("query", pa.int64()), ("passage", pa.int64()), ("negatives", pa.list_(pa.int64()))])


@dataclass(frozen=True)
class Texts:
    """Texts on disk: `texts.arrow` has a batch for each shard, `places.arrow` one for each chunk of the corpus.

    `made_of` has a hash of all texts in order, and of how they are cut.
    """

    folder: Path

    @property
    def n_shards(self) -> int:
        with pa.OSFile(str(self.folder / "texts.arrow")) as file, pa.ipc.open_file(file) as reader:
            return int(reader.num_record_batches)

    def shard(self, number: int) -> list[str]:
        """The texts of a shard."""
        return self._batch("texts", number)["text"].to_pylist()

    def places(self, chunk: int) -> pa.RecordBatch:
        """The numbers of the texts of each pair of a chunk: `query`, `passage`, `negatives`. All count from 0."""
        return self._batch("places", chunk)

    def sizes(self) -> list[tuple[int, int]]:
        """(number of texts, number of characters) of each shard."""
        return [(len(texts), sum(map(len, texts))) for texts in map(self.shard, range(self.n_shards))]

    def _batch(self, name: str, number: int) -> pa.RecordBatch:
        with pa.OSFile(str(self.folder / f"{name}.arrow")) as file, pa.ipc.open_file(file) as reader:
            return reader.get_batch(number)


def write_texts(corpus: Corpus, folder: Path, size: int) -> Texts:
    """Writes the distinct texts of a corpus to `folder`, `size` in each shard, unless they are there already.

    They are in the order of their first occurrence. Memory: 40 bytes a text.

    Raises:
        ValueError: the texts there are those of other pairs, or of the same in another order.
    """
    hashes = np.fromiter((hash_of(text) for text in chain.from_iterable(_texts(corpus))), dtype=np.uint64)
    made_of = hashlib.sha256(hashes.data)  # corpus.fingerprint is the same in another order
    for part in (corpus.negative_start, corpus.chunk_start, np.array([size])):
        made_of.update(np.ascontiguousarray(part).data)
    with made_once(folder) as work:
        if work:
            _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
            rank = np.empty(len(first), dtype=np.int64)
            rank[np.argsort(first)] = np.arange(len(first))
            number_N, is_first = rank[inverse], np.zeros(len(hashes), dtype=bool)
            is_first[first] = True
            _write_shards(corpus, work / "texts.arrow", is_first, size)
            _write_places(corpus, work / "places.arrow", number_N)
            (work / "made_of").write_text(made_of.hexdigest(), encoding="utf-8")
    record = folder / "made_of"
    if not record.exists() or record.read_text(encoding="utf-8") != made_of.hexdigest():
        raise ValueError(
            f"{folder} has the texts of other pairs, or of these in another order: give the old ones by data.path. If "
            "the new ones are meant, remove that folder; what is translated of texts that stayed in place is kept"
        )
    return Texts(folder)


def _texts(corpus: Corpus) -> Iterator[list[str]]:
    """The texts of each chunk: for each pair, the query, the passage, the hard negatives."""
    for chunk in range(corpus.n_chunks):
        rows = corpus.chunk(chunk)
        columns: tuple[Any, ...] = (rows["query"], rows["passage"].field("text"), rows["negatives"])
        yield [
            text
            for query, passage, negatives in zip(*(column.to_pylist() for column in columns), strict=True)
            for text in (query, passage, *(one["text"] for one in negatives))
        ]


def _write_shards(corpus: Corpus, file: Path, is_first: np.ndarray, size: int) -> None:
    schema = pa.schema([("text", pa.string())])
    waiting: list[str] = []
    with pa.OSFile(str(file), "wb") as opened, pa.ipc.new_file(opened, schema) as writer:
        for n, text in enumerate(chain.from_iterable(_texts(corpus))):
            if is_first[n]:
                waiting.append(text)
            if len(waiting) == size:
                writer.write(pa.record_batch([waiting], schema=schema))
                waiting = []
        if waiting:
            writer.write(pa.record_batch([waiting], schema=schema))


def _write_places(corpus: Corpus, file: Path, number_N: np.ndarray) -> None:
    start = 0
    with pa.OSFile(str(file), "wb") as opened, pa.ipc.new_file(opened, _PLACES) as writer:
        for chunk in range(corpus.n_chunks):
            counts = corpus.chunk(chunk)["negatives"].value_lengths().to_numpy(zero_copy_only=False)
            ends = start + np.cumsum(counts + 2)
            begins = ends - counts - 2
            numbers = [number_N[a + 2 : b] for a, b in zip(begins, ends, strict=True)]
            writer.write(pa.record_batch([number_N[begins], number_N[begins + 1], numbers], schema=_PLACES))
            start = int(ends[-1])
