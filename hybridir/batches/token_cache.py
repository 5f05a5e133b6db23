"""The token cache: every text of a corpus is tokenised once, and kept on disk as flat ids and offsets.

The folder is named by a fingerprint of the corpus, the tokenizer, the prefixes and the lengths. Ids are read with
`pread`, not mapped into memory, so that the resident memory of a reader does not grow with the corpus.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from hybridir.data.corpus import Corpus
from hybridir.model.tokenizer import load_tokenizer, tokenize, tokenizer_fingerprint
from hybridir.runtime.durable import made_once

COLUMNS = ("query", "passage", "negatives")
_ID = np.dtype(np.int32)


@dataclass(frozen=True, kw_only=True)
class TokenJob:
    """What a process needs to tokenise chunks of a corpus.

    Args:
        corpus: folder of the corpus.
        tokenizer: folder or hub id of the tokenizer.
        revision: revision of the hub id.
        query_prefix: text put before every query.
        passage_prefix: text put before every passage.
        max_query_length: longest query in tokens, special tokens included; longer ones are cut.
        max_passage_length: longest passage in tokens, in the same way.
    """

    corpus: str
    tokenizer: str
    revision: str | None = None
    query_prefix: str = ""
    passage_prefix: str = ""
    max_query_length: int = 64
    max_passage_length: int = 256

    def fingerprint(self) -> str:
        """16 hexadecimal digits that change with the corpus, its order of rows, the tokenizer, prefixes and lengths."""
        corpus = Corpus.open(self.corpus)
        identity = {k: v for k, v in asdict(self).items() if k not in ("corpus", "tokenizer", "revision")}
        identity |= {
            "corpus": corpus.fingerprint,
            "rows": hashlib.sha256(corpus.row_of.tobytes()).hexdigest(),  # whose order `fingerprint` ignores
            "tokenizer": tokenizer_fingerprint(load_tokenizer(self.tokenizer, self.revision)),
        }
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    def run(self, chunk: int) -> pa.RecordBatch:
        """Tokenises one chunk: list<int32> for `query` and `passage`, list<list<int32>> for `negatives`."""
        rows = Corpus.open(self.corpus).chunk(chunk)
        tokenizer = load_tokenizer(self.tokenizer, self.revision)
        queries, passages = rows["query"].to_pylist(), rows["passage"].field("text").to_pylist()
        negatives = rows["negatives"]
        hard = negatives.flatten().field("text").to_pylist()
        start = np.concatenate([[0], np.cumsum(negatives.value_lengths().to_numpy(zero_copy_only=False))])
        of_negatives = _ragged(tokenize(tokenizer, hard, self.passage_prefix, self.max_passage_length))
        ids = [
            _ragged(self.tokenize_queries(queries)),
            _ragged(tokenize(tokenizer, passages, self.passage_prefix, self.max_passage_length)),
            pa.ListArray.from_arrays(start.astype(_ID), of_negatives),
        ]
        return pa.RecordBatch.from_arrays(ids, COLUMNS)

    def tokenize_queries(self, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of queries, with prefix and cut."""
        tokenizer = load_tokenizer(self.tokenizer, self.revision)
        return tokenize(tokenizer, texts, self.query_prefix, self.max_query_length)


class Ragged:
    """Sequences on disk, one after another in `NAME.bin`; `NAME.npy` holds the offset of each, and the end."""

    def __init__(self, path: Path, dtype: np.dtype = _ID) -> None:
        self._dtype = dtype
        self._start = np.load(path.with_suffix(".npy"), mmap_mode="r")
        self._file = os.open(path.with_suffix(".bin"), os.O_RDONLY)
        if os.fstat(self._file).st_size != int(self._start[-1]) * dtype.itemsize:
            raise ValueError(f"{path}.bin is not whole: delete the folder {path.parent}; the next run makes it again")

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def take(self, rows: np.ndarray) -> list[np.ndarray]:
        """The sequences at `rows`, [length] each."""
        spans = [(int(self._start[r]), int(self._start[r + 1])) for r in rows]
        size = self._dtype.itemsize
        return [np.frombuffer(os.pread(self._file, (b - a) * size, a * size), self._dtype) for a, b in spans]

    def lengths(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """The lengths of the sequences at `rows`, or of all, int64; 0 for the row -1. Reads no sequence."""
        if isinstance(rows, slice):
            return np.diff(self._start)
        return np.where(rows < 0, 0, self._start[rows + 1] - self._start[rows])


class TokenCache:
    """The token ids of a corpus: `query` and `passage` have an entry a row, `negatives` an entry a hard negative."""

    def __init__(self, directory: str | Path) -> None:
        self.query, self.passage, self.negatives = (Ragged(Path(directory) / name) for name in COLUMNS)


ChunkRunner = Callable[[TokenJob, int], Iterable[pa.RecordBatch]]


def build_cache(job: TokenJob, run_chunks: ChunkRunner | None = None) -> Path:
    """Returns the folder of the token cache, beside the corpus; makes the cache first if it is not there.

    `run_chunks(job, n)` yields `job.run(0)` to `job.run(n - 1)` in order; the default is `tokenize_here`. A lock lets
    only one process write the cache, and the others wait.
    """
    corpus = Corpus.open(job.corpus)
    final = corpus.directory.parent / f"tokens-{job.fingerprint()}"
    with made_once(final) as work:
        if work:
            _write_cache((run_chunks or tokenize_here)(job, corpus.n_chunks), work)
    return final


def query_texts(corpus: Corpus) -> Ragged:
    """The queries of a corpus as UTF-8, an entry a row; written beside the corpus first if they are not there."""
    final = corpus.directory.with_name(f"queries-{corpus.directory.name}")
    with made_once(final) as work:
        if work:
            lengths = [0]
            with open(work / "query.bin", "wb") as file:
                for chunk in range(corpus.n_chunks):
                    texts = [text.encode() for text in corpus.chunk(chunk)["query"].to_pylist()]
                    file.writelines(texts)
                    lengths += map(len, texts)
            np.save(work / "query.npy", np.cumsum(lengths))
    return Ragged(final / "query", np.dtype(np.uint8))


def tokenize_here(job: TokenJob, n_chunks: int) -> Iterator[pa.RecordBatch]:
    """Tokenises all chunks in this process, in order."""
    return (job.run(chunk) for chunk in range(n_chunks))


def _write_cache(chunks: Iterable[pa.RecordBatch], directory: Path) -> None:
    lengths: dict[str, list[np.ndarray]] = {name: [np.zeros(1, dtype=np.int64)] for name in COLUMNS}
    with contextlib.ExitStack() as stack:
        files = {name: stack.enter_context(open(directory / f"{name}.bin", "wb")) for name in COLUMNS}
        for chunk in chunks:
            for name in COLUMNS:
                column = chunk[name].flatten() if name == "negatives" else chunk[name]
                files[name].write(column.flatten().to_numpy().astype(_ID, copy=False).tobytes())
                lengths[name].append(column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64))
    for name in COLUMNS:
        np.save(directory / f"{name}.npy", np.cumsum(np.concatenate(lengths[name])))


def _ragged(sequences: list[list[int]]) -> pa.Array:
    return pa.array(sequences, type=pa.list_(pa.int32()))
