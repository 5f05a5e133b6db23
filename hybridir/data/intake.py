"""Checks every record of a shard (accepted, or rejected for one reason), hashes it, and packs it into Arrow batches.

The tasks that read shards do this work; `build` makes a corpus of their batches, with 8 bytes per key of a record.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate, compress, zip_longest
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from hybridir.data.bounds import EACH, Growth
from hybridir.data.config import Source
from hybridir.data.languages import is_known
from hybridir.data.records import LEFT_OUT, NOTES, OWN, UNKNOWN, Pair, Part, Passage, Rejected, Shard
from hybridir.data.texts import MAX_NAME, MAX_TEXT, as_read, fault, is_blank, same_as
from hybridir.runtime.progress import watch

ROWS, BYTES = 4096, 16_000_000
"""A batch has at most `ROWS` rows, and ends when its records have more than `BYTES` characters (as `_size` counts)."""

_PASSAGE = pa.struct([("passage_id", pa.string()), ("text", pa.string())])
_NEGATIVE = pa.struct([*_PASSAGE, ("language", pa.string())])
CONTENT = pa.schema(
    [(name, pa.string()) for name in ("source", "group_id", "language", "query")]
    + [("passage", _PASSAGE), ("negatives", pa.list_(_NEGATIVE)), ("domain", pa.string())]
    + [("negative_scores", pa.list_(pa.float64()))]
    + [("file", pa.string()), ("line", pa.int64())]
)
"""Columns of a pair that a corpus keeps. The language of a negative is null if it is that of its pair."""
KEYS = ("group", "question", "passage_id", "passage_text", "passage_group", "content")
"""64-bit hashes of a pair; 0 if there is nothing to hash."""
BATCH = pa.schema(
    [*CONTENT, ("split", pa.string())]
    + [("reason", pa.string()), ("value", pa.string()), ("shard", pa.int32())]
    + [(name, pa.uint64()) for name in KEYS]
    + [(name, pa.list_(pa.uint64())) for name in ("negative_id", "negative_text")]
)
MOST_VALUE = 300
"""Characters that are kept of the value for which a row is rejected."""
_NAMES = ("group_id", "passage_id", "passage_group_id", "source", "domain", "language")
_NO_PAIR = Pair(group_id="", language="", query="", passage=Passage(passage_id="", language="", text=""))


def read_here(shards: Sequence[Shard]) -> Iterator[pa.RecordBatch]:
    """Reads all shards in order in this process; yields their batches."""
    for number, shard in enumerate(shards):
        yield from to_batches(shard.read(), number)


def take(shard: Shard, source: Source, split: Part | Literal[""]) -> Iterator[Pair | Rejected]:
    """Applies the options of `source` (languages, name, max_negatives) and `split` to the records of a shard.

    With a `split`, the pairs become a source of their own, so that they share no group with other pairs. `ValueError`
    if the shard grows too much.
    """
    growth = Growth(shard.file, shard.size)
    for record in shard.read():
        if isinstance(record, Pair):
            left_out = source.languages and record.language not in source.languages
            if left_out and is_known(record.language):  # `check` rejects unknown codes
                record = Rejected(file=record.file, line=record.line, reason=LEFT_OUT, value=record.language)
            elif source.name or split or source.max_negatives is not None:
                record = replace(
                    record,
                    source=f"{source.name} {record.source}".strip() if split else record.source or source.name,
                    split=split or record.split,
                    negatives=record.negatives[: source.max_negatives],
                    negative_scores=record.negative_scores[: source.max_negatives],
                )
        growth.add(_size(record))
        yield record


def to_batches(records: Iterable[Pair | Rejected], shard: int = 0) -> Iterator[pa.RecordBatch]:
    """Checks records and packs them into batches with the schema `BATCH`; `reason` is null for accepted records."""
    found: list[Pair | Rejected] = []
    size = 0
    for checked in _checked(records):
        if isinstance(checked, Rejected) and len(checked.value) > MOST_VALUE:
            checked = replace(checked, value=checked.value[:MOST_VALUE] + "...")
        found.append(checked)
        size += _size(checked)
        if len(found) == ROWS or size > BYTES:
            yield _batch(found, shard)
            found, size = [], 0
    if found:
        yield _batch(found, shard)


def number_lines(batches: Iterable[pa.RecordBatch], shards: Sequence[Shard]) -> Iterator[pa.RecordBatch]:
    """The same batches, with line numbers counted from the beginning of each file instead of each shard."""
    current, before, last = -1, 0, 0
    for batch in batches:
        number = batch["shard"][0].as_py()
        if number != current:
            follows = current >= 0 and shards[number].file == shards[current].file
            last = last if follows else 0
            current, before = number, last
        line = batch["line"]
        absolute = pc.if_else(pc.greater(line, 0), pc.add(line, before), line)
        last = max(last, pc.max(absolute).as_py())
        yield batch.set_column(batch.schema.get_field_index("line"), BATCH.field("line"), absolute)


def _checked(records: Iterable[Pair | Rejected]) -> Iterator[Pair | Rejected]:
    """Each record as `check` leaves it, with a note for each hard negative that it leaves out."""
    for record in records:
        checked = check(record) if isinstance(record, Pair) else record
        yield checked
        if isinstance(checked, Pair) and isinstance(record, Pair):
            note = Rejected(file=record.file, line=record.line, reason=OWN, value=record.file)
            yield from [note] * (len(record.negatives) - len(checked.negatives))


def check(pair: Pair) -> Pair | Rejected:
    """The pair without hard negatives that are its positive, or a `Rejected` with the first reason against it."""
    own, negatives = pair.passage, pair.negatives
    texts = [("query", pair.query), ("passage", own.text)]
    texts += [(f"negatives[{n}]", negative.text) for n, negative in enumerate(negatives)]
    names = [pair.group_id, own.passage_id, pair.passage_group_id, pair.source, pair.domain, pair.language]
    names += [negative.passage_id for negative in negatives]
    named: Iterable[tuple[str, str]] = ()
    if fault("".join(names), MAX_NAME):  # seldom: one look at all of them takes less time
        named = zip_longest(_NAMES, names, fillvalue="passage_id of a negative")
    for some, most in ((texts, MAX_TEXT), (named, MAX_NAME)):
        for name, text in some:
            if found := fault(text, most):
                return _reject(pair, found[0], f"{name}: {found[1]}")
    for name, text in (*texts, ("group_id", pair.group_id)):
        if is_blank(text):
            return _reject(pair, f"empty {name.partition('[')[0]}", name)
    for language in (pair.language, *_other_languages(pair)):
        if not is_known(language):
            return _reject(pair, UNKNOWN, language)
    same = same_as(own.text, (negative.text for negative in negatives))
    differs = [
        not (is_same or (own.passage_id and negative.passage_id == own.passage_id))
        for negative, is_same in zip(negatives, same, strict=True)
    ]
    if all(differs):
        return pair
    scores = tuple(compress(pair.negative_scores, differs))
    return replace(pair, negatives=tuple(compress(negatives, differs)), negative_scores=scores)


def _size(record: Pair | Rejected) -> int:
    """Characters of all strings, and for each object what it takes besides."""
    if isinstance(record, Rejected):
        return len(record.value) + EACH
    names = len(record.group_id) + len(record.passage_group_id) + len(record.source) + len(record.domain)
    size = names + len(record.language) + len(record.query) + EACH
    for passage in (record.passage, *record.negatives):
        size += len(passage.text) + len(passage.passage_id) + EACH
    return size


def hash_of(*parts: str) -> int:
    """64-bit hash of the parts; never 0."""
    data = "\x00".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") or 1


def _batch(records: list[Pair | Rejected], shard: int) -> pa.RecordBatch:
    pairs = [record if isinstance(record, Pair) else _NO_PAIR for record in records]
    faults = [record if isinstance(record, Rejected) else None for record in records]
    negatives = [negative for pair in pairs for negative in pair.negatives]
    owners = [pair for pair in pairs for _ in pair.negatives]
    start = list(accumulate((len(pair.negatives) for pair in pairs), initial=0))

    def per_pair(values: pa.Array) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array(start, pa.int32()), values)

    columns: dict[str, Any] = {
        name: [getattr(pair, name) for pair in pairs]
        for name in ("source", "group_id", "language", "query", "split", "negative_scores")
    }
    columns["domain"] = [pair.domain or pair.topic for pair in pairs]
    columns |= {name: [getattr(record, name) for record in records] for name in ("file", "line")}
    columns |= {
        "passage": _passages([pair.passage for pair in pairs]),
        "negatives": per_pair(_negatives(owners, negatives)),
        "reason": [fault and fault.reason for fault in faults],
        "value": [fault and fault.value.encode("utf-8", "backslashreplace").decode() for fault in faults],
        "shard": [shard] * len(records),
        "group": [hash_of(pair.source, pair.group_id) for pair in pairs],
        "question": [hash_of(pair.query) for pair in pairs],
        "passage_id": [_id_hash(pair, pair.passage) for pair in pairs],
        "passage_text": [_text_hash(pair.passage) for pair in pairs],
        "passage_group": [hash_of(p.source, p.passage_group_id) if p.passage_group_id else 0 for p in pairs],
        "content": [_content_hash(pair) for pair in pairs],
        "negative_id": per_pair(pa.array(map(_id_hash, owners, negatives), pa.uint64())),
        "negative_text": per_pair(pa.array(map(_text_hash, negatives), pa.uint64())),
    }
    return pa.RecordBatch.from_arrays([pa.array(columns[f.name], f.type) for f in BATCH], schema=BATCH)


def _passages(passages: list[Passage]) -> pa.Array:
    columns = ([passage.passage_id for passage in passages], [passage.text for passage in passages])
    return pa.StructArray.from_arrays([pa.array(column, pa.string()) for column in columns], fields=list(_PASSAGE))


def _negatives(pairs: list[Pair], negatives: list[Passage]) -> pa.Array:
    own = [None if n.language == pair.language else n.language for pair, n in zip(pairs, negatives, strict=True)]
    columns = [*_passages(negatives).flatten(), pa.array(own, pa.string())]
    return pa.StructArray.from_arrays(columns, fields=list(_NEGATIVE))


def _other_languages(pair: Pair) -> list[str]:
    return [negative.language for negative in pair.negatives if negative.language != pair.language]


def _content_hash(pair: Pair) -> int:
    parts = [pair.source, pair.group_id, pair.language, pair.query, pair.passage.text]
    parts += [negative.text for negative in pair.negatives]
    parts += ["domain", pair.domain] if pair.domain else []
    parts += ["languages", *(one.language for one in pair.negatives)] if _other_languages(pair) else []
    return hash_of(*parts, *(["scores", *map(repr, pair.negative_scores)] if pair.negative_scores else []))


def _text_hash(passage: Passage) -> int:
    return hash_of("text", passage.language, as_read(passage.text))


def _id_hash(pair: Pair, passage: Passage) -> int:
    return hash_of("id", pair.source, passage.language, passage.passage_id) if passage.passage_id else 0


def _reject(pair: Pair, reason: str, value: str) -> Rejected:
    return Rejected(file=pair.file, line=pair.line, reason=reason, value=value)


def watch_reading(batches: Iterable[pa.RecordBatch], shards: Sequence[Shard]) -> Iterator[pa.RecordBatch]:
    """Passes the batches on and shows how much of the shards has been read."""
    ends = list(accumulate((shard.size for shard in shards), initial=0))
    return watch("read", ((b, _count_rows(b), ends[b["shard"][0].as_py()] / max(1, ends[-1])) for b in batches))


def _count_rows(batch: pa.RecordBatch) -> int:
    """Number of rows that are pairs or broken lines; notes are not counted."""
    return batch.num_rows - pc.sum(pc.is_in(batch["reason"], pa.array(NOTES))).as_py()
