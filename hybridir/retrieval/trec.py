"""Writes rankings and relevance judgements as TREC files, for trec_eval, ir-measures and similar tools.

A run file has six columns (query, Q0, passage, rank from 1, score, system), a qrels file four (query, 0, passage,
grade; the grade is 1 in a benchmark without grades).
Tools sort by score, and each breaks ties in its own way. So the score column is not the real score: it falls by 1 from
rank to rank, and every tool keeps this project's order. A query without a relevant passage in a setting is left out of
the files of that setting, as it is left out of the measures. A setting without any query has no files.

Shapes: Q queries, J judgements, P passages.
"""

import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from hybridir.data.records import Benchmark
from hybridir.retrieval.search import Ranking
from hybridir.runtime.durable import replaced

_UNSAFE = re.compile(r'[\s%"\x00-\x1f\x7f\ud800-\udfff]')
_FORMAT = pa.csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
_BLOCK = 2**20
"""Lines made at a time."""


def passage_names(benchmark: Benchmark) -> pa.Array:
    """The names of passages in the files: `LANGUAGE:ID`, unique, percent-encoded by `encode`."""
    names = pa.array(map(encode, benchmark.passages.full_ids()), type=pa.large_string())
    assert pc.count_distinct(names).as_py() == len(names), "passage ids are unique within their language"
    return names


def encode(text: str) -> str:
    """Percent-encodes white space, quotes, `%` and control characters; `urllib.parse.unquote` undoes it."""
    return _UNSAFE.sub(lambda found: quote(found[0], safe="", errors="surrogatepass"), text)


def write_runs(ranking: Ranking, benchmark: Benchmark, folder: Path, system: str, depth: int = 100) -> None:
    """Writes `SYSTEM.SETTING.trec` for each setting, with the best `depth` passages of each query.

    Settings are `monolingual`, `multilingual`, and for each language `crosslingual-LANGUAGE`: queries in all other
    languages against the passages of LANGUAGE. `ranking` must hold at least `depth` passages a language.
    """
    assert ranking.top_place.shape[2] >= depth, "rank_all was asked for fewer passages than are to be written"
    tag = encode(system)
    name_Q, name_P = pa.array(_query_names(benchmark)), passage_names(benchmark)
    pooled = ranking.pooled_top()[1]
    for setting, (judgement_J, target_Q) in _settings(benchmark).items():
        queries = np.unique(judgement_J[0])
        place = pooled[queries] if target_Q is None else ranking.top_place[queries, target_Q[queries]]
        lines = _run_lines(name_Q.take(queries), name_P, place[:, :depth], tag)
        _write(folder / f"{tag.replace('/', '%2F')}.{setting}.trec", lines)


def write_qrels(benchmark: Benchmark, folder: Path) -> None:
    """Writes `SETTING.qrels` for the settings of `write_runs`."""
    name_Q, name_P = pa.array(_query_names(benchmark)), passage_names(benchmark)
    for setting, (judgement_J, _) in _settings(benchmark).items():
        query_J, place_J, grade_J = judgement_J
        _write(folder / f"{setting}.qrels", [_table(name_Q.take(query_J), "0", name_P.take(place_J), grade_J)])


def _run_lines(query: pa.Array, name_P: pa.Array, place: np.ndarray, tag: str) -> Iterator[pa.Table]:
    """The lines for the best passages of each query, `place` [queries, depth]; -1 means that there is none."""
    depth = place.shape[1]
    size = max(1, _BLOCK // depth)
    for start in range(0, len(place), size):
        row, rank = np.nonzero(place[start : start + size] >= 0)
        row += start
        yield _table(query.take(row), "Q0", name_P.take(place[row, rank]), rank + 1, depth - rank, tag)


def _query_names(benchmark: Benchmark) -> list[str]:
    names = [encode(query.query_id) for query in benchmark.queries]
    assert len(set(names)) == len(names), "query ids are unique"
    return names


def _settings(benchmark: Benchmark) -> dict[str, tuple[np.ndarray, np.ndarray | None]]:
    """For each setting: query, position of the passage and grade of each judgement [3, J], and language searched [Q].

    Languages are indices into `benchmark.languages`; None if all languages are searched as one pool.
    """
    number = {language: n for n, language in enumerate(benchmark.languages)}
    language_Q = np.array([number[query.language] for query in benchmark.queries], dtype=np.int64)
    query_J = np.repeat(np.arange(len(language_Q)), [len(found) for found in benchmark.relevant])
    place_J = np.array(list(itertools.chain.from_iterable(benchmark.relevant)), dtype=np.int64)
    grade_J = np.array(list(itertools.chain.from_iterable(benchmark.grades)) or [1] * len(place_J), dtype=np.int64)
    own_J, target_J = language_Q[query_J], benchmark.language_P[place_J]
    settings: dict[str, tuple[np.ndarray, np.ndarray | None]] = {
        "monolingual": (own_J == target_J, language_Q),
        "multilingual": (np.ones(len(query_J), dtype=bool), None),
        **{
            f"crosslingual-{language}": ((own_J != n) & (target_J == n), np.full(len(language_Q), n))
            for language, n in number.items()
        },
    }
    return {
        setting: (np.stack([query_J, place_J, grade_J])[:, counts], target_Q)
        for setting, (counts, target_Q) in settings.items()
        if counts.any()
    }


def _table(*columns: pa.Array | np.ndarray | str) -> pa.Table:
    """A table with one row for each line; a string is repeated in all rows."""
    rows = len(columns[0])
    arrays = [pa.repeat(column, rows) if isinstance(column, str) else pa.array(column) for column in columns]
    return pa.table(arrays, names=[str(n) for n in range(len(arrays))])


def _write(path: Path, tables: Iterable[pa.Table]) -> None:
    """Writes the tables one after another into one file, which is either whole or not there."""
    tables = iter(tables)
    first = next(tables)
    with replaced(path) as written, pa.csv.CSVWriter(written, first.schema, write_options=_FORMAT) as writer:
        for table in itertools.chain([first], tables):
            writer.write(table)
