"""The study of robustness: its arms and their controls, its weights of conditions, and its page."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import job
from made import benchmark, ranked

from hybridir.evaluation.families import FAMILIES, by_family, family_of, script_of
from hybridir.evaluation.retention import area
from hybridir.experiments.quick import QUICK_CONDITIONS
from hybridir.experiments.studies import robustness as study
from hybridir.experiments.study import StudyRecipe, arm_runs
from hybridir.perturbations.letters import letters, script, table
from hybridir.reports.html import robustness as page
from hybridir.reports.html.parts import Section
from hybridir.reports.html.plots import percent
from hybridir.runs.recipe import Recipe


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Recipe]:
    recipe = StudyRecipe(output=str(tmp_path_factory.mktemp("arms")))
    recipe = replace(recipe, train=replace(recipe.train, steps=40))
    return {arm.name: arm_runs(recipe, arm, [3])[0].recipe for arm in study.arms(recipe)}


def differing(a: Recipe, b: Recipe) -> set[str]:
    names = ("encoder", "sampling", "loss", "train", "validation", "data")
    return {name for name in names if getattr(a, name) != getattr(b, name)}


def test_a_control_differs_from_its_defence_in_the_idea_alone(runs: dict[str, Recipe]) -> None:
    assert differing(runs[study.MULTI], runs[study.PASSAGES]) == {"loss"}
    assert runs[study.PASSAGES].loss == runs[study.HYBRID].loss
    taught, twice = runs[study.SELF], runs[study.TWICE]
    assert differing(taught, twice) == {"sampling"}
    assert replace(twice.sampling, noise=taught.sampling.noise) == taught.sampling
    assert (twice.sampling.noise.severity, taught.sampling.noise.severity) == (0, "one")
    assert differing(runs[study.LONGER], runs[study.HYBRID]) == {"train"}
    assert runs[study.LONGER].train.steps == 80
    assert [run.sampling.weights for run in runs.values()] == [[1, 0, 0, 0], [0, 0, 1, 0], *[[0.5, 0, 0.5, 0]] * 7]


def test_weights_of_conditions_are_the_area_under_the_curve() -> None:
    values = {"": np.array([0.9]), "asr 0.1": np.array([0.6]), "asr 0.2": np.array([0.2])}
    found = sum(weight * values[name] for name, weight in study.AREA["asr"].items())
    assert found == pytest.approx(area({0.0: values[""], 0.1: values["asr 0.1"], 0.2: values["asr 0.2"]}))
    assert sum(study.NOISY.values()) == pytest.approx(1)
    assert sum(study._lost(study.NOISY).values()) == pytest.approx(0)
    assert study._lost(study.NOISY)[""] == pytest.approx(-0.75)


def test_claims_are_about_arms_and_sources_that_there_are(runs: dict[str, Recipe]) -> None:
    parts = [part for claim in study.CLAIMS for part in claim.parts]
    assert {name for part in parts for name in (part.arm, part.baseline)} <= runs.keys()
    assert {claim.source for claim in study.CLAIMS} == study.ROBUSTNESS.sources.keys()
    assert [one.perturbation for one in study.CONDITIONS[:QUICK_CONDITIONS]] == list(study.KINDS)


def test_the_first_rank_is_that_in_the_language_of_the_query() -> None:
    """Passages 0 and 1 are German, 2 and 3 English; the German query finds 1 before its own 0, and 2 before both."""
    passages = [(language, "") for language in ("de", "de", "en", "en")]
    asked = benchmark(["de", "en"], passages, [("de", "", [0, 2]), ("en", "", [2]), ("en", "", [0])])
    scores = [[0.1, 0.5, 0.9, 0.0], [0.0, 0.0, 0.9, 0.1], [0.9, 0.0, 0.2, 0.3]]
    ranking = ranked(asked, np.array(scores, dtype=np.float32))
    assert study._first_ranks(asked, ranking) == ([2, 1, 0], [1, 2, 3])


def test_families_and_scripts() -> None:
    """Scripts by the letters of an example in each language."""
    examples: dict[str, str] = table("examples")
    assert examples.keys() <= FAMILIES.keys()
    for language, text in examples.items():
        named = {script(one.text[0]).title() for one in letters(text)}
        assert script_of(language).split(" and ")[-1].title() in {"Han" if x == "Cjk" else x for x in named}, language
    assert [len(of) for of in by_family(["tr", "de", "ar", "en", "xx"]).values()] == [2, 1, 1, 1]
    assert family_of("zh_Hant") == FAMILIES["zh"]
    assert family_of("xx") == ("xx", "")


def results() -> dict[str, Any]:
    def of(values: dict[str, float]) -> dict[str, Any]:
        mean = sum(values.values()) / len(values)
        return {
            "monolingual": {"RR@10": mean},
            "per_language": {x: {"monolingual": {"RR@10": value}} for x, value in values.items()},
        }

    cells = {
        f"delete {s}": {
            "kind": "delete",
            "severity": s,
            "changed": {"de": 0.9, "en": 0.8, "tr": 0.7},
            "tokens": {"de": 0.5, "en": 0.8, "tr": 0.7},
        }
        for s in (0.1, 0.2)
    }
    cells["keyboard 0.2"] = {"kind": "keyboard", "severity": 0.2, "changed": {"de": 1.0}, "tokens": {"de": 1.0}}
    plain = {"de": 0.8, "en": 0.6, "tr": 0.5}
    conditions = {
        "delete 0.1": {"de": 0.7, "en": 0.5, "tr": 0.5},
        "delete 0.2": {"de": 0.4, "en": 0.4, "tr": 0.6},
        "keyboard 0.2": {"de": 0.3, "en": 0.6, "tr": 0.5},
    }
    arm = of(plain) | {"conditions": {name: of(values) for name, values in conditions.items()}}
    example = {
        "language": "de",
        "condition": "delete 0.2",
        "before": "Wo <b>?",
        "after": "Wo <?",
        "rank": 1234,
        "found": "Da.",
    }
    return {
        "languages": ["de", "en", "tr"],
        "arms": {"hybrid": arm, "failed": {}},
        "robustness": {"arm": "hybrid", "cells": cells, "examples": [example]},
    }


def sheet(section: Section | None, name: str) -> list[tuple[Any, ...]]:
    assert section
    return next([*one.rows] for block in section.blocks for one in block.sheets if one.name == name)


def test_curves_are_means_over_the_languages_of_a_family() -> None:
    rows = sheet(page.curves(results()), "severity")
    assert [row[:3] for row in rows[:3]] == [("delete", "Indo-European", s) for s in (0.0, 0.1, 0.2)]
    assert [row[3] for row in rows] == pytest.approx([0.7, 0.6, 0.4, 0.5, 0.5, 0.6])


def test_the_map_has_what_is_lost_and_which_queries_changed() -> None:
    section = page.languages(results())
    rows = sheet(section, "noise_by_language")
    assert rows[0][:2] == ("delete 0.1", "de")
    assert rows[0][2:] == pytest.approx((0.8, 0.7, 0.1, 0.9, 0.5))
    assert [row[1] for row in rows if row[0] == "keyboard 0.2"] == ["de"]
    assert section
    drawn = section.blocks[0].__html__()
    assert "noise ↓ language →" in drawn
    assert "keyboard 0.2 does not apply to English" in drawn
    assert f"{percent(0.9)}, {percent(0.5)}" in drawn


def test_the_other_sections() -> None:
    table_of_arms = page.arms(results())
    assert table_of_arms
    (grid, *_) = table_of_arms.blocks[0].told
    assert grid.rows == [("hybrid", "0.633", "0.567", "0.467", "0.467", "0.500", "+0.133")]  # type: ignore[union-attr]
    families = page.families(results()).blocks[0].told[0].rows  # type: ignore[union-attr]
    assert families[0] == ("Indo-European", "indo1319", "German (de) and English (en)", "Latin")
    worst = page.examples(results())
    assert worst
    assert "Wo &lt;b&gt;?" in worst.blocks[0].__html__()
    assert "1 → 1,234" in worst.blocks[0].__html__()
    nothing = {"languages": ["de"], "arms": {}}
    assert not any(
        section(nothing) for section in (page.arms, page.curves, page.languages, page.examples, page.attacked)
    )


@pytest.mark.slow
def test_a_quick_study(tmp_path: Path) -> None:
    """On the sample, with two arms: every section has its numbers, and no claim is judged."""
    arms = ("--arms", "[X-X-mono, hybrid]", "--scaling.num_workers", 0)
    done = job("robustness", "--quick", *arms, "--output", tmp_path / "out", name="study")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert found["claims"] == []
    assert all(section(found) for section in (page.arms, page.languages, page.examples, page.attacked))
    cells = found["robustness"]["cells"]
    assert list(cells) == [f"{kind} 0.2" for kind in study.KINDS]
    assert "zh" not in cells["keyboard 0.2"]["changed"]
    assert min(cells["delete 0.2"]["changed"].values()) > 0.5
    assert found["robustness"]["attack"]["systems"].keys() == {"X-X-mono", "hybrid"}
