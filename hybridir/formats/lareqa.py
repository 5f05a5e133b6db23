"""XQuAD-R and MLQA-R in the format of LAReQA (Roy et al. 2020, arXiv 2004.05484): one `LANGUAGE.json` per language.

SQuAD with two more fields a paragraph: `sentences` and `sentence_breaks`. A candidate passage is a *sentence*, keyed by
its position, for its text can repeat; the relevant one is the sentence whose break interval holds the answer's start.
Question ids are the same in all languages.

Articles are split by the hash of their question ids, together with every article of another language that shares a
question with them, so that no translation of a test question is trained on.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridir.records import (
    Benchmark,
    BenchmarkConfig,
    DataConfig,
    Pair,
    Passage,
    Query,
    Split,
    check_languages,
)

SHARES: dict[Split, tuple[float, float]] = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}
SOURCE = "https://github.com/google-research-datasets/lareqa"


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the position of its answer among the sentences of its paragraph, and where it stands."""

    id: str
    text: str
    answer: int
    where: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph's sentences as passages, and its questions."""

    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Article:
    """An article in one language. `cluster` is the same for all articles that share questions, in any language."""

    language: str
    cluster: str
    paragraphs: tuple[Paragraph, ...]


def read_pairs(config: DataConfig, split: Split) -> Iterator[Pair]:
    """The pairs of one split, article by article; the other sentences of the paragraph are the hard negatives."""
    for article in _articles(config.path, split, config.languages):
        for paragraph in article.paragraphs:
            for question in paragraph.questions:
                yield Pair(
                    group_id=question.id,
                    language=article.language,
                    query=question.text,
                    passage=paragraph.passages[question.answer],
                    negatives=tuple(p for i, p in enumerate(paragraph.passages) if i != question.answer),
                    where=question.where,
                )


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """Queries and candidates of the articles of one split; relevant are the answers in all languages."""
    passages: list[Passage] = []
    queries: list[Query] = []
    answers: dict[str, list[int]] = {}
    articles = _articles(config.path, config.split, config.languages)
    for article in articles:
        for paragraph in article.paragraphs:
            for question in paragraph.questions:
                answers.setdefault(question.id, []).append(len(passages) + question.answer)
                queries.append(
                    Query(
                        query_id=f"{article.language}:{question.id}",
                        language=article.language,
                        text=question.text,
                        group_id=question.id,
                        cluster=article.cluster,
                    )
                )
            passages += paragraph.passages
    return Benchmark(
        name=config.name,
        languages=tuple(dict.fromkeys(article.language for article in articles)),
        queries=tuple(queries),
        passages=tuple(passages),
        relevant=tuple(tuple(answers[query.group_id]) for query in queries),
    )


def _articles(path: str, split: Split, languages: tuple[str, ...] | None) -> list[Article]:
    """The articles of one split, language by language in alphabetical order.

    Files of other languages are read too: a split must not depend on the languages that are taken.
    """
    folder = Path(path)
    available = sorted(file.stem for file in folder.glob("*.json"))
    if not path or not available:
        raise ValueError(f"no LANGUAGE.json found in {path!r}: the path must be a folder as published at {SOURCE}")
    chosen = check_languages(languages or available, available, f"the folder {path}")
    parsed = [(language, _parse(folder / f"{language}.json", language)) for language in available]
    everything = [(language, paragraphs) for language, articles in parsed for paragraphs in articles]
    clusters = _clusters([paragraphs for _, paragraphs in everything])
    return [
        Article(language, cluster, paragraphs)
        for (language, paragraphs), cluster in zip(everything, clusters, strict=True)
        if language in chosen and (split == "all" or SHARES[split][0] <= int(cluster, 16) / 16**16 < SHARES[split][1])
    ]


def _clusters(articles: list[tuple[Paragraph, ...]]) -> list[str]:
    """For each article the name (16 hexadecimal digits) of the set of articles that it shares questions with."""
    ids = [[question.id for paragraph in article for question in paragraph.questions] for article in articles]
    number = {question: n for n, question in enumerate(dict.fromkeys(q for qs in ids for q in qs))}
    edges = np.array([(a, len(articles) + number[q]) for a, qs in enumerate(ids) for q in qs], dtype=np.int64)
    size = len(articles) + len(number)
    _, component = connected_components(coo_array((np.ones(len(edges)), edges.reshape(-1, 2).T), shape=(size, size)))
    smallest: dict[int, str] = {}
    for article, questions in enumerate(ids):
        first = min(questions, default=f"article without questions {article}")
        smallest[component[article]] = min(first, smallest.get(component[article], first))
    names = {c: hashlib.blake2b(first.encode(), digest_size=8).hexdigest() for c, first in smallest.items()}
    return [names[component[article]] for article in range(len(articles))]


def _parse(file: Path, language: str) -> list[tuple[Paragraph, ...]]:
    """The articles of one file; `ValueError` naming file and place for whatever is not as the format wants it."""
    place = "data"
    try:
        articles = []
        for a, article in enumerate(json.loads(file.read_text(encoding="utf-8"))["data"]):
            place, paragraphs = f"data[{a}]", []
            for n, paragraph in enumerate(article["paragraphs"]):
                place = f"data[{a}].paragraphs[{n}]"
                paragraphs.append(_paragraph(paragraph, language, f"{a}.{n}", f"{file}: {place}"))
            articles.append(tuple(paragraphs))
        return articles
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON in UTF-8: {error}. Fetch it again from {SOURCE}") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file}: {place} is not in LAReQA's format ({error!r}). Fetch it again from {SOURCE}"
        ) from error


def _paragraph(raw: dict[str, Any], language: str, place: str, where: str) -> Paragraph:
    """One paragraph, checked; `place` begins the ids of its passages."""
    sentences, breaks = raw["sentences"], raw["sentence_breaks"]
    if len(sentences) != len(breaks) or any(len(interval) != 2 for interval in breaks):
        raise ValueError(f"{where} has {len(sentences)} sentences and the sentence breaks {breaks}")
    questions = []
    for n, qa in enumerate(raw["qas"]):
        start = qa["answers"][0]["answer_start"]
        holding = [i for i, (begin, end) in enumerate(breaks) if begin <= start < end]
        if len(holding) != 1:
            raise ValueError(f"{where}.qas[{n}]: answer_start {start} lies in {len(holding)} sentences instead of one")
        questions.append(Question(qa["id"], qa["question"], holding[0], f"{where}.qas[{n}]"))
    if wrong := [x for x in (*sentences, *(t for q in questions for t in (q.id, q.text))) if not isinstance(x, str)]:
        raise ValueError(f"{where} has {wrong[0]!r} where a text should be")
    passages = tuple(Passage(passage_id=f"{place}.{i}", language=language, text=s) for i, s in enumerate(sentences))
    return Paragraph(passages, tuple(questions))
