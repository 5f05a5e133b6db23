"""Builds a corpus: streams checked pairs into one Arrow file, and makes an index from their hashes.

Reading needs the same memory for any number of pairs; making the index needs about 100 bytes a pair. Groups are
numbered in the order of their hashes, so neither the order nor the format of the files changes the batches. Where a
question comes again in its group and language with another passage, the further answers are set apart: the second ones
of all languages are a group of their own, and so on. Groups that were one, or whose passages share an id, a text in one
language or a `passage_group_id`, are joined into one *passage group* (connected components). Members of a passage group
are never negatives for each other.

Shapes: G groups, L languages, N pairs (rows), H hard negatives.
"""

import contextlib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridir.data.corpus import Corpus
from hybridir.data.intake import BYTES, CONTENT, KEYS, ROWS
from hybridir.data.languages import remedy
from hybridir.data.records import NOTES, PARTS, UNKNOWN, place
from hybridir.runtime.durable import made_once

SHOWN = 3
"""Rejected rows kept per reason, as examples for messages."""
MOST_SOURCES = 2**15 - 1
MOST_NOTES = 1000
"""Values of one kind of note that are counted apart."""

_SPLITS = ("", *PARTS)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_PIECE = 1_000_000


def build_corpus(
    batches: Iterable[pa.RecordBatch], directory: str | Path, validation_share: float = 0.0, test_share: float = 0.0
) -> Corpus:
    """Writes a corpus to the folder `directory`, unless it is there, and opens it; `batches` have the schema `BATCH`.

    Each row is accepted, or written with file, line and reason to `rejected.jsonl` in that folder. If the format
    assigns no split, a passage group is used for validation with probability `validation_share`, and kept from the run
    as its test part with probability `test_share`.

    Raises:
        ValueError: no row is accepted, or there are more than `MOST_SOURCES` sources.
    """
    with made_once(Path(directory)) as work:
        if work:
            with open(work / "rejected.jsonl", "w", encoding="utf-8") as rejected:
                rows = _Rows(rejected)
                rows.write(batches, work)
                description = _write_index(rows, work, validation_share, test_share)
            (work / "corpus.json").write_text(json.dumps(description, indent=1), encoding="utf-8")
            for file in work.glob("*.u*"):
                file.unlink()
    return Corpus.open(directory)


def describe_rejected(
    counts: Mapping[str, int], first: Mapping[str, list[dict[str, Any]]], notes: Mapping[str, Mapping[str, int]]
) -> str:
    """For messages: the number of rejected rows by reason, and the first of them, each on a line of its own.

    All unknown language codes are listed, not only the first.
    """
    lines = []
    for reason, count in sorted(counts.items(), key=lambda item: -item[1]):
        lines.append(f"\n  {count} x {reason}, the first:")
        lines += [f"\n    {place(row['file'], row['line'])}: {row['value'][:200]}" for row in first[reason]]
        if reason == UNKNOWN:
            lines += [f"\n    {n} x {tag[:40]}: {remedy(tag)}" for tag, n in notes[UNKNOWN].items()]
    return "".join(lines)


@dataclass
class _Rows:
    """Writes accepted rows, their keys (hashes) and rejected rows to files, and counts them."""

    rejected_file: TextIO
    languages: dict[str, int] = field(default_factory=dict)
    negative_languages: dict[str, int] = field(default_factory=lambda: {"": 0})  # "" is that of the pair
    sources: dict[str, int] = field(default_factory=dict)
    chunk_start: list[int] = field(default_factory=lambda: [0])
    rejected: Counter = field(default_factory=Counter)
    first_rejected: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: dict[str, Counter] = field(default_factory=dict)
    domains: dict[str, int] = field(default_factory=dict)
    n_read: int = 0

    def write(self, batches: Iterable[pa.RecordBatch], directory: Path) -> None:
        """Streams the batches to files in `directory`: the texts to `pairs.arrow`, each key to a file of its own."""
        waiting: list[pa.RecordBatch] = []
        rows = size = 0  # counted on: a batch may have a single row, as where a source is a hundred thousand files
        with contextlib.ExitStack() as stack:
            names = [f"{key}.u8" for key in (*KEYS, "negative_id", "negative_text")]
            names += ["negatives.u4", "negative_language.u2", "language.u2", "source.u2", "domain.u4", "split.u1"]
            files = {name: stack.enter_context(open(directory / name, "wb")) for name in names}
            file = stack.enter_context(pa.OSFile(str(directory / "pairs.arrow"), "wb"))
            writer = stack.enter_context(pa.ipc.new_file(file, CONTENT))
            for batch in batches:
                accepted = pc.is_null(batch["reason"])
                if not pc.all(accepted).as_py():
                    self._reject(batch.filter(pc.invert(accepted)))
                    batch = batch.filter(accepted)
                if batch.num_rows:
                    self.n_read += batch.num_rows
                    self._write_keys(batch, files)
                    waiting.append(batch.select(CONTENT.names))
                    rows, size = rows + batch.num_rows, size + waiting[-1].nbytes
                if rows >= ROWS or size >= BYTES:
                    self._write_chunk(waiting, writer)
                    rows = size = 0
            if waiting:
                self._write_chunk(waiting, writer)
        if not self.chunk_start[-1]:
            why = describe_rejected(self.rejected, self.first_rejected, self.notes)
            about = {reason: found for reason, found in self.notes.items() if reason in NOTES}
            notes = "".join(f"\n  {reason}: {', '.join(found)}" for reason, found in about.items())
            raise ValueError(f"the data has no usable pair.{why or ' The source is empty.'}{notes}")

    def reject(self, row: dict[str, Any]) -> None:
        """Writes and counts a rejected row: `file`, `line` (0 if there are no lines), `reason`, `value`."""
        row["line"] = row["line"] or None
        self.rejected_file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self.rejected[row["reason"]] += 1
        examples = self.first_rejected.setdefault(row["reason"], [])
        if len(examples) < SHOWN:
            examples.append(row)
        if row["reason"] == UNKNOWN:
            self._note(row)

    def _note(self, row: dict[str, Any]) -> None:
        found = self.notes.setdefault(row["reason"], Counter())
        found[row["value"] if row["value"] in found or len(found) < MOST_NOTES else "others"] += 1

    def _reject(self, batch: pa.RecordBatch) -> None:
        for row in batch.select(["file", "line", "reason", "value"]).to_pylist():
            if row["reason"] in NOTES:
                self._note(row)
            else:
                self.n_read += 1
                self.reject(row)

    def _write_chunk(self, waiting: list[pa.RecordBatch], writer: pa.RecordBatchFileWriter) -> None:
        whole = pa.Table.from_batches(waiting).combine_chunks().to_batches()[0]
        writer.write_batch(whole)
        self.chunk_start.append(self.chunk_start[-1] + whole.num_rows)
        waiting.clear()

    def _write_keys(self, batch: pa.RecordBatch, files: Mapping[str, BinaryIO]) -> None:
        def write(name: str, values: np.ndarray) -> None:
            files[name].write(values.astype(name.rpartition(".")[2]).tobytes())

        for key in KEYS:
            write(f"{key}.u8", batch[key].to_numpy())
        for key in ("negative_id", "negative_text"):
            write(f"{key}.u8", batch[key].flatten().to_numpy())
        write("negatives.u4", pc.list_value_length(batch["negatives"]).to_numpy())
        own = pc.fill_null(batch["negatives"].flatten().field("language"), "")
        write("negative_language.u2", _number(own, self.negative_languages))
        write("language.u2", _number(batch["language"], self.languages))
        write("source.u2", _number(batch["source"], self.sources))
        if len(self.sources) > MOST_SOURCES:
            raise ValueError(f"the data names more than {MOST_SOURCES} sources: `source` must name data sets, not rows")
        write("domain.u4", _number(batch["domain"], self.domains))
        write("split.u1", np.array([_SPLITS.index(s) for s in batch["split"].to_pylist()]))


def _write_index(rows: _Rows, directory: Path, validation_share: float, test_share: float) -> dict[str, Any]:
    """Makes and writes the arrays of a `Corpus`; returns its other fields for `corpus.json`."""

    def read(name: str) -> np.ndarray:
        return np.fromfile(directory / name, dtype=name.rpartition(".")[2])

    languages, sources = sorted(rows.languages), sorted(rows.sources)
    language_N = _renumber(rows.languages, read("language.u2"))
    key_N, n_apart = _set_apart(read("group.u8"), language_N, read("question.u8"), read("passage_text.u8"))
    group_key, first_G, group_N = _number_groups(key_N)
    del key_N
    n_rows, n_groups = len(group_N), len(group_key)

    row_of = np.full((n_groups, len(languages)), -1, dtype=np.int32)
    row_of[group_N[::-1], language_N[::-1]] = np.arange(n_rows - 1, -1, -1)  # of repeated rows the first is kept
    first_N = row_of[group_N, language_N]
    kept = first_N == np.arange(n_rows)
    source_of = _renumber(rows.sources, read("source.u2"))[first_G].astype(np.int16)
    domain_of = _renumber(rows.domains, read("domain.u4"))[first_G].astype(np.uint32)
    ties = ("passage_id", "passage_text", "passage_group", *(["group"] if n_apart else []))
    passage_group = _components(n_groups, group_N, (read(f"{key}.u8") for key in ties))
    part_of = _parts(read("split.u1")[first_G], passage_group, group_key, validation_share, test_share)

    negative_start = np.zeros(n_rows + 1, dtype=np.int64)
    np.cumsum(read("negatives.u4"), out=negative_start[1:])
    negative_group = _groups_of_negatives(read, passage_group, group_N)

    arrays = {
        "row_of": row_of,
        "group_key": group_key,
        "source_of": source_of,
        "domain_of": domain_of,
        "part_of": part_of,
        "passage_group": passage_group,
        "negative_start": negative_start,
        "negative_group": negative_group,
        "negative_language": _languages_of_negatives(rows.negative_languages, languages)[read("negative_language.u2")],
        "chunk_start": np.array(rows.chunk_start, dtype=np.int64),
    }
    for name, values in arrays.items():
        np.save(directory / f"{name}.npy", values)

    question_N = read("question.u8")
    _reject_repeated(rows, directory, np.flatnonzero(~kept), question_N == question_N[first_N])
    del question_N
    content_N, count_N = read("content.u8"), read("negatives.u4")
    fingerprint = hashlib.sha256(_sorted(content_N[kept]))
    fingerprint.update(passage_group.data)
    fingerprint.update(part_of.data)
    of_negatives = np.repeat(content_N, count_N)  # hash of its pair, mixed with its own passage group
    of_negatives ^= np.minimum(negative_group, n_groups).astype(np.uint64) * _MIX
    of_negatives *= np.repeat(kept, count_N)
    fingerprint.update(_sorted(of_negatives[of_negatives != 0]))
    of_part = {name: _sorted(content_N[kept & (part_of[group_N] == n)]) for n, name in enumerate(PARTS)}
    per_domain = np.bincount(read("domain.u4")[kept], minlength=len(rows.domains)).tolist()
    n_pairs = int(kept.sum())
    assert rows.n_read == n_pairs + rows.rejected.total(), "every row is accepted, or rejected for one reason"
    return {
        "languages": languages,
        "sources": sources,
        "fingerprint": fingerprint.hexdigest(),
        "part_fingerprints": {name: hashlib.sha256(keys).hexdigest() for name, keys in of_part.items()},
        "n_pairs": n_pairs,
        "n_read": rows.n_read,
        "notes": rows.notes,
        "domains": dict(sorted(zip(rows.domains, per_domain, strict=True), key=lambda item: -item[1])),
        "rejected": dict(rows.rejected),
        "first_rejected": rows.first_rejected,
    }


def _sorted(keys: np.ndarray) -> memoryview:
    """Sorts the keys in place and returns their bytes."""
    keys.sort()
    return keys.data


def _number_groups(key_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(distinct keys in ascending order [G], first row of each [G], group number of every row [N], int32)."""
    order = np.argsort(key_N, kind="stable")
    ordered = key_N[order]
    new = np.ones(len(order), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    group_N = np.empty(len(order), dtype=np.int32)
    group_N[order] = np.cumsum(new, dtype=np.int32) - 1
    return ordered[new], order[new], group_N


def _set_apart(
    key_N: np.ndarray, language_N: np.ndarray, question_N: np.ndarray, text_N: np.ndarray
) -> tuple[np.ndarray, int]:
    """The keys of the groups, with further answers in groups of their own; and how many rows these are."""
    _, first, slot_N = _number_groups(key_N ^ (language_N.astype(np.uint64) * _MIX))  # by group and language
    first_N = first[slot_N]
    apart = np.flatnonzero((question_N == question_N[first_N]) & (text_N != text_N[first_N]))
    if len(apart):
        _, first, answer = _number_groups(text_N[apart] ^ key_N[apart])
        slot = slot_N[apart[first]]
        order = np.lexsort((first, slot))  # the answers of each slot, as they come
        _, start, which = np.unique(slot[order], return_index=True, return_inverse=True)
        nth = np.empty(len(order), dtype=np.uint64)
        nth[order] = np.arange(1, len(order) + 1) - start[which]
        key_N[apart] += nth[answer] * _MIX
    return key_N, len(apart)


def _reject_repeated(rows: _Rows, directory: Path, repeated: np.ndarray, same_question: np.ndarray) -> None:
    """Rejects rows whose group already has a row in the same language."""
    chunk_of = np.searchsorted(rows.chunk_start, repeated, side="right") - 1
    with pa.OSFile(str(directory / "pairs.arrow")) as file, pa.ipc.open_file(file) as reader:
        for number in np.unique(chunk_of):
            of_chunk = repeated[chunk_of == number]
            pairs = reader.get_batch(int(number)).take(pa.array(of_chunk - rows.chunk_start[number])).to_pylist()
            for row, pair in zip(of_chunk.tolist(), pairs, strict=True):
                reason = "duplicate" if same_question[row] else "another query of the group in this language"
                value = f"{pair['group_id']} in {pair['language']}: {pair['query'][:80]}"
                rows.reject({"file": pair["file"], "line": pair["line"], "reason": reason, "value": value})


def _number(names: pa.Array, numbers: dict[str, int]) -> np.ndarray:
    """The number of each name, in order of first appearance; adds new names to `numbers`."""
    coded = names.dictionary_encode()
    table = np.array([numbers.setdefault(name, len(numbers)) for name in coded.dictionary.to_pylist()])
    return table[coded.indices.to_numpy()]


def _renumber(names: dict[str, int], numbers: np.ndarray) -> np.ndarray:
    """Replaces numbers in order of appearance by positions in the alphabetical order of `names`."""
    place = {name: n for n, name in enumerate(sorted(names))}
    return np.array([place[name] for name in names], dtype=np.int32)[numbers]


def _languages_of_negatives(numbers: dict[str, int], languages: list[str]) -> np.ndarray:
    """`Corpus.negative_language` by number: languages without a pair come after those with one."""
    others = sorted({*numbers} - {*languages, ""})
    place = {"": -1} | {language: n for n, language in enumerate([*languages, *others])}
    return np.array([place[language] for language in numbers], dtype=np.int16)


def _parts(
    split_G: np.ndarray, passage_group: np.ndarray, group_key: np.ndarray, validation_share: float, test_share: float
) -> np.ndarray:
    """The part of each group, uint8 [G]: from its split, else by the hash of its passage group.

    A passage group has the lowest hash of its groups, so large ones are low; the test part is drawn by hashes that are
    mixed once more, from what validation leaves. A passage group with more than the share of all groups is always
    trained on.
    """
    hash_G = group_key[passage_group]
    size_G = np.bincount(passage_group, minlength=len(passage_group))[passage_group]
    by_share = np.full(len(split_G), PARTS.index("train"))
    if test_share:
        drawn = (hash_G * _MIX < test_share * 2.0**64) & (size_G <= max(1, test_share * len(split_G)))
        by_share[drawn] = PARTS.index("test")
    drawn = (hash_G < validation_share * 2.0**64) & (size_G <= max(1, validation_share * len(split_G)))
    by_share[drawn] = PARTS.index("validation")
    return np.where(split_G == 0, by_share, split_G.astype(np.int64) - 1).astype(np.uint8)


def _components(n_groups: int, group_N: np.ndarray, keys: Iterable[np.ndarray]) -> np.ndarray:
    """For each group, the smallest group that it is connected to by equal keys, int64 [G]; key 0 connects nothing."""
    starts, ends = [], []
    for key in keys:
        order = np.argsort(key, kind="stable")
        key = key[order]
        same = np.flatnonzero((key[1:] == key[:-1]) & (key[1:] != 0))
        start, end = group_N[order[same]], group_N[order[same + 1]]
        starts.append(start[start != end])
        ends.append(end[start != end])
    edges = (np.concatenate(starts), np.concatenate(ends))
    graph = coo_array((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(n_groups, n_groups))
    _, label = connected_components(graph, directed=False)
    _, first, inverse = np.unique(label, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def _groups_of_negatives(
    read: Callable[[str], np.ndarray], passage_group: np.ndarray, group_N: np.ndarray
) -> np.ndarray:
    """The passage group of each hard negative, int64 [H]: that of a positive with its id or text, else a new one."""
    ids, texts = read("negative_id.u8"), read("negative_text.u8")
    found = len(passage_group) + (np.where(ids == 0, texts, ids) >> np.uint64(2)).astype(np.int64)
    for wanted, name in ((texts, "text"), (ids, "id")) if len(ids) else ():
        known = read(f"passage_{name}.u8")
        order = np.argsort(known, kind="stable")
        known = known[order]
        for piece in range(0, len(wanted), _PIECE):
            some = wanted[piece : piece + _PIECE]
            place = np.minimum(np.searchsorted(known, some), len(known) - 1)
            hit = (known[place] == some) & (some != 0)
            found[piece : piece + _PIECE][hit] = passage_group[group_N[order[place[hit]]]]
    return found
