"""SQuADShifts (Miller et al. 2020, arXiv 2004.14444): SQuAD's questions on Wikipedia, news, Reddit and Amazon.

Made to measure a shift of domain, so it is a source of validation pairs (`data.validation`): the Parquet files of the
hub, or the JSON files of its page, laid out as SQuAD 1.1. The passage is about 100 words around the first answer; all
passages of a context are one passage group, as they may overlap.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from hybridir.data import rows
from hybridir.data.config import Source
from hybridir.data.records import BadRow, Pair, Row, Shard
from hybridir.data.sets.documents import SQUAD, document_shards
from hybridir.data.sets.published import Published, each, pair, shards, window
from hybridir.data.storage import find_files


def find_shards(source: Source) -> list[Shard]:
    """The shards of Parquet files, or of the JSON files where there are no others."""
    if source.path and not source.path.startswith("hf://") and _only_json(source):
        return document_shards(source, replace(ABOUT, fields=_ARTICLES), SQUAD, lambda row, split: True)
    return shards(source, ABOUT)


def _only_json(source: Source) -> bool:
    return all(file.path.endswith(".json") for file in find_files(source, (".json", ".jsonl", ".jsonl.gz", ".parquet")))


def _of_article(row: Row, language: str | None) -> Iterator[Pair | BadRow]:
    """The pairs of an article as SQuAD has it."""
    for paragraph in rows.list_of(row, "paragraphs"):
        try:
            context, questions = paragraph["context"], list(paragraph["qas"])
        except (TypeError, KeyError):
            yield BadRow("wrong type", f"a paragraph is not laid out as SQuAD's: {paragraph!r:.80}")
            continue
        yield from each(questions, partial(_of_question, context, language))


def _of_question(context: Any, language: str | None, question: Any) -> Pair:
    try:
        answers = {key: [given[key] for given in question["answers"]] for key in ("text", "answer_start")}
        row = question | {"context": context, "answers": answers}
    except (TypeError, KeyError):
        raise BadRow("wrong type", f"a question is not laid out as SQuAD's: {question!r:.80}") from None
    return _pair_of(row, language)


def pairs_of(row: Row, language: str | None) -> Iterator[Pair]:
    """The pair of a question; `BadRow` if its first answer does not stand where it is said to stand."""
    yield _pair_of(row, language)


def _pair_of(row: Row, language: str | None) -> Pair:
    context, answers = rows.text_of(row, "context"), row.get("answers") or {}
    try:
        answer, start = answers["text"][0], answers["answer_start"][0]
        stands = answer != "" and context[start : start + len(answer)] == answer
    except (TypeError, KeyError, IndexError):
        raise BadRow("wrong value", f"answers is {str(answers)[:80]}") from None
    if not stands:
        raise BadRow("wrong value", f"the answer {answer[:40]!r} does not stand at {start} of its context")
    text, group = window(context, start, start + len(answer)), hashlib.sha256(context.encode()).hexdigest()[:16]
    return pair(rows.id_of(row, "id"), rows.text_of(row, "question"), text, f"context {group}", language)


_ARTICLES = rows.Fields(_of_article, frozenset(("title", "paragraphs")), ("paragraphs",))
_READ = ("id", "context", "question", "answers")
ABOUT = Published(
    license="CC-BY-4.0",
    page="https://modestyachts.github.io/squadshifts-website",
    fields=rows.Fields(pairs_of, frozenset((*_READ, "title")), _READ),
    hub="ludwigschmidt/squadshifts",
    files="*/test/*.parquet",
    by_hand="fetch its four JSON files from its page",
)
