"""The scores of every query as a Parquet file, to take intervals, comparisons and plots of one's own from."""

import os
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from hybridir.data.records import Benchmark
from hybridir.evaluation.comparisons import Scores


def write_per_query(scores: Mapping[str, Scores], benchmark: Benchmark, path: Path) -> None:
    """Writes a row for each system (the keys of `scores`), seed, query, setting and language of the passages.

    Columns: `system`, `seed` (from 1), `query_id`, `query_language`, `passage_language` ("" in the multilingual
    setting), `setting`, `group_id`, `cluster`, and a float64 one for each measure, null where it is not defined.
    """
    named = [(system, n, found) for system, seeds in scores.items() for n, found in enumerate(seeds, start=1)]
    rows = [(system, one, benchmark.queries[one.query]) for system, _, found in named for one in found]
    texts = {
        "system": [system for system, _, _ in rows],
        "query_id": [query.query_id for _, _, query in rows],
        "query_language": [query.language for _, _, query in rows],
        "passage_language": [one.passage_language for _, one, _ in rows],
        "setting": [one.setting for _, one, _ in rows],
        "group_id": [query.group_id for _, _, query in rows],
        "cluster": [query.cluster for _, _, query in rows],
    }
    columns = {name: pa.array(values, type=pa.string()).dictionary_encode() for name, values in texts.items()}
    columns["seed"] = pa.array([n for _, n, found in named for _ in found], type=pa.int32())
    for measure in dict.fromkeys(name for _, one, _ in rows for name in one.values):
        columns[measure] = pa.array([one.values.get(measure) for _, one, _ in rows], type=pa.float64())
    work = path.with_name(f".{path.name}.tmp")
    pa.parquet.write_table(pa.table(columns), work, compression="zstd")
    os.replace(work, path)
