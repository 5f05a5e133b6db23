"""Tuning with a tiny encoder: points, seeds, failures, resume, what its results say; on Ray, where one fails."""

import csv
import json
import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import add_measures, read_lines, small_recipe
from sentence_transformers import SentenceTransformer

from hybridir.data.config import BenchmarkConfig
from hybridir.evaluation.intervals import macro_mean
from hybridir.evaluation.scores import read_scores
from hybridir.evaluation.settings import SETTINGS
from hybridir.evaluation.validation_metrics import METRICS, Metric
from hybridir.experiments.one_run import Runner, arms_here
from hybridir.experiments.tuning import TuneRecipe, points_here
from hybridir.experiments.tuning_job import run_tune
from hybridir.experiments.tuning_results import _decisive, pareto_front
from hybridir.model.config import EncoderConfig
from hybridir.runs.backend import here, track_nothing
from hybridir.runs.recipe import ScalingConfig, TrackingConfig
from hybridir.tracking.follow import follow
from hybridir.tracking.nested import record
from hybridir.training.validation import ValidationConfig

LANGUAGES = ("de", "en", "es")
SPACE = {"alpha": [0.0, 0.5, 1.0]}


def recipe_of(output: Path, cache: Path, **fields: Any) -> TuneRecipe:
    validation = {"metric": "mean", "keep": "last", "retrieval": 500, "languages": ("de", "en")}
    plain = vars(
        small_recipe(
            output,
            cache,
            sampling={"languages": ("de", "en")},
            validation={"every": 4, "batches": 2, "batch_size": 4} | validation,
            scaling={"num_workers": 0},
        )
    )
    ours = {
        "benchmark": BenchmarkConfig(facts=80, languages=LANGUAGES),
        "tracking": TrackingConfig(experiment="tune", system_metrics_every=0),
        "space": SPACE,
    }
    return TuneRecipe(**plain | ours | fields)


def tune(recipe: TuneRecipe, tracked: bool = False) -> tuple[Path, int]:
    tracking = (follow, record) if tracked else (track_nothing, lambda *_: None)
    return run_tune(recipe, points_here(here()), Runner(arms_here(here()), 1, *tracking), here().encode)


def results_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def trained(output: Path) -> dict[str, int]:
    """By run when its weights were written."""
    return {
        str(file.relative_to(output)): file.stat().st_mtime_ns for file in output.glob("arms/*/*/model/*.safetensors")
    }


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three points with two seeds, and one that diverges."""
    output = tmp_path_factory.mktemp("tune") / "out"
    space = {"alpha": [0.0, 0.5, 1.0], "train.lr": [5e-3]}
    recipe = recipe_of(output, cache, space=space, objectives=("crosslingual", "rank_distance"))
    page, failed = tune(recipe, tracked=True)
    assert (page, failed) == (output / "report.html", 0)
    return output


def test_the_winner_is_the_best_on_validation(finished: Path) -> None:
    results = results_of(finished)
    listed = results["trials"]
    assert [one["state"] for one in listed] == ["done"] * 3
    assert [one["seeds"] for one in listed] == [2] * 3
    values = [one["values"]["mean"] for one in listed]
    assert values == sorted(values, reverse=True)
    assert results["winner"]["point"] == listed[0]["point"]
    for one in listed:
        runs = [results_of(folder) for folder in sorted(Path(one["folder"]).glob("seed-*")) if folder.is_dir()]
        means = [np.mean([run[setting]["mAP"] for setting in SETTINGS]) for run in runs]
        assert one["values"]["mean"] == pytest.approx(np.mean(means))
        assert all(run["benchmark"] == "validation" for run in runs)
    assert [lead["baseline"] for lead in results["leads"]] == [one["point"] for one in listed[1:]]
    for lead, one in zip(results["leads"], listed[1:], strict=True):
        assert lead["difference"] == pytest.approx(values[0] - one["values"]["mean"], abs=1e-9)
        assert lead["interval"][0] < lead["difference"] < lead["interval"][1]
    with open(finished / "trials.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["alpha"]) for row in rows] == [one["set"]["alpha"] for one in listed]
    assert [float(row["mean"]) for row in rows] == values


def test_the_best_run_is_measured_on_the_test_and_can_be_used(finished: Path) -> None:
    results, best = results_of(finished), results_of(finished / "best")
    run = Path(results["winner"]["run"])
    ours = [folder for folder in run.parent.glob("seed-*") if folder.is_dir()]
    assert results_of(run)["validation"]["value"] == max(results_of(one)["validation"]["value"] for one in ours)
    assert best["benchmark"] == "sample"
    assert set(best["systems"]) == {"untrained", "BM25"}
    assert best["validation"]["metric"] == "validation.mAP.mean"
    weights = [folder / "model" / "model.safetensors" for folder in (run, finished / "best")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert SentenceTransformer(str(finished / "best" / "model")).encode("x").shape == (32,)
    assert (finished / "best" / "model" / "README.md").exists()
    config = (finished / "best" / "config.yaml").read_text(encoding="utf-8")
    assert "name: sample" in config


def test_runs_stand_below_the_tuning_and_the_winner_is_champion(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    uri = f"sqlite:///{finished.parent / 'mlflow.db'}"
    with closing(sqlite3.connect(finished.parent / "mlflow.db")) as database:
        runs = database.execute("select name, run_uuid, status from runs").fetchall()
        assert len(runs) == 7
        assert [name for name, _, status in runs if status != "FINISHED"] == []
        (tuning,) = [run for name, run, _ in runs if name == "out"]
        parents = database.execute("select value from tags where key = 'mlflow.parentRunId'").fetchall()
        assert parents == [(tuning,)] * 6
        points = "select run_uuid, count(*), count(distinct step) from metrics where key = ? group by run_uuid"
        assert [found[1:] for found in database.execute(points, ("train/loss",)).fetchall()] == [(8, 8)] * 6
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, uri)
    folder = mlflow.artifacts.download_artifacts("models:/hybridir@champion", dst_path=str(tmp_path))
    ours = (finished / "best" / "model" / "model.safetensors").read_bytes()
    assert (Path(folder) / "model.safetensors").read_bytes() == ours
    assert SentenceTransformer(folder).encode("x").shape == (32,)


def test_the_page_says_what_was_found(finished: Path) -> None:
    page = (finished / "report.html").read_text(encoding="utf-8")
    for title in ("The winner", "The winner on the test", "The Pareto front", "The points"):
        assert f">{title}</h2>" in page
    won = results_of(finished)["winner"]["set"]
    assert f"alpha {won['alpha']:g}, train.lr 0.005 has the best" in page
    assert '<th scope="row">0.5 / 0.005</th>' in page  # names that are long stand as values, with their fields beside
    assert (finished / "plots" / "front.csv").exists()


def test_finished_tuning_stays_as_it_is(finished: Path, cache: Path) -> None:
    before, best = trained(finished), (finished / "best" / "results.json").stat().st_mtime_ns
    winner = results_of(finished)["winner"]
    recipe = recipe_of(
        finished,
        cache,
        space={"alpha": [0.0, 0.5, 1.0], "train.lr": [5e-3]},
        objectives=("crosslingual", "rank_distance"),
        resume=True,
    )
    tune(recipe)
    assert trained(finished) == before
    assert (finished / "best" / "results.json").stat().st_mtime_ns == best
    assert results_of(finished)["winner"] == winner
    with pytest.raises(ValueError, match="was started with space"):
        tune(replace(recipe, space={"alpha": [0.0]}))
    with pytest.raises(ValueError, match="holds results already"):
        tune(replace(recipe, resume=False))


def test_a_point_that_fails_is_listed_and_tried_again(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(
        tmp_path / "out",
        cache,
        space={"train.lr": [5e-3, 1e30]},
        seeds=1,
        tracking=TrackingConfig(enabled=False),
    )
    assert tune(recipe)[1] == 1
    results = results_of(tmp_path / "out")
    assert [one["state"] for one in results["trials"]] == ["done", "failed"]
    assert "FloatingPointError" in results["trials"][1]["why"]
    assert "FloatingPointError" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert results["x_name"] == "train.lr"
    capsys.readouterr()
    assert tune(replace(recipe, resume=True))[1] == 1
    told = capsys.readouterr().out
    assert "train.lr=0.005 seed 0 is finished: it stays as it is" in told
    assert "train.lr=1e+30 seed 0 failed and starts again" in told


def test_where_nothing_ends_well_it_says_so(cache: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "out", cache, space={"train.lr": [1e30]}, tracking=TrackingConfig(enabled=False))
    with pytest.raises(ValueError, match="no point has finished"):
        tune(recipe)


@pytest.mark.parametrize("metric", [one for one in METRICS if one != "loss"])
def test_leads_rest_on_values_whose_mean_is_the_metric(metric: Any, finished: Path) -> None:
    results = results_of(finished)
    run = Path(results["winner"]["run"])
    summary = results_of(run)
    column = _decisive(read_scores(run / "per_query.parquet"), metric)
    expected = {
        **{setting: summary[setting]["mAP"] for setting in SETTINGS},
        "mean": np.mean([summary[setting]["mAP"] for setting in SETTINGS]),
        "rank_distance": summary["multilingual"]["rank_distance"],
    }[metric]
    assert macro_mean(column.values_KN[0], column.strata) == pytest.approx(expected, rel=1e-9)


def test_a_new_metric_decides_and_shows_everywhere(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A measure and a validation metric that rests on it, each added by one entry."""
    add_measures(monkeypatch)
    farthest = Metric(title="farthest", short="far", measure="reach", settings=("multilingual",))
    monkeypatch.setitem(METRICS, "farthest", farthest)
    output = tmp_path / "out"
    validation = ValidationConfig(metric="farthest", every=1, batches=2, batch_size=4, retrieval=100)
    recipe = recipe_of(output, cache, space={"alpha": [0.0, 1.0]}, seeds=1, validation=validation)
    tune(replace(recipe, train=replace(recipe.train, steps=2), objectives=("farthest", "mean")))
    results, best = results_of(output), results_of(output / "best")
    winner, other = (one["values"]["farthest"] for one in results["trials"])
    assert winner <= other  # lower is better
    run = Path(results["winner"]["run"])
    history = [line["validation"]["farthest"] for line in read_lines(run / "history.jsonl")]
    assert best["validation"] == best["validation"] | {"metric": "validation.farthest", "value": min(history)}
    assert winner == results_of(run)["multilingual"]["reach"]
    assert results["leads"][0]["difference"] == pytest.approx(winner - other)
    with open(output / "best" / "plots" / "learning_reach.csv", encoding="utf-8") as file:
        assert [float(row["Farthest answer in validation"]) for row in csv.DictReader(file)] == history
    assert "Farthest answer in validation by step" in (output / "best" / "report.html").read_text(encoding="utf-8")
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "has the best farthest (lower is better) in validation" in page
    assert "farthest (lower is better) against mean mAP of the three settings" in page
    with open(output / "trials.csv", encoding="utf-8") as file:
        assert [float(row["farthest"]) for row in csv.DictReader(file)] == [winner, other]
    assert f"farthest {winner:.3f}" in capsys.readouterr().out


def test_the_front_is_what_nothing_beats() -> None:
    random = np.random.default_rng(0)
    points = {
        str(n): {"mean": float(a), "rank_distance": float(b)} for n, (a, b) in enumerate(random.integers(0, 6, (40, 2)))
    }
    front = pareto_front(points, ("mean", "rank_distance"))
    for name, one in points.items():
        beaten = any(
            other["mean"] >= one["mean"] and other["rank_distance"] <= one["rank_distance"] and other != one
            for other in points.values()
        )
        assert (name in front) == (not beaten)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"space": {"trian.lr": [1.0]}}, "there is no section trian"),
        ({"space": {"train.lrr": [1.0]}}, "train has steps, epochs, tokens, batch_size"),
        ({"space": {"train.steps": {"low": 1, "high": 5}}}, "integer"),
        ({"space": {"train.bf16": [1]}}, "the field takes bool"),
        ({"space": {"train.schedule": ["linear", "cosine"]}}, "has the value 'cosine'"),
        ({"space": {"encoder.max_passage_length": {"low": 32, "high": 128}}}, "gives whole numbers"),
        ({"space": {"alpha": [0.5, 1.5]}}, "alpha=1.5: sampling.mono"),
        ({"space": {"validation.every": [1, 2]}}, "could not be compared"),
        ({"space": {"data.facts": [80, 90]}}, "could not be compared"),
        (
            {
                "space": {
                    "loss.temperature": {"low": 0.1, "high": 1},
                    "train.keep_last": {"low": 0, "high": 2, "integer": True},
                }
            },
            "must be at least 1",
        ),
        (
            {"space": {"train.batch_size": {"low": 8, "high": 12, "integer": True}}, "scaling": ScalingConfig()},
            "list the sizes",
        ),
        ({"seeds": 0}, "seeds is 0"),
        ({"finalists": 0}, "finalists is 0"),
        ({"scaling": ScalingConfig(num_workers=0), "stop_early": True}, "but stop_early needs Ray"),
        (
            {"scaling": ScalingConfig(num_workers=0), "space": {"train.lr": {"low": 0.1, "high": 1}}},
            "but a range in space needs Ray",
        ),
    ],
)
def test_what_tuning_refuses(fields: dict[str, Any], says: str, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=says):
        recipe_of(tmp_path / "out", cache, **fields)


@pytest.mark.slow
def test_tuning_on_ray(float64: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process gives, beside a point that fails; GPUs that are not there are refused."""
    from hybridir.on_ray.tuning import ray_tune

    scaling = ScalingConfig(num_workers=1)
    space = {"alpha": [0.5], "train.lr": [5e-3, 1e30]}
    alike = {"seeds": 1, "tracking": TrackingConfig(enabled=False), "encoder": EncoderConfig(name=str(float64))}
    recipe = recipe_of(tmp_path / "out", cache, space=space, scaling=scaling, **alike)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})  # so many CPUs, however many there are
    with ray_tune(scaling) as ray:
        assert ray.at_once == 2
        runner = Runner(ray.start, ray.at_once, track_nothing, lambda *_: None)
        assert run_tune(recipe, ray.try_points, runner, ray.encode)[1] == 1
    done, failed = results_of(tmp_path / "out")["trials"]
    assert (done["state"], failed["state"]) == ("done", "failed")
    assert "FloatingPointError" in failed["why"]
    tune(recipe_of(tmp_path / "here", cache, space={"alpha": [0.5], "train.lr": [5e-3]}, **alike))
    (here_done,) = results_of(tmp_path / "here")["trials"]
    assert done["values"] == pytest.approx(here_done["values"], rel=1e-6)
    assert not (tmp_path / "out" / "ray").exists()
    scaling = ScalingConfig(num_workers=1, use_gpu=True)
    with pytest.raises(ValueError, match="this would never start"), ray_tune(scaling):
        pass
