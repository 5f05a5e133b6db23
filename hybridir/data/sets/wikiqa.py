"""WikiQA (Yang et al. 2015, doi 10.18653/v1/D15-1237): questions from logs of Bing, and sentences of Wikipedia.

Only the sentences that answer the question (`label` 1) give pairs.
"""

from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.formats.jsonl import digest
from hybridir.data.records import NO_ANSWER, BadRow, Pair, Row
from hybridir.data.sets.published import Published, pair


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pair of a row. Several answers to a question are one passage group."""
    if row.get("label") not in (0, 1):
        raise BadRow("wrong type", f"label must be 0 or 1; found {row.get('label')!r:.80}")
    if not row["label"]:
        raise BadRow(NO_ANSWER, "label 0")
    question_id, answer = rows.id_of(row, "question_id"), rows.text_of(row, "answer")
    query = rows.text_of(row, "question")
    yield pair(f"{question_id}#{digest(answer)}", query, answer, f"question {question_id}", language)


_READ = ("question_id", "question", "answer", "label")
ABOUT = Published(
    license="other: Microsoft Research data licence (from memory, not looked up)",
    page="https://huggingface.co/datasets/microsoft/wiki_qa",
    fields=rows.Fields(pairs_of, frozenset((*_READ, "document_title")), _READ),
    hub="microsoft/wiki_qa",
    files="data/{split}-*.parquet",
)
