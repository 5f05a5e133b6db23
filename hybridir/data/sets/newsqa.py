"""NewsQA (Trischler et al. 2017, arXiv 1611.09830): questions about articles of CNN.

The texts may not be passed on: `combined-newsqa-data-v1.json` is made by hand from CNN's stories. The passage is about
100 words of the story around the answer that most workers chose. All passages of a story are one passage group.
"""

from collections.abc import Iterator
from typing import Any

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.records import NO_ANSWER, BadRow, Pair, Passage, Row, Shard
from hybridir.data.sets.documents import document_shards
from hybridir.data.sets.published import Published, window


def find_shards(source: Source) -> list[Shard]:
    """A shard for each file: the stories whose `type` is `source.split` (train, dev or test)."""
    return document_shards(source, ABOUT, ".json", _stories)


def _stories(document: Any, split: str) -> Iterator[Row]:
    return (story for story in document["data"] if story["type"] == split)


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pairs of a story."""
    story, text = rows.id_of(row, "storyId"), rows.text_of(row, "text")
    found = False
    for n, question in enumerate(rows.list_of(row, "questions")):
        agreed = question.get("consensus") or {}
        if "s" not in agreed:  # a bad question, or one without an answer
            continue
        if not 0 <= agreed["s"] < agreed["e"] <= len(text):
            raise BadRow("wrong value", f"the answer {agreed} is outside of the text of {story}")
        found = True
        answer = text[agreed["s"] : agreed["e"]]
        end = agreed["s"] + len(answer.rstrip())
        yield Pair(
            group_id=f"{story}#{n}",
            language=language or "en",
            query=rows.text_of(question, "q"),
            passage=Passage(passage_id="", language=language or "en", text=window(text, agreed["s"], end)),
            passage_group_id=f"story {story}",
        )
    if not found:
        raise BadRow(NO_ANSWER, "no question with an answer")


ABOUT = Published(
    license="MIT for the questions; the texts are CNN's, not to be passed on",
    page="https://github.com/Maluuba/newsqa",
    fields=rows.Fields(pairs_of, frozenset(("storyId", "text", "questions", "type")), ("storyId", "text", "questions")),
    by_hand="make combined-newsqa-data-v1.json as its page says, and name it by data.path",
)
