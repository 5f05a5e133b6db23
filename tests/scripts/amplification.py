"""What reading files of less than 1 MB that say gigabytes takes: python tests/scripts/amplification.py [NAME ...].

Makes the files in temporary folders, reads them in another process, and prints for each its size, the peak of resident
memory beyond what was in use before, the seconds of a CPU, and how it ended. With names, only these files.

"now": all files in one go, on 2026-11-29, with two cores that others used too. "before": the same day and machine, one
file at a time, at 7ce0a4c, the commit before the first bound of growth, with

    git worktree add --detach before 7ce0a4c; cd before
    (ulimit -v 6000000; PYTHONPATH=$PWD timeout 100 python ../tests/scripts/amplification.py NAME)

    file                       now             before
    long language               60 MB  0.2 s     60 MB   4.1 s
    long domain                 58 MB  0.2 s     67 MB   4.7 s
    dictionary                   2 MB  0.0 s   MemoryError at 6 GB of address space
    many negatives               0 MB  0.0 s     79 MB   1.7 s
    mmarco                      30 MB  0.4 s    120 MB  30.4 s
    mmarco without queries      12 MB  1.5 s   over 60 s of a CPU (`ulimit -t 60`)
    row groups                   0 MB  0.7 s     63 MB  24.8 s
    the most memory: delta     169 MB  0.7 s
    the most time: miracl repeats      9.7 s

Lengths of fields other than texts were bounded some commits earlier: before, at 6381797, `long language` took 3420 MB
and 19.6 s.

Counting costs little: the first 40,000 pairs of `reading.py`, read by `build_corpus(read_here(shards), folder)` in one
process, took 2.17 to 2.56 s of a CPU without bounds and 2.25 to 2.64 s with them (four times by turns; 4 % more).
"""

import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROW = {"group_id": "1", "language": "en", "query": "q", "passage": "p"}
SMALL, MOST_MB, MOST_SECONDS = 1_000_000, 1000, 20
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
    from babel import Locale

    codes = sorted(Locale.parse("en").languages)
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


def beir_without_texts(folder: Path) -> dict[str, str]:
    """Every positive lacks, and so does every negative."""
    what = beir(folder)
    (folder / "corpus.jsonl").write_text('{"_id": "x", "text": "x"}\n')
    (folder / "qrels" / "train.tsv").write_text("".join(f"q\t{n}\t{n % 2}\n" for n in range(80_000)))
    return what


def trec_judgements(folder: Path) -> dict[str, str]:
    what = beir(folder)
    (folder / "qrels" / "train.tsv").write_text("".join(f"q\tQ0\t{n}\t{n % 2}\n" for n in range(6000)))
    return what


def mmarco_of(folder: Path, texts: str, triples: str) -> dict[str, str]:
    for name, text in (
        ("collections/english_collection.tsv", texts),
        ("queries/train/english_queries.train.tsv", "1\tq\n"),
        ("triples.train.ids.small.tsv", triples),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return {"format": "mmarco", "path": str(folder)}


def mmarco(folder: Path) -> dict[str, str]:
    """Every passage is a positive of one query, with the same long passage as negative."""
    texts = "0\t" + "n" * 400_000 + "\n" + "".join(f"{n}\tp{n}\n" for n in range(1, 10_000))
    return mmarco_of(folder, texts, "".join(f"1\t{n}\t0\n" for n in range(1, 10_000)))


def mmarco_without_queries(folder: Path) -> dict[str, str]:
    texts = "0\t" + "n" * 400_000 + "\n1\tp\n"
    return mmarco_of(folder, texts, "".join(f"{n}\t1\t0\n" for n in range(2, 50_000)))


def mmarco_without_positives(folder: Path) -> dict[str, str]:
    texts = "0\t" + "n" * 400_000 + "\n"
    what = mmarco_of(folder, texts, "".join(f"{n}\t1\t0\n" for n in range(2, 24_000)))
    (folder / "queries/train/english_queries.train.tsv").write_text("".join(f"{n}\tq\n" for n in range(2, 24_000)))
    return what


def mmarco_repeats(folder: Path) -> dict[str, str]:
    texts = "0\t" + "n" * 500_000 + "\n" + "0\tm\n" * 100_000
    return mmarco_of(folder, texts, "1\t0\t0\n")


def scored_negatives(folder: Path) -> dict[str, str]:
    some = [{"docid": f"n{n}", "text": f"n{n}"} for n in range(10_000)]
    row = {"query_id": "1", "query": "q", "language": "en", "positive_passages": [{"docid": "p", "text": "p"}]}
    lines(folder / "x.jsonl.gz", [row | {"negative_passages": some, "negative_scores": [1] * len(some)}], 15)
    return {"format": "tevatron", "path": str(folder)}


def long_passage_with_negatives(folder: Path) -> dict[str, str]:
    row = ROW | {"passage": "n " * 4_000_000, "negatives": [f"n{n}" for n in range(10_000)]}
    lines(folder / "x.jsonl.gz", [row], 3)
    return {"format": "jsonl", "path": str(folder)}


def unknown_languages(folder: Path) -> dict[str, str]:
    lines(folder / "x.jsonl.gz", [ROW | {"language": f"x{n}"} for n in range(100_000)])
    return {"format": "jsonl", "path": str(folder)}


def row_groups(folder: Path) -> dict[str, str]:
    table = pa.table({name: [value] * 800 for name, value in ROW.items()})
    pq.write_table(table, folder / "x.parquet", row_group_size=1, compression="zstd", write_statistics=False)
    return {"format": "parquet", "path": str(folder)}


def newsqa(folder: Path) -> dict[str, str]:
    question = {"q": "q", "consensus": {"s": 250_000, "e": 250_001}}
    story = {"storyId": "1", "type": "train", "text": "n " * 250_000, "questions": [question] * 9000}
    (folder / "x.json").write_text(json.dumps({"data": [story], "version": "1"}))
    return {"format": "newsqa", "path": str(folder)}


def entity_questions(folder: Path) -> dict[str, str]:
    (folder / "x.json").write_text("[" + ",".join(['{"question":"q","ctxs":[]}'] * 35_000) + "]")
    return {"format": "entity-questions", "path": str(folder)}


def duorc(folder: Path) -> dict[str, str]:
    row = {"plot_id": "1", "plot": "n " * 4_000_000, "question_id": "1", "question": "q", "no_answer": False}
    lines(folder / "x.jsonl.gz", [row | {"answers": [f"n {n}" for n in range(10_000)]}], 3)
    return {"format": "duorc", "path": str(folder)}


def lareqa(folder: Path) -> dict[str, str]:
    """Every other sentence of a paragraph is a negative of each of its questions."""
    sentences = [f"S{n}." for n in range(8000)]
    text, ends = " ".join(sentences), []
    for one in sentences:
        ends.append([ends[-1][1] + 1 if ends else 0, (ends[-1][1] + 1 if ends else 0) + len(one)])
    questions = [{"id": str(n), "question": "q", "answers": [{"text": "S0", "answer_start": 0}]} for n in range(8000)]
    paragraph = {"context": text, "sentences": sentences, "sentence_breaks": ends, "qas": questions}
    (folder / "en.json").write_text(json.dumps({"data": [{"title": "t", "paragraphs": [paragraph]}]}))
    return {"format": "lareqa", "path": str(folder)}


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


def miracl_repeats(folder: Path) -> dict[str, str]:
    what = miracl(folder)
    lines(folder / "miracl-corpus-v1.0-sw" / "docs-0.jsonl.gz", [{"docid": "d", "text": "t"}], 230_000)
    return what


def npy(folder: Path, shape: tuple[int, ...], ids: str) -> dict[str, str]:
    """An array of which only the shape is right."""
    with (folder / "queries.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": shape})
        file.write(bytes(900_000))
    (folder / "queries.ids.txt").write_text(ids)
    return {"embeddings": str(folder / "queries.npy")}


def npy_of_billions(folder: Path) -> dict[str, str]:
    return npy(folder, (10**9, 8), "en:1\n")


def npy_wide(folder: Path) -> dict[str, str]:
    return npy(folder, (1, 450_000), "en:1\n")


def npy_without_numbers(folder: Path) -> dict[str, str]:
    return npy(folder, (9000, 0), "\n".join(map(str, range(9000))))


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
            beir_without_texts,
            trec_judgements,
            mmarco,
            mmarco_without_queries,
            mmarco_without_positives,
            mmarco_repeats,
            scored_negatives,
            long_passage_with_negatives,
            unknown_languages,
            row_groups,
            newsqa,
            entity_questions,
            duorc,
            lareqa,
            miracl,
            miracl_repeats,
            embeddings,
            embedding_ids,
            npy_of_billions,
            npy_wide,
            npy_without_numbers,
        )
    },
}


def read(what: dict[str, str]) -> tuple[float, float, str]:
    """(MB, seconds, how it ended) of reading one of the files."""
    from hybridir.data.build import build_corpus
    from hybridir.data.config import BenchmarkConfig, DataConfig
    from hybridir.data.intake import read_here
    from hybridir.data.sources import find_shards, read_benchmark
    from hybridir.retrieval import embeddings as of_embeddings

    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")  # the peak counts from here
    before, began = memory("VmRSS"), time.process_time()
    try:
        if "benchmark" in what:
            read_benchmark(BenchmarkConfig(name=what["benchmark"], path=what["path"]))
        elif "embeddings" in what:
            of_embeddings._read(Path(what["embeddings"]), lambda: ["en:1"], "queries")
        else:
            with tempfile.TemporaryDirectory() as work:
                build_corpus(read_here(find_shards(DataConfig(**what))), Path(work) / "corpus")
        end = "read"
    except ValueError as error:
        end = f"refused: {error}"
    return memory("VmHWM") - before, time.process_time() - began, end.replace("\n", " ")


def memory(which: str) -> float:
    """Resident memory of this process in MB: now (VmRSS), or at its peak (VmHWM)."""
    return int(Path("/proc/self/status").read_text(encoding="utf-8").partition(f"{which}:")[2].split()[0]) / 1000


def measure(names: Iterable[str]) -> Iterator[tuple[str, int, float, float, str]]:
    """(name, bytes of the file, MB, seconds, how it ended) of each of these files of `FILES`."""
    command = [sys.executable, __file__, "-"]
    environment = {"PYTHONPATH": ROOT} | os.environ
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment) as reader:
        assert reader.stdin
        assert reader.stdout
        for name in names:
            with tempfile.TemporaryDirectory() as folder:
                what = FILES[name](Path(folder))
                size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
                print(json.dumps(what), file=reader.stdin, flush=True)
                yield name, size, *json.loads(reader.stdout.readline())
        reader.stdin.close()


if __name__ == "__main__":
    if sys.argv[1:] == ["-"]:
        for line in sys.stdin:
            print(json.dumps(read(json.loads(line))), flush=True)
    else:
        print(f"{'file':28} {'KB':>7} {'MB':>7} {'s':>6}", flush=True)
        for name, size, megabytes, seconds, end in measure(sys.argv[1:] or FILES):
            print(f"{name:28} {size / 1000:7.0f} {megabytes:7.0f} {seconds:6.1f} {end[:100]}", flush=True)
