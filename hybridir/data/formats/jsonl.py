"""The user's own pairs: a row is one question in one language with its passage. Fields: hybridir/data/README.md."""

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
    yield Pair(
        group_id=rows.id_of(row, "group_id"),
        language=language,
        query=rows.text_of(row, "query"),
        passage=Passage(
            passage_id=rows.id_of(row, "passage_id", ""), language=language, text=rows.text_of(row, "passage")
        ),
        passage_group_id=rows.id_of(row, "passage_group_id", ""),
        negatives=tuple(_negative(one, language) for one in rows.list_of(row, "negatives")),
        source=rows.id_of(row, "source", ""),
        domain=rows.id_of(row, "domain", ""),
    )


def _negative(one: object, language: str) -> Passage:
    """A hard negative: a string, or an object with `text` and an optional `passage_id`."""
    if isinstance(one, str):
        return Passage(passage_id="", language=language, text=one)
    if not isinstance(one, dict):
        raise rows.BadRow("wrong type", f"a negative must be a string or an object; found {one!r:.80}")
    return Passage(passage_id=rows.id_of(one, "passage_id", ""), language=language, text=rows.text_of(one, "text"))


FIELDS = rows.Fields(
    pairs_of,
    frozenset(
        ("group_id", "language", "query", "passage", "passage_id", "passage_group_id", "negatives", "source", "domain")
    ),
)
