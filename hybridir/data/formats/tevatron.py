"""Tevatron's training data (arXiv 2203.05765): a row has a query, its positive passages and its negative passages.

A query with several positives, in one row or in several, gives one pair per positive; none is a negative of another.
"""

from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.records import Pair, Shard


def find_shards(source: Source) -> list[Shard]:
    """The shards of the files of a source."""
    return rows.shards(source, FIELDS)


def pairs_of(row: rows.Row, language: str | None) -> Iterator[Pair]:
    """The pairs of a row, one per positive; translations of a query have the same query id."""
    language = rows.language_of(row, language)
    query_id, query = rows.id_of(row, "query_id"), rows.text_of(row, "query")
    positives = [rows.document(one, "docid", language) for one in rows.list_of(row, "positive_passages")]
    if not positives:
        raise rows.BadRow("missing field", "positive_passages")
    negatives = [rows.document(one, "docid", language) for one in rows.list_of(row, "negative_passages")]
    scores = rows.scores_of(row, len(negatives))
    kept = rows.without(negatives, positives)
    some = set(kept)
    kept_scores = tuple(score for one, score in zip(negatives, scores, strict=False) if one in some)
    ids = rows.positives(query_id, [positive.passage_id for positive in positives])
    for (group_id, passage_group_id), positive in zip(ids, positives, strict=True):
        yield Pair(
            group_id=group_id,
            language=language,
            query=query,
            passage=positive,
            passage_group_id=passage_group_id,
            negatives=kept,
            negative_scores=kept_scores,
        )


FIELDS = rows.Fields(
    pairs_of,
    frozenset(("query_id", "query", "positive_passages", "negative_passages", "negative_scores", "language")),
    required=("query_id", "query", "positive_passages"),
)
