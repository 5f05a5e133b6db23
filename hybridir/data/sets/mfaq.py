"""MFAQ (De Bruyn et al. 2021, arXiv 2109.12870), English: pages of questions and answers. The domain is the site."""

from collections.abc import Iterator
from typing import Any

from hybridir.data import rows
from hybridir.data.formats.jsonl import digest
from hybridir.data.records import NO_ANSWER, BadRow, Pair, Row
from hybridir.data.sets.published import Published, each, pair


def pairs_of(row: Row, language: str | None) -> Iterator[Pair | BadRow]:
    """The pairs of a page. Equal questions are one passage group, as sites copy each other."""
    domain, pairs = rows.id_of(row, "domain"), rows.list_of(row, "qa_pairs")
    if not pairs:
        raise BadRow(NO_ANSWER, "no pairs")

    def pair_of(one: Any) -> Pair:
        if not isinstance(one, dict):
            raise BadRow("wrong type", f"a pair must be an object; found {one!r:.80}")
        question, answer = rows.text_of(one, "question"), rows.text_of(one, "answer")
        group = f"question {digest(question)}"
        return pair(digest(domain, question, answer), question, answer, group, language, domain)

    yield from each(pairs, pair_of)


ABOUT = Published(
    license="CC0-1.0",
    page="https://huggingface.co/datasets/clips/mfaq",
    fields=rows.Fields(
        pairs_of, frozenset(("domain", "qa_pairs", "num_pairs", "id", "language")), ("domain", "qa_pairs")
    ),
    hub="clips/mfaq",
    files="data/en/{split}.jsonl",
)
