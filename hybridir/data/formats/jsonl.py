"""The user's own pairs: a row is one question in one language with its passage. Fields: hybridir/data/README.md.

Without a field `group_id`, translations are unknown: every row is a group of its own in one language, which
cross-lingual batches cannot use. Rows with the same query are then one passage group, so that no batch has two of them.
"""

import hashlib
from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.records import BadRow, Pair, Passage, Row, Shard


def find_shards(source: Source) -> list[Shard]:
    """The shards of the files of a source."""
    return rows.shards(source, FIELDS)


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pair of a row."""
    yield pair_of(row, language, "query", "passage")


def pair_of(row: Row, language: str | None, query_field: str, passage_field: str) -> Pair:
    """The pair of a row whose query and passage are in the fields `query_field` and `passage_field`."""
    language = rows.language_of(row, language)
    query, passage = rows.text_of(row, query_field), rows.text_of(row, passage_field)
    group_id, passage_group_id = rows.id_of(row, "group_id", ""), rows.id_of(row, "passage_group_id", "")
    if row.get("group_id") is None:
        group_id = digest(language, query, passage)
        passage_group_id = passage_group_id or f"query {digest(language, query)}"
    negatives = tuple(_negatives(row, language))
    return Pair(
        group_id=group_id,
        language=language,
        query=query,
        passage=Passage(passage_id=rows.id_of(row, "passage_id", ""), language=language, text=passage),
        passage_group_id=passage_group_id,
        negatives=negatives,
        negative_scores=rows.scores_of(row, len(negatives)),
        source=rows.id_of(row, "source", ""),
        domain=rows.id_of(row, "domain", ""),
    )


def _negatives(row: Row, language: str) -> Iterator[Passage]:
    """The hard negatives: the list `negatives`, and a text in each other column `negative...`."""
    for one in rows.list_of(row, "negatives"):
        if isinstance(one, str):
            yield Passage(passage_id="", language=language, text=one)
        elif isinstance(one, dict):
            text = rows.text_of(one, "text")
            name = rows.id_of(one, "passage_id", "")
            yield Passage(passage_id=name, language=rows.language_of(one, language), text=text)
        else:
            raise BadRow("wrong type", f"a negative must be a string or an object; found {one!r:.80}")
    for name, value in row.items():
        if name.startswith("negative") and name not in ("negatives", "negative_scores") and value is not None:
            yield Passage(passage_id="", language=language, text=rows.text_of(row, name))


def digest(*texts: str) -> str:
    """16 hexadecimal digits of the texts."""
    data = "\0".join(texts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(data, digest_size=8).hexdigest()


_OPTIONAL = (
    "group_id",
    "language",
    "passage_id",
    "passage_group_id",
    "negatives",
    "negative_scores",
    "source",
    "domain",
    "license",
)
FIELDS = rows.Fields(pairs_of, frozenset(("query", "passage", *_OPTIONAL)), ("query", "passage"), prefix="negative")
