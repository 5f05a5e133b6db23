"""What `--help` of the jobs shows follows from the registries: an entry shows there without a line of its own."""

from dataclasses import fields

import pytest

from hybridir.data.formats import BENCHMARKS, PAIR_READERS
from hybridir.experiments.study import StudyRecipe
from hybridir.perturbations import PERTURBATIONS
from hybridir.runs.evaluation_run import Evaluation
from hybridir.runs.recipe import MOST_USED, Recipe
from hybridir.runtime.command_line import parse
from hybridir.training.losses import LOSSES


def shown(recipe: type, capsys: pytest.CaptureFixture[str], option: str = "--help") -> str:
    """The help of a recipe in one line, with breaks as one space."""
    with pytest.raises(SystemExit):
        parse(recipe, "a job", None, [option], shown=MOST_USED)
    return " ".join(capsys.readouterr().out.split())


def test_losses_and_views(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(Recipe, capsys)
    for name, kind in LOSSES.items():
        assert (kind.__doc__ or "").partition("\n")[0].rstrip(".") in found
        assert all(f"--loss.{name}.{field.name} " in found for field in fields(kind))  # type: ignore[arg-type]
    assert "--sampling.translations.passage " in found
    assert "--train.clip_norm " not in found
    assert "--train.clip_norm " in shown(Recipe, capsys, "--help_all")


def test_kinds_of_noise(capsys: pytest.CaptureFixture[str]) -> None:
    assert f"tuple[Literal[{', '.join(map(repr, PERTURBATIONS))}], ...]" in shown(Recipe, capsys)
    for recipe in (Evaluation, StudyRecipe):
        items = f"Fields of each: perturbation ({', '.join(PERTURBATIONS)}), severity, seed"
        assert shown(recipe, capsys).count(items) == 1


def test_formats_and_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    found = shown(Recipe, capsys)
    formats, benchmarks = found.partition("--data.format ")[2], found.partition("--benchmark.name ")[2]
    assert all(f"`{name}`" in formats.partition("--data.path ")[0] for name in PAIR_READERS)
    assert all(f"`{name}`" in benchmarks.partition("--benchmark.")[0] for name in BENCHMARKS)
