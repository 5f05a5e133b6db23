"""An evaluation with attacked queries, on a model and on BM25."""

import json
from pathlib import Path

import numpy as np
import pytest

from hybridir.data.config import BenchmarkConfig
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.settings import evaluate_scores
from hybridir.model.config import EncoderConfig
from hybridir.retrieval.bm25 import bm25_scorer
from hybridir.retrieval.encode import encode_here
from hybridir.retrieval.systems import ranker
from hybridir.runs.attack_run import AttackConfig, chosen, judge_of
from hybridir.runs.backend import track_nothing
from hybridir.runs.evaluation_run import Evaluation, run_evaluation
from hybridir.runs.prepare import Prepared

BENCHMARK = BenchmarkConfig(facts=60, languages=("de", "en"), split="test")


def test_the_judge_ranks_as_the_evaluation_does() -> None:
    benchmark = read_benchmark(BENCHMARK)
    places = chosen(benchmark, AttackConfig(queries=20))
    rank = ranker(EncoderConfig(name="bm25"), benchmark, encode_here, Path("unused"))
    found = judge_of(benchmark, places, rank)(range(20), [benchmark.queries[n].text for n in places])
    scores = evaluate_scores(bm25_scorer(benchmark), benchmark)
    own = scores.rows["setting"] == "monolingual"
    rr = dict(zip(scores.rows["query_id"][own].tolist(), scores.values["RR@10"][0, own].tolist(), strict=True))
    assert found.rr.tolist() == [rr[benchmark.queries[n].query_id] for n in places]
    assert ((found.margin > 0) <= (found.rr == 1)).all()
    assert ((found.margin < 0) <= (found.rr < 1)).all()
    languages = [benchmark.queries[n].language for n in places]
    assert (languages.count("de"), languages.count("en")) == (10, 10)


def test_an_attack_in_an_evaluation(small_run: Prepared, tmp_path: Path) -> None:
    wanted = Evaluation(
        encoder=EncoderConfig(name="bm25"),
        compare_to=(small_run.initial.name,),
        benchmark=BENCHMARK,
        attack=AttackConfig(queries=24, edits=1, candidates=16),
        run_depth=0,
        output=str(tmp_path / "out"),
    )
    run_evaluation(wanted, encode_here, track_nothing)
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))["attack"]
    assert found["queries"] == 24
    for of in found["systems"].values():
        assert of["attack"]["RR@10"] <= of["plain"]
        assert of["attack"]["texts"] == pytest.approx(of["best_of_m"]["texts"])
        assert of["random"]["texts"] <= 1
        assert of["search"].keys() == {"success"}
        more = of["won"] / 24 * (of["attack"]["success"] - of["best_of_m"]["success"])  # 12 queries in each language
        assert np.isclose(of["search"]["success"]["difference"], more)
    bm25 = found["systems"]["BM25"]
    assert bm25["attack"]["success"] >= bm25["random"]["success"]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "Attacked queries" in page


def test_embeddings_made_elsewhere_cannot_be_attacked(tmp_path: Path) -> None:
    (tmp_path / "queries.npy").touch()
    wanted = Evaluation(
        encoder=EncoderConfig(name=str(tmp_path)),
        benchmark=BENCHMARK,
        attack=AttackConfig(queries=1),
        output=str(tmp_path / "out"),
    )
    with pytest.raises(ValueError, match="holds embeddings of the plain queries, which an attack changes"):
        run_evaluation(wanted, encode_here, track_nothing)
