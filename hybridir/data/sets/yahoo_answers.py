"""Yahoo Answers (Zhang et al. 2015, arXiv 1509.01626): what people asked, and the best answer."""

from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.formats.jsonl import pair_of
from hybridir.data.records import Pair, Row
from hybridir.data.sets.published import Published


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pair of a row."""
    yield pair_of(row, language, "question", "answer")


ABOUT = Published(
    license="other: Yahoo Webscope, for approved non-commercial research",  # README of the set, version 2
    page="https://huggingface.co/datasets/sentence-transformers/yahoo-answers",
    fields=rows.Fields(pairs_of, frozenset(("question", "answer")), ("question", "answer")),
    hub="sentence-transformers/yahoo-answers",
    files="question-answer-pair/{split}-*.parquet",
)
