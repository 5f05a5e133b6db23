"""Sets that are published as a list in one JSON document, whose entries are read one by one as rows."""

import io
import json
import re
from collections.abc import Callable, Iterator
from functools import partial

from hybridir.data import rows
from hybridir.data.bounds import EACH, Growth
from hybridir.data.config import Source
from hybridir.data.records import Pair, Rejected, Row, Shard
from hybridir.data.sets.published import Published
from hybridir.data.storage import MAX_LINE, find_files, open_path

SQUAD = r'\s*\{\s*("version"\s*:\s*"[^"]{,99}"\s*,\s*)?"data"\s*:\s*\['
"""How a document begins that is laid out as SQuAD's: a pattern of the text before the first entry."""
_BLOCK = 2**16
"""Characters that are read at a time, or more if an entry is longer."""
_BETWEEN = re.compile(r"[\s,]*")


def document_shards(source: Source, about: Published, begin: str, wanted: Callable[[Row, str], bool]) -> list[Shard]:
    """A shard for each file at `source.path` whose name ends with `.json`, else `ValueError`.

    `begin` is a pattern of the text before the first entry. `wanted` says whether an entry is of a split; it raises
    `KeyError` for another layout.
    """
    if not source.path:
        raise ValueError(f"data.format {source.format} cannot be fetched by itself: {about.by_hand} ({about.page})")
    found = []
    for file in find_files(source, (".json",)):
        read = partial(_read, file.path, file.name, source, about, begin, wanted)
        found.append(Shard(read, file.name, f"{file.identity} {source.split}", file.size))
    return found


def _read(
    path: str, name: str, source: Source, about: Published, begin: str, wanted: Callable[[Row, str], bool]
) -> Iterator[Pair | Rejected]:
    def lines() -> Iterator[tuple[int, Callable[[], Row]]]:
        number = 0
        try:
            for entry in _entries(path, name, begin):
                if wanted(entry, source.split):
                    number += 1
                    yield number, partial(dict, entry)
        except (json.JSONDecodeError, UnicodeDecodeError, LookupError, RecursionError) as error:
            raise ValueError(
                f"{name} does not have the layout of {source.format} (after entry {number}: {type(error).__name__}: "
                f"{error}): {about.by_hand} ({about.page})"
            ) from None

    return rows.records(lines(), name, source.language or "en", about.fields)


def _entries(path: str, name: str, begin: str) -> Iterator[Row]:
    """The objects in the list that stands after `begin`; `LookupError` or an error of JSON where there is none."""
    system, inner = open_path(path)
    growth, decode = Growth(name, system.get_file_info(inner).size), json.JSONDecoder().raw_decode
    with system.open_input_stream(inner) as opened:
        file = io.TextIOWrapper(opened, encoding="utf-8-sig")
        text = file.read(_BLOCK)
        if not (found := re.match(begin, text)):
            raise LookupError(f"it begins with {text[:80]!r}")
        start = found.end()
        while not text.startswith("]", start := _BETWEEN.match(text, start).end()):  # type: ignore[union-attr]
            try:
                entry, end = decode(text, start)
            except json.JSONDecodeError:  # perhaps only its end is not read yet
                more = file.read(max(_BLOCK, len(text) - start)) if len(text) - start <= MAX_LINE else ""
                if not more:
                    raise
                text, start = text[start:] + more, 0
                continue
            if not isinstance(entry, dict):
                raise LookupError(f"an entry must be an object; found {entry!r:.80}")
            growth.add(end - start + EACH)
            yield entry
            start = end
