"""EntityQuestions (Sciavolino et al. 2021, arXiv 2109.08535): simple questions about facts of Wikidata.

The set has no passages. They come from a passage index (such as Wikipedia's 21 million passages), in the format that
`dense_retriever.py` of DPR writes (arXiv 2004.04906): a list of questions, each with `ctxs`, the passages found, best
first (Pyserini's converter for DPR writes another one: an object by question, with `contexts`). The positive is the
first of them that has an answer, the hard negatives are those before it that have none.
"""

from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.formats.jsonl import digest
from hybridir.data.records import NO_ANSWER, BadRow, Pair, Row, Shard
from hybridir.data.sets.documents import document_shards
from hybridir.data.sets.published import Published


def find_shards(source: Source) -> list[Shard]:
    """A shard for each JSON file. `ValueError` for a split: such files do not say which they are of."""
    if source.split != Source.split:
        raise ValueError(
            f"data.split is {source.split!r}, which entity-questions does not use: leave it out, and name the files "
            "of that split by data.path"
        )
    return document_shards(source, ABOUT, r"\s*\[", _has_passages)


def _has_passages(row: Row, split: str) -> bool:
    if "ctxs" not in row:
        raise KeyError("ctxs: the passages found for a question")
    return True


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pair of a question."""
    language, question = language or "en", rows.text_of(row, "question")
    found = rows.list_of(row, "ctxs")
    hits = [n for n, one in enumerate(found) if isinstance(one, dict) and one.get("has_answer")]
    if not hits:
        raise BadRow(NO_ANSWER, "no passage that was found has the answer")
    passages = [rows.document(one, "id", language) for one in found[: hits[0] + 1]]
    yield Pair(
        group_id=digest(question),
        language=language,
        query=question,
        passage=passages[-1],
        negatives=tuple(passages[:-1]),
    )


ABOUT = Published(
    license="MIT for the questions (from memory, not looked up); the passages are Wikipedia's, CC-BY-SA",
    page="https://github.com/princeton-nlp/EntityQuestions",
    fields=rows.Fields(pairs_of, frozenset(("question", "answers", "ctxs")), ("question", "ctxs")),
    by_hand="fetch dataset.zip, find passages for its questions by a passage index, in a list as DPR's "
    "dense_retriever.py writes it (each question with `ctxs`: id, title, text, has_answer), and name the folder of "
    "these JSON files by data.path",
)
