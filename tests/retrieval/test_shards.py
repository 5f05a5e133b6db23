"""Indexes in shards: made, killed, extended, searched as in memory, exported."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_nearest import assert_same, made, unit, vectors

from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage
from hybridir.retrieval import export as exports
from hybridir.retrieval import sharded
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.export import FORMS, export
from hybridir.retrieval.nearest import rank_vectors, top_k
from hybridir.retrieval.sharded import Means, Sharded, at_a_time, rank_sharded, top_k_sharded
from hybridir.retrieval.shards import Index, Shard, lay_out, open_index

DIMENSION = 300
MADE_OF = {"weights": "0123", "dtype": "float32"}


def vector_of(language: str, name: str) -> np.ndarray:
    """A stand-in for an encoder."""
    return unit(np.random.default_rng([int(name), *language.encode()]), 1, DIMENSION)[0]


def fill(index: Index) -> list[int]:
    """Writes the vectors that are not there; returns the numbers of their shards."""
    waiting = index.waiting()
    for shard in waiting:
        index.write(shard, np.stack([vector_of(shard.language, name) for name in index.passages(shard)[0]]))
    return [shard.number for shard in waiting]


def corpus(*keys: tuple[str, int]) -> Passages:
    return Passages(Passage(passage_id=str(n), language=x, text=f"text {n} in {x}") for x, n in keys)


def places_of(index: Index) -> dict[str, int]:
    """`LANGUAGE:ID` -> position, of the passages that are there."""
    return {
        f"{shard.language}:{name}": shard.places[row]
        for shard in index.shards
        for row, name in enumerate(index.passages(shard)[0])
        if row not in shard.dropped
    }


def of_benchmark(folder: Path, benchmark: Benchmark, passages_PD: np.ndarray, dtype: str) -> Sharded:
    """Its vectors in shards of 130."""
    index = lay_out(folder, MADE_OF | {"dtype": dtype}, benchmark.passages, 130)
    places = [np.array([int(name) for name in index.passages(shard)[0]]) for shard in index.shards]
    for shard, place_S in zip(index.shards, places, strict=True):
        index.write(shard, passages_PD[place_S])
    return Sharded(index, {x: n for n, x in enumerate(benchmark.languages)}, places)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("kind", ["plain", "copies"])
def test_ranks_are_those_in_memory(tmp_path: Path, kind: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, also in several passes and parts; languages are interleaved, so positions are not those of rows."""
    rng = np.random.default_rng(0)
    benchmark, queries, passages = made(rng, interleaved=True), unit(rng, 90), vectors(rng, kind)
    there = of_benchmark(tmp_path, benchmark, passages, dtype)
    expected = rank_vectors(queries, passages.astype(dtype), benchmark, 7)
    assert_same(rank_sharded(queries, there, benchmark, 7), expected)
    monkeypatch.setattr(sharded, "at_a_time", lambda *_: 40)
    everything = Sharded(there._index, there._index.together(), [places for _, places in there._shards])
    best = top_k(queries, passages.astype(dtype), 9)
    for workers in (1, 2, 5, 99):  # more than there are shards
        assert_same(rank_sharded(queries, there, benchmark, 7, Means(workers=workers)), expected)
        for ours, theirs in zip(top_k_sharded(queries, everything, 9, Means(workers=workers)), best, strict=True):
            assert np.array_equal(ours, theirs)
    without = rank_vectors(queries, passages.astype(dtype), benchmark)
    assert np.array_equal(rank_sharded(queries, there, benchmark, 0, Means(workers=3)).above, without.above)


def test_extended_and_dropped(tmp_path: Path) -> None:
    """What stays keeps vector and position; what is new is encoded; what is gone, or has another text, is not found."""
    keys = [(x, n) for x in ("de", "en") for n in range(10)]
    index = lay_out(tmp_path, MADE_OF, corpus(*keys), 4)
    assert [(shard.language, shard.rows) for shard in index.shards] == [(x, n) for x in ("de", "en") for n in (4, 4, 2)]
    assert fill(index) == [0, 1, 2, 3, 4, 5]
    before = places_of(index)
    gone = {("de", 1), *(("en", n) for n in range(4))}
    kept = [key for key in keys if key not in gone]
    index = lay_out(tmp_path, MADE_OF, corpus(*reversed(kept), ("fr", 3), ("en", 77)), 4)
    assert fill(index) == [6, 7]
    assert not (tmp_path / "vectors" / "00003.npy").exists()
    now = places_of(index)
    assert {name: now[name] for name in now if name in before} == {f"{x}:{n}": before[f"{x}:{n}"] for x, n in kept}
    assert set(now) - set(before) == {"fr:3", "en:77"}
    assert len(open_index(tmp_path)) == len(kept) + 2
    vectors = Sharded(index, index.together())
    for x, n in [*kept, ("fr", 3), ("en", 77)]:
        scores, places = top_k_sharded(vector_of(x, str(n))[None], vectors, 1)
        assert index.passages_at([int(places[0, 0])])[0] == (x, str(n), f"text {n} in {x}")
        assert scores[0, 0] > 0.999
    for x, n in gone:
        found = top_k_sharded(vector_of(x, str(n))[None], vectors, 99)[1][0]
        assert sorted(found[found >= 0].tolist()) == sorted(now.values())
    only_french = Sharded(index, index.together(["fr"]))
    assert top_k_sharded(vector_of("de", "5")[None], only_french, 2)[1].tolist() == [[now["fr:3"], -1]]
    with pytest.raises(ValueError, match="no passages in 'zz', only in"):
        index.together(["zz"])


def test_passages_are_read_by_position(tmp_path: Path) -> None:
    """From whichever part of their shards, in any order, also twice."""
    index = lay_out(tmp_path, MADE_OF, corpus(*[("en", n) for n in range(2500)]), 2400)
    places = {0: 0, 1023: 1023, 1024: 1024, 2399: 2399, 2400: 65536, 2499: 65635}
    for n, place in places.items():
        assert index.passages_at([place]) == [("en", str(n), f"text {n} in en")]
    asked = [2499, 0, 1024, 0, 2400]
    assert index.passages_at([places[n] for n in asked]) == [("en", str(n), f"text {n} in en") for n in asked]


def test_killed_while_it_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard is there only with its description, which comes last; what was left is removed, and written again."""
    passages = corpus(*[("en", n) for n in range(12)])
    index = lay_out(tmp_path, MADE_OF, passages, 4)
    first, second, third = index.shards
    vector_SD = np.stack([vector_of("en", str(n)) for n in range(4)])
    index.write(first, vector_SD)
    (tmp_path / "vectors" / ".00001.npy.abc.tmp").write_bytes(b"half")
    np.save(tmp_path / "vectors" / "00002.npy", vector_SD)  # killed before the description
    index = lay_out(tmp_path, MADE_OF, passages, 4)
    assert index.waiting() == [second, third]
    with pytest.raises(ValueError, match="not complete: continue"):
        Sharded(index, index.together()).at(np.array([4 + 65536]))
    assert fill(index) == [1, 2]
    assert not list((tmp_path / "vectors").glob("*.tmp"))
    found = np.load(tmp_path / "vectors" / "00002.npy")
    assert np.array_equal(found, np.stack([vector_of("en", str(n)) for n in range(8, 12)]))


def test_stale_and_damaged_vectors_are_refused(tmp_path: Path) -> None:
    passages = corpus(*[("en", n) for n in range(6)])
    index = lay_out(tmp_path, MADE_OF, passages, 4)
    fill(index)
    with pytest.raises(ValueError, match=r"made of something else \(weights differs\)"):
        lay_out(tmp_path, MADE_OF | {"weights": "other"}, passages, 4)
    stale = replace(index, made_of=MADE_OF | {"weights": "other"})
    with pytest.raises(ValueError, match=r"00000.json describes vectors of another model"):
        list(Sharded(stale, stale.together()).blocks())
    other_text = replace(index, shards=(replace(index.shards[0], texts="else"), index.shards[1]))
    with pytest.raises(ValueError, match=r"00000.json describes vectors of another model"):
        other_text.waiting()
    file = tmp_path / "vectors" / "00001.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"00001.npy is damaged: remove it"):
        list(Sharded(index, index.together()).blocks())
    file.unlink()
    assert fill(index) == [1]
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is damaged"):
        open_index(tmp_path)


def test_float16_that_overflows_is_refused(tmp_path: Path) -> None:
    index = lay_out(tmp_path, MADE_OF | {"dtype": "float16"}, corpus(("en", 0)), 4)
    with pytest.raises(ValueError, match="does not fit into float16"):
        index.write(index.shards[0], np.full((1, 3), 70_000, dtype=np.float32))


def test_memory_decides_how_many_queries_at_a_time(tmp_path: Path) -> None:
    index = lay_out(tmp_path, MADE_OF, corpus(*[("en", n) for n in range(6)]), 4)
    fill(index)
    vectors = Sharded(index, index.together())
    assert vectors.memory == 2 * 4 * DIMENSION * 4  # two buffers of four rows
    assert at_a_time((50, DIMENSION), vectors, 100, memory=1000) == 50
    some = at_a_time((10**7, DIMENSION), vectors, 100, memory=200)
    assert 1024 <= some < 10**5
    assert at_a_time((10**7, DIMENSION), vectors, 100, memory=400) > 2 * some
    with pytest.raises(ValueError, match=r"retrieval\.memory is 5 MB: this search takes"):
        at_a_time((50, DIMENSION), vectors, 100, memory=5)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_exports(tmp_path: Path, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs read the vectors of exactly the passages that are there."""
    faiss = pytest.importorskip("faiss")
    pq = pytest.importorskip("pyarrow.parquet")
    keys = [(x, n) for x in ("de", "en") for n in range(60)]
    made_of = MADE_OF | {"dtype": dtype}
    fill(lay_out(tmp_path, made_of, corpus(*keys), 32))
    index = lay_out(tmp_path, made_of, corpus(*keys[3:]), 32)
    expected = np.stack([vector_of(x, str(n)) for x, n in keys[3:]]).astype(dtype)
    names = [f"{x}:{n}" for x, n in keys[3:]]
    folder = tmp_path / "export"
    monkeypatch.setattr(exports, "SAMPLED", 20)
    found = {form: export(index, form, folder, RetrievalConfig(dtype=dtype)) for form in FORMS}
    assert np.array_equal(np.load(folder / "passages.npy"), expected)
    assert np.load(folder / "passages.npy").dtype == dtype
    assert (folder / "passages.ids.txt").read_text(encoding="utf-8").split() == names
    table = pq.read_table(folder / "passages.parquet")
    assert table["id"].to_pylist() == names
    assert table["text"][0].as_py() == "text 3 in de"
    assert np.array_equal(np.stack(table["embedding"].to_numpy()), expected)
    assert found["flat"] == {"file": "flat.faiss", "recall@10": 1.0}
    assert 0 < found["ivf"]["recall@10"] <= 1
    assert found["hnsw"]["recall@10"] > 0.9
    flat = faiss.read_index(str(folder / "flat.faiss"))
    assert flat.search(expected[:5].astype(np.float32), 1)[1][:, 0].tolist() == [0, 1, 2, 3, 4]


def test_the_recall_of_cells_with_few_passages(tmp_path: Path) -> None:
    """Each of the three passages far from the others finds itself and two more; faiss fills up with -1."""
    pytest.importorskip("faiss")
    spread_N = np.arange(76) * (0.2 + 0.001 * np.arange(76))  # no two are equally far from a third
    angle_N = np.radians([88, 89.1, 90, *spread_N, 24])
    index = lay_out(tmp_path, MADE_OF, corpus(*(("de", n) for n in range(80))), 80)
    (shard,) = index.shards
    index.write(shard, np.stack([np.cos(angle_N), np.sin(angle_N)], axis=1).astype(np.float32))
    found = export(index, "ivf", tmp_path / "export", RetrievalConfig())
    assert found["recall@10"] == pytest.approx((77 + 3 * 0.3) / 80)  # the last passage is among their best ten


def test_the_manifest_says_what_is_there(tmp_path: Path) -> None:
    lay_out(tmp_path, MADE_OF, corpus(("en", 0)), 4)
    shard = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["shards"][0]
    assert Shard(**shard | {"dropped": ()}).places == range(0, 1)
    assert (shard["language"], shard["rows"], shard["dropped"]) == ("en", 1, [])
