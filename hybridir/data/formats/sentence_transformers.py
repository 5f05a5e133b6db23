"""Training data of sentence-transformers: columns `anchor`, `positive`, `negative` (or `negative_1`, ...).

Without a column `group_id`, translations are unknown: every row is a group of its own in one language, which
cross-lingual batches cannot use. Rows with the same anchor are then one passage group, so that no batch has two of
them.
"""

import hashlib
from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.records import Pair, Passage, Shard


def find_shards(source: Source) -> list[Shard]:
    """The shards of the files of a source."""
    return rows.shards(source, FIELDS)


def pairs_of(row: rows.Row, language: str | None) -> Iterator[Pair]:
    """The pair of a row."""
    language = rows.language_of(row, language)
    query, positive = rows.text_of(row, "anchor"), rows.text_of(row, "positive")
    names = [name for name in row if name.startswith("negative")]
    negatives = [rows.text_of(row, name) for name in names if row[name] is not None]
    group_id = rows.id_of(row, "group_id", "")
    yield Pair(
        group_id=group_id or _digest(language, query, positive),
        language=language,
        query=query,
        passage=Passage(passage_id=rows.id_of(row, "passage_id", ""), language=language, text=positive),
        passage_group_id="" if group_id else f"anchor {_digest(language, query)}",
        negatives=tuple(Passage(passage_id="", language=language, text=text) for text in negatives),
    )


def _digest(*texts: str) -> str:
    data = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


FIELDS = rows.Fields(
    pairs_of, frozenset(("anchor", "positive", "group_id", "language", "passage_id")), prefix="negative"
)
