"""Natural Questions (Kwiatkowski et al. 2019, doi 10.1162/tacl_a_00276), as pairs of question and passage."""

from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.formats.jsonl import pair_of
from hybridir.data.records import Pair, Row
from hybridir.data.sets.published import Published


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pair of a row."""
    yield pair_of(row, language, "query", "answer")


ABOUT = Published(
    license="CC-BY-SA-3.0",  # README of google-research-datasets/natural-questions, at the commit 00041a5
    page="https://huggingface.co/datasets/sentence-transformers/natural-questions",
    fields=rows.Fields(pairs_of, frozenset(("query", "answer")), ("query", "answer")),
    hub="sentence-transformers/natural-questions",
    files="pair/{split}-*.parquet",
)
