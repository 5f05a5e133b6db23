"""Settings that a config has for one model do not count for another."""

from pathlib import Path

import pytest
from helpers import ROOT
from jsonargparse import ArgumentError

from hybridir.model.config import EncoderConfig
from hybridir.runs.evaluation_run import Evaluation
from hybridir.runs.recipe import Recipe
from hybridir.runtime.command_line import parse

XLMR, SAMPLE = ROOT / "jobs" / "configs" / "xlmr.yaml", ROOT / "jobs" / "configs" / "sample.yaml"
E5 = "intfloat/multilingual-e5-base"


def encoder(*arguments: object, recipe: type = Recipe, default: Path | None = None) -> EncoderConfig:
    return parse(recipe, "a job", None, [*map(str, arguments)], default).encoder


@pytest.mark.parametrize("name", [["--encoder.name", E5], [f"--encoder.name={E5}"]])
@pytest.mark.parametrize("config", [["--config", XLMR], [f"--config={XLMR}"]])
def test_another_model_gets_its_own_settings(
    name: list[str], config: list[object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert encoder(*config, *name) == EncoderConfig(name=E5)
    said = capsys.readouterr().out
    assert f"{E5} is used without the settings that {XLMR} has for FacebookAI/xlm-roberta-base" in said.replace(
        "\n", " "
    )
    for setting in ("encoder.pooling 'mean'", "encoder.query_prefix 'Query: '", "encoder.passage_prefix 'Passage: '"):
        assert setting in said.replace("\n", " ")


def test_what_the_command_line_says_counts(capsys: pytest.CaptureFixture[str]) -> None:
    for rest in (
        ["--encoder.query_prefix", "q: ", "--encoder.name", E5],
        ["--encoder.name", E5, "--encoder.query_prefix=q: "],
    ):
        assert encoder("--config", XLMR, *rest) == EncoderConfig(name=E5, query_prefix="q: ")


def test_the_same_model_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    for rest in ([], ["--encoder.name", "FacebookAI/xlm-roberta-base"], ["--encoder.dropout", "0.1"]):
        kept = encoder("--config", XLMR, *rest)
        assert (kept.name, kept.pooling, kept.query_prefix) == ("FacebookAI/xlm-roberta-base", "mean", "Query: ")
    assert "is used without" not in capsys.readouterr().out


def test_the_default_file_is_for_the_model_that_is_built(tmp_path: Path) -> None:
    assert encoder("--encoder.name", E5, default=SAMPLE) == EncoderConfig(name=E5)
    assert encoder("--encoder.layers", "1", default=SAMPLE).query_prefix == "Query: "


def test_other_recipes_and_files(tmp_path: Path) -> None:
    file = tmp_path / "evaluate.yaml"
    file.write_text("encoder: {name: a, pooling: cls, max_query_length: 12}\n", encoding="utf-8")
    assert encoder("--config", file, "--encoder.name", "b", recipe=Evaluation) == EncoderConfig(name="b")
    file.write_text("encoder: {pooling: cls\n", encoding="utf-8")
    with pytest.raises(Exception, match="flow mapping"):
        encoder("--config", file, "--encoder.name", "b", recipe=Evaluation)


@pytest.mark.parametrize("named", [{"epochs": 2.0}, {"tokens": 5000}, {"steps": 7}])
@pytest.mark.parametrize("config", [("--config", SAMPLE), ()])
def test_the_length_that_is_named_counts(named: dict[str, float], config: tuple[object, ...]) -> None:
    """The file has `train.steps`, and other fields of `train`, which stay."""
    ((name, value),) = named.items()
    train = parse(Recipe, "a job", None, [*map(str, config), f"--train.{name}", str(value)], SAMPLE).train
    assert {one: getattr(train, one) for one in ("steps", "epochs", "tokens")} == dict.fromkeys(
        ("steps", "epochs", "tokens")
    ) | named
    assert train.warmup_steps == 40
    assert parse(Recipe, "a job", None, [*map(str, config)], SAMPLE).train.steps == 400


def test_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"train\.steps is 7 and train\.epochs is 2: give only one"):
        parse(Recipe, "a job", None, ["--train.steps", "7", "--train.epochs", "2"], SAMPLE)


GONE = "loss: {temperature: 0.125, gone: {weight: %s, sharpness: 2.0}}\ntrain: {lr: 1.0e-05}\nseed: 3\n"


def test_a_term_that_was_off_and_is_no_more_is_left_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    for weight in ("0", "0.0"):
        file.write_text(GONE % weight, encoding="utf-8")
        found = parse(Recipe, "a job", None, ["--config", str(file), "--loss.temperature", "0.25"])
        assert found == parse(Recipe, "a job", None, ["--loss.temperature=0.25", "--seed=3", "--train.lr=1e-05"])
        said = " ".join(capsys.readouterr().out.split())
        assert f"note: {file} has loss.gone with weight 0, which this version does not have" in said


def test_a_term_that_was_on_and_is_no_more_is_named(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(GONE % "0.5", encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{file} has loss\.gone\.weight 0\.5, but this version has no loss gone: "):
        parse(Recipe, "a job", None, ["--config", str(file)])
    file.write_text("loss: {multilingul: {weight: 1}}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"no loss multilingul \(did you mean multilingual\?\)"):
        parse(Recipe, "a job", None, ["--config", str(file)])
    file.write_text("loss: {gone: {sharpness: 2.0}}", encoding="utf-8")  # no weight: nothing says that it was off
    with pytest.raises(ArgumentError, match=r"gone"):
        parse(Recipe, "a job", None, ["--config", str(file)])
