"""What reading files of less than 1 MB that say gigabytes takes: python tests/scripts/amplification.py [NAME ...].

Makes each file in a temporary folder, reads it in a process of its own, and prints its size, the peak of resident
memory beyond what the imports take, the seconds of a CPU, and how it ended. With names, only these files.
"""

import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROW = {"group_id": "1", "language": "en", "query": "q", "passage": "p"}
MOST_MB, MOST_SECONDS = 1000, 20
ROOT = str(Path(__file__).parents[2])


def lines(path: Path, rows: list[Any], times: int = 1) -> None:
    """A gzip of JSON lines."""
    text = "".join(json.dumps(row) + "\n" for row in rows)
    with gzip.open(path, "wt", compresslevel=9) as file:
        for _ in range(times):
            file.write(text)


def long_field(name: str) -> Callable[[Path], dict[str, str]]:
    """Rows with a long value in one field."""

    def write(folder: Path) -> dict[str, str]:
        lines(folder / "x.jsonl.gz", [ROW | {name: "x" * 9_000_000}], 95)
        return {"format": "jsonl", "path": str(folder)}

    return write


def empty_lines(folder: Path) -> dict[str, str]:
    (folder / "x.jsonl.gz").write_bytes(gzip.compress(b"\n" * 900_000_000, 9))
    return {"format": "jsonl", "path": str(folder)}


def many_rows(folder: Path) -> dict[str, str]:
    lines(folder / "x.jsonl.gz", [ROW | {"group_id": str(n)} for n in range(1000)], 300)
    return {"format": "jsonl", "path": str(folder)}


def languages_by_rows(folder: Path) -> dict[str, str]:
    """Every language that there is, and many groups: the index has a number for each of both."""
    from hybridir.data.languages import known_languages

    codes = sorted(known_languages())
    with gzip.open(folder / "x.csv.gz", "wt", compresslevel=9) as file:
        file.write("language,query,passage\n" + "".join(f"{code},q,p\n" for code in codes) + "en,q,p\n" * 200_000)
    return {"format": "csv", "path": str(folder)}


def many_negatives(folder: Path) -> dict[str, str]:
    (folder / "x.jsonl").write_text(json.dumps(ROW | {"negatives": ["a"] * 190_000}), encoding="utf-8")
    return {"format": "jsonl", "path": str(folder)}


def positives_by_negatives(folder: Path) -> dict[str, str]:
    some = [[{"docid": f"{side}{n}", "text": f"{side}{n:050}"} for n in range(4000)] for side in "pn"]
    row = {"query_id": "1", "query": "q", "language": "en", "positive_passages": some[0], "negative_passages": some[1]}
    (folder / "x.jsonl").write_text(json.dumps(row), encoding="utf-8")
    return {"format": "tevatron", "path": str(folder)}


def parquet(folder: Path, **columns: Any) -> dict[str, str]:
    length = max(len(column) for column in columns.values())
    table = {name: [value] * length for name, value in ROW.items()} | columns
    pq.write_table(pa.table(table), folder / "x.parquet", compression="zstd", dictionary_pagesize_limit=100_000_000)
    return {"format": "parquet", "path": str(folder)}


def encoded(text: str, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([text]))


def dictionary(folder: Path) -> dict[str, str]:
    return parquet(folder, passage=encoded("p" * 3_000_000, 100_000))


def dictionary_in_lists(folder: Path) -> dict[str, str]:
    offsets = pa.array(range(0, 1_000_001, 10), pa.int32())
    return parquet(folder, negatives=pa.ListArray.from_arrays(offsets, encoded("n" * 300_000, 1_000_000)))


def delta(folder: Path) -> dict[str, str]:
    file = folder / "x.parquet"
    table = pa.table({name: [value] * 3000 for name, value in ROW.items()} | {"passage": ["p" * 50_000] * 3000})
    pq.write_table(
        table, file, compression="zstd", use_dictionary=False, column_encoding={"passage": "DELTA_BYTE_ARRAY"}
    )
    return {"format": "parquet", "path": str(folder)}


def csv_cell(folder: Path) -> dict[str, str]:
    cell = b"x" * 9_000_000
    (folder / "x.csv.gz").write_bytes(gzip.compress(b"query,passage,language\n" + (cell + b",p,en\n") * 95, 9))
    return {"format": "csv", "path": str(folder)}


def beir(folder: Path) -> dict[str, str]:
    texts = [{"_id": str(n), "text": f"{n:050}"} for n in range(6000)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in texts), encoding="utf-8")
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "q"}\n', encoding="utf-8")
    (folder / "qrels").mkdir()
    (folder / "qrels" / "train.tsv").write_text("".join(f"q\t{n}\t{n % 2}\n" for n in range(6000)), encoding="utf-8")
    return {"format": "beir", "path": str(folder), "language": "en"}


def miracl(folder: Path) -> dict[str, str]:
    root = folder / "miracl-v1.0-sw"
    for name, text in (("topics", "1\tq\n"), ("qrels", "1\tQ0\td\t1\n")):
        (root / name).mkdir(parents=True)
        (root / name / f"{name}.miracl-v1.0-sw-dev.tsv").write_text(text, encoding="utf-8")
    (folder / "miracl-corpus-v1.0-sw").mkdir()
    path = folder / "miracl-corpus-v1.0-sw" / "docs-0.jsonl.gz"
    with gzip.open(path, "wt", compresslevel=9) as file:
        file.writelines(json.dumps({"docid": f"{n}", "text": "t" * 9_000_000}) + "\n" for n in range(95))
    return {"benchmark": "miracl", "path": str(folder)}


def embeddings(folder: Path) -> dict[str, str]:
    column = pa.ListArray.from_arrays(pa.array([0, 150_000_000], pa.int32()), np.ones(150_000_000, dtype=np.float32))
    pq.write_table(pa.table({"id": ["en:1"], "embedding": column}), folder / "queries.parquet", compression="zstd")
    return {"embeddings": str(folder / "queries.parquet")}


def embedding_ids(folder: Path) -> dict[str, str]:
    table = pa.table({"id": ["x" * 300_000] * 1000, "embedding": [[1.0]] * 1000})
    pq.write_table(table, folder / "queries.parquet", compression="zstd", dictionary_pagesize_limit=100_000_000)
    return {"embeddings": str(folder / "queries.parquet")}


FILES: dict[str, Callable[[Path], dict[str, str]]] = {
    **{f"long {name}": long_field(name) for name in ("language", "domain", "passage_id", "query")},
    **{
        one.__name__.replace("_", " "): one
        for one in (
            empty_lines,
            many_rows,
            languages_by_rows,
            many_negatives,
            positives_by_negatives,
            dictionary,
            dictionary_in_lists,
            delta,
            csv_cell,
            beir,
            miracl,
            embeddings,
            embedding_ids,
        )
    },
}


def read(what: dict[str, str]) -> None:
    """Reads one of the files; prints what it took."""
    from hybridir.data.build import build_corpus
    from hybridir.data.config import BenchmarkConfig, DataConfig
    from hybridir.data.intake import read_here
    from hybridir.data.sources import find_shards, read_benchmark
    from hybridir.retrieval import embeddings as of_embeddings

    before, began = peak(), time.process_time()
    try:
        if "benchmark" in what:
            read_benchmark(BenchmarkConfig(name=what["benchmark"], path=what["path"]))
        elif "embeddings" in what:
            of_embeddings._read(Path(what["embeddings"]), ["en:1"], "queries")
        else:
            with tempfile.TemporaryDirectory() as work:
                build_corpus(read_here(find_shards(DataConfig(**what))), Path(work) / "corpus")
        end = "read"
    except ValueError as error:
        end = f"refused: {error}"
    print(json.dumps([peak() - before, time.process_time() - began, end.replace("\n", " ")]))


def peak() -> float:
    """High-water mark of resident memory, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def measure(name: str) -> tuple[int, float, float, str]:
    """(bytes of the file, MB, seconds, how it ended) of one of `FILES`."""
    with tempfile.TemporaryDirectory() as folder:
        what = FILES[name](Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        try:
            command = [sys.executable, __file__, json.dumps(what)]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=60, check=False, env={"PYTHONPATH": ROOT} | os.environ
            )
        except subprocess.TimeoutExpired:
            return size, float("nan"), 60, "stopped"
    if done.returncode:
        return size, float("nan"), float("nan"), f"failed: {done.stderr[-100:]!r}"
    return size, *json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    if sys.argv[1:] and sys.argv[1].startswith("{"):
        read(json.loads(sys.argv[1]))
    else:
        print(f"{'file':24} {'KB':>7} {'MB':>7} {'s':>6}")
        for name in sys.argv[1:] or FILES:
            size, memory, seconds, end = measure(name)
            print(f"{name:24} {size / 1000:7.0f} {memory:7.0f} {seconds:6.1f} {end[:100]}", flush=True)
