"""NewsQA (Trischler et al. 2017, arXiv 1611.09830): questions about articles of CNN.

The texts may not be passed on: `combined-newsqa-data-v1.json` is made by hand from CNN's stories. The passage is about
100 words of the story around the answer that most workers chose. All passages of a story are one passage group.
"""

from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.records import NO_ANSWER, BadRow, Pair, Row, Shard
from hybridir.data.sets.documents import SQUAD, document_shards
from hybridir.data.sets.published import Published, pair, window


def find_shards(source: Source) -> list[Shard]:
    """A shard for each file: the stories whose `type` is `source.split` (train, dev or test)."""
    return document_shards(source, ABOUT, SQUAD, _is_of)


def _is_of(story: Row, split: str) -> bool:
    return bool(story["type"] == split)


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pairs of a story."""
    story, text = rows.id_of(row, "storyId"), rows.text_of(row, "text")
    found = False
    for n, question in enumerate(rows.list_of(row, "questions")):
        agreed = (question.get("consensus") or {}) if isinstance(question, dict) else question
        if not isinstance(agreed, dict):
            raise BadRow("wrong type", f"a question and its consensus must be objects; found {question!r:.80}")
        if "s" not in agreed:  # a bad question, or one without an answer
            continue
        start, end = agreed["s"], agreed.get("e")
        if not (isinstance(start, int) and isinstance(end, int) and 0 <= start < end <= len(text)):
            raise BadRow("wrong value", f"the answer {agreed!r:.80} is outside of the text of {story}")
        found = True
        end = start + len(text[start:end].rstrip())
        query, passage = rows.text_of(question, "q"), window(text, start, end)
        yield pair(f"{story}#{n}", query, passage, f"story {story}", language)
    if not found:
        raise BadRow(NO_ANSWER, "no question with an answer")


ABOUT = Published(
    license="MIT for the questions; the texts are CNN's, not to be passed on",
    page="https://github.com/Maluuba/newsqa",
    fields=rows.Fields(pairs_of, frozenset(("storyId", "text", "questions", "type")), ("storyId", "text", "questions")),
    by_hand="make combined-newsqa-data-v1.json as its page says, and name it by data.path",
)
