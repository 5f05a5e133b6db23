"""Rows of JSONL and Parquet files, whatever their fields mean: found, cut into parts, and read one at a time.

A path is local, or a URI that pyarrow reads (s3://, gs://, ...). JSONL may be gzipped. `{language}` in a path stands
for a language code, so that parallel files or folders are one source.
"""

import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from hybridir.records import SKIPPED, UNREAD, Pair, Passage, Rejected, Shard, Source, check_languages
from hybridir.secrets import without_secrets

MAX_LINE = 10_000_000
"""Bytes of a line; longer ones are rejected."""
SHARD_BYTES = 32_000_000
"""Bytes of a JSONL file that one task reads."""
PLACEHOLDER = "{language}"

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


@dataclass(frozen=True)
class File:
    """A file of a source. `path` opens it; `name` is for messages and has no secrets."""

    path: str
    language: str | None
    size: int
    changed: int  # ns

    @property
    def name(self) -> str:
        return without_secrets(plain(self.path))

    @property
    def identity(self) -> str:
        return f"{self.name} {self.size} {self.changed}"


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


def find_files(source: Source, suffixes: tuple[str, ...]) -> list[File]:
    """The files at `source.path`, which is one or a folder of them, language by language where it says `{language}`."""
    if not source.path:
        raise ValueError(f"data.path is empty: name the file or folder of the {source.format} data")
    files = []
    for language, path in by_language(source.path, source.languages):
        system, inner = open_path(path)
        info = system.get_file_info(inner)
        if info.type == pafs.FileType.NotFound:
            raise ValueError(f"data.path {without_secrets(path)!r} does not exist")
        infos = [info]
        if info.type == pafs.FileType.Directory:
            infos = sorted(system.get_file_info(pafs.FileSelector(inner)), key=lambda i: i.path)
        kept = [i for i in infos if i.is_file and i.path.endswith(suffixes) and not i.base_name.startswith(".")]
        if not kept:
            raise ValueError(f"{without_secrets(path)!r} has no file that ends with {', '.join(suffixes)}")
        files += [
            File(path.replace(inner, i.path, 1) if "://" in path else i.path, language, i.size, i.mtime_ns or 0)
            for i in kept
        ]
    return files


def by_language(path: str, languages: tuple[str, ...] | None, field: str = "data.path") -> list[tuple[str | None, str]]:
    """(language, path) for each language that `{language}` in the path can stand for; else the path alone.

    `field` of the configuration is named in errors.
    """
    if PLACEHOLDER not in path:
        return [(None, path)]
    bare = plain(path)
    query = path[len(bare) :]
    before, after = bare.split(PLACEHOLDER, 1)
    folder, slash, stem = before.rpartition("/")
    rest, slash_after, inside = after.partition("/")
    system, inner = open_path((folder + slash or ".") + query)
    infos = system.get_file_info(pafs.FileSelector(inner, allow_not_found=True))
    pattern = re.compile(re.escape(stem) + r"([A-Za-z]{2,3}(?:[-_][A-Za-z0-9]+)*)" + re.escape(rest))
    found = sorted(m[1] for info in infos if (m := pattern.fullmatch(info.base_name)))
    if not found:
        raise ValueError(f"nothing fits {field} {without_secrets(path)!r}, {PLACEHOLDER} being a code like en")
    chosen = check_languages(languages or found, found, without_secrets(path))
    return [(code, f"{before}{code}{rest}{slash_after}{inside}{query}") for code in chosen]


def open_path(path: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a path or URI, and the path in it."""
    if "://" not in path:
        return pafs.LocalFileSystem(), os.path.abspath(path)
    try:
        return pafs.FileSystem.from_uri(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{without_secrets(path)!r} cannot be opened: {without_secrets(str(error))}") from None


def plain(path: str) -> str:
    """A path or URI without its query."""
    return path.partition("?")[0] if "://" in path else path


def child(folder: str, *names: str) -> str:
    """A path in a folder, which may be a URI with a query."""
    bare = plain(folder)
    return "/".join((bare.rstrip("/"), *names)) + folder[len(bare) :]


def parent(path: str) -> str:
    """The folder of a path, which may be a URI with a query."""
    bare = plain(path)
    return bare.rstrip("/").rpartition("/")[0] + path[len(bare) :]


def read_lines(path: str, start: int = 0, end: int = -1) -> Iterator[tuple[int, bytes | None]]:
    """The lines that begin in the bytes `start` to `end` (-1: the last), and where; None for one that is over-long."""
    system, inner = open_path(path)
    try:
        opened = system.open_input_stream(inner) if end < 0 else system.open_input_file(inner)
        with opened, io.BufferedReader(opened, 1 << 20) as file:
            position = start
            if start:
                file.seek(start - 1)
                position += _skip_line(file) - 1
            while end < 0 or position < end:
                line = file.readline(MAX_LINE + 1)
                if not line:
                    return
                began, position = position, position + len(line)
                if len(line) > MAX_LINE and not line.endswith(b"\n"):
                    position += _skip_line(file)
                    yield began, None
                else:
                    yield began, line.removesuffix(b"\n").removesuffix(b"\r")
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{without_secrets(path)} cannot be read: {without_secrets(str(error))}") from None


def decode(line: bytes | None) -> str:
    """The text of a line; `BadRow` where it is none."""
    if line is None:
        raise BadRow("over-long line", f"more than {MAX_LINE} bytes")
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


def _skip_line(file: io.BufferedReader) -> int:
    """Reads to the end of the line; the number of bytes."""
    skipped = 0
    while piece := file.readline(1 << 20):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped
