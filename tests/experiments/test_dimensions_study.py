"""The study of dimensions: what is trained, and what is made of it."""

from hybridir.experiments.studies.dimensions import DIMENSIONS, arms
from hybridir.experiments.study import StudyRecipe, arm_runs
from hybridir.model.config import EncoderConfig
from hybridir.training.losses.matryoshka import Matryoshka


def test_two_arms_are_trained_and_cut() -> None:
    recipe = StudyRecipe(encoder=EncoderConfig(hidden_size=64))
    found = {arm.name: arm for arm in arms(recipe)}
    assert [name for name, arm in found.items() if not arm.made_of] == ["plain", "matryoshka"]
    trained = {name: arm_runs(recipe, found[name], [0])[0].recipe.loss.matryoshka for name in ("plain", "matryoshka")}
    assert trained == {"plain": Matryoshka(), "matryoshka": Matryoshka(dimensions=(32, 16, 8))}
    assert [arm.x for arm in found.values() if arm.x is not None] == [64, 32, 16, 8] * 2
    assert {part.arm for claim in DIMENSIONS.claims for part in claim.parts} <= found.keys()
