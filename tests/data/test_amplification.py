"""Small files that say gigabytes are read or refused within bounds of memory and time."""

import gzip
import json
from pathlib import Path

import amplification
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import pairs_of

from hybridir.data import rows
from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.records import Pair, Rejected
from hybridir.data.sources import find_shards, read_benchmark
from hybridir.runs.corpus import read_corpus

GROWS = "grows to more than"
QUICK = {
    "long domain": GROWS,
    "dictionary in lists": GROWS,
    "positives by negatives": GROWS,
    "trec judgements": GROWS,
    "mmarco": GROWS,
    "embedding ids": GROWS,
    "npy of billions": "mmap length is greater than file size",
    "npy wide": "at most 65536 can be read",
    "row groups": "read",
    "newsqa": "read",
    "entity questions": "rows without an answer",
    "beir without texts": "x unknown id",
}
"""Files that are read or refused within a second, and how."""


@pytest.mark.parametrize(
    "names", [tuple(QUICK), pytest.param(tuple(amplification.FILES.keys() - QUICK.keys()), marks=pytest.mark.slow)]
)
def test_small_files_take_little(names: tuple[str, ...]) -> None:
    for name, size, memory, seconds, end in amplification.measure(names):
        assert size < amplification.SMALL, name
        assert memory < amplification.MOST_MB, name
        assert seconds < amplification.MOST_SECONDS, name
        assert QUICK.get(name, "") in end, name


def test_what_grows_in_good_faith_is_read(tmp_path: Path) -> None:
    """A gzip of one template in many rows, and Parquet with the few languages and passages as dictionaries."""
    lines = [{"group_id": str(n), "language": "en", "query": f"What is number {n}?", "passage": "It is a number."}
             for n in range(20_000)]  # fmt: skip
    with gzip.open(tmp_path / "x.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)
    pq.write_table(pa.Table.from_pylist(lines), tmp_path / "x.parquet", row_group_size=7000)
    for encoding in ("DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"):
        names = ("query", "passage")
        pq.write_table(
            pa.Table.from_pylist(lines),
            tmp_path / f"{encoding}.parquet",
            use_dictionary=False,
            column_encoding=dict.fromkeys(names, encoding),
        )
    for file in tmp_path.iterdir():
        assert file.stat().st_size < 1_000_000
        shards = find_shards(DataConfig(format="jsonl", path=str(file)))
        found = [one for shard in shards for one in shard.read()]
        assert [one.query for one in found if isinstance(one, Pair)] == [line["query"] for line in lines]


def test_long_values_are_cut_where_rows_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"group_id": "1", "language": "en", "query": "q", "passage": "p"}
    changes = [{"domain": "d" * 1001}, {"language": "x" * 5000}, {"negatives": ["a", "b", "c"]}, {"domain": "d" * 1000}]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps(row | change) + "\n" for change in changes), encoding="utf-8")
    monkeypatch.setattr(rows, "MOST_IN_LIST", 2)
    corpus = read_corpus(DataConfig(format="jsonl", path=str(tmp_path / "x.jsonl"), validation_share=0), tmp_path)
    lines = [
        json.loads(line) for line in (corpus.directory / "rejected.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [(line["line"], line["reason"]) for line in lines] == [
        (1, "over-long text"),
        (2, "over-long text"),
        (3, "over-long list"),
    ]
    assert max(len(line["value"]) for line in lines) < 310


WRONG = {
    "UTF-16": ("ü".encode("utf-16") + b"x" * 10, "in UTF-16: convert it to UTF-8"),
    "UTF-16 without a mark": ('{"query"'.encode("utf-16-le"), "in UTF-16LE: .* iconv -f UTF-16LE -t"),
    "UTF-16 by its lines": (
        "\u95ee\u9898,\u7b54\u6848\n\u4e0a,\u95ee\n".encode("utf-16-le"),
        "in UTF-16LE: convert it",
    ),
    "UTF-16, the other way": ("\u95ee\u9898,\u7b54\u6848\r\n\u4e0a\n".encode("utf-16-be"), "in UTF-16BE: convert it"),
    "UTF-32": ("\u95ee".encode("utf-32"), "in UTF-32: convert it to UTF-8, as with iconv -f UTF-32 -t"),
    "UTF-32 without a mark": ('{"query"'.encode("utf-32-le"), "in UTF-32LE: convert it"),
    "UTF-32, the other way": ("\u95ee\u9898".encode("utf-32-be"), "in UTF-32BE: convert it"),
    "gzip": (gzip.compress(b"{}"), "compressed by gzip: unpack it, or, where its name is free"),
    "a workbook": (b"PK\x03\x04....", "a ZIP archive or a workbook .* save it as CSV"),
    "Parquet": (b"PAR1....", "a Parquet file: .* let it end with .parquet"),
    "an array": (b'[{"query": "q"}, {"query": "r"}]', "one JSON value, not an object a line: convert it, as with jq"),
    "an array over lines": (b'[\n{"query": "q"},\n{"query": "r"}\n]', "one JSON value, not an object a line"),
    "an array below a blank line": (b'\xef\xbb\xbf\n [{"query": "q"},\n{"query": "r"}]', "one JSON value"),
    "an array of arrays": (b'[["q", "A"]]\n', "one JSON value"),
    "an empty array": (b"[]", "one JSON value"),
    "an object over lines": (b'{\n"query": "q"}', "one JSON value"),
}


@pytest.mark.parametrize("name", WRONG)
def test_files_that_are_something_else_are_called_by_name(name: str, tmp_path: Path) -> None:
    content, message = WRONG[name]
    (tmp_path / "x.jsonl").write_bytes(content)
    with pytest.raises(ValueError, match=rf"x.jsonl is {message}"):
        pairs_of(Source(format="jsonl", path=str(tmp_path / "x.jsonl")))


@pytest.mark.parametrize("file", ["corpus.jsonl", "queries.jsonl"])
def test_files_of_beir_that_are_something_else_are_called_by_name(file: str, tmp_path: Path) -> None:
    (tmp_path / "qrels").mkdir()
    for split in ("train", "test"):
        (tmp_path / "qrels" / f"{split}.tsv").write_text("q\tp\t1\n", encoding="utf-8")
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "x"}\n', encoding="utf-8")
    (tmp_path / "corpus.jsonl").write_text('{"_id": "p", "text": "x"}\n', encoding="utf-8")
    (tmp_path / file).write_text('[{"_id": "q", "text": "x"}]', encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{file} is one JSON value, not an object a line"):
        pairs_of(Source(format="beir", path=str(tmp_path), language="en"))
    with pytest.raises(ValueError, match=rf"{file} is one JSON value, not an object a line"):
        read_benchmark(BenchmarkConfig(name="beir", path=str(tmp_path), language="en"))


def test_a_broken_row_is_no_other_kind_of_file(tmp_path: Path) -> None:
    lines = [b"[1, 2]", b'{"query": "\0"}', b'{"query": "\xff"}', b'{"query": "q", "passage": "p"}']
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(lines))
    found = pairs_of(Source(format="jsonl", path=str(tmp_path / "x.jsonl"), language="en"))
    reasons = [one.reason for one in found if isinstance(one, Rejected)]
    assert reasons == ["wrong type", "NUL byte", "invalid UTF-8"]


def test_a_file_of_lines_may_be_called_json(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"query": "q", "passage": "p"}\n{"query": "q"}\n', encoding="utf-8")
    good, bad = pairs_of(Source(format="jsonl", path=str(tmp_path / "x.json"), language="en"))
    assert isinstance(good, Pair)
    assert isinstance(bad, Rejected)
