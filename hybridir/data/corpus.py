"""A validated corpus of pairs on disk, read piecewise, with the index that the batch plan draws from.

Shapes: G groups, L languages, N pairs (rows), H hard negatives, C chunks.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hybridir.data.records import PARTS


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus on disk.

    Attributes:
        fingerprint: SHA-256 over the contents, whatever their order and format.
        part_fingerprints: SHA-256 over the pairs of each part.
        n_read: pairs and broken rows that were read; those of languages that were not asked for are not among them.
        notes: by kind (`records.NOTES`) what else was seen, with its number: languages that were not asked for, ...
        domains: number of pairs of each domain.
        rejected: number of rejected rows by reason; `rejected.jsonl` in the folder has them all.
        first_rejected: the first of each reason: file, line, reason and value.
        row_of: int32 [G, L], the row of a group in a language, -1 where there is none.
        group_key: uint64 [G], the hash of source and group id, ascending.
        source_of: int16 [G], index into `sources`.
        part_of: uint8 [G], index into `PARTS`: trained or validated on.
        passage_group: int64 [G], the smallest group among those whose passages are the same.
        negative_start: int64 [N + 1]; row r has the hard negatives `negative_start[r]` to `negative_start[r + 1]`.
        negative_group: int64 [H], the passage group of a hard negative; G or above where no pair has it as a positive.
        chunk_start: int64 [C + 1], the first row of each chunk, the unit in which a corpus is read.
    """

    directory: Path
    languages: tuple[str, ...]
    sources: tuple[str, ...]
    fingerprint: str
    part_fingerprints: dict[str, str]
    n_pairs: int
    n_read: int
    notes: dict[str, dict[str, int]]
    domains: dict[str, int]
    rejected: dict[str, int]
    first_rejected: dict[str, list[dict[str, Any]]]
    row_of: np.ndarray
    group_key: np.ndarray
    source_of: np.ndarray
    part_of: np.ndarray
    passage_group: np.ndarray
    negative_start: np.ndarray
    negative_group: np.ndarray
    chunk_start: np.ndarray

    @classmethod
    def open(cls, directory: str | Path) -> "Corpus":
        """Opens what `build_corpus` wrote; the index is memory-mapped."""
        directory = Path(directory)
        description = json.loads((directory / "corpus.json").read_text(encoding="utf-8"))
        for name in ("languages", "sources"):
            description[name] = tuple(description[name])
        arrays = {file.stem: np.load(file, mmap_mode="r") for file in directory.glob("*.npy")}
        return cls(directory=directory, **description, **arrays)

    @property
    def n_groups(self) -> int:
        return len(self.group_key)

    @property
    def n_chunks(self) -> int:
        return len(self.chunk_start) - 1

    def groups(self, part: str) -> np.ndarray:
        """bool [G]: the groups that are trained or validated on."""
        return np.asarray(self.part_of) == PARTS.index(part)

    def languages_of(self, part: str) -> tuple[str, ...]:
        """The languages that a part has pairs in."""
        there = (self.row_of[self.groups(part)] >= 0).any(axis=0)
        return tuple(code for code, has in zip(self.languages, there, strict=True) if has)

    def chunk(self, number: int) -> pa.RecordBatch:
        """Rows from `chunk_start[number]`, read from the file without mapping it into memory."""
        with pa.OSFile(str(self.directory / "pairs.arrow")) as file, pa.ipc.open_file(file) as reader:
            return reader.get_batch(number)

    def pair(self, row: int) -> dict[str, Any]:
        """One row: `source`, `group_id`, `language`, `query`, `passage`, `negatives`, `domain`, `file`, `line`."""
        number = int(np.searchsorted(self.chunk_start, row, side="right")) - 1
        return self.chunk(number).slice(row - int(self.chunk_start[number]), 1).to_pylist()[0]
