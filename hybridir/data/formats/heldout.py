"""Held-out pairs of a corpus as a benchmark: models are chosen on the validation pairs, and measured on the test pairs.

`validation` has questions and passages of the validation pairs alone, because it is measured often. `heldout` has the
questions of the test pairs, and the passages of all pairs, as in real use.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.data.config import BenchmarkConfig
from hybridir.data.corpus import Corpus
from hybridir.data.languages import check_languages
from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Part, Passage, Query
from hybridir.data.texts import as_read

NAME, TEST = "validation", "heldout"
PARTS: dict[str, Part] = {NAME: "validation", TEST: "test"}
"""The part of a corpus that each benchmark asks for."""
MOST_ASKED, MOST_FOUND = 1000, 2000
"""Groups of `heldout` whose questions are asked if `groups` is omitted, and whose passages are candidates."""


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The queries of the first `config.groups` groups of a part of the corpus in `config.path`, and their candidates.

    Groups are in the order of their hashes. Relevant to a query are all passages of its passage group, in any language.
    Clusters are passage groups.

    Raises:
        ValueError: the folder holds no corpus, or the part has no pairs.
    """
    part = PARTS[config.name]
    if not Path(config.path, "corpus.json").is_file():
        raise ValueError(
            f"benchmark.path is {config.path!r}, which holds no corpus: name the folder of a run, since "
            f"benchmark.name {config.name} is a part of a run's data"
        )
    corpus = Corpus.open(config.path)
    there = corpus.languages_of(part)
    if not there:
        share = "test_share" if config.name == TEST else "validation_share"
        raise ValueError(f"{config.name}: the data has no {part} pairs. Raise data.{share}, or name another benchmark")
    languages = check_languages(config.languages or there, there, f"the {part} data")
    columns = [corpus.languages.index(code) for code in languages]
    rows_GL = np.asarray(corpus.row_of[:, columns])
    has_G = (rows_GL >= 0).any(axis=1)
    whole = np.flatnonzero(corpus.groups(part) & has_G & ~corpus.in_domains(config.without_domains))
    asked = whole[: config.groups or (MOST_ASKED if config.name == TEST else None)]
    others = np.flatnonzero(~corpus.groups(part) & has_G) if config.name == TEST else whole[:0]
    found = np.sort(np.concatenate([asked, others[: max(0, MOST_FOUND - len(asked))]]))
    notes = []
    if config.name == TEST:
        notes = _notes(len(asked), len(whole), len(found), len(asked) + len(others))
    return _benchmark(config.name, corpus, languages, (rows_GL, asked, found), notes)


def _notes(asked: int, held_out: int, found: int, groups: int) -> list[str]:
    notes = []
    if asked < held_out:
        notes.append(f"{asked:,} of {held_out:,} held-out groups are asked: benchmark.groups sets their number")
    if found < groups:
        notes.append(f"the answers are among the passages of {found:,} groups of the data, not of all {groups:,}")
    return notes


def _benchmark(
    name: str,
    corpus: Corpus,
    languages: Sequence[str],
    rows_asked_found: tuple[np.ndarray, np.ndarray, np.ndarray],
    notes: Sequence[str],
) -> Benchmark:
    """Queries of the groups `asked`, passages of the groups `found`; rows [G, L] has a column for each language."""
    rows_GL, asked, found = rows_asked_found
    is_asked = set(asked.tolist())
    queries: dict[str, Query] = {}  # by id: a question with several answers is asked once
    passages: dict[tuple[int, str, str], Passage] = {}  # by passage group, language and text as it is read
    pairs = dict(_pairs(corpus, rows_GL[found]))
    answers: dict[int, list[int]] = {}
    for language, column in zip(languages, rows_GL[found].T, strict=True):
        for group, row in zip(found.tolist(), column.tolist(), strict=True):
            if row < 0:
                continue
            pair, answer = pairs[row], int(corpus.passage_group[group])
            text = pair["passage"]["text"]
            if group in is_asked:
                group_id = f"{pair['source']} {pair['group_id']}".strip()
                query = Query(
                    query_id=f"{language}:{group_id}",
                    language=language,
                    text=pair["query"],
                    group_id=group_id,
                    cluster=str(answer),
                    domain=corpus.domain_names[corpus.domain_of[group]],
                )
                queries.setdefault(query.query_id, query)
            if (key := (answer, language, as_read(text))) not in passages:
                answers.setdefault(answer, []).append(len(passages))
                passages[key] = Passage(passage_id=str(len(passages)), language=language, text=text)
    return Benchmark(
        name=name,
        languages=tuple(languages),
        queries=tuple(queries.values()),
        passages=Passages(passages.values()),
        relevant=tuple(tuple(answers[int(query.cluster)]) for query in queries.values()),
        notes=tuple(notes),
    )


def _pairs(corpus: Corpus, rows: np.ndarray) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row, pair) for all rows that are not -1, read chunk by chunk."""
    wanted = np.unique(rows[rows >= 0])
    numbers = np.searchsorted(corpus.chunk_start, wanted, side="right") - 1
    for number in np.unique(numbers).tolist():
        own = wanted[numbers == number]
        chunk = corpus.chunk(number).take((own - int(corpus.chunk_start[number])).tolist())
        yield from zip(own.tolist(), chunk.to_pylist(), strict=True)
