"""Embeddings made elsewhere: what is written is read back; what cannot be right is refused and named."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made import random_benchmark

from hybridir.data.passages import Passages
from hybridir.data.records import Passage
from hybridir.retrieval import embeddings
from hybridir.retrieval.embeddings import holds_embeddings, read_embeddings, write_embeddings

MADE = random_benchmark(np.random.default_rng(0))
QUERY_IDS = [query.query_id for query in MADE.queries]
PASSAGE_IDS = [f"{passage.language}:{passage.passage_id}" for passage in MADE.passages]


@pytest.fixture
def made(tmp_path):
    """(folder, queries, passages): a whole folder in Parquet."""
    rng = np.random.default_rng(1)
    query_QD = rng.normal(size=(len(QUERY_IDS), 8)).astype(np.float32)
    passage_PD = rng.normal(size=(len(PASSAGE_IDS), 8)).astype(np.float32)
    query_QD[3] = 0
    write_embeddings(str(tmp_path / "made"), MADE, query_QD, passage_PD)
    return tmp_path / "made", query_QD, passage_PD


def write_passages(folder, ids, rows, kind):
    columns = {
        "extra": pa.array(range(len(ids))),
        "embedding": pa.array(rows, type=kind),
        "id": pa.array(ids, None if ids else pa.string()),
    }
    pq.write_table(pa.table(columns), folder / "passages.parquet")


def write_npy(folder, ids, rows_ND, side="passages"):
    (folder / f"{side}.parquet").unlink(missing_ok=True)
    np.save(folder / f"{side}.npy", rows_ND)
    (folder / f"{side}.ids.txt").write_text("".join(f"{name}\n" for name in ids), encoding="utf-8")


def error_of(folder):
    with pytest.raises(ValueError, match=r"\w") as caught:
        read_embeddings(str(folder), MADE)
    return str(caught.value)


def test_written_and_read(made):
    folder, query_QD, passage_PD = made
    found = read_embeddings(str(folder), MADE)
    assert np.array_equal(found.query_QD, query_QD)
    assert np.array_equal(found.passage_PD, passage_PD)
    assert found.query_QD.dtype == found.passage_PD.dtype == np.float32
    assert found.notes == ()
    assert sorted(file.name for file in folder.iterdir()) == ["passages.parquet", "queries.parquet"]
    table = pq.read_table(folder / "passages.parquet")
    assert table["id"].to_pylist() == PASSAGE_IDS
    assert table["language"].to_pylist() == [passage.language for passage in MADE.passages]
    assert table["text"].to_pylist() == [passage.text for passage in MADE.passages]


@pytest.mark.parametrize("block", [7, 2**14])
@pytest.mark.parametrize(
    "form", ["npy", pa.list_(pa.float64()), pa.large_list(pa.float16()), pa.list_(pa.float32(), 8)]
)
def test_any_order_and_more_than_is_needed(made, monkeypatch, form, block):
    """In each form: rows in another order, with ten that the benchmark does not have."""
    monkeypatch.setattr(embeddings, "_BLOCK", block)
    folder, _, passage_PD = made
    half = passage_PD.astype(np.float16)  # exact in each type
    ids = np.array([*PASSAGE_IDS, *(f"xx:{n}" for n in range(10))])
    rows_ND = np.concatenate([half, np.ones((10, 8), dtype=np.float16)])
    order = np.random.default_rng(2).permutation(len(ids))
    if form == "npy":
        write_npy(folder, ids[order], np.asfortranarray(rows_ND[order]))
    else:
        rows = rows_ND[order].astype(form.value_type.to_pandas_dtype())
        write_passages(folder, ids[order].tolist(), list(rows), form)
    found = read_embeddings(str(folder), MADE)
    assert np.array_equal(found.passage_PD, half.astype(np.float32))
    assert found.notes == (
        f"10 embeddings in {folder}/passages.{'npy' if form == 'npy' else 'parquet'} are not of "
        "passages of the benchmark: left out",
    )


def test_memory_of_many_passages(tmp_path, monkeypatch):
    """24 bytes a passage for its hash, place and row, besides the embeddings: no string stays."""
    monkeypatch.setattr(embeddings, "_BLOCK", 512)
    count = 20_000
    many = Passages(Passage(passage_id=f"a-passage-{n}", language="en", text="") for n in range(count))
    benchmark = replace(MADE, queries=MADE.queries[:1], passages=many, relevant=((0,),))
    order = np.random.default_rng(0).permutation(count)
    write_npy(tmp_path, [f"en:a-passage-{n}" for n in order], order[:, None].astype(np.float32))
    write_npy(tmp_path, QUERY_IDS[:1], np.ones((1, 1), dtype=np.float32), "queries")
    tracemalloc.start()
    found = read_embeddings(str(tmp_path), benchmark)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.passage_PD[:, 0].tolist() == list(range(count))
    assert peak / count < 100


def test_holds_embeddings(made, tmp_path):
    folder, *_ = made
    assert holds_embeddings(str(folder))
    (folder / "queries.parquet").unlink()
    assert holds_embeddings(str(folder))  # so that the error is about what is missing
    assert not holds_embeddings(str(tmp_path))
    assert not holds_embeddings("intfloat/multilingual-e5-base")


def test_no_name_is_no_folder(made, monkeypatch):
    monkeypatch.chdir(made[0])
    assert not holds_embeddings("")


@pytest.mark.parametrize("block", [7, 2**14])
@pytest.mark.parametrize("form", ["npy", "parquet"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ids, rows: (ids[:-2], rows[:-2]), ["lacks 2 of the 60 passages", PASSAGE_IDS[-2]]),
        (lambda ids, rows: ([*ids[:20], ids[3], *ids[20:]], rows[[0, *range(len(rows))]]), ["row 21", "as row 4"]),
        (lambda ids, rows: (ids, np.where(np.arange(60)[:, None] == 20, np.nan, rows)), ["row 21", "nan"]),
        (lambda ids, rows: (ids, np.where(np.arange(60)[:, None] == 20, -np.inf, rows)), ["row 21", "-inf"]),
        (lambda ids, rows: (ids, np.where(np.arange(60)[:, None] == 20, 1e39, rows)), ["row 21", "inf in float32"]),
        (lambda ids, rows: (ids, rows[:, :5]), ["queries.parquet has the dimension 8", " 5: make both"]),
        (lambda ids, rows: (ids, rows[:, :0]), ["holds no embeddings"]),
        (lambda ids, rows: ([], rows[:0]), ["holds no embeddings"]),
    ],
    ids=["missing", "twice", "nan", "inf", "overflow", "dimension", "no numbers", "no rows"],
)
def test_broken_rows(made, monkeypatch, form, block, change, said):
    monkeypatch.setattr(embeddings, "_BLOCK", block)
    folder, _, passage_PD = made
    ids, rows = change(PASSAGE_IDS, passage_PD.astype(np.float64))
    if form == "npy":
        write_npy(folder, ids, rows)
    else:
        write_passages(folder, ids, list(rows), pa.list_(pa.float64()))
    assert all(part in error_of(folder) for part in [f"passages.{form}", *said])


@pytest.mark.parametrize("block", [7, 2**14])
@pytest.mark.parametrize(
    ("row", "said"),
    [([1.0] * 7, "the dimension 7, the first row 8"), (None, "the dimension 0"), ([1.0] * 7 + [None], "nan")],
)
def test_broken_lists(made, monkeypatch, block, row, said):
    monkeypatch.setattr(embeddings, "_BLOCK", block)
    folder, _, passage_PD = made
    rows = list(passage_PD)
    rows[14] = row
    write_passages(folder, PASSAGE_IDS, rows, pa.list_(pa.float32()))
    message = error_of(folder)
    assert f"row 15 ({PASSAGE_IDS[14]!r})" in message
    assert said in message


def test_broken_columns(made):
    folder, _, passage_PD = made
    write_passages(folder, list(range(60)), list(passage_PD), pa.list_(pa.float32()))
    assert "column id is int64" in error_of(folder)
    write_passages(folder, PASSAGE_IDS, list(range(60)), pa.int64())
    assert "column embedding is int64" in error_of(folder)
    write_passages(folder, PASSAGE_IDS, [[1, 2]] * 60, pa.list_(pa.int8()))
    assert "list<" in error_of(folder)
    write_passages(folder, [*PASSAGE_IDS[:9], None, *PASSAGE_IDS[10:]], list(passage_PD), pa.list_(pa.float32()))
    assert "row 10 has no id" in error_of(folder)
    pq.write_table(pa.table({"name": PASSAGE_IDS}), folder / "passages.parquet")
    assert "no column 'id', only name" in error_of(folder)


def test_broken_files(made):
    folder, _, passage_PD = made
    whole = (folder / "passages.parquet").read_bytes()
    for cut in (b"", whole[:-10], b"PAR1" + whole):
        (folder / "passages.parquet").write_bytes(cut)
        assert "passages.parquet" in error_of(folder)
    write_npy(folder, PASSAGE_IDS, passage_PD)
    whole = (folder / "passages.npy").read_bytes()
    for cut in (b"", whole[:20], whole[:-10]):
        (folder / "passages.npy").write_bytes(cut)
        assert "passages.npy cannot be read" in error_of(folder)
    for wrong in (passage_PD.ravel(), passage_PD.astype(np.int8), passage_PD[None], np.array([["a"]])):
        write_npy(folder, PASSAGE_IDS, wrong)
        assert "save a 2-D array of float16" in error_of(folder)
    write_npy(folder, PASSAGE_IDS[:-1], passage_PD)
    assert "60 rows and passages.ids.txt 59 ids" in error_of(folder)
    write_npy(folder, [*PASSAGE_IDS[:4], "", *PASSAGE_IDS[5:]], passage_PD)
    assert "passages.ids.txt:5 is empty" in error_of(folder)
    (folder / "passages.ids.txt").write_bytes(b"\xff\xfe")
    assert "not UTF-8" in error_of(folder)
    (folder / "passages.ids.txt").unlink()
    assert "passages.ids.txt is missing" in error_of(folder)
    (folder / "passages.npy").unlink()
    assert "neither passages.parquet nor passages.npy" in error_of(folder)


def test_pickles_are_not_opened(made, tmp_path):
    """An array of objects is a pickle, which runs code."""

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    folder, *_ = made
    write_npy(folder, PASSAGE_IDS, np.array([[Evil()]] * 60, dtype=object))
    assert "passages.npy cannot be read" in error_of(folder)
    assert not (tmp_path / "ran").exists()


def test_two_forms_of_one_side(made):
    folder, query_QD, _ = made
    np.save(folder / "queries.npy", query_QD)
    assert "both queries.parquet and queries.npy" in error_of(folder)
