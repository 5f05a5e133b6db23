"""XQuAD-R and MLQA-R in the format of LAReQA (Roy et al. 2020, arXiv 2004.05484): one `LANGUAGE.json` per language.

The format is SQuAD with two more fields per paragraph: `sentences` and `sentence_breaks`. A candidate passage is a
*sentence*; its id is its position, because texts can repeat. The relevant passage is the sentence whose break interval
contains the start of the answer. Question ids are the same in all languages.

Articles that share questions, in any language, form a cluster. Clusters are split by a hash of their question ids, so
that no translation of a test question is trained on.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from hybridir.data.config import BenchmarkConfig, Source, own_split
from hybridir.data.languages import by_code, check_languages
from hybridir.data.passages import Passages
from hybridir.data.records import SEEN_PARTS, Benchmark, Pair, Passage, Query, Shard, Split
from hybridir.data.rows import without
from hybridir.data.texts import MAX_NAME, MAX_TEXT, fault, is_blank
from hybridir.runtime.plain_yaml import load_yaml

SHARES: dict[Split, tuple[float, float]] = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}
SOURCE = "https://github.com/google-research-datasets/lareqa (MLQA-R: its commit 354d67d, later ones lack it)"
PUBLISHED = {
    "xquad-r": ("ar", "de", "el", "en", "es", "hi", "ru", "th", "tr", "vi", "zh"),
    "mlqa-r": ("ar", "de", "en", "es", "hi", "vi", "zh"),
}
"""Languages of each benchmark."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question. `answer` is the position of the relevant sentence in the paragraph, `where` the place in the file."""

    id: str
    text: str
    answer: int
    where: str


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph: its sentences as passages, and its questions."""

    passages: tuple[Passage, ...]
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Article:
    """An article in one language. `cluster` is the same for all articles that share questions, in any language.

    `topic` is that of its title in `xquad_topics.yaml`, else empty.
    """

    language: str
    cluster: str
    topic: str
    paragraphs: tuple[Paragraph, ...]


def find_shards(source: Source) -> list[Shard]:
    """One shard of all files, because the split of an article depends on all files."""
    files = _files(source.path)
    check_languages(source.languages or files, files, f"the folder {source.path}")
    identity = " ".join(f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files.values())
    size = sum(file.stat().st_size for file in files.values())
    return [Shard(partial(_read, source.path, source.languages), source.path, identity, size)]


def _read(path: str, languages: tuple[str, ...] | None) -> Iterator[Pair]:
    """The training and validation pairs; hard negatives are the other sentences of the paragraph."""
    for split in SEEN_PARTS:
        for article in _articles(path, split, languages):
            for paragraph in article.paragraphs:
                for question in paragraph.questions:
                    yield Pair(
                        group_id=question.id,
                        language=article.language,
                        query=question.text,
                        passage=paragraph.passages[question.answer],
                        topic=article.topic,
                        negatives=without(paragraph.passages, [paragraph.passages[question.answer]]),
                        split=split,
                        file=question.where,
                    )


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The queries and candidate passages of one split; the answers in all languages are relevant."""
    passages: list[Passage] = []
    queries: list[Query] = []
    answers: dict[str, list[int]] = {}
    split = own_split(config)
    articles = _articles(config.path, split, config.languages)
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
                        domain=article.topic,
                    )
                )
            passages += paragraph.passages
    if not queries:
        raise ValueError(f"{config.path} has no question in the split {split}: set benchmark.split to all")
    return Benchmark(
        name=config.name,
        languages=tuple(dict.fromkeys(article.language for article in articles)),
        queries=tuple(queries),
        passages=Passages(passages),
        relevant=tuple(tuple(answers[query.group_id]) for query in queries),
        notes=_notes(config),
    )


def name_of(path: str) -> str:
    """The name of the benchmark in a folder: MLQA-R if the folder has exactly the languages of MLQA-R, else XQuAD-R."""
    return "mlqa-r" if set(_files(path)) == set(PUBLISHED["mlqa-r"]) else "xquad-r"


def question_ids(path: str) -> set[str]:
    """The ids of all questions in a folder, in any language."""
    parsed = (article for language, file in _files(path).items() for _, article in _parse(file, language))
    return {question.id for article in parsed for paragraph in article for question in paragraph.questions}


def _notes(config: BenchmarkConfig) -> tuple[str, ...]:
    """A note on languages that the folder lacks, unless `config.languages` chooses some."""
    missing = set(PUBLISHED.get(config.name, ())) - set(_files(config.path))
    if config.languages or not missing:
        return ()
    return (
        f"{config.path} lacks {', '.join(sorted(missing))} of {config.name}: averages are over the other languages",
    )


def _articles(path: str, split: Split, languages: tuple[str, ...] | None) -> list[Article]:
    """The articles of one split, language by language in alphabetical order.

    All files are read, because the split must not depend on the chosen languages.
    """
    files = _files(path)
    chosen = check_languages(languages or files, files, f"the folder {path}")
    parsed = [(language, _parse(file, language)) for language, file in files.items()]
    everything = [(language, title, paragraphs) for language, articles in parsed for title, paragraphs in articles]
    clusters = _clusters([paragraphs for *_, paragraphs in everything])
    return [
        Article(language, cluster, _topics().get(title, ""), paragraphs)
        for (language, title, paragraphs), cluster in zip(everything, clusters, strict=True)
        if language in chosen and (split == "all" or SHARES[split][0] <= int(cluster, 16) / 16**16 < SHARES[split][1])
    ]


@cache
def _topics() -> dict[str, str]:
    """Title -> topic, of the articles of XQuAD-R."""
    by_topic = load_yaml(Path(__file__).with_name("xquad_topics.yaml").read_bytes())
    return {title: topic for topic, titles in by_topic.items() for title in titles}


def _files(path: str) -> dict[str, Path]:
    """Language -> file, in alphabetical order."""
    found = sorted(Path(path).glob("*.json")) if path else []
    if not found:
        raise ValueError(f"no LANGUAGE.json found in {path!r}: the path must be a folder as published at {SOURCE}")
    codes = by_code((file.stem for file in found), f"the folder {path}")
    return {code: Path(path, f"{stem}.json") for code, stem in codes.items()}


def _clusters(articles: list[tuple[Paragraph, ...]]) -> list[str]:
    """The name of each article's cluster (16 hexadecimal digits): the articles connected by shared questions."""
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


def _parse(file: Path, language: str) -> list[tuple[str, tuple[Paragraph, ...]]]:
    """Title and paragraphs of each article of a file; `ValueError` with file and place if it is not in the format."""
    place = "data"
    try:
        articles = []
        for a, article in enumerate(json.loads(file.read_text(encoding="utf-8"))["data"]):
            place, paragraphs = f"data[{a}]", []
            for n, paragraph in enumerate(article["paragraphs"]):
                place = f"data[{a}].paragraphs[{n}]"
                paragraphs.append(_paragraph(paragraph, language, f"{a}.{n}", f"{file}: {place}"))
            articles.append((str(article.get("title", "")), tuple(paragraphs)))
        _check_ids([paragraphs for _, paragraphs in articles])
        return articles
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON in UTF-8: {error}. Fetch it again from {SOURCE}") from error
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{file}: {place} is not in LAReQA's format ({error!r}). Fetch it again from {SOURCE}"
        ) from error


def _check_ids(articles: list[tuple[Paragraph, ...]]) -> None:
    """`ValueError` if two questions of a language have the same id: both answers would count as relevant."""
    seen: dict[str, str] = {}
    for question in (question for article in articles for paragraph in article for question in paragraph.questions):
        if (before := seen.setdefault(question.id, question.where)) != question.where:
            where = f"{question.where}: the question id {question.id!r} is already used at {before}"
            raise ValueError(f"{where}. Fetch the file again from {SOURCE}")


def _paragraph(raw: dict[str, Any], language: str, place: str, where: str) -> Paragraph:
    """Checks and converts a paragraph; the ids of its passages begin with `place`."""
    sentences, breaks = raw["sentences"], raw["sentence_breaks"]
    if len(sentences) != len(breaks) or any(len(interval) != 2 for interval in breaks):
        raise ValueError(f"{where} has {len(sentences)} sentences, but the sentence breaks {breaks}")
    questions = []
    for n, qa in enumerate(raw["qas"]):
        start = qa["answers"][0]["answer_start"]
        holding = [i for i, (begin, end) in enumerate(breaks) if begin <= start < end]
        if len(holding) != 1:
            raise ValueError(f"{where}.qas[{n}]: answer_start {start} lies in {len(holding)} sentences instead of one")
        questions.append(Question(qa["id"], qa["question"], holding[0], f"{where}.qas[{n}]"))
    if wrong := [x for x in (*sentences, *(t for q in questions for t in (q.id, q.text))) if not isinstance(x, str)]:
        raise ValueError(f"{where} has {wrong[0]!r} where a string is expected")
    texts = [*sentences, *(question.text for question in questions)]
    if any(map(is_blank, texts)):
        raise ValueError(f"{where} has an empty question or sentence. Fetch the file again from {SOURCE}")
    lengths = [(text, MAX_TEXT) for text in texts] + [(question.id, MAX_NAME) for question in questions]
    if found := next(filter(None, (fault(text, most) for text, most in lengths)), None):
        raise ValueError(f"{where}: {found[0]}: {found[1]}. Fetch the file again from {SOURCE}")
    passages = tuple(Passage(passage_id=f"{place}.{i}", language=language, text=s) for i, s in enumerate(sentences))
    return Paragraph(passages, tuple(questions))
