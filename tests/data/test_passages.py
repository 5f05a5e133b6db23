"""Passages on disk: as a sequence they are like a tuple, and they take next to no memory."""

import json
import re
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers import ROOT

from hybridir.data import passages as module
from hybridir.data.config import BenchmarkConfig
from hybridir.data.passages import Passages
from hybridir.data.records import Benchmark, Passage, benchmark_fingerprint
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.settings import evaluate_scores, summarise
from hybridir.retrieval.bm25 import bm25_scorer

SIZE, LENGTH = 20_000, 1000


def made(n: int, languages: str = "de de zh de en") -> list[Passage]:
    """Interleaved languages; texts with characters of every width, and an empty one."""
    codes = languages.split()
    return [
        Passage(passage_id=f"{i}#ü", language=codes[i % len(codes)], text=f"{'é中😀' * (i % 3)}\n" * (i % 5))
        for i in range(n)
    ]


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three passages a batch, so that each test crosses their borders."""
    monkeypatch.setattr(module, "_ROWS", 3)


@pytest.mark.parametrize("n", [0, 1, 3, 10])
def test_as_a_tuple(n: int, small_batches: None) -> None:
    expected = made(n)
    passages = Passages(expected)
    assert list(passages) == expected
    assert len(passages) == n
    assert [passages[i] for i in range(-n, n)] == [expected[i] for i in range(-n, n)]
    for start in range(-n - 1, n + 2):
        for end in range(-n - 1, n + 2):
            assert list(passages[start:end]) == expected[start:end]
            assert list(passages.texts[start:end]) == [one.text for one in expected[start:end]]
    assert [passages.texts[i] for i in range(n)] == [one.text for one in expected]
    assert list(passages.ids) == [one.passage_id for one in expected]
    assert list(passages.full_ids()) == [one.full_id for one in expected]
    with pytest.raises(IndexError):
        passages[n]
    assert passages == Passages(iter(expected))
    assert passages != Passages([*expected, *made(1)])


def test_languages_parts_and_what_is_kept(small_batches: None) -> None:
    """Each part, and each batch, has languages of its own."""
    expected = made(7) + made(4, "tr zh")
    joined = Passages.joined([Passages(made(7)), Passages(), Passages(made(4, "tr zh"))])
    assert joined == Passages(expected)
    languages = ("zh", "en", "tr", "de")
    assert joined.language_numbers(languages).tolist() == [3, 3, 0, 3, 1, 3, 3, 2, 0, 2, 0]
    assert joined[2:5].language_numbers(("de", "zh", "en")).tolist() == [1, 0, 2]
    with pytest.raises(AssertionError, match="none of the languages"):
        joined.language_numbers(languages[:3])
    for wanted in (range(11), range(0), (0, 2, 3, 7, 10), (4,)):
        kept = joined.kept(np.isin(np.arange(11), wanted))
        assert list(kept) == [expected[i] for i in wanted]


def test_ids_that_are_there_before(small_batches: None, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ["a", "b", "c", "a", "d", "b", "a", "e"]
    passages = Passages(Passage(passage_id=i, language="en", text=str(n)) for n, i in enumerate(ids))
    expected = [(3, 0), (5, 1), (6, 0)]
    assert list(passages.repeats()) == expected
    assert list(passages[:3].repeats()) == []
    monkeypatch.setattr(module, "hash", lambda text: text < "c", raising=False)  # others have the same hash too
    assert list(passages.repeats()) == expected


def test_texts_go_to_other_processes_as_a_list() -> None:
    make, arguments = Passages(made(5000)).texts[10:12].__reduce__()
    assert (make, *arguments) == (list, [one.text for one in made(12)[10:]])


def test_a_long_text_fills_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHARACTERS", 10)
    passages = Passages(Passage(passage_id=str(n), language="en", text="x" * 6) for n in range(5))
    assert [len(batch) for batch in passages._table.to_batches()] == [2, 2, 1]


def test_no_room(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match=r"cannot hold the passages \(File too large\): .*set TMPDIR to a folder"):
            Passages(Passage(passage_id=str(n), language="en", text="x" * 1000) for n in range(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, "07e39cac3583bcc6"),
        ({"facts": 100}, "1e9d52a000ddc4a5"),
        ({"split": "all", "languages": ("de", "zh")}, "83a7e7174c76957f"),
    ],
)
def test_fingerprint_of_the_sample(options: dict[str, Any], expected: str) -> None:
    """Kept results and embeddings name the benchmark by it."""
    assert benchmark_fingerprint(read_benchmark(BenchmarkConfig(**options))) == expected


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkConfig:
    """`SIZE` passages of `LENGTH` characters; query n asks for the word that passage n alone has."""
    folder = tmp_path_factory.mktemp("large")
    (folder / "qrels").mkdir()
    asked = range(0, SIZE, SIZE // 5)
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for n in range(SIZE):
            text = f"word{n} " if n in asked else "river "
            file.write(json.dumps({"_id": f"doc{n}", "text": text + "-" * (LENGTH - len(text))}) + "\n")
    queries = "".join(json.dumps({"_id": str(n), "text": f"which word{n}"}) + "\n" for n in asked)
    (folder / "queries.jsonl").write_text(queries, encoding="utf-8")
    (folder / "qrels" / "test.tsv").write_text("".join(f"{n}\tdoc{n}\t1\n" for n in asked), encoding="utf-8")
    return BenchmarkConfig(name="beir", path=str(folder), language="en")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["beir", "miracl"])
def test_two_million_passages_in_less_than_500_mb(name: str, tmp_path: Path) -> None:
    """Anonymous memory (RssAnon) beyond the imports while they are read, and while the fingerprint is made.

    Slow: minutes. In short: the bytes of 20,000 passages, below.
    """
    script = ROOT / "tests" / "scripts" / "passages.py"
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), "2000000", name], capture_output=True, text=True, check=True
    )
    assert f"{name}: 2,000,000 passages" in done.stdout
    peaks = {what: int(peak) for what, peak in re.findall(rf"{name}, (\w+): peak (\d+) MB", done.stdout)}
    assert set(peaks) == {"reading", "fingerprint"}
    assert max(peaks.values()) < 500


def memory(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` returns, and the most bytes a passage of Python, NumPy and Arrow while it ran."""
    pool = pa.system_memory_pool() if pa.default_memory_pool().max_memory() is None else pa.default_memory_pool()
    before = pool.max_memory()
    tracemalloc.start()
    result = work()
    peak = tracemalloc.get_traced_memory()[1] + pool.max_memory() - before
    tracemalloc.stop()
    return result, peak / SIZE


def test_memory_and_numbers_of_many_passages(large: BenchmarkConfig) -> None:
    """A batch of 1024 passages is held as text and as Arrow, 1024 / 20,000 of 2 x 1 KB each, and 16 bytes of hashes."""
    benchmark, reading = memory(lambda: read_benchmark(large))
    assert isinstance(benchmark, Benchmark)
    assert len(benchmark.passages) == SIZE
    print(f"{reading:.0f} bytes a passage")
    assert reading < 400
    _, fingerprint = memory(lambda: benchmark_fingerprint(benchmark))
    assert fingerprint < 200
    found = summarise(evaluate_scores(bm25_scorer(benchmark), benchmark), benchmark)
    assert found["monolingual"]["mAP"] == found["monolingual"]["R@1"] == 1
    assert found["monolingual"]["n_queries"] == 5
