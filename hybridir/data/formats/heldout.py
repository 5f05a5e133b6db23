"""The validation pairs of a corpus as a benchmark, so that models can be chosen without the test data."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from hybridir.data.config import BenchmarkConfig
from hybridir.data.corpus import Corpus
from hybridir.data.languages import check_languages
from hybridir.data.records import Benchmark, Passage, Query
from hybridir.data.texts import as_read

NAME = "validation"


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The queries and passages of the first `config.groups` validation groups of the corpus in `config.path`.

    Groups are in the order of their hashes; all are used when `groups` is omitted. Relevant to a query are all passages
    of its passage group, in any language. Clusters are passage groups.
    """
    if not config.path:
        raise ValueError("benchmark.path is empty: name the folder of a corpus, CACHE/corpus-...")
    corpus = Corpus.open(config.path)
    there = corpus.languages_of("validation")
    languages = check_languages(config.languages or there, there, "the validation data")
    columns = [corpus.languages.index(code) for code in languages]
    rows_GL = np.asarray(corpus.row_of[:, columns])
    groups = np.flatnonzero(corpus.groups("validation") & (rows_GL >= 0).any(axis=1))[: config.groups]
    queries: list[Query] = []
    passages: dict[tuple[int, str, str], Passage] = {}  # by passage group, language and text as it is read
    pairs = dict(_pairs(corpus, rows_GL[groups]))
    answers: dict[int, list[int]] = {}
    for language, column in zip(languages, rows_GL[groups].T, strict=True):
        for group, row in zip(groups.tolist(), column.tolist(), strict=True):
            if row < 0:
                continue
            pair, answer = pairs[row], int(corpus.passage_group[group])
            text = pair["passage"]["text"]
            name = f"{pair['source']} {pair['group_id']}".strip()
            queries.append(
                Query(
                    query_id=f"{language}:{name}",
                    language=language,
                    text=pair["query"],
                    group_id=name,
                    cluster=str(answer),
                )
            )
            if (key := (answer, language, as_read(text))) not in passages:
                answers.setdefault(answer, []).append(len(passages))
                passages[key] = Passage(passage_id=str(len(passages)), language=language, text=text)
    of_group = {query.group_id: int(query.cluster) for query in queries}
    return Benchmark(
        name=NAME,
        languages=languages,
        queries=tuple(queries),
        passages=tuple(passages.values()),
        relevant=tuple(tuple(answers[of_group[query.group_id]]) for query in queries),
    )


def _pairs(corpus: Corpus, rows: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, pair) for all rows that are not -1, read chunk by chunk."""
    wanted = np.unique(rows[rows >= 0])
    numbers = np.searchsorted(corpus.chunk_start, wanted, side="right") - 1
    for number in np.unique(numbers).tolist():
        own = wanted[numbers == number]
        chunk = corpus.chunk(number).take((own - int(corpus.chunk_start[number])).tolist())
        yield from zip(own.tolist(), chunk.to_pylist(), strict=True)
