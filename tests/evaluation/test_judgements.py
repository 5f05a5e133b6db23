"""Graded judgements, and queries that are passages themselves, from BEIR's files to the numbers."""

import json
from pathlib import Path
from typing import Any

import ir_measures
import numpy as np
import pytest

from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark, benchmark_fingerprint
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.settings import evaluate_scores, measure, summarise
from hybridir.retrieval import search
from hybridir.retrieval.dot import Scorer
from hybridir.retrieval.search import rank_all
from hybridir.retrieval.trec import write_qrels, write_runs
from hybridir.runs.results import write_results


def beir(folder: Path, queries: dict[str, str], corpus: dict[str, tuple[str, str]], qrels: list[str]) -> Benchmark:
    """`corpus`: id -> title and text; `qrels`: lines with spaces for tabs."""
    (folder / "qrels").mkdir(parents=True)
    rows: dict[str, list[dict[str, Any]]] = {
        "corpus": [{"_id": i, "title": title, "text": text} for i, (title, text) in corpus.items()],
        "queries": [{"_id": i, "text": text} for i, text in queries.items()],
    }
    for name, lines in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    lines = ["query-id corpus-id score", *qrels]
    (folder / "qrels" / "test.tsv").write_text(
        "".join(f"{line}\n" for line in lines).replace(" ", "\t"), encoding="utf-8"
    )
    return read_benchmark(BenchmarkConfig(name="beir", path=str(folder), language="en"))


def scorer(score_QP: np.ndarray) -> Scorer:
    return lambda queries, passages: score_QP[queries, passages]


@pytest.fixture
def graded(tmp_path: Path) -> Benchmark:
    """30 queries over 40 passages, each with up to 14 judgements of 0 to 3, some written as 2.0."""
    rng = np.random.default_rng(0)
    qrels = [
        f"q{q} p{p} {grade}" + ".0" * (p % 2)
        for q in range(30)
        for p, grade in zip(rng.permutation(40)[:14], rng.integers(4, size=14), strict=True)
    ]
    corpus = {f"p{p}": ("", f"passage {p}") for p in range(40)}
    return beir(tmp_path / "graded", {f"q{q}": f"query {q}" for q in range(30)}, corpus, qrels)


def test_graded_ndcg_is_that_of_ir_measures(graded: Benchmark, tmp_path: Path) -> None:
    """With ties, and over the files that an evaluation writes, in which the grades stand."""
    rng = np.random.default_rng(1)
    ranking = rank_all(scorer(rng.integers(6, size=(30, 40)).astype(np.float32)), graded, depth=40)
    scores = measure(ranking, graded)
    write_runs(ranking, graded, tmp_path, "ours", depth=40)
    write_qrels(graded, tmp_path)
    theirs = {
        (str(one.measure), one.query_id): one.value
        for one in ir_measures.iter_calc(
            [ir_measures.nDCG @ 10, ir_measures.AP, ir_measures.R @ 10],
            ir_measures.read_trec_qrels(str(tmp_path / "monolingual.qrels")),
            ir_measures.read_trec_run(str(tmp_path / "ours.monolingual.trec")),
        )
    }
    rows = scores.rows["setting"] == "monolingual"
    for ours, other in (("nDCG@10", "nDCG@10"), ("mAP", "AP"), ("R@10", "R@10")):
        found = dict(zip(scores.rows["query_id"][rows].tolist(), scores.values[ours][0, rows].tolist(), strict=True))
        assert found == pytest.approx({query: value for (name, query), value in theirs.items() if name == other})
    binary = Benchmark(**{**vars(graded), "grades": ()})
    assert summarise(measure(ranking, binary), binary)["monolingual"]["nDCG@10"] != pytest.approx(
        summarise(scores, graded)["monolingual"]["nDCG@10"], abs=0.01
    )


def test_results_say_that_a_set_is_graded(graded: Benchmark, tmp_path: Path) -> None:
    write_results(graded, {"ours": [rank_all(scorer(np.zeros((30, 40), np.float32)), graded, 10)]}, tmp_path, {})
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert results["grades"].keys() == {"1", "2", "3"}
    assert sum(results["grades"].values()) == sum(map(len, graded.relevant))
    assert "nDCG takes the grade as gain" in results["notes"][-1]
    assert "nDCG takes the grade as gain" in (tmp_path / "table.md").read_text(encoding="utf-8")


def test_ndcg_by_hand(tmp_path: Path) -> None:
    """Grades 3 and 1 at ranks 2 and 1."""
    made = beir(tmp_path / "made", {"q": "one"}, {"a": ("", "x"), "b": ("", "y")}, ["q a 3", "q b 1.0"])
    found = summarise(evaluate_scores(scorer(np.array([[1, 2]], np.float32)), made), made)["monolingual"]
    assert found["nDCG@10"] == pytest.approx((1 + 3 / np.log2(3)) / (3 + 1 / np.log2(3)))
    assert found["mAP"] == 1


def test_grades_that_do_not_differ_are_none(tmp_path: Path) -> None:
    made = beir(tmp_path / "made", {"q": "one"}, {"a": ("", "x"), "b": ("", "y")}, ["q a 2", "q b 2", "q b 2.0"])
    assert (made.grades, made.notes) == ((), ())


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["q a 1", "q b 1.5"], r"test\.tsv:3: broken line: .*1\.5"),
        (["q a 1", "q a inf"], r"test\.tsv:3: broken line"),
        (["q a 1", "q a nan"], r"test\.tsv:3: broken line"),
        (["q a 1", "q a 2"], r"test\.tsv:3: passage 'a' has the score 2 for query 'q', and 1 in line 2"),
    ],
)
def test_grades_that_are_none_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        beir(tmp_path / "made", {"q": "one"}, {"a": ("", "x"), "b": ("", "y")}, lines)


# Queries that are passages


@pytest.fixture
def arguments(tmp_path: Path) -> Benchmark:
    """As ArguAna: `1` is the passage without its title, in NFD and other white space; `2` shares the id alone; `3` is
    the passage, and judged relevant; `4` has the text of another id; `5` ends as its passage does."""
    queries = {"1": "cafe\u0301  is\u00a0good ", "2": "other", "3": "trains", "4": "tea", "5": "it rains"}
    corpus = {"1": ("A title", "caf\u00e9 is good"), "2": ("", "another"), "3": ("T", "trains"), "4": ("", "coffee")}
    corpus |= {"5": ("", "they say it rains"), "6": ("", "tea")}
    return beir(tmp_path / "own", queries, corpus, ["1 2 1", "2 3 1", "3 3 1", "4 6 1", "5 6 1"])


def test_own_passages_are_known_by_id_and_text(arguments: Benchmark) -> None:
    assert arguments.own == (0, -1, -1, -1, -1)
    assert arguments.notes[-1].startswith("1 of 5 queries are passages themselves")
    with_own = Benchmark(**{**vars(arguments), "own": ()})
    assert benchmark_fingerprint(arguments) != benchmark_fingerprint(with_own)


@pytest.mark.parametrize("shard", [2, 65536])
def test_own_passages_are_left_out(
    arguments: Benchmark, shard: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The own passage scores best; without it, the answers of query 1 come first. Lists and run files lack it too."""
    monkeypatch.setattr(search, "PASSAGE_SHARD", shard)
    score_QP = np.array([[9, 5, 1, 2, 3, 4]] * 5, dtype=np.float32)
    kept = score_QP.copy()
    ranking = rank_all(scorer(score_QP), arguments, depth=6)
    assert (score_QP == kept).all()
    assert (1 + ranking.above[:, 0]).tolist() == [1, 6, 6, 3, 3]
    assert ranking.top_place[0, 0].tolist() == [1, 5, 4, 3, 2, -1]
    assert ranking.top_place[1, 0].tolist() == [0, 1, 5, 4, 3, 2]
    write_runs(ranking, arguments, tmp_path, "ours", depth=6)
    lines = (tmp_path / "ours.monolingual.trec").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 5 + 4 * 6
    assert not [line for line in lines if line.startswith("en:1 Q0 en:1 ")]
    write_results(arguments, {"ours": [ranking]}, tmp_path, {})
    assert "each is ranked without its own passage" in (tmp_path / "table.md").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["notes"] == list(arguments.notes)
