"""NewsQA (Trischler et al. 2017, arXiv 1611.09830): questions about articles of CNN.

The texts may not be passed on: `combined-newsqa-data-v1.json` is made by hand from CNN's stories. The passage is about
100 words of the story around the answer that most workers chose. All passages of a story are one passage group.
"""

from collections.abc import Iterator
from typing import Any

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.records import NO_ANSWER, BadRow, Pair, Row, Shard
from hybridir.data.sets.documents import SQUAD, document_shards
from hybridir.data.sets.published import Published, each, pair, window


def find_shards(source: Source) -> list[Shard]:
    """A shard for each file: the stories whose `type` is `source.split` (train, dev or test)."""
    return document_shards(source, ABOUT, SQUAD, _is_of)


def _is_of(story: Row, split: str) -> bool:
    return bool(story["type"] == split)


def pairs_of(row: Row, language: str | None) -> Iterator[Pair | BadRow]:
    """The pairs of a story. A question that workers call bad, or without an answer, has none."""
    story, text = rows.id_of(row, "storyId"), rows.text_of(row, "text")

    def pair_of(numbered: tuple[int, Any]) -> Pair:
        n, question = numbered
        agreed = _agreed(question)
        if not isinstance(agreed, dict):
            raise BadRow("wrong type", f"a question and its consensus must be objects; found {question!r:.80}")
        start, end = agreed["s"], agreed.get("e")
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)):
            raise BadRow("wrong value", f"the answer {agreed!r:.80} is outside of the text of {story}")
        end = start + len(text[start:end].rstrip())
        query, passage = rows.text_of(question, "q"), window(text, start, end)
        return pair(f"{story}#{n}", query, passage, f"story {story}", language)

    questions = enumerate(rows.list_of(row, "questions"))
    asked = [(n, one) for n, one in questions if not isinstance(agreed := _agreed(one), dict) or "s" in agreed]
    if not asked:
        raise BadRow(NO_ANSWER, "no question with an answer")
    yield from each(asked, pair_of)


def _agreed(question: Any) -> Any:
    """What the workers agreed on; an object in a file as published."""
    return (question.get("consensus") or {}) if isinstance(question, dict) else question


ABOUT = Published(
    license="MIT for the questions; the texts are CNN's, not to be passed on",
    page="https://github.com/Maluuba/newsqa",
    fields=rows.Fields(pairs_of, frozenset(("storyId", "text", "questions", "type")), ("storyId", "text", "questions")),
    by_hand="make combined-newsqa-data-v1.json as its page says, and name it by data.path",
)
