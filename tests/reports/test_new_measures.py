"""A measure that is added to `MEASURES` or `BIAS`, by one entry, shows wherever measures are shown."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from helpers import add_measures
from test_model_card import changed, run  # noqa: F401

from hybridir.data.config import BenchmarkConfig
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.bias_summary import bias_results
from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.scores import write_scores
from hybridir.evaluation.settings import measure, summarise
from hybridir.experiments.claims import Claim, Part
from hybridir.experiments.study_results import Finished, study_results
from hybridir.reports.html.pages import write_study
from hybridir.retrieval.bm25 import bm25_scorer
from hybridir.retrieval.search import rank_all
from hybridir.runs.results import write_json, write_results
from hybridir.tracking.result_metrics import numbers_of

BENCHMARK = BenchmarkConfig(facts=60, languages=("de", "en", "es"))


def test_in_an_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    add_measures(monkeypatch)
    monkeypatch.setenv("COLUMNS", "200")
    made = read_benchmark(BENCHMARK)
    rankings = {"BM25": [rank_all(bm25_scorer(made), made, 10)], "none": [rank_all(zeros, made, 10)]}
    write_results(made, rankings, tmp_path, {})
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    values = [results["monolingual"]["P@3"], results["multilingual"]["P@3"], results["multilingual"]["reach"]]
    assert 0 < values[0] <= 1 / 3 < values[1] <= 1
    assert values[2] >= 3  # three answers: the last has rank 3 at best
    for setting, name in (("monolingual", "P@3"), ("multilingual", "P@3"), ("multilingual", "reach")):
        low, high = results["intervals"][setting][name]["interval"]
        assert low <= results[setting][name] <= high
        assert results["per_language"]["de"][setting][name] >= 0
    assert {("P@3", "multilingual"), ("reach", "multilingual")} <= {
        (row["measure"], row["setting"]) for row in results["comparisons"]
    }
    assert {"P@3", "reach"} <= set(pyarrow.parquet.read_schema(tmp_path / "per_query.parquet").names)
    screen, table = capsys.readouterr().out, (tmp_path / "table.md").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    for shown in (screen, table, page):
        assert f"{values[0]:.3f}" in shown
    assert "Precision" in screen  # its title goes on in the next line
    for shown in (table, page):
        assert "Precision of three" in shown
        assert "Farthest answer" in shown
        assert f"{values[2]:.1f}" in shown
        assert "Share of de, in all" in shown
    assert results["bias"]["of_de"] == {"in all": 1 / 3}
    numbers = numbers_of(results)
    assert numbers["result/monolingual/P_at_3"] == values[0]
    assert numbers["result/multilingual/reach"] == values[2]
    assert numbers["result/bias/of_de in all"] == 1 / 3


def zeros(queries: slice, passages: slice) -> np.ndarray:
    return np.zeros((queries.stop - queries.start, passages.stop - passages.start), dtype=np.float32)


def test_in_a_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arms of two seeds, measured as its runs are; a claim can be about the measure."""
    add_measures(monkeypatch)
    worst = replace(MEASURES["reach"], title="worst rank", needs=())  # in each setting
    monkeypatch.setitem(MEASURES, "worst", worst)
    made = read_benchmark(BENCHMARK)
    arms = []
    for name, scorer in (("BM25", bm25_scorer(made)), ("none", zeros)):
        folders = {seed: tmp_path / name / str(seed) for seed in (0, 1)}
        for folder in folders.values():
            folder.mkdir(parents=True)
            ranking = rank_all(scorer, made, 10)
            scores = measure(ranking, made)
            write_scores({name: scores}, folder / "per_query.parquet")
            summary = summarise(scores, made)
            training = {"training": dict.fromkeys(("step", "tokens", "seconds"), 1)}
            write_json(summary | {"bias": bias_results(ranking, made, summary)} | training, folder)
            (folder / "history.jsonl").touch()
        arms.append(Finished(name=name, about="", x=None, folders=folders, errors={}))
    parts = (Part(arm="BM25", baseline="none", setting="multilingual", relation="better", measure="reach"),)
    facts: dict[str, Any] = {
        "title": "Small",
        "about": "",
        "reference": "BM25",
        "seeds": [0, 1],
        "sources": {"own": "Own"},
        "trained_languages": ["de", "en"],
        "zero_shot_languages": ["es"],
        "margin": {"most": 0.01, "share": 0.05},
    }
    claims = [Claim(id="one", text="It reaches less far.", source="own", parts=parts)]
    results = study_results(arms, claims, facts)
    arm = results["arms"]["BM25"]
    low, high = arm["intervals"]["multilingual"]["reach"]
    assert low <= arm["multilingual"]["reach"] <= high
    assert arm["groups"]["zero-shot"]["multilingual"].keys() >= {"P@3", "reach"}
    assert results["claims"][0]["verdict"] == "holds"  # lower is better
    assert arm["bias"]["of_de in all"] == {"mean": 1 / 3, "least": 1 / 3, "greatest": 1 / 3}
    write_study(results, tmp_path)
    for shown in (tmp_path / "report.html", tmp_path / "table.md"):
        text = shown.read_text(encoding="utf-8")
        assert "Multilingual Precision of three" in text
        assert "Farthest answer (lower is better)" in text
        assert "Higher is better, except for worst rank, rank distance and Farthest answer." in text
        assert "Share of de, in all (best at the share of de)" in text
    assert numbers_of(results)["result/none/multilingual/reach"] == results["arms"]["none"]["multilingual"]["reach"]


def test_in_a_model_card(changed: Any, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    add_measures(monkeypatch)
    found = json.loads((run / "results.json").read_text(encoding="utf-8"))
    pooled = found["multilingual"] | {"P@3": 0.125, "reach": 7.25}
    text = changed({}, {"multilingual": pooled, "bias": found["bias"] | {"of_de": {"in all": 0.375}}}).text
    assert "| multilingual | Precision of three | 0.125 |" in text
    assert "| Farthest answer of parallel answers | 7.2 |" in text
    assert "| Share of de, in all (best at the share of de) | 0.375 |" in text
