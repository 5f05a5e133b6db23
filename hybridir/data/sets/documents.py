"""Sets that are published as one JSON document: the file is read whole, and each of its entries is a row."""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.records import BadRow, Pair, Rejected, Row, Shard
from hybridir.data.sets.published import Published
from hybridir.data.storage import find_files, open_path

Entries = Callable[[Any, str], Iterable[Row]]
"""(the document, the split asked for) -> its rows; raises `BadRow` or `KeyError` for another layout."""


def document_shards(source: Source, about: Published, ending: str, entries: Entries) -> list[Shard]:
    """A shard for each file at `source.path` whose name ends with `ending`, else `ValueError`."""
    if not source.path:
        raise ValueError(f"data.format {source.format} cannot be fetched by itself: {about.by_hand} ({about.page})")
    found = []
    for file in find_files(source, (ending,)):
        read = partial(_read, file.path, file.name, source, about, entries)
        found.append(Shard(read, file.name, f"{file.identity} {source.split}", file.size))
    return found


def _read(path: str, name: str, source: Source, about: Published, entries: Entries) -> Iterator[Pair | Rejected]:
    system, inner = open_path(path)
    with system.open_input_stream(inner) as opened:
        content = opened.read()
    try:
        found = list(entries(json.loads(content), source.split))
    except (ValueError, KeyError, TypeError, BadRow) as error:
        raise ValueError(
            f"{name} does not have the layout of {source.format} ({type(error).__name__}: {error}): {about.by_hand} "
            f"({about.page})"
        ) from None
    lines: Iterator[tuple[int, Callable[[], Row]]] = enumerate((partial(dict, row) for row in found), start=1)
    return rows.records(lines, name, source.language or "en", about.fields)
