"""What `--help` of the jobs shows follows from the registries: an entry shows there without a line of its own."""

from dataclasses import fields

import pytest

from hybridir.data.formats import BENCHMARKS, PAIR_READERS
from hybridir.experiments.study import StudyRecipe
from hybridir.perturbations import PERTURBATIONS
from hybridir.runs import evaluation_run
from hybridir.runs.evaluation_run import Evaluation
from hybridir.runs.recipe import MOST_USED, Recipe
from hybridir.runtime.command_line import parse
from hybridir.training.losses import LOSSES


def shown(recipe: type, capsys: pytest.CaptureFixture[str]) -> str:
    """The whole help of a recipe in one line, with breaks as one space."""
    with pytest.raises(SystemExit):
        parse(recipe, "a job", None, ["--help_all"])
    return " ".join(capsys.readouterr().out.split())


def line(recipe: type, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What the short help says of a field or section, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "2000")
    with pytest.raises(SystemExit):
        parse(recipe, "a job", None, ["--help"], shown=evaluation_run.MOST_USED if recipe is Evaluation else MOST_USED)
    (found,) = [one for one in capsys.readouterr().out.splitlines() if one.startswith(f"  --{name} ")]
    return found.removeprefix(f"  --{name} ").strip()


def test_losses_and_views(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(Recipe, capsys)
    for name, kind in LOSSES.items():
        assert (kind.__doc__ or "").partition("\n")[0].rstrip(".") in found
        assert all(f"--loss.{name}.{field.name} " in found for field in fields(kind))  # type: ignore[arg-type]
    assert set(LOSSES) < set(line(Recipe, "loss", capsys, monkeypatch).split(", "))
    assert {"passage", "query"} < set(line(Recipe, "sampling.translations", capsys, monkeypatch).split(", "))


def test_kinds_of_noise(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for recipe, name in ((Recipe, "sampling.noise.kinds"), (Evaluation, "noise.kinds")):
        assert line(recipe, name, capsys, monkeypatch) == ", ".join(PERTURBATIONS)
    for recipe in (Evaluation, StudyRecipe):
        items = f"Fields of each: perturbation ({', '.join(PERTURBATIONS)}), severity, seed"
        assert shown(recipe, capsys).count(items) == 1


def test_formats_and_benchmarks(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = shown(Recipe, capsys)
    formats, benchmarks = found.partition("--data.format ")[2], found.partition("--benchmark.name ")[2]
    assert all(f"`{name}`" in formats.partition("--data.path ")[0] for name in PAIR_READERS)
    assert all(f"`{name}`" in benchmarks.partition("--benchmark.")[0] for name in BENCHMARKS)
    assert line(Recipe, "data.format", capsys, monkeypatch) == ", ".join(f"`{name}`" for name in PAIR_READERS)
