"""A study with a tiny encoder: arms, averages, failures, resume, what its results say, on Ray and in MLflow."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from helpers import ROOT, job, small_recipe

from hybridir.data.config import BenchmarkConfig
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.conditions import Condition, under
from hybridir.evaluation.intervals import seed_interval
from hybridir.evaluation.settings import evaluate_encoder, summarise
from hybridir.experiments.claims import Claim, Part
from hybridir.experiments.one_run import ArmRun, arms_here
from hybridir.experiments.quick import check_quick, shortened
from hybridir.experiments.studies import STUDIES
from hybridir.experiments.study import Arm, Study, StudyRecipe, arm_runs, chosen_arms
from hybridir.experiments.study_job import Runner, run_study
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.transforms import mean_of_weights, truncate
from hybridir.retrieval.encode import encode_here
from hybridir.runs.backend import here, track_nothing
from hybridir.runs.recipe import ScalingConfig, TrackingConfig
from hybridir.runtime.history import read_history
from hybridir.tracking.follow import follow
from hybridir.tracking.nested import record

LANGUAGES = ("de", "en", "es")


def arms(recipe: StudyRecipe) -> list[Arm]:
    return [
        Arm(name="mono", about="one language", changes={"sampling": {"mono": 1.0, "cross": 0.0}}),
        Arm(name="cross", about="two languages", changes={"sampling": {"mono": 0.0, "cross": 1.0}}),
        Arm(name="mean", about="of both", made_of=("mono", "cross")),
    ]


NOISE = Condition(perturbation="delete")
NOISES = tuple(replace(NOISE, seed=seed) for seed in range(6))
LOST = {"delete one": 1.0, "": -1.0}


def study_of(*more: Arm) -> Study:
    parts = (Part(arm="cross", baseline="mono", setting="crosslingual", relation="better"),)
    claims = (
        Claim(id="one", text="Cross is better.", source="paper", parts=parts),
        Claim(id="two", text="Missing.", source="sceptic", parts=(replace(parts[0], baseline="gone"),)),
        Claim(
            id="three",
            text="Cross is less biased in languages that it was not trained on.",
            source="sceptic",
            parts=(replace(parts[0], setting="multilingual", measure="rank_distance", languages="zero-shot"),),
        ),
        Claim(
            id="noise",
            text="Cross loses less, and more than nothing.",
            source="sceptic",
            parts=(
                replace(parts[0], conditions=LOST),
                Part(
                    arm="cross",
                    baseline="cross",
                    setting="monolingual",
                    relation="not worse",
                    conditions={"delete one": 1.0},
                    baseline_conditions={"": 1.0},
                ),
            ),
        ),
    )
    return Study(
        name="small",
        title="A small study",
        about="",
        reference="cross",
        arms=lambda r: [*arms(r), *more],
        claims=claims,
        conditions=(NOISE,),
    )


BROKEN = Arm(name="broken", about="diverges", changes={"train": {"lr": 1e30}})


def recipe_of(output: Path, cache: Path, **fields: Any) -> StudyRecipe:
    plain = vars(small_recipe(output, cache, sampling={"languages": ("de", "en")}))
    ours = {"benchmark": BenchmarkConfig(facts=80, languages=LANGUAGES), "tracking": TrackingConfig(enabled=False)}
    return StudyRecipe(**plain | ours | {"seeds": 2, "conditions": ()} | fields)


def record_nothing(config: TrackingConfig, output: Path, study: Path) -> None:
    pass


def in_process(start: Any = None) -> Runner:
    return Runner(start or arms_here(here()), 1, track_nothing, record_nothing)


def results_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def finished(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three arms with two seeds, and one that fails."""
    output = tmp_path_factory.mktemp("study") / "out"
    page, failed = run_study(study_of(BROKEN), recipe_of(output, cache), in_process())
    assert (page, failed) == (output / "report.html", 2)
    return output


def test_arms_and_claims(finished: Path) -> None:
    results = results_of(finished)
    assert list(results["arms"]) == ["mono", "cross", "mean", "broken"]
    part = json.loads((finished / "data_card.json").read_text(encoding="utf-8"))["parts"]["train"]
    assert results["about"].startswith(
        f"A new small encoder, trained in 4 ways, with 2 seeds each, on {part['pairs']} pairs ({part['groups']} "
        "questions) of the sample in de and en; measured on "
    )
    assert results["trained_languages"] == ["de", "en"]
    assert results["zero_shot_languages"] == ["es"]
    assert [claim["verdict"] for claim in results["claims"]][1] == "not tested"
    for name in ("mono", "cross", "mean"):
        arm = results["arms"][name]
        assert (arm["seeds"], arm["errors"]) == ([0, 1], {})
        runs = [results_of(finished / "arms" / name / f"seed-{seed}") for seed in (0, 1)]
        assert arm["multilingual"]["mAP"] == pytest.approx(np.mean([run["multilingual"]["mAP"] for run in runs]))
        assert arm["per_language"]["es"]["crosslingual"]["mAP"] == pytest.approx(
            np.mean([run["per_language"]["es"]["crosslingual"]["mAP"] for run in runs])
        )
        low, high = arm["intervals"]["monolingual"]["mAP"]
        assert low < arm["monolingual"]["mAP"] < high
    mono, cross, mean = (results["arms"][name] for name in ("mono", "cross", "mean"))
    assert mono["steps"] == 8
    assert mono["curve"]["steps"] == [4, 8]
    assert mean["tokens"] == mono["tokens"] + cross["tokens"]
    assert "FloatingPointError" in results["arms"]["broken"]["errors"]["0"]
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert "FloatingPointError" in page
    assert (finished / "table.md").exists()


@pytest.mark.parametrize(
    ("claim", "setting", "measure", "languages"),
    [(0, "crosslingual", "mAP", LANGUAGES), (2, "multilingual", "rank_distance", ("es",))],
)
def test_a_claim_rests_on_the_differences_of_all_queries(
    finished: Path, claim: int, setting: str, measure: str, languages: tuple[str, ...]
) -> None:
    """Recomputed from `per_query.parquet` alone."""
    values, baseline, about = [], [], None
    for seed in (0, 1):
        tables = [
            pyarrow.parquet.read_table(finished / "arms" / arm / f"seed-{seed}" / "per_query.parquet").to_pylist()
            for arm in ("cross", "mono")
        ]
        pairs = zip(*tables, strict=True)
        rows = [pair for pair in pairs if pair[0]["setting"] == setting and pair[0]["query_language"] in languages]
        values.append([a[measure] - b[measure] for a, b in rows])
        baseline += [b[measure] for _, b in rows]
        about = [a for a, _ in rows]
    assert about
    strata = [f"{row['query_language']}-{row['passage_language']}" for row in about]
    expected = seed_interval(np.array(values), strata, [row["cluster"] for row in about])
    part = results_of(finished)["claims"][claim]["parts"][0]
    assert part["difference"] == pytest.approx(expected.difference, rel=1e-9)
    assert part["interval"] == pytest.approx([expected.low, expected.high], rel=1e-9)
    assert (part["seeds"], part["over"]) == (2, "clusters")
    if measure == "rank_distance":  # one language: the macro-mean is the mean
        assert part["baseline_value"] == pytest.approx(np.mean(baseline))
        assert part["margin"] == pytest.approx(0.05 * np.mean(baseline))
    else:
        assert part["margin"] == pytest.approx(min(0.01, 0.05 * part["baseline_value"]))


def test_the_mean_of_weights(finished: Path, tmp_path: Path) -> None:
    folders = [finished / "arms" / arm / "seed-1" / "model" for arm in ("mono", "cross", "mean")]
    mono, cross, mean = (Encoder.load(EncoderConfig(name=str(folder))).state_dict() for folder in folders)
    for name, value in mean.items():
        assert np.allclose(value, (mono[name] + cross[name]) / 2, atol=1e-7), name
    one = Encoder.load(EncoderConfig(name=str(folders[0])))
    same = mean_of_weights(one, one).state_dict()
    assert all((same[name] == value).all() for name, value in mono.items())


def test_conditions_and_arms_that_come_later_train_nothing(finished: Path, cache: Path, tmp_path: Path) -> None:
    """A finished study gets its own condition, and an arm that is the model of a made arm with fewer dimensions."""
    output = tmp_path / "out"
    copy(finished, output)
    short = Arm(name="short", about="fewer dimensions", made_of=("mean",), make=partial(truncate, dimensions=16))
    names = ("mono", "cross", "mean", "short")
    recipe = recipe_of(output, cache, arms=names, conditions=None, resume=True)
    encoded: list[tuple[str, bool, bool]] = []

    def encode(config: EncoderConfig, queries: Sequence[str], passages: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded.append((Path(config.name).parents[1].name, len(queries) > 0, len(passages) > 0))
        return encode_here(config, queries, passages)

    backend = replace(here(), train=None, encode=encode)  # so that training would fail
    assert run_study(study_of(short), recipe, in_process(arms_here(backend)))[1] == 0
    # the passages of each arm once, with the changed queries, or with the plain ones where there were no results
    assert sorted(encoded) == sorted([*((x, True, True) for x in names * 2), *[("short", True, False)] * 2])
    for history in finished.glob("arms/*/*/history.jsonl"):
        if "broken" not in str(history):
            assert (output / history.relative_to(finished)).read_bytes() == history.read_bytes()

    before, after = tables(finished), tables(output)
    benchmark = read_benchmark(recipe.benchmark)
    noisy = under(benchmark, NOISE)
    for name in names:
        found = after[name].pop("conditions")["delete one"]
        assert name == "short" or after[name] == before[name]
        assert found["changed"] == 1
        runs = [output / "arms" / name / f"seed-{seed}" for seed in (0, 1)]
        encoders = [Encoder.load(EncoderConfig(name=str(run / "model"))) for run in runs]
        expected = [summarise(evaluate_encoder(one, noisy), noisy) for one in encoders]
        for setting in ("monolingual", "crosslingual", "multilingual"):
            value = np.mean([one[setting]["mAP"] for one in expected])
            assert found[setting]["mAP"] == pytest.approx(value, rel=1e-9)
            lost = found["drop"][setting]["mAP"]
            assert lost["difference"] == pytest.approx(after[name][setting]["mAP"] - value, abs=1e-9)
            assert lost["interval"][0] <= lost["difference"] <= lost["interval"][1]
        rows = pyarrow.parquet.read_table(runs[0] / "per_query.parquet").to_pylist()
        plain = [row for row in rows if not row["condition"]]
        assert [row["condition"] for row in rows] == [""] * len(plain) + ["delete one"] * len(plain)
    long_one, short_one = (
        Encoder.load(EncoderConfig(name=str(output / "arms" / name / "seed-0" / "model"))).encode("Wo?", "query")
        for name in ("mean", "short")
    )
    cut = long_one[:, :16] / np.linalg.norm(long_one[:, :16])
    np.testing.assert_allclose(short_one, cut, atol=1e-6)
    assert after["short"]["tokens"] == after["mean"]["tokens"] == after["mono"]["tokens"] + after["cross"]["tokens"]
    check_claims_under_noise(output)
    for file in ("table.md", "report.html"):
        shown = (output / file).read_text(encoding="utf-8")
        assert "delete one: 100.0 % of the queries really changed" in shown
        assert "delete one: monolingual" in shown

    encoded.clear()
    more = (NOISE, Condition(perturbation="delete", severity=0.5, seed=1))
    run_study(study_of(short), replace(recipe, conditions=more), in_process(arms_here(backend)))
    assert sorted(encoded) == sorted((name, True, True) for name in names * 2)
    assert list(results_of(output)["arms"]["mean"]["conditions"]) == ["delete one", "delete 0.5, seed 1"]
    assert results_of(output)["arms"]["mono"]["monolingual"] == before["mono"]["monolingual"]


def check_claims_under_noise(output: Path) -> None:
    """The claim about noise, recomputed from `per_query.parquet`: differences of differences, and two conditions."""
    lost, floor = next(one for one in results_of(output)["claims"] if one["id"] == "noise")["parts"]
    assert (lost["condition"], lost["baseline_condition"]) == ("delete one - plain", "delete one - plain")
    assert (floor["condition"], floor["baseline_condition"]) == ("delete one", "")
    found = {}
    for arm in ("cross", "mono"):
        for condition in ("delete one", ""):
            files = [output / "arms" / arm / f"seed-{seed}" / "per_query.parquet" for seed in (0, 1)]
            rows = [
                [x for x in pyarrow.parquet.read_table(f).to_pylist() if x["condition"] == condition] for f in files
            ]
            found[arm, condition] = rows

    def values(arm: str, condition: str, setting: str) -> np.ndarray:
        return np.array([[x["mAP"] for x in rows if x["setting"] == setting] for rows in found[arm, condition]])

    expected_of = {
        "crosslingual": values("cross", "delete one", "crosslingual")
        - values("cross", "", "crosslingual")
        - values("mono", "delete one", "crosslingual")
        + values("mono", "", "crosslingual"),
        "monolingual": values("cross", "delete one", "monolingual") - values("cross", "", "monolingual"),
    }
    for part in (lost, floor):
        about = [x for x in found["mono", ""][0] if x["setting"] == part["setting"]]
        strata = [f"{x['query_language']}-{x['passage_language']}" for x in about]
        expected = seed_interval(expected_of[part["setting"]], strata, [x["cluster"] for x in about])
        assert part["difference"] == pytest.approx(expected.difference, rel=1e-9)
        assert part["interval"] == pytest.approx([expected.low, expected.high], rel=1e-9)
    arms = results_of(output)["arms"]
    noisy = arms["mono"]["conditions"]["delete one"]["crosslingual"]["mAP"]
    assert lost["baseline_value"] == pytest.approx(noisy - arms["mono"]["crosslingual"]["mAP"], abs=1e-12)
    assert lost["margin"] == pytest.approx(min(0.01, 0.05 * noisy))
    assert floor["margin"] == pytest.approx(min(0.01, 0.05 * arms["cross"]["monolingual"]["mAP"]))
    page = (output / "report.html").read_text(encoding="utf-8")
    assert "cross better than mono: Cross-lingual mAP (delete one - plain)" in page
    assert "cross not worse than cross: Monolingual mAP (delete one against plain)" in page


def test_what_was_measured_under_another_definition_is_refused(finished: Path, cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    copy(finished, output)
    recipe = recipe_of(output, cache, arms=("mono", "cross", "mean"), resume=True)
    study, names = study_of(), ("mono", "cross", "mean")
    changed = {
        "mono": (
            replace(arms(recipe)[0], changes={"sampling": {"mono": 0.5, "cross": 0.5}}),
            "sampling.mono 1.0.* 0.5",
        ),
        "cross": (replace(arms(recipe)[1], made_of=("mono",)), "another kind of results: training run"),
        "mean": (replace(arms(recipe)[2], made_of=("cross", "mono")), "made of .*mono.*cross.* now .*cross.*mono"),
    }
    for name, (arm, words) in changed.items():
        others = [one for one in arms(recipe) if one.name != name]
        other = replace(study, arms=lambda _, found=[*others, arm]: found)
        with pytest.raises(ValueError, match=f"(?s)arm {name} has changed: .*{words}"):
            run_study(other, recipe, in_process())
    assert {name: tables(output)[name] for name in names} == {name: tables(finished)[name] for name in names}

    file = output / "arms" / "mono" / "seed-0" / "results.json"
    old = {"delete one": {"definition": {"perturbation": "delete", "severity": "one", "seed": 5}}}
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"conditions": old}), encoding="utf-8")
    with pytest.raises(ValueError, match="measured under delete one with seed 5, but now it is 0"):
        run_study(study, replace(recipe, conditions=None), in_process())


def test_arms_made_of_made_arms(cache: Path, tmp_path: Path) -> None:
    """What they are made of comes along; names that are not there and circles are refused."""
    recipe = recipe_of(tmp_path / "out", cache, arms=("c",))
    made = [Arm(name=name, about="", made_of=of) for name, of in (("c", ("b",)), ("b", ("mean",)))]
    assert [arm.name for arm in chosen_arms(study_of(*made), recipe)] == ["mono", "cross", "mean", "c", "b"]
    made[1] = replace(made[1], made_of=("mono", "c"))
    with pytest.raises(ValueError, match=r"arms of small go round: (b is made of c is made of b|c is .* b is .* c)$"):
        chosen_arms(study_of(*made), recipe)
    with pytest.raises(ValueError, match="small has no arm gone, which c is made of"):
        chosen_arms(study_of(replace(made[0], made_of=("gone",))), recipe)


def test_claims_name_conditions_of_their_study() -> None:
    with pytest.raises(ValueError, match="a claim of small is about delete one: add it to the conditions"):
        replace(study_of(), conditions=())
    part = study_of().claims[0].parts[0]
    with pytest.raises(ValueError, match="one must have a weight above 0"):
        replace(part, conditions={"": -1.0})


def test_arms_share_the_seeds(finished: Path) -> None:
    """The same first weights for the same seed, others for another; checkpoints are gone."""

    def weights(arm: str, seed: int) -> bytes:
        return (finished / "arms" / arm / f"seed-{seed}" / "initial" / "model.safetensors").read_bytes()

    assert weights("mono", 0) == weights("cross", 0) != weights("mono", 1)
    assert not list(finished.glob("arms/*/*/checkpoints"))


def test_a_study_goes_on_where_it_was_stopped(finished: Path, cache: Path, tmp_path: Path) -> None:
    """Stopped after three runs and started again: the same tables, no run done twice, what failed is tried again."""
    started: list[Path] = []

    def stops(runs: Sequence[ArmRun]) -> Iterator[tuple[ArmRun, str]]:
        for run, error in arms_here(here())(runs):
            if len(started) == 4:  # a short run for the estimate, and three
                raise KeyboardInterrupt
            started.append(run.output)
            yield run, error

    output = tmp_path / "out"
    recipe = recipe_of(output, cache)
    with pytest.raises(KeyboardInterrupt):
        run_study(study_of(), recipe, in_process(stops))
    done = sorted(output.glob("arms/*/*/results.json"))
    before = {path: path.stat().st_mtime_ns for path in done}
    assert len(done) >= 3
    assert run_study(study_of(), replace(recipe, resume=True), in_process())[1] == 0
    assert {path: path.stat().st_mtime_ns for path in done} == before
    for history in output.glob("arms/*/*/history.jsonl"):
        assert [line["step"] for line in read_history(history)] == list(range(8))
        assert {line["attempt"] for line in read_history(history)} == {1}
    assert tables(output) == {name: text for name, text in tables(finished).items() if name != "broken"}
    with pytest.raises(ValueError, match="holds results already"):
        run_study(study_of(), recipe, in_process())
    changed = replace(recipe, resume=True, train=replace(recipe.train, lr=1.0))
    with pytest.raises(ValueError, match="was started with train"):
        run_study(study_of(), changed, in_process())


def tables(output: Path) -> dict[str, Any]:
    """What a study found, but for times."""
    arms = results_of(output)["arms"]
    return {name: {k: v for k, v in arm.items() if k != "seconds"} for name, arm in arms.items()}


def test_more_seeds_go_beside_those_that_are_there(finished: Path, cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    copy(finished, output)
    recipe = recipe_of(output, cache, seeds=3, arms=("mono",), resume=True)
    assert run_study(study_of(BROKEN), recipe, in_process())[1] == 0
    assert results_of(output)["arms"]["mono"]["seeds"] == [0, 1, 2]


def test_a_study_that_cannot_start_says_why(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="small has no arm other; there are mono, cross, mean"):
        run_study(study_of(), recipe_of(tmp_path / "a", cache, arms=("other",)), in_process())
    small = recipe_of(tmp_path / "b", cache)
    too_large = replace(small, train=replace(small.train, batch_size=500))
    with pytest.raises(ValueError, match="arm mono: a mono batch needs 500 groups"):
        run_study(study_of(), too_large, in_process())
    with pytest.raises(ValueError, match="no run has finished: see the errors above"):
        run_study(study_of(BROKEN), recipe_of(tmp_path / "c", cache, arms=("broken",)), in_process())
    with pytest.raises(ValueError, match="seeds is 0"):
        recipe_of(tmp_path, cache, seeds=0)


def test_a_quick_study_is_no_longer_than_it_says(cache: Path, tmp_path: Path) -> None:
    """What files say is made shorter; what the command line says is refused by its name, unless it is as short."""
    done = job("sampling", "--quick", "--train.tokens", 5000, "--dry_run", name="study")
    assert done.returncode == 1
    assert "--quick and --train.tokens do not go together: a quick trial has 30 steps" in done.stderr
    recipe = recipe_of(tmp_path, cache, seeds=5, conditions=NOISES, quick=True)
    for length in ({"steps": 200}, {"tokens": 5000}, {"epochs": 2.0}):
        long = replace(recipe, train=replace(recipe.train, **{"steps": None} | length))
        for option in (f"train.{next(iter(length))}", "seeds", "conditions"):
            with pytest.raises(ValueError, match=f"--quick and --{option} do not go together"):
                check_quick(long, [f"--{option}=x"])
        with pytest.raises(ValueError, match=f"--quick and --train.{next(iter(length))} do"):
            check_quick(long, ["--train", f"{{lr: 0.1, {next(iter(length))}: 9}}"])
        short = shortened(long)
        assert (short.train.steps, short.train.tokens, short.train.epochs) == (30, None, None)
        assert (short.seeds, short.conditions, short.benchmark.facts) == (2, NOISES[:4], 80)
        assert shortened(short) == short
        check_quick(short, ["--train.steps", "30", "--seeds=2", "--train={lr: 0.1}"])


@pytest.mark.slow
def test_the_job(cache: Path, tmp_path: Path) -> None:
    """Killed inside its only run, and started again as it says itself."""
    output = tmp_path / "with a space"
    small = ["--encoder.hidden_size", "32", "--encoder.layers", "1", "--encoder.vocab_size", "400"]
    small += ["--data.facts", "80", "--benchmark.facts", "80", "--train.batch_size", "8"]
    small += ["--validation.batch_size", "4", "--train.steps", "60", "--train.checkpoint_every", "5"]
    alone = ["--scaling.num_workers", "0", "--tracking.enabled", "false", "--cache", str(cache)]
    asked = [*small, *alone, "--seeds", "1", "--arms", "[hybrid]"]
    command = [sys.executable, str(ROOT / "jobs" / "study.py"), "sampling"]
    with subprocess.Popen([*command, *asked, "--output", str(output)], stdout=subprocess.DEVNULL) as process:
        history = output / "arms" / "hybrid" / "seed-0" / "history.jsonl"
        until = time.monotonic() + 300
        while sum(1 for _ in read_history(history)) < 8:
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        process.kill()
    resume = [*command, "--config", str(output / "config.yaml"), "--resume"]
    done = subprocess.run(resume, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == str(output / "report.html")
    assert [line["step"] for line in read_history(history)] == list(range(60))
    assert {line["attempt"] for line in read_history(history)} == {1, 2}
    told = subprocess.run([*command[:2], "--help"], capture_output=True, text=True, check=True)
    assert "sampling" in told.stdout
    assert "alpha" in told.stdout


def test_a_run_that_fails_again_does_not_keep_the_page_away(finished: Path, cache: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    copy(finished, output)
    assert run_study(study_of(BROKEN), recipe_of(output, cache, resume=True), in_process()) == (
        output / "report.html",
        2,
    )
    assert tables(output) == tables(finished)


def copy(study: Path, output: Path) -> None:
    """A finished study as if it had been made in another folder."""
    shutil.copytree(study, output)
    for file in output.rglob("config.yaml"):
        file.write_text(file.read_text(encoding="utf-8").replace(str(study), str(output)), encoding="utf-8")


@pytest.mark.parametrize("name", list(STUDIES))
def test_claims_are_about_arms_that_there_are(name: str, cache: Path, tmp_path: Path) -> None:
    """All arms of each study go with an ordinary recipe, and average what is trained."""
    study = STUDIES[name]
    recipe = study.recipe(**vars(recipe_of(tmp_path / "out", cache)))
    found = {arm.name: arm for arm in chosen_arms(study, recipe)}
    composed = study.composed(list(found.values()), read_benchmark(recipe.benchmark))
    there = {*found, *(one.name for one in composed)}
    assert study.reference in there
    for part in (part for claim in study.claims for part in claim.parts):
        assert {part.arm, part.baseline} <= there
    for arm in found.values():
        assert len(arm_runs(recipe, arm, range(2))) == 2
        assert all(not found[member].made_of for member in arm.made_of)


def test_equal_tokens_leave_no_arm_out(cache: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "out", cache)
    study, by_tokens = STUDIES["sampling"], replace(recipe, train=replace(recipe.train, steps=None, tokens=5000))
    names, arms_by_tokens = [arm.name for arm in chosen_arms(study, recipe)], chosen_arms(study, by_tokens)
    assert [arm.name for arm in arms_by_tokens] == names
    (run,) = next(arm_runs(by_tokens, arm, [0]) for arm in arms_by_tokens if arm.name == "mono then cross")
    assert (run.recipe.sampling.mono_first, run.recipe.sampling.mono_first_tokens) == (0, 2500)


def test_arms_of_a_rival_bring_what_they_are_made_of(cache: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "out", cache, arms=("average", "hybrid"))
    assert [arm.name for arm in chosen_arms(STUDIES["sampling"], recipe)] == ["X-X-mono", "X-Y", "hybrid", "average"]


def test_runs_stand_below_the_study_in_mlflow(cache: Path, tmp_path: Path) -> None:
    tracking = TrackingConfig(experiment="study", system_metrics_every=0)
    recipe = recipe_of(tmp_path / "out", cache, tracking=tracking, seeds=1, arms=("mono", "mean"))
    recipe = replace(recipe, train=replace(recipe.train, steps=None, tokens=5000, warmup_steps=300))
    run_study(study_of(), recipe, Runner(arms_here(here()), 1, follow, record))
    again = replace(recipe, resume=True)
    run_study(study_of(), again, Runner(arms_here(here()), 1, follow, record))
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        runs = dict(database.execute("select name, run_uuid from runs where status = 'FINISHED'").fetchall())
        assert set(runs) == {"out", "mono seed-0", "cross seed-0", "mean seed-0"}
        parents = database.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'").fetchall()
        assert dict(parents) == {run: runs["out"] for name, run in runs.items() if name != "out"}
        points = "select count(*), count(distinct step) from metrics where key = 'train/loss' and run_uuid = ?"
        found = {name: results_of(tmp_path / "out")["arms"][name] for name in ("mono", "cross")}
        assert database.execute(points, (runs["mono seed-0"],)).fetchone() == (found["mono"]["steps"],) * 2
        assert database.execute("select count(*) from registered_models").fetchone() == (0,)
        value = "select value from metrics where key = 'result/mean/monolingual/mAP' and run_uuid = ?"
        shown = results_of(tmp_path / "out")["arms"]["mean"]["monolingual"]["mAP"]
        assert database.execute(value, (runs["out"],)).fetchone()[0] == pytest.approx(shown)
    for name, arm in found.items():  # each ends with the step that reaches the number of tokens
        lines = list(read_history(tmp_path / "out" / "arms" / name / "seed-0" / "history.jsonl"))
        assert arm["tokens"] - lines[-1]["tokens"] < 5000 <= arm["tokens"] == sum(line["tokens"] for line in lines)
    notes = results_of(tmp_path / "out")["notes"]
    assert any(
        "warm up over train.warmup_steps (300), which hold more tokens in arms of longer steps" in n for n in notes
    )
    for name, arm in found.items():
        short = f"Arm {name}: The run has {arm['steps']:.0f} steps, fewer than train.warmup_steps (300)"
        assert any(note.startswith(short) for note in notes)
    assert not any(note.startswith("Arm mean") for note in notes)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_arms_on_ray(workers: int, cache: Path, tmp_path: Path, float64: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side on a cluster of two CPUs: what one process gives, and one run that fails.

    Slow: starts of Ray. In short: the points of tuning on Ray, in test_tuning.
    """
    from hybridir.on_ray.many import ray_arms

    fields: dict[str, Any] = {"encoder": EncoderConfig(name=str(float64)), "seeds": 1}
    run_study(study_of(), recipe_of(tmp_path / "here", cache, arms=("mono", "cross"), **fields), in_process())
    scaling = ScalingConfig(num_workers=workers)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})  # so many CPUs, however many there are
    with ray_arms(scaling) as arms:
        assert arms.at_once == 2 // workers
        recipe = recipe_of(tmp_path / "out", cache, scaling=scaling, arms=("mono", "cross", "broken"), **fields)
        assert run_study(study_of(BROKEN), recipe, in_process(arms.start))[1] == 1
    ours, expected = tables(tmp_path / "out"), tables(tmp_path / "here")
    assert "FloatingPointError" in ours["broken"]["errors"]["0"]
    for name in ("mono", "cross"):
        for setting, measures in ours[name]["per_seed"]["0"].items():
            assert measures["mAP"] == pytest.approx(expected[name]["per_seed"]["0"][setting]["mAP"], abs=1e-6)
