"""A corpus of checked pairs on disk, read chunk by chunk, with the index from which the batch plan draws.

Shapes: G groups, L languages, N pairs (rows), H hard negatives, C chunks.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from hybridir.data.records import PARTS
from hybridir.runtime.words import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus on disk.

    Attributes:
        fingerprint: SHA-256 of the contents; the order of the rows and the file format do not change it.
        part_fingerprints: SHA-256 of the pairs of each part.
        n_read: number of pairs and broken rows read, without pairs in languages that were not asked for.
        notes: for each kind of note (`records.NOTES`), the language, field or file it is about and how often; for
            `records.UNKNOWN` the unknown language codes.
        domains: number of pairs of each domain.
        rejected: number of rejected rows by reason; `rejected.jsonl` in the folder lists all of them.
        first_rejected: the first rejected rows by reason, each with file, line, reason and value.
        row_of: int32 [G, L], row of a group's pair in a language, -1 if it has none.
        group_key: uint64 [G], hash of source and group id, ascending.
        source_of: int16 [G], index into `sources`.
        domain_of: uint32 [G], index into `domain_names`: the domain of the group's first pair.
        part_of: uint8 [G], index into `PARTS`: training, validation or test.
        passage_group: int64 [G], passage group of a group, named by its smallest group.
        negative_start: int64 [N + 1]; row r has the hard negatives `negative_start[r]` to `negative_start[r + 1] - 1`.
        negative_group: int64 [H], passage group of a hard negative; G or above if it is the positive of no pair.
        negative_language: int16 [H], index into `languages`, above them for a language without a pair; -1 for the
            language of its pair.
        chunk_start: int64 [C + 1], first row of each chunk. A chunk is read at once.
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
    domain_of: np.ndarray
    part_of: np.ndarray
    passage_group: np.ndarray
    negative_start: np.ndarray
    negative_group: np.ndarray
    negative_language: np.ndarray
    chunk_start: np.ndarray

    @classmethod
    def open(cls, directory: str | Path) -> "Corpus":
        """Opens a corpus that `build_corpus` wrote; its index is memory-mapped.

        Raises:
            ValueError: an earlier version wrote it, which did not keep the domain of each group.
        """
        directory = Path(directory)
        description = json.loads((directory / "corpus.json").read_text(encoding="utf-8"))
        for name in ("languages", "sources"):
            description[name] = tuple(description[name])
        arrays = {file.stem: np.load(file, mmap_mode="r") for file in directory.glob("*.npy")}
        if "domain_of" not in arrays:
            if len(description["domains"]) > 1:
                raise ValueError(
                    f"{directory} was written by an earlier version, which did not keep the domain of each question: "
                    "remove it, and start the job that wrote it again (its --dry_run is enough)"
                )
            arrays["domain_of"] = np.zeros(len(arrays["group_key"]), dtype=np.uint32)
        arrays.setdefault("negative_language", np.full(len(arrays["negative_group"]), -1, dtype=np.int16))
        return cls(directory=directory, **description, **arrays)

    @property
    def domain_names(self) -> tuple[str, ...]:
        """The domains in alphabetical order; "" stands for pairs without one."""
        return tuple(sorted(self.domains))

    @property
    def n_groups(self) -> int:
        return len(self.group_key)

    @property
    def n_chunks(self) -> int:
        return len(self.chunk_start) - 1

    def groups(self, part: str) -> np.ndarray:
        """bool [G]: which groups belong to `part`."""
        return np.asarray(self.part_of) == PARTS.index(part)

    def group_of_row(self) -> np.ndarray:
        """int64 [N]: the group of each row; -1 for a row that repeats a language of its group, and is not used."""
        group_N = np.full(len(self.negative_start) - 1, -1, dtype=np.int64)
        for row_G in np.asarray(self.row_of).T:
            there = np.flatnonzero(row_G >= 0)
            group_N[row_G[there]] = there
        return group_N

    def in_domains(self, domains: Iterable[str]) -> np.ndarray:
        """bool [G]: the groups of these domains, and all that share a passage group with one of them.

        Raises:
            ValueError: the corpus has no such domain.
        """
        names = self.domain_names
        for name in domains:
            if name not in names:
                known = ", ".join(filter(None, names)) or "none: give pairs the field `domain`"
                raise ValueError(f"the data has no domain {name!r}{did_you_mean(name, names)}; it has {known}")
        named = np.isin(self.domain_of, [names.index(name) for name in domains])
        return np.isin(self.passage_group, self.passage_group[named])

    def languages_of(self, part: str) -> tuple[str, ...]:
        """The languages in which a part has pairs."""
        there = (self.row_of[self.groups(part)] >= 0).any(axis=0)
        return tuple(code for code, has in zip(self.languages, there, strict=True) if has)

    def chunk(self, number: int) -> pa.RecordBatch:
        """The rows of a chunk, read from the file without memory mapping."""
        with pa.OSFile(str(self.directory / "pairs.arrow")) as file, pa.ipc.open_file(file) as reader:
            return reader.get_batch(number)

    def texts(self, rows: np.ndarray) -> tuple[list[str], list[str]]:
        """The queries and the passages of some rows, in ascending order of the rows."""
        queries, passages, rows = list[str](), list[str](), np.sort(rows)
        for number, start in enumerate(self.chunk_start[:-1].tolist()):
            own = rows[(rows >= start) & (rows < self.chunk_start[number + 1])] - start
            if len(own):
                chunk = self.chunk(number).take(pa.array(own))
                queries += chunk["query"].to_pylist()
                passages += chunk["passage"].field("text").to_pylist()
        return queries, passages

    def pair(self, row: int) -> dict[str, Any]:
        """One row: `source`, `group_id`, `language`, `query`, `passage`, `negatives`, `domain`, `file`, `line`."""
        number = int(np.searchsorted(self.chunk_start, row, side="right")) - 1
        return self.chunk(number).slice(row - int(self.chunk_start[number]), 1).to_pylist()[0]
