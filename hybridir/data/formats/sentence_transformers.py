"""Training data of sentence-transformers: columns `anchor`, `positive`, `negative` (or `negative_1`, ...).

Otherwise the same as the user's own pairs (`jsonl.py`).
"""

from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.formats import jsonl
from hybridir.data.records import Pair, Row, Shard


def find_shards(source: Source) -> list[Shard]:
    """The shards of the files of a source."""
    return rows.shards(source, FIELDS)


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pair of a row."""
    yield jsonl.pair_of(row, language, "anchor", "positive")


FIELDS = rows.Fields(
    pairs_of,
    jsonl.FIELDS.names - {"query", "passage"} | {"anchor", "positive"},
    ("anchor", "positive"),
    prefix="negative",
)
