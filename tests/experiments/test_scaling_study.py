"""The study of data scaling with a tiny encoder: its arms, its numbers, and that another size trains only itself."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import small_recipe

from hybridir.data.config import BenchmarkConfig
from hybridir.evaluation.entropy import NAME as ENTROPY
from hybridir.evaluation.scaling_fit import RATES, slope_weights
from hybridir.evaluation.scores import KEYS, Scores, read_scores
from hybridir.experiments.one_run import ArmRun, Runner, arms_here
from hybridir.experiments.studies.scaling import SCALING, ScalingRecipe, arms
from hybridir.experiments.studies.scaling_numbers import numbers
from hybridir.experiments.study_job import run_study
from hybridir.reports.html.parts import to_markdown
from hybridir.reports.html.scaling import exchange
from hybridir.runs.backend import here, track_nothing
from hybridir.runs.recipe import TrackingConfig

BEYOND = {"rate": float(RATES[-1]), "interval": [380.0, float(RATES[-1])]}


def recipe_of(output: Path, cache: Path, **fields: Any) -> ScalingRecipe:
    train = {"steps": 2, "batch_size": 8, "lr": 5e-3, "warmup_steps": 1}
    plain = vars(small_recipe(output, cache, data={"facts": 80, "languages": ("de", "en")}, train=train))
    ours = {
        "benchmark": BenchmarkConfig(facts=80, languages=("de", "en", "es"), split="test"),
        "tracking": TrackingConfig(enabled=False),
        "seeds": 1,
    }
    return ScalingRecipe(**plain | ours | fields)


def in_process(start: Any = None) -> Runner:
    return Runner(start or arms_here(here()), 1, track_nothing, lambda *_: None)


def results_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def test_sizes_steps_and_shares(cache: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "out", cache)
    recipe = replace(recipe, train=replace(recipe.train, steps=320, warmup_steps=32))
    found = {arm.name: arm for arm in arms(recipe)}
    sizes = [int(name.split()[-1]) for name in found if name.startswith("hybrid ")]
    total = sizes[-1]
    assert len(sizes) == 6
    assert sizes[0] == pytest.approx(total / 16, abs=0.5)
    assert np.diff(np.log(sizes)) == pytest.approx(np.log(16) / 5, abs=0.15)  # rounded to whole groups
    at_epochs = found[f"mono all, epochs {sizes[2]}"].changes
    assert at_epochs["train"] == {
        "steps": round(320 * sizes[2] / total),
        "warmup_steps": round(32 * sizes[2] / total),
    }
    assert found[f"mono en {sizes[0]}"].changes["sampling"]["languages"] == ("en",)
    assert found[f"translated 0.25 of {total}"].changes["sampling"]["translated"] == 0.25
    # another size changes no arm that there was
    more = {arm.name: arm for arm in arms(replace(recipe, sizes=(*sizes[:3], sizes[3] + 1, *sizes[4:])))}
    shared = [name for name in found if name in more]
    assert len(shared) == len(found) - 6
    assert all(found[name] == more[name] for name in shared)
    with pytest.raises(ValueError, match=r"sizes is \[20, 10\]: name 2 sizes or more, ascending"):
        recipe_of(tmp_path / "out", cache, sizes=(20, 10))
    with pytest.raises(ValueError, match=r"train\.tokens is set"):
        arms(replace(recipe, train=replace(recipe.train, steps=None, tokens=100)))
    with pytest.raises(ValueError, match="remove them, and name --sizes"):
        arms(replace(recipe, sampling=replace(recipe.sampling, groups=10)))


def test_numbers_of_curves_with_a_known_law() -> None:
    """Six sizes of one line with the losses of a law and little noise, and shares worth four groups each."""
    random = np.random.default_rng(0)
    clusters = np.repeat([str(n) for n in range(20)], 3)
    rows = {name: np.full(60, "x") for name in KEYS}
    rows |= {"setting": np.full(60, "multilingual"), "condition": np.full(60, ""), "cluster": clusters}
    rows |= {"query_language": np.full(60, "el"), "passage_language": np.full(60, "")}
    hard_N = random.normal(0, 0.2, 60)

    def scores(worth: float) -> Scores:
        loss = (100 / worth) ** 0.5 + 0.3 + hard_N + random.normal(0, 0.005, (2, 1)) + random.normal(0, 0.01, (2, 60))
        return Scores(rows, {ENTROPY: loss, "RR@10": 1 / (1 + loss)})

    sizes = [42, 73, 127, 222, 386, 672]
    systems = {f"{line} {size}": scores(size) for line in ("mono all", "one language each") for size in sizes}
    systems |= {f"translated {share:g} of 672": scores(672 * (1 + 3 * share)) for share in (0.125, 0.25, 0.5, 1.0)}
    facts = {"zero_shot_languages": ["el"], "trained_languages": []}
    found = numbers(systems, facts, None)  # type: ignore[arg-type]
    line = found["scaling"]["lines"]["mono all"]["zero-shot"]["multilingual"]
    assert line["sizes"] == sizes
    assert line["law"]["why_not"] == ""
    assert line["law"]["interval"][0] < 0.5 < line["law"]["interval"][1]
    low, high = line["beyond"]["interval"]
    assert low < (100 / 1344) ** 0.5 + 0.3 + hard_N.mean() < high
    assert line["held_out"]["size"] == 672
    assert line["values"]["RR@10"][0]["value"] == pytest.approx(systems["mono all 42"].values["RR@10"].mean())
    rate = found["scaling"]["exchange"]["zero-shot"]["multilingual"]
    assert rate["interval"][0] < 4 < rate["interval"][1]
    section = exchange({"scaling": {"exchange": {"zero-shot": {"multilingual": BEYOND}}}})
    assert section is not None
    assert "above 380" in to_markdown(section.blocks)
    verdicts = {claim["id"]: claim["verdict"] for claim in found["claims"]}
    assert verdicts["budget"] == "holds"
    assert verdicts["held out"] in ("holds", "does not hold")


def test_a_gain_is_the_slope_of_what_the_runs_say(cache: Path, tmp_path: Path) -> None:
    """Two sizes of batches in all languages, for a language that was not trained on."""
    output, sizes = tmp_path / "out", (12, 48)
    chosen = tuple(f"mono all {size}" for size in sizes)
    recipe = recipe_of(output, cache, sizes=sizes, arms=chosen)
    assert run_study(SCALING, recipe, in_process())[1] == 0
    results = results_of(output)
    claims = {claim["id"]: claim for claim in results["claims"]}
    part = claims["mono all helps"]["parts"][0]
    found = [read_scores(output / "arms" / f"mono-all-{n}" / "seed-0" / "per_query.parquet") for n in sizes]
    means = [one.column("RR@10", "monolingual", ["es"]).values_KN.mean() for one in found]
    assert slope_weights(sizes) @ means == pytest.approx((means[1] - means[0]) / np.log10(4))
    assert part["difference"] == pytest.approx((means[1] - means[0]) / np.log10(4), abs=1e-12)
    assert claims["hybrid gains"]["verdict"] == "not tested"
    values = results["scaling"]["lines"]["mono all"]["zero-shot"]["monolingual"]["values"][ENTROPY]
    expected = [one.column(ENTROPY, "monolingual", ["es"]).values_KN.mean() for one in found]
    assert [one["value"] for one in values] == pytest.approx(expected)
    assert "Over the size of the data" in (output / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_study_goes_on_and_another_size_trains_only_what_is_new(cache: Path, tmp_path: Path) -> None:
    """Slow: 60 runs. In short: a study goes on where it was stopped, in test_study."""
    output = tmp_path / "out"
    recipe = recipe_of(output, cache, sizes=(12, 20, 30, 40), translated=(0.5, 1.0), seeds=2)
    started: list[Path] = []

    def stops(runs: Sequence[ArmRun]) -> Iterator[tuple[ArmRun, str]]:
        for run, error in arms_here(here())(runs):
            if len(started) == 5:
                raise KeyboardInterrupt
            started.append(run.output)
            yield run, error

    with pytest.raises(KeyboardInterrupt):
        run_study(SCALING, recipe, in_process(stops))
    first = times(output)
    run_study(SCALING, replace(recipe, resume=True), in_process())
    second = times(output)
    assert len(first) >= 4
    assert first.items() <= second.items()
    assert len(second) == 2 * (6 * 4 + 2)
    more = replace(recipe, resume=True, sizes=(12, 16, 20, 30, 40))
    assert run_study(SCALING, more, in_process())[1] == 0
    third = times(output)
    assert second.items() <= third.items()
    assert len(third) == len(second) + 2 * 6
    assert "Laws, and what they predict" in (output / "report.html").read_text(encoding="utf-8")


def times(output: Path) -> dict[Path, int]:
    """When each finished run was trained."""
    return {file: file.stat().st_mtime_ns for file in output.glob("arms/*/*/results.json")}
