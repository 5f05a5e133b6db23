"""The format of a source follows from its name, or from what lies in the folder."""

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import XQUAD_R

from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.formats.recognise import format_of
from hybridir.data.sources import read_benchmark, with_format

OURS = {"group_id": "1", "language": "de", "query": "q", "passage": "p"}
TEVATRON = {"query_id": "1", "query": "q", "positive_passages": [], "negative_passages": []}
ANCHORS = {"anchor": "q", "positive": "p"}


def found(path: Path) -> str:
    return format_of(Source(path=str(path)), ("jsonl", "csv"))


def write(path: Path, row: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist([row]), path)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(json.dumps(row).encode()))
    else:
        separator = {".csv": ",", ".tsv": "\t"}.get(path.suffix)
        path.write_text(separator.join(row) if separator else json.dumps(row) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "row", "expected"),
    [
        ("a.jsonl", OURS, "jsonl"),
        ("a.json", OURS, "jsonl"),
        ("a.JSONL", OURS, "jsonl"),
        ("a.jsonl.gz", OURS, "jsonl"),
        ("a.csv", {}, "csv"),
        ("a.csv.gz", {}, "csv"),
        ("a.tsv", OURS, "tsv"),
        ("a.csv", ANCHORS, "sentence-transformers"),
        ("a.tsv", ANCHORS, "sentence-transformers"),
        ("a.parquet", OURS, "parquet"),
        ("a.jsonl", TEVATRON, "tevatron"),
        ("a.jsonl.gz", TEVATRON, "tevatron"),
        (
            "a.parquet",
            TEVATRON | {"positive_passages": [{"text": "p"}], "negative_passages": [{"text": "n"}]},
            "tevatron",
        ),
        ("a.jsonl", ANCHORS, "sentence-transformers"),
        ("a.parquet", ANCHORS, "sentence-transformers"),
    ],
)
def test_files(name: str, row: dict[str, Any], expected: str, tmp_path: Path) -> None:
    file = write(tmp_path / "data" / name, row)
    (tmp_path / "data" / "README.md").write_text("no data", encoding="utf-8")
    assert found(file) == found(file.parent) == expected
    assert with_format(DataConfig(path=str(file), languages=("de",))).format == expected


def test_folders(tmp_path: Path) -> None:
    for name in ("corpus", "queries"):
        write(tmp_path / "beir" / f"{name}.jsonl", {"_id": "1", "text": "t"})
    (tmp_path / "beir" / "qrels").mkdir()
    assert found(tmp_path / "beir") == "beir"
    for name in ("collections", "queries"):
        (tmp_path / "google" / name).mkdir(parents=True)
    assert found(tmp_path / "google") == "mmarco"
    write(tmp_path / "rows" / "de.json", OURS)  # a language code as a name makes no XQuAD-R
    assert found(tmp_path / "rows") == "jsonl"
    write(tmp_path / "parallel" / "pairs.de.jsonl", OURS)
    assert found(tmp_path / "parallel" / "pairs.{language}.jsonl") == "jsonl"
    assert format_of(Source(), ()) == "sample"


@pytest.mark.skipif(not XQUAD_R.exists(), reason="../shared/xquad-r is absent")
def test_published_questions() -> None:
    assert found(XQUAD_R) == "lareqa"


def test_what_cannot_be_told_is_said(tmp_path: Path) -> None:
    write(tmp_path / "mixed" / "a.jsonl", OURS)
    write(tmp_path / "mixed" / "b.csv", {})
    (tmp_path / "a.txt").write_text("", encoding="utf-8")
    (tmp_path / "none").mkdir()
    for path, why in {
        "a.txt": r"its name does not end with \.jsonl, .*one of jsonl, csv",
        "mixed": "the folder holds csv and jsonl files.*Name it by data.format",
        "none": "holds none of its files",
        "gone.csv": "does not exist",
    }.items():
        with pytest.raises(ValueError, match=why):
            found(tmp_path / path)
    with pytest.raises(ValueError, match="a dataset of the hub does not say"):
        format_of(Source(path="hf://datasets/a/b"), ("jsonl",))


def test_a_path_and_the_sample_contradict() -> None:
    with pytest.raises(ValueError, match=r"data\.path is 'a.jsonl', but data.format is sample"):
        DataConfig(format="sample", path="a.jsonl")


def test_typos_are_mended() -> None:
    with pytest.raises(ValueError, match=r"data.format 'jsnol' is unknown \(did you mean jsonl\?\)"):
        with_format(Source(format="jsnol", path="a"))
    with pytest.raises(ValueError, match=r"benchmark.name 'XQuAD-R' is unknown \(did you mean xquad-r\?\)"):
        read_benchmark(BenchmarkConfig(name="XQuAD-R"))
