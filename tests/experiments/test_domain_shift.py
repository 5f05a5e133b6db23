"""The study of domain shift with a tiny encoder: what its folds draw, its numbers, and that more domains train no more
than is new."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from helpers import ROOT, small_recipe

from hybridir.batches.plan import Plan
from hybridir.data.config import BenchmarkConfig
from hybridir.experiments.one_run import ArmRun, Runner, arms_here
from hybridir.experiments.studies.domain_shift import DOMAIN_SHIFT, DomainShiftRecipe, arms
from hybridir.experiments.study_job import run_study
from hybridir.runs.backend import here, track_nothing
from hybridir.runs.corpus import read_corpus
from hybridir.runs.recipe import TrackingConfig

TWO = ("currency", "language")


def recipe_of(output: Path, cache: Path, **fields: Any) -> DomainShiftRecipe:
    train = {"steps": 2, "batch_size": 8, "lr": 5e-3, "warmup_steps": 1}
    plain = vars(small_recipe(output, cache, data={"facts": 100, "languages": ("de", "en")}, train=train))
    ours = {
        "benchmark": BenchmarkConfig(facts=100, languages=("de", "en"), split="test"),
        "tracking": TrackingConfig(enabled=False),
        "short_baselines": False,
        "seeds": 1,
    }
    return DomainShiftRecipe(**plain | ours | fields)


def in_process(start: Any = None) -> Runner:
    return Runner(start or arms_here(here()), 1, track_nothing, lambda *_: None)


def results_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def test_nothing_of_the_left_out_domain_is_drawn_and_folds_are_equal(cache: Path, tmp_path: Path) -> None:
    """No pair of it, and no group that has a passage in common with one."""
    recipe = recipe_of(tmp_path / "out", cache)
    corpus = read_corpus(recipe.data, cache)
    names = np.array(corpus.domain_names)
    sizes = set()
    trained = [arm for arm in arms(recipe) if not arm.made_of]
    assert len(trained) == 3 * 4
    for arm in trained:
        sampling = replace(recipe.sampling, **arm.changes["sampling"])
        (left_out,) = sampling.without_domains
        sizes.add(sampling.groups)
        plan = Plan(corpus, sampling, 8, 0)
        groups = np.unique(np.concatenate([plan.batch(step).groups for step in range(40)]))
        domains = names[corpus.domain_of[groups]]
        assert set(domains) == {*names} - {left_out}
        forbidden = corpus.passage_group[names[corpus.domain_of] == left_out]
        assert not np.isin(corpus.passage_group[groups], forbidden).any()
        assert len(groups) <= sampling.groups
    train = corpus.groups("train")
    assert sizes == {min(int((train & (names[corpus.domain_of] != name)).sum()) for name in names)}


def test_what_is_lost_is_what_the_runs_say(cache: Path, tmp_path: Path) -> None:
    """Recomputed from `per_query.parquet` of the two folds of hybrid alone."""
    output = tmp_path / "out"
    chosen = tuple(f"hybrid without {domain}" for domain in TWO)
    _, failed = run_study(DOMAIN_SHIFT, recipe_of(output, cache, domains=TWO, arms=chosen), in_process())
    assert failed == 0
    shift = results_of(output)["shift"]
    assert (shift["domains"], list(shift["methods"])) == ([*TWO], ["hybrid"])
    rows = {
        domain: pyarrow.parquet.read_table(
            output / "arms" / f"hybrid-without-{domain}" / "seed-0" / "per_query.parquet"
        ).to_pylist()
        for domain in TWO
    }
    for setting in ("monolingual", "multilingual"):
        inside, outside = ({"de": [], "en": []} for _ in range(2))
        for domain, other in (TWO, TWO[::-1]):
            for own, another in zip(rows[domain], rows[other], strict=True):
                if own["setting"] == setting and own["group_id"].startswith(f"{domain}-"):
                    outside[own["query_language"]].append(own["mAP"])
                    inside[own["query_language"]].append(another["mAP"])
        found = shift["methods"]["hybrid"][setting]["mAP"]
        means = [np.mean([np.mean(values) for values in of.values()]) for of in (inside, outside)]
        assert (found["in"], found["out"]) == pytest.approx(tuple(means))
        assert found["drop"]["difference"] == pytest.approx(means[0] - means[1])
    claims = {claim["id"]: claim["verdict"] for claim in results_of(output)["claims"]}
    assert set(claims.values()) == {"not tested"}  # X-X-mono and X-Y were left out
    page = (output / "report.html").read_text(encoding="utf-8")
    for title in ("What a shift of domain costs", "Domain by domain", "What was left out, and what was asked"):
        assert title in page


def test_data_without_domains_and_settings_of_the_study_itself_are_refused(cache: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path / "a", cache)
    with pytest.raises(ValueError, match="domains has places, but the domains with training pairs and questions are"):
        arms(replace(recipe, domains=("currency", "places")))
    with pytest.raises(ValueError, match="needs 2 domains or more"):
        arms(replace(recipe, domains=("currency",)))
    with pytest.raises(ValueError, match=r"remove it, or name the domains with --domains"):
        arms(replace(recipe, sampling=replace(recipe.sampling, without_domains=("currency",))))


@pytest.mark.slow
def test_a_study_goes_on_and_another_domain_trains_only_what_is_new(cache: Path, tmp_path: Path) -> None:
    """Slow: 32 runs. In short: a study goes on where it was stopped, in test_study."""
    output = tmp_path / "out"
    recipe = recipe_of(output, cache, domains=TWO, short_baselines=True)
    started: list[Path] = []

    def stops(runs: Sequence[ArmRun]) -> Iterator[tuple[ArmRun, str]]:
        for run, error in arms_here(here())(runs):
            if len(started) == 6:
                raise KeyboardInterrupt
            started.append(run.output)
            yield run, error

    with pytest.raises(KeyboardInterrupt):
        run_study(DOMAIN_SHIFT, recipe, in_process(stops))
    first = times(output)
    assert len(first) >= 5
    run_study(DOMAIN_SHIFT, replace(recipe, resume=True), in_process())
    second = times(output)
    assert first.items() <= second.items()
    assert len(second) == 2 * (3 + 1 + 2 * 3)  # three methods, their average, two baselines of three shorter lengths
    claims = {claim["id"]: claim for claim in results_of(output)["claims"]}
    assert all(claim["verdict"] != "not tested" for name, claim in claims.items() if name != "robustness")
    part = claims["drop X-Y"]["parts"][0]
    lost = results_of(output)["shift"]["methods"]
    own, other = (lost[name][part["setting"]]["mAP"]["drop"]["difference"] for name in ("hybrid", "X-Y"))
    assert part["difference"] == pytest.approx(other - own)
    more = replace(recipe, resume=True, domains=(*TWO, "time zone"))
    assert run_study(DOMAIN_SHIFT, more, in_process())[1] == 0
    third = times(output)
    assert second.items() <= third.items()
    assert len(third) == 3 * 10
    assert len(results_of(output)["shift"]["line"]["monolingual"]["R2"]) == 1


def times(output: Path) -> dict[Path, int]:
    """When each finished run was trained or made."""
    return {file: file.stat().st_mtime_ns for file in output.glob("arms/*/*/results.json")}


@pytest.mark.slow
def test_planted_effects_are_found_and_no_others() -> None:
    """Slow: simulated studies. In short: drops and intervals by hand, in tests/evaluation."""
    import runpy

    found = runpy.run_path(str(ROOT / "tests" / "scripts" / "domain_shift.py"))["found"]
    assert found(100, 5, 0.04)[0] > 0.7
    assert sum(found(300, 5, 0.0)) < 0.09  # 5 % are expected; 9 % or more of 300 come once in 500 times
