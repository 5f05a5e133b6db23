"""DuoRC (Saha et al. 2018, arXiv 1804.07927), SelfRC: questions about plots of films.

The passage is about 100 words of the plot around the first answer that it contains. All passages of a plot are one
passage group, as they may overlap.
"""

from collections.abc import Iterator

from hybridir.data import rows
from hybridir.data.records import NO_ANSWER, BadRow, Pair, Row
from hybridir.data.sets.published import Published, pair, window


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pair of a row. Without an answer, or with one that does not stand in the plot, there is none."""
    plot, answers = rows.text_of(row, "plot"), rows.list_of(row, "answers")[:_ANSWERS]
    if row.get("no_answer") or not answers:
        raise BadRow(NO_ANSWER, "no_answer")
    lower = plot.replace("İ", "I").lower()  # as long as the plot: this letter alone has two in lower case
    places = ((answer, lower.find(answer.lower())) for answer in map(str, answers) if answer.strip())
    answer, start = next(((one, at) for one, at in places if at >= 0), ("", -1))
    if start < 0:
        raise BadRow(NO_ANSWER, "the answer is not in the plot")
    question_id, query = rows.id_of(row, "question_id"), rows.text_of(row, "question")
    text = window(plot, start, start + len(answer))
    yield pair(question_id, query, text, f"plot {rows.id_of(row, 'plot_id')}", language)


_ANSWERS = 100
"""Answers of a question that are looked for."""
_READ = ("plot_id", "plot", "question_id", "question", "answers", "no_answer")
ABOUT = Published(
    license="MIT",
    page="https://huggingface.co/datasets/ibm-research/duorc",
    fields=rows.Fields(pairs_of, frozenset((*_READ, "title")), _READ),
    hub="ibm-research/duorc",
    files="SelfRC/{split}-*.parquet",
)
