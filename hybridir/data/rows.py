"""Reads rows of JSONL, CSV, TSV (also gzipped) and Parquet files, for all formats with one or more pairs in a row."""

import json
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hybridir.data import delimited, parquet
from hybridir.data.config import Source
from hybridir.data.languages import code_of
from hybridir.data.records import LICENSED, SKIPPED, UNREAD, BadRow, Pair, Passage, Rejected, Row, Shard
from hybridir.data.storage import File, decode, find_files, open_path, plain, read_lines
from hybridir.data.texts import as_read
from hybridir.runtime.secrets import without_secrets

SHARD_BYTES = 32_000_000
"""Bytes of a JSONL file, or of row groups of a Parquet file, in one shard. A larger row group is a shard."""
_OTHERS = (".jsonl", ".jsonl.gz", ".parquet")
_CSV, _TSV = (".csv", ".csv.gz"), (".tsv", ".tsv.gz")
_ENDINGS = {"csv": _CSV, "tsv": _TSV, "sentence-transformers": _OTHERS + _CSV + _TSV}
"""The files that are read for a format; `_OTHERS` for all others. A file named `.json` is read if it is the path."""
_LOOKED_AT = 1000
"""Rows after which a column that none of them has is an error."""
_USUAL = {
    "query": ("question", "anchor"),
    "passage": ("answer", "positive", "text"),
    "language": ("lang", "locale"),
    "group_id": ("id", "question_id", "query_id", "qid"),
}
"""Other names that columns often have, by field."""
MOST_IN_LIST = 10_000
"""Items of the longest list in a row."""


@dataclass(frozen=True)
class Fields:
    """How the rows of a format become pairs.

    Attributes:
        pairs_of: (row, language of the file or None) -> the pairs in the row; raises `BadRow`, or yields one for a part
            of the row, so that its other pairs stay.
        names: the fields that `pairs_of` reads. It also reads all fields that begin with `prefix`.
        required: the fields without which there is no pair, besides `language`.
        columns: field -> its column in the data, where that has another name.
    """

    pairs_of: Callable[[Row, str | None], Iterable[Pair | BadRow]]
    names: frozenset[str]
    required: tuple[str, ...]
    prefix: str = "\0"
    columns: tuple[tuple[str, str], ...] = ()

    def of_columns(self, columns: Mapping[str, str] | None) -> "Fields":
        """The same fields in data with other names: field -> column."""
        return replace(self, columns=tuple((columns or {}).items()))

    def has(self, field: str) -> bool:
        return field in self.names or field.startswith(self.prefix)

    def reads(self, column: str) -> bool:
        return self._field(column) is not None

    def named(self, row: Row) -> Row:
        """The row with the names of fields instead of columns."""
        if not self.columns:
            return row
        return {field: value for column, value in row.items() if (field := self._field(column)) is not None}

    def _field(self, column: str) -> str | None:
        """The field that a column holds; None if it is not read, as when its field is in another column."""
        for field, other in self.columns:
            if other == column:
                return field
        return column if self.has(column) and column not in dict(self.columns) else None

    def check(self, found: Collection[str], language: str | None, file: str) -> None:
        """`ValueError` with the columns expected and found, if no row of `file` has a column that is required."""
        needed = (*self.required, *(() if language else ("language",)))
        columns = {field: dict(self.columns).get(field, field) for field in needed}
        if missing := [column for column in columns.values() if column not in found]:
            optional = ", ".join(sorted(self.names - set(columns)))
            raise ValueError(
                f"{file} has no column {', '.join(missing)}. Expected: {', '.join(columns.values())}; optional: "
                f"{optional}. Found: {', '.join(sorted(found)):.1000}. Say which column is which, as in --data.columns "
                f"'{self._guess(found)}', or give the language of all rows as data.language"
            )

    def _guess(self, found: Collection[str]) -> str:
        """The columns that `data.columns` probably has to name; an example if none has a usual name."""
        missing = [field for field in _USUAL if self.has(field) and field not in found]
        guessed = {field: column for field in missing for column in _USUAL[field][::-1] if column in found}
        right = {field: column for field, column in self.columns if column in found}
        shown = guessed | right or {"query": "question", "language": "lang"}
        return f"{{{', '.join(f'{field}: {column}' for field, column in shown.items())}}}"


def shards(source: Source, fields: Fields, names: str = "*") -> list[Shard]:
    """The shards of the files of a source in its format; the other files of a folder are reported as notes.

    `names` is the pattern of the files that are read of a folder.
    """
    found, fields = [], fields.of_columns(source.columns)
    endings = _ENDINGS.get(source.format, _OTHERS)
    files = find_files(source, (*endings, ".json") if plain(source.path).endswith(".json") else endings, names)
    taken = {file.path for file in files}
    skipped = [file.name for file in find_files(source, ("",)) if file.path not in taken]
    if skipped:
        notes = [Rejected(file=name, reason=SKIPPED, value=name) for name in skipped]
        found.append(Shard(partial(iter, notes), "", f"skipped {skipped}"))
    for file in files:
        language = file.language or source.language
        if plain(file.path).endswith(".parquet"):
            parts = _row_groups(file)
        elif plain(file.path).endswith((".gz", *_CSV, *_TSV)) or not file.size:
            parts = [(0, -1)]
        else:
            parts = [(a, min(a + SHARD_BYTES, file.size)) for a in range(0, file.size, SHARD_BYTES)]
        for part in parts:
            read = partial(_read, file.path, file.name, part, language, fields)
            found.append(Shard(read, file.name, f"{file.identity} {part}", file.size // len(parts)))
    return found


def parse_json(line: bytes | None) -> Row:
    """The JSON object in a line; `BadRow` if there is none."""
    text = decode(line)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow("broken JSON", f"{error}: {text[:80]}") from None
    if not isinstance(row, dict):
        raise BadRow("wrong type", f"expected an object; found {text[:80]}")
    return row


def text_of(row: Row, field: str) -> str:
    """A required string."""
    value = row.get(field)
    if value is None:
        raise BadRow(
            "missing field", f"{field}; the row has {', '.join(k for k, v in row.items() if v is not None):.200}"
        )
    if not isinstance(value, str):
        raise BadRow("wrong type", f"{field} must be a string; found {value!r:.80}")
    return value


def id_of(row: Row, field: str, default: str | None = None) -> str:
    """An id or short text, which can also be a whole number; `default` if it is missing."""
    value = row.get(field)
    if value is None and default is not None:
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(row, field)


def list_of(row: Row, field: str) -> list[Any]:
    """A list, or the JSON of one in a cell of CSV; empty if it is missing."""
    value = row.get(field)
    if value is None:
        return []
    if isinstance(value, str) and value.startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise BadRow("broken JSON", f"{field}: {error}: {value[:80]}") from None
    if not isinstance(value, list):
        raise BadRow("wrong type", f"{field} must be a list; found {value!r:.80}")
    if len(value) > MOST_IN_LIST:
        raise BadRow("over-long list", f"{field} has {len(value)} items, at most {MOST_IN_LIST}")
    return value


def scores_of(row: Row, n_negatives: int) -> tuple[float, ...]:
    """The numbers in `negative_scores`, one for each hard negative; none if the field is missing."""
    scores = list_of(row, "negative_scores")
    for one in scores:
        if isinstance(one, bool) or not isinstance(one, int | float) or not math.isfinite(one):
            raise BadRow("wrong type", f"negative_scores must be a list of numbers; found {one!r:.80}")
    if scores and len(scores) != n_negatives:
        raise BadRow("wrong number of scores", f"{len(scores)} negative_scores for {n_negatives} negatives")
    return tuple(map(float, scores))


def language_of(row: Row, language: str | None) -> str:
    """The language code of a row: its field `language`, else the language of the file."""
    return code_of(id_of(row, "language", language))


def document(row: Any, id_field: str, language: str) -> Passage:
    """The passage in an object with an id, a `text` and an optional `title`, which is put before the text."""
    if not isinstance(row, dict):
        raise BadRow("wrong type", f"a passage must be an object; found {row!r:.80}")
    title = id_of(row, "title", "")
    text = text_of(row, "text")
    return Passage(passage_id=id_of(row, id_field), language=language, text=f"{title} {text}" if title else text)


def records(
    rows: Iterable[tuple[int, Callable[[], Row]]], file: str, language: str | None, fields: Fields
) -> Iterator[Pair | Rejected]:
    """The pairs and rejected rows in `rows`, and last a note for every licence, and every field that is not read.

    Each row is given as its line and a function that returns the row or raises `BadRow`. `ValueError` if none has a
    column that is required.
    """
    names, licences = set[str](), set[str]()
    looked_at = n_pairs = 0
    for line, get in rows:
        try:
            row = get()
            if len(names) < _LOOKED_AT:
                names.update(row)
            looked_at += 1
            if looked_at == _LOOKED_AT and not n_pairs:
                fields.check(names, language, file)
            row = fields.named(row)
            if row.get("license"):
                licences.add(id_of(row, "license"))
            for one in fields.pairs_of(row, language):
                n_pairs += isinstance(one, Pair)
                yield one.at(file, line)
        except BadRow as bad:
            yield bad.at(file, line)
    if looked_at and not n_pairs:
        fields.check(names, language, file)
    yield from (Rejected(file=file, reason=LICENSED, value=licence) for licence in sorted(licences))
    yield from (Rejected(file=file, reason=UNREAD, value=n) for n in sorted(names) if not fields.reads(n))


def positives(query_id: str, ids: Sequence[str]) -> list[tuple[str, str]]:
    """(group id, passage group id) for each positive of a query.

    Several positives are groups of one passage group, so that no batch has two of them. The positive with the smallest
    id is in the group of the query itself: so translations of a query share a group, however many positives each has.
    """
    if len(ids) == 1:
        return [(query_id, "")]
    first = min(ids)
    return [(query_id if one == first else f"{query_id}#{one}", f"query {query_id}") for one in ids]


def without(passages: Iterable[Passage], positives: Iterable[Passage]) -> tuple[Passage, ...]:
    """The passages that are none of `positives`, by id or by text."""
    positives = list(positives)
    ids, texts = {one.passage_id for one in positives}, {as_read(one.text) for one in positives}
    return tuple(one for one in passages if one.passage_id not in ids and as_read(one.text) not in texts)


def _read(
    path: str, name: str, part: tuple[int, int], language: str | None, fields: Fields
) -> Iterator[Pair | Rejected]:
    if plain(path).endswith(".parquet"):
        rows: Iterable[tuple[int, Callable[[], Row]]] = enumerate(_parquet_rows(path, part, fields), start=1)
    elif plain(path).endswith(_CSV + _TSV):
        rows = delimited.rows(path, name)
    else:
        lines = enumerate(read_lines(path, *part), start=1)
        rows = ((number, partial(parse_json, line)) for number, (_, line) in lines)
    return records(rows, name, language, fields)


def _parquet_rows(path: str, groups: tuple[int, int], fields: Fields) -> Iterator[Callable[[], Row]]:
    """The rows of the row groups from `groups[0]` up to `groups[1]`.

    Columns that are not read are None in them, so that they can be reported.
    """
    system, inner = open_path(path)
    try:
        with system.open_input_file(inner) as opened:
            names = pq.ParquetFile(opened).schema_arrow.names
            unread = dict.fromkeys(name for name in names if not fields.reads(name))
            read = [name for name in names if fields.reads(name)]
            for batch in parquet.batches(opened, without_secrets(plain(path)), read, range(*groups)):
                try:
                    rows = batch.to_pylist()
                except UnicodeDecodeError:
                    yield from (partial(_parquet_row, batch, n) for n in range(batch.num_rows))
                else:
                    yield from (partial(dict, row, **unread) for row in rows)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{without_secrets(path)} cannot be read: {without_secrets(str(error))}") from None


def _parquet_row(batch: pa.RecordBatch, n: int) -> Row:
    try:
        return batch.slice(n, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        raise BadRow("invalid UTF-8", ascii(error.object[max(0, error.start - 40) : error.start + 40])) from None


def _row_groups(file: File) -> list[tuple[int, int]]:
    """The shards of a Parquet file: the first row group of each, and the one behind its last."""
    system, inner = open_path(file.path)
    try:
        with system.open_input_file(inner) as opened:
            metadata = pq.ParquetFile(opened).metadata
        starts, size = [0], 0
        for group in range(metadata.num_row_groups):
            size += metadata.row_group(group).total_byte_size
            if size > SHARD_BYTES and group > starts[-1]:
                starts.append(group)
                size = metadata.row_group(group).total_byte_size
        return list(pairwise([*starts, metadata.num_row_groups]))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file.name} is not a whole Parquet file: {without_secrets(str(error))}") from None
