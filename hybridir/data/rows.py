"""Rows of JSONL (also gzipped) and Parquet files, whatever their fields mean: in parts, and one at a time."""

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
"""Bytes of a JSONL file that one task reads."""

Row = dict[str, Any]


class BadRow(Exception):
    """A row that cannot be used: the reason, a short fixed phrase, and the offending value."""

    def __init__(self, reason: str, value: str) -> None:
        super().__init__(reason, value)
        self.reason, self.value = reason, value


@dataclass(frozen=True)
class Fields:
    """How rows of one format are read.

    Attributes:
        pairs_of: (row, language of the file) -> its pairs; raises `BadRow`.
        names: the fields that it reads, besides those that begin with `prefix`.
    """

    pairs_of: Callable[[Row, str | None], Iterable[Pair]]
    names: frozenset[str]
    prefix: str = "\0"

    def reads(self, name: str) -> bool:
        return name in self.names or name.startswith(self.prefix)


def shards(source: Source, fields: Fields) -> list[Shard]:
    """The parts of the JSONL and Parquet files of a source; a note names the files of a folder that are not read."""
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
    """The text of a line; `BadRow` where it is none."""
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
    """The object in a line; `BadRow` where it is none."""
    text = decode(line)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow("broken JSON", f"{error}: {text[:80]}") from None
    if not isinstance(row, dict):
        raise BadRow("wrong type", f"an object was expected: {text[:80]}")
    return row


def text_of(row: Row, field: str) -> str:
    """A text that has to be there."""
    value = row.get(field)
    if value is None:
        raise BadRow("missing field", field)
    if not isinstance(value, str):
        raise BadRow("wrong type", f"{field}: {value!r:.80}")
    return value


def id_of(row: Row, field: str, default: str | None = None) -> str:
    """An id or short text, which may be a whole number; `default` where there is none."""
    value = row.get(field)
    if value is None and default is not None:
        return default
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(row, field)


def list_of(row: Row, field: str) -> list[Any]:
    """A list; empty where there is none."""
    value = row.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise BadRow("wrong type", f"{field}: {value!r:.80}")
    return value


def language_of(row: Row, language: str | None) -> str:
    """The language of a row: its own, else that of its file."""
    return id_of(row, "language", language)


def document(row: Any, id_field: str, language: str) -> Passage:
    """The passage in an object with an id, a `text` and perhaps a `title`, which is put before the text."""
    if not isinstance(row, dict):
        raise BadRow("wrong type", f"a passage is {row!r:.80}")
    title = id_of(row, "title", "")
    text = text_of(row, "text")
    return Passage(passage_id=id_of(row, id_field), language=language, text=f"{title} {text}" if title else text)


def records(
    rows: Iterable[Callable[[], Row]], file: str, language: str | None, fields: Fields
) -> Iterator[Pair | Rejected]:
    """The pairs of rows, each given as a function that returns it or raises `BadRow`; last, the fields not read."""
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
    """(group id, passage group id) of each positive of a query: several are one passage group, so that no batch holds
    two of them."""
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
    """The rows of a group, with None in the columns that are not read."""
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
