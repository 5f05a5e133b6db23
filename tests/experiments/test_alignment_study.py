"""The study of alignment: which data its arms see, and what they are compared on."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import ROOT, small_recipe

from hybridir.batches.sampling import Sampling, Translations
from hybridir.data.config import DataConfig
from hybridir.data.sources import read_benchmark
from hybridir.experiments import one_run
from hybridir.experiments.studies.alignment import AFTERWARDS, ALIGNMENT, HYBRID, OBJECTIVES, REAL, arms
from hybridir.experiments.study import StudyRecipe, arm_runs
from hybridir.model.by_language import shift
from hybridir.model.config import EncoderConfig
from hybridir.runs.corpus import read_corpus
from hybridir.runtime.plain_yaml import load_yaml

DATA = DataConfig(languages=("de", "en", "sw", "yo"))
RECIPE = StudyRecipe(data=DATA, sampling=Sampling(languages=("de", "en")))


def test_only_one_arm_has_pairs_in_the_low_resource_languages() -> None:
    made = {arm.name: run.recipe for arm in arms(RECIPE) for run in arm_runs(RECIPE, arm, [0])}
    assert set(OBJECTIVES) < set(made)
    for name, recipe in made.items():
        if name not in (REAL, *AFTERWARDS):
            assert recipe.sampling.languages == ("de", "en")
            wanted = None if name == HYBRID else DATA.languages
            assert recipe.sampling.translations.languages == wanted
    assert made[REAL].sampling.languages == DATA.languages
    assert made[REAL].sampling.low_resource.pairs == 0.125
    assert made[REAL].sampling.low_resource.languages == ("sw", "yo")
    assert made[HYBRID].sampling.translations == made[REAL].sampling.translations == Translations()
    for recipe in made.values():
        assert (recipe.sampling.mono, recipe.sampling.cross) == (0.5, 0.5)
        assert recipe.train == RECIPE.train


def test_the_primary_endpoint_is_the_same_for_every_objective() -> None:
    found = [part for claim in ALIGNMENT.claims if claim.source == ALIGNMENT.family for part in claim.parts]
    assert [part.arm for part in found] == list(OBJECTIVES)
    assert {(part.baseline, part.setting, part.measure, part.languages, part.relation) for part in found} == {
        (HYBRID, "multilingual", "mAP", "zero-shot", "better")
    }


def test_which_languages_are_low_resource_must_be_said() -> None:
    for wrong in (replace(RECIPE, sampling=Sampling()), replace(RECIPE, data=DataConfig(languages=("de", "en")))):
        with pytest.raises(ValueError, match=r"name in sampling\.languages those with pairs"):
            arms(wrong)


def test_the_sample_measures_the_low_resource_languages_as_zero_shot() -> None:
    config = load_yaml((ROOT / "jobs" / "configs" / ALIGNMENT.sample).read_text(encoding="utf-8"))
    low = set(config["data"]["languages"]) - set(config["sampling"]["languages"])
    assert low == {"bn", "sw", "te", "yo"}
    assert config["benchmark"]["languages"] == config["data"]["languages"]
    assert config["train"]["tokens"]


def by_text(config: EncoderConfig, queries: Sequence[str], passages: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings that depend on the text alone."""
    numbers = [[[len(text), text.count("e"), ord(text[0]) % 7, 1] for text in texts] for texts in (queries, passages)]
    first, second = (np.array(of, dtype=np.float32).reshape(-1, 4) for of in numbers)
    return first, second


def test_embeddings_change_as_the_training_texts_of_their_language_say(tmp_path: Path, cache: Path) -> None:
    recipe = small_recipe(tmp_path / "run", cache)
    corpus = read_corpus(recipe.data, cache)
    benchmark = read_benchmark(replace(recipe.benchmark, languages=("de", "en")))
    run = one_run.ArmRun(arm="SHIFT", recipe=recipe, change=shift)
    texts = ([query.text for query in benchmark.queries], list(benchmark.passages.texts))
    encoder = EncoderConfig(name="model")
    changed = one_run._changed(run, encoder, benchmark, by_text)
    rows_GL = corpus.row_of[corpus.groups("train")]
    for side, found in enumerate(changed(encoder, *texts)):
        plain = by_text(encoder, *texts)[side]
        spoken = (
            [query.language for query in benchmark.queries]
            if side == 0
            else [one.language for one in benchmark.passages]
        )
        for language in ("de", "en"):
            own = np.array([one == language for one in spoken])
            rows = rows_GL[:, corpus.languages.index(language)]
            pairs = [corpus.pair(row) for row in rows.tolist()]
            train = [pair["passage"]["text"] if side else pair["query"] for pair in pairs]
            mean = by_text(encoder, train, [])[0].mean(axis=0)
            wanted = plain[own] - mean
            np.testing.assert_allclose(
                found[own], wanted / np.linalg.norm(wanted, axis=1, keepdims=True), rtol=1e-4, atol=1e-5
            )
    assert len(changed(encoder, texts[0], [])[1]) == 0
    with pytest.raises(ValueError, match=r"the arm SHIFT needs training texts in el, and there are none"):
        one_run._changed(run, encoder, replace(benchmark, languages=("de", "el")), by_text)
