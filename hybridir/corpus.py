"""A validated corpus of pairs on disk, read piecewise, with the index that the batch plan draws from.

`build_corpus` streams pairs into one Arrow file and keeps a few bytes a pair in memory: 64-bit hashes, from which it
makes the index. Groups are numbered in the order of their hash, so neither the order of the files nor their format
changes what is drawn. Groups whose passages share an id, a text in one language or a given passage group are joined
into one *passage group* (connected components), whose members are never negatives for each other.

Shapes: G groups, L languages, N pairs (rows), H hard negatives.
"""

import hashlib
import json
import os
import shutil
import uuid
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridir.records import Pair, Passage, Rejected, known_languages

CHUNK = 4096
"""Pairs in one record batch of the Arrow file: the unit in which a corpus is read."""

_PASSAGE = pa.struct([("passage_id", pa.string()), ("text", pa.string())])
_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("source", "group_id", "language", "query")]
    + [("passage", _PASSAGE), ("negatives", pa.list_(_PASSAGE)), ("where", pa.string())]
)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A corpus on disk.

    Attributes:
        row_of: int32 [G, L], the row of a group in a language, -1 where there is none.
        group_key: uint64 [G], the hash of source and group id, ascending.
        source_of: int16 [G], index into `sources`.
        passage_group: int64 [G], the smallest group among those whose passages are the same.
        negative_start: int64 [N + 1]; row r has the hard negatives `negative_start[r]` to `negative_start[r + 1]`.
        negative_group: int64 [H], the passage group of a hard negative; G or above where no pair has it as a positive.
        fingerprint: SHA-256 over the contents, whatever their order and format.
    """

    directory: Path
    languages: tuple[str, ...]
    sources: tuple[str, ...]
    fingerprint: str
    n_pairs: int
    rejected: dict[str, int]
    row_of: np.ndarray
    group_key: np.ndarray
    source_of: np.ndarray
    passage_group: np.ndarray
    negative_start: np.ndarray
    negative_group: np.ndarray

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
        return -(-int(self.negative_start.size - 1) // CHUNK)

    def chunk(self, number: int) -> pa.RecordBatch:
        """Rows `number * CHUNK` and following, read from the file without mapping it into memory."""
        with pa.OSFile(str(self.directory / "pairs.arrow")) as file, pa.ipc.open_file(file) as reader:
            return reader.get_batch(number)

    def pair(self, row: int) -> dict[str, Any]:
        """One row: `source`, `group_id`, `language`, `query`, `passage`, `negatives`, `where`."""
        return self.chunk(row // CHUNK).slice(row % CHUNK, 1).to_pylist()[0]


def build_corpus(records: Iterable[Pair | Rejected], root: str | Path) -> Corpus:
    """Writes `records` to `root/corpus-FINGERPRINT` (only the rejects, if it is there) and opens it.

    A record is accepted, or written with its place and reason to `rejected.jsonl` in that folder. `ValueError` where
    nothing is accepted.
    """
    root = Path(root)
    work = root / f"corpus-{uuid.uuid4().hex}.tmp"
    work.mkdir(parents=True)
    try:
        with open(work / "rejected.jsonl", "w", encoding="utf-8") as rejected:
            keys = _write_rows(records, work / "pairs.arrow", rejected)
            description = _write_index(keys, work, rejected)
        (work / "corpus.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
        final = root / f"corpus-{description['fingerprint'][:16]}"
        try:
            os.rename(work, final)
        except OSError:  # the same pairs are there already; what was rejected beside them may differ
            for name in ("rejected.jsonl", "corpus.json"):
                os.replace(work / name, final / name)
        return Corpus.open(final)
    finally:
        shutil.rmtree(work, ignore_errors=True)


@dataclass
class _Keys:
    """What the index is made of: 64-bit hashes by row, and the counts of what was rejected."""

    group: array = field(default_factory=lambda: array("Q"))
    language: array = field(default_factory=lambda: array("H"))
    source: array = field(default_factory=lambda: array("H"))
    passage_id: array = field(default_factory=lambda: array("Q"))
    passage_text: array = field(default_factory=lambda: array("Q"))
    passage_group: array = field(default_factory=lambda: array("Q"))
    content: array = field(default_factory=lambda: array("Q"))
    negatives: array = field(default_factory=lambda: array("I"))
    negative_id: array = field(default_factory=lambda: array("Q"))
    negative_text: array = field(default_factory=lambda: array("Q"))
    languages: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    rejected: Counter = field(default_factory=Counter)

    def add(self, pair: Pair) -> None:
        self.group.append(_hash(pair.source, pair.group_id))
        self.language.append(self.languages.setdefault(pair.language, len(self.languages)))
        self.source.append(self.sources.setdefault(pair.source, len(self.sources)))
        self.passage_id.append(_id_hash(pair, pair.passage))
        self.passage_text.append(_hash("text", pair.language, pair.passage.text))
        self.passage_group.append(_hash(pair.source, pair.passage_group_id) if pair.passage_group_id else 0)
        texts = (negative.text for negative in pair.negatives)
        self.content.append(_hash(pair.source, pair.group_id, pair.language, pair.query, pair.passage.text, *texts))
        self.negatives.append(len(pair.negatives))
        for negative in pair.negatives:
            self.negative_id.append(_id_hash(pair, negative))
            self.negative_text.append(_hash("text", pair.language, negative.text))


def _write_rows(records: Iterable[Pair | Rejected], path: Path, rejected: TextIO) -> _Keys:
    """Streams the accepted pairs to `path`, in chunks."""
    keys = _Keys()

    def accepted() -> Iterator[Pair]:
        for record in records:
            record = record if isinstance(record, Rejected) else _check(record)
            if isinstance(record, Rejected):
                _reject(record, rejected, keys.rejected)
            else:
                keys.add(record)
                yield record

    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, _SCHEMA) as writer:
        chunk: list[dict[str, Any]] = []
        for pair in accepted():
            chunk.append(asdict(pair))
            if len(chunk) == CHUNK:
                writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=_SCHEMA))
                chunk.clear()
        if chunk:
            writer.write_batch(pa.RecordBatch.from_pylist(chunk, schema=_SCHEMA))
    if not keys.group:
        reasons = ", ".join(f"{n} x {reason}" for reason, n in keys.rejected.items()) or "the source is empty"
        raise ValueError(f"the corpus has no usable pair: {reasons}")
    return keys


def _write_index(keys: _Keys, directory: Path, rejected: TextIO) -> dict[str, Any]:
    """Makes and writes the arrays of `Corpus`; returns its other fields."""
    languages, sources = sorted(keys.languages), sorted(keys.sources)
    language_N = _renumber(keys.languages, keys.language)
    source_N = _renumber(keys.sources, keys.source)
    group_key, group_N = np.unique(np.frombuffer(keys.group, dtype=np.uint64), return_inverse=True)
    n_rows, n_groups = len(group_N), len(group_key)

    row_of = np.full((n_groups, len(languages)), -1, dtype=np.int32)
    row_of[group_N[::-1], language_N[::-1]] = np.arange(n_rows - 1, -1, -1)  # the first row of a place stays
    kept = row_of[group_N, language_N] == np.arange(n_rows)
    source_of = np.zeros(n_groups, dtype=np.int16)
    source_of[group_N] = source_N

    by_id = np.frombuffer(keys.passage_id, dtype=np.uint64)
    by_text = np.frombuffer(keys.passage_text, dtype=np.uint64)
    given = np.frombuffer(keys.passage_group, dtype=np.uint64)
    passage_group = _components(n_groups, group_N, [by_id, by_text, given])

    negative_start = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(np.frombuffer(keys.negatives, dtype=np.uint32), out=negative_start[1:])
    negative_group = _groups_of_negatives(keys, by_id, by_text, passage_group[group_N], n_groups)

    np.save(directory / "row_of.npy", row_of)
    np.save(directory / "group_key.npy", group_key)
    np.save(directory / "source_of.npy", source_of)
    np.save(directory / "passage_group.npy", passage_group)
    np.save(directory / "negative_start.npy", negative_start)
    np.save(directory / "negative_group.npy", negative_group)

    with pa.OSFile(str(directory / "pairs.arrow")) as file, pa.ipc.open_file(file) as reader:
        for row in np.flatnonzero(~kept):
            pair = reader.get_batch(row // CHUNK).slice(row % CHUNK, 1).to_pylist()[0]
            value = f"{pair['group_id']} in {pair['language']}"
            record = Rejected(where=pair["where"], reason="the group has this language already", value=value)
            _reject(record, rejected, keys.rejected)
    content_N = np.frombuffer(keys.content, dtype=np.uint64)
    row_H = np.repeat(np.arange(n_rows), np.diff(negative_start))
    of_negatives = np.stack([content_N[row_H], np.minimum(negative_group, n_groups).astype(np.uint64)])[:, kept[row_H]]
    parts = (np.sort(content_N[kept]), passage_group, of_negatives[:, np.lexsort(of_negatives)])
    return {
        "languages": languages,
        "sources": sources,
        "fingerprint": hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest(),
        "n_pairs": int(kept.sum()),
        "rejected": dict(keys.rejected),
    }


def _renumber(names: dict[str, int], numbers: array) -> np.ndarray:
    """`numbers`, given to the names as they came, as positions in their alphabetical order."""
    place = {name: n for n, name in enumerate(sorted(names))}
    return np.array([place[name] for name in names], dtype=np.int64)[np.frombuffer(numbers, dtype=np.uint16)]


def _components(n_groups: int, group_N: np.ndarray, keys: Sequence[np.ndarray]) -> np.ndarray:
    """For every group the smallest group that it is tied to by equal keys (0 is no key)."""
    starts, ends = [], []
    for key in keys:
        order = np.argsort(key, kind="stable")
        same = (key[order[1:]] == key[order[:-1]]) & (key[order[1:]] != 0)
        starts.append(group_N[order[:-1][same]])
        ends.append(group_N[order[1:][same]])
    edges = (np.concatenate(starts), np.concatenate(ends))
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(n_groups, n_groups))
    _, label = connected_components(graph, directed=False)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _groups_of_negatives(
    keys: _Keys, by_id: np.ndarray, by_text: np.ndarray, passage_group_N: np.ndarray, n_groups: int
) -> np.ndarray:
    """The passage group of each hard negative: that of a positive with its id or text, else one of its own."""
    ids = np.frombuffer(keys.negative_id, dtype=np.uint64)
    texts = np.frombuffer(keys.negative_text, dtype=np.uint64)
    found = n_groups + np.unique(np.where(ids == 0, texts, ids), return_inverse=True)[1].astype(np.int64)
    for wanted, known in ((texts, by_text), (ids, by_id)):
        order = np.argsort(known, kind="stable")
        place = np.minimum(np.searchsorted(known[order], wanted), len(known) - 1)
        hit = (known[order][place] == wanted) & (wanted != 0)
        found[hit] = passage_group_N[order][place][hit]
    return found


def _check(pair: Pair) -> Pair | Rejected:
    """The pair, or why it cannot be used."""
    texts = {"query": pair.query, "passage": pair.passage.text, "group_id": pair.group_id}
    texts |= {f"negatives[{n}]": negative.text for n, negative in enumerate(pair.negatives)}
    for name, text in texts.items():
        if not text.strip():
            return Rejected(where=pair.where, reason=f"empty {name.partition('[')[0]}", value=name)
        if "\0" in text:
            return Rejected(where=pair.where, reason="NUL byte", value=f"{name}: {text[:80]}")
        if not text.isascii() and text.encode("utf-8", "ignore").decode() != text:
            return Rejected(where=pair.where, reason="half a surrogate pair", value=f"{name}: {text[:80]!a}")
    if pair.language not in known_languages():
        return Rejected(where=pair.where, reason="unknown language code", value=pair.language)
    return pair


def _reject(record: Rejected, file: TextIO, counts: Counter) -> None:
    file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
    counts[record.reason] += 1


def _id_hash(pair: Pair, passage: Passage) -> int:
    return _hash("id", pair.source, pair.language, passage.passage_id) if passage.passage_id else 0


def _hash(*parts: str) -> int:
    data = "\x00".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") or 1
