"""Reads rows of JSONL (also gzipped) and Parquet files, for all formats that have one or more pairs in a row."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from hybridir.data import storage
from hybridir.data.config import Source
from hybridir.data.records import SKIPPED, UNREAD, Pair, Passage, Rejected, Shard
from hybridir.data.storage import File, find_files, open_path, plain, read_lines
from hybridir.runtime.secrets import without_secrets

SHARD_BYTES = 32_000_000
"""Bytes of a JSONL file in one shard."""

Row = dict[str, Any]


class BadRow(Exception):
    """A row that cannot be used: the reason (a short fixed phrase) and the value that is wrong."""

    def __init__(self, reason: str, value: str) -> None:
        super().__init__(reason, value)
        self.reason, self.value = reason, value


@dataclass(frozen=True)
class Fields:
    """How the rows of a format become pairs.

    Attributes:
        pairs_of: (row, language of the file or None) -> the pairs in the row; raises `BadRow`.
        names: the fields that `pairs_of` reads. It also reads all fields that begin with `prefix`.
    """

    pairs_of: Callable[[Row, str | None], Iterable[Pair]]
    names: frozenset[str]
    prefix: str = "\0"

    def reads(self, name: str) -> bool:
        return name in self.names or name.startswith(self.prefix)


def shards(source: Source, fields: Fields) -> list[Shard]:
    """The shards of the JSONL and Parquet files of a source; the other files of a folder are reported as notes."""
    found = []
    files = find_files(source, (".jsonl", ".jsonl.gz", ".parquet"))
    taken = {file.path for file in files}
    skipped = [file.name for file in find_files(source, ("",)) if file.path not in taken]
    if skipped:
        notes = [Rejected(file=name, reason=SKIPPED, value=name) for name in skipped]
        found.append(Shard(partial(iter, notes), "", f"skipped {skipped}"))
    for file in files:
        language = file.language or source.language
        if plain(file.path).endswith(".parquet"):
            parts: list[tuple[Any, ...]] = [(group, 0) for group in range(_row_groups(file))]
        elif plain(file.path).endswith(".gz") or not file.size:
            parts = [(0, -1)]
        else:
            parts = [(a, min(a + SHARD_BYTES, file.size)) for a in range(0, file.size, SHARD_BYTES)]
        for part in parts:
            read = partial(_read, file.path, file.name, part, language, fields)
            found.append(Shard(read, file.name, f"{file.identity} {part}", file.size // len(parts)))
    return found


def decode(line: bytes | None) -> str:
    """The text of a line; `BadRow` if it is over-long (None), empty or not UTF-8."""
    if line is None:
        raise BadRow("over-long line", f"more than {storage.MAX_LINE} bytes")
    if b"\0" in line:
        raise BadRow("NUL byte", ascii(line[:80]))
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadRow("invalid UTF-8", ascii(line[max(0, error.start - 40) : error.start + 40])) from None
    if not text.strip():
        raise BadRow("empty line", "")
    return text


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
        raise BadRow("missing field", field)
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
    """A list; empty if it is missing."""
    value = row.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow("wrong type", f"{field} must be a list; found {value!r:.80}")
    return value


def language_of(row: Row, language: str | None) -> str:
    """The language of a row: its field `language`, else the language of the file."""
    return id_of(row, "language", language)


def document(row: Any, id_field: str, language: str) -> Passage:
    """The passage in an object with an id, a `text` and an optional `title`, which is put before the text."""
    if not isinstance(row, dict):
        raise BadRow("wrong type", f"a passage must be an object; found {row!r:.80}")
    title = id_of(row, "title", "")
    text = text_of(row, "text")
    return Passage(passage_id=id_of(row, id_field), language=language, text=f"{title} {text}" if title else text)


def records(
    rows: Iterable[Callable[[], Row]], file: str, language: str | None, fields: Fields
) -> Iterator[Pair | Rejected]:
    """The pairs and rejected rows in `rows`, and last a note for every field that the format does not read.

    Each row is given as a function that returns the row or raises `BadRow`.
    """
    names: set[str] = set()
    for line, get in enumerate(rows, start=1):
        try:
            row = get()
            names.update(row)
            for pair in fields.pairs_of(row, language):
                yield replace(pair, file=file, line=line)
        except BadRow as bad:
            yield Rejected(file=file, line=line, reason=bad.reason, value=bad.value)
    yield from (Rejected(file=file, reason=UNREAD, value=n) for n in sorted(names) if not fields.reads(n))


def positives(query_id: str, ids: Sequence[str]) -> list[tuple[str, str]]:
    """(group id, passage group id) for each positive of a query.

    Several positives are groups of one passage group, so that no batch has two of them.
    """
    if len(ids) == 1:
        return [(query_id, "")]
    return [(f"{query_id}#{one}", f"query {query_id}") for one in ids]


def _read(
    path: str, name: str, part: tuple[int, int], language: str | None, fields: Fields
) -> Iterator[Pair | Rejected]:
    rows = _parquet_rows(path, part[0], fields) if plain(path).endswith(".parquet") else _json_rows(path, *part)
    return records(rows, name, language, fields)


def _json_rows(path: str, start: int, end: int) -> Iterator[Callable[[], Row]]:
    for _, line in read_lines(path, start, end):
        yield partial(parse_json, line)


def _parquet_rows(path: str, group: int, fields: Fields) -> Iterator[Callable[[], Row]]:
    """The rows of a row group. Columns that are not read are None in them, so that they can be reported."""
    system, inner = open_path(path)
    try:
        with system.open_input_file(inner) as opened:
            file = pq.ParquetFile(opened)
            names = file.schema_arrow.names
            read = [name for name in names if fields.reads(name)]
            unread = dict.fromkeys(name for name in names if name not in read)
            for batch in file.iter_batches(batch_size=1024, row_groups=[group], columns=read):
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


def _row_groups(file: File) -> int:
    system, inner = open_path(file.path)
    try:
        with system.open_input_file(inner) as opened:
            return pq.ParquetFile(opened).num_row_groups
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file.name} is not a whole Parquet file: {without_secrets(str(error))}") from None
