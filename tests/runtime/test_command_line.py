"""Configuration from the command line: whole names alone, plain flags and flags with a value."""

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from jsonargparse import ArgumentError

from hybridir.experiments.tuning import TuneRecipe
from hybridir.runtime.command_line import parse
from hybridir.runtime.owner import named_output
from hybridir.runtime.plain_yaml import load_yaml, read_yaml


@dataclass(frozen=True, kw_only=True)
class Model:
    name: str = "small"
    languages: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    model: Model = field(default_factory=Model)
    resume: bool = False
    dry_run: bool = False
    output: str = ""


def recipe(*arguments: str) -> Recipe:
    return parse(Recipe, "program", None, list(arguments))


@pytest.mark.parametrize(
    "arguments", [("--model.nam", "big"), ("--model.nam=big",), ("--mod.name", "big"), ("--res",), ("--outp", "a")]
)
def test_abbreviations_are_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(ArgumentError, match=f"unrecognized arguments: {arguments[0]}"):
        recipe(*arguments)


def test_typos_are_mended(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"did you mean --model\.name\?"):
        recipe("--model.nmae", "big")
    (tmp_path / "config.yaml").write_text("model: {nmae: big}", encoding="utf-8")
    with pytest.raises(ArgumentError, match=r"did you mean name\?"):
        recipe("--config", str(tmp_path / "config.yaml"))


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("train.tokens", "1e6", "train.tokens is 1e6: write a whole number, 1000000"),
        ("train.steps", "1.5", "train.steps is 1.5: write a whole number"),
        ("train.lr", "fast", "train.lr is fast: write a number"),
        (
            "sampling.translations",
            "2",
            "sampling.translations is 2, but it is a section with fields of its own: passage, query, languages. "
            "Set one of them (--sampling.translations.FIELD)",
        ),
    ],
)
def test_wrong_values_are_told_in_one_line(option: str, value: str, words: str) -> None:
    with pytest.raises(ArgumentError) as raised:
        parse(TuneRecipe, "program", None, [f"--{option}", value])
    assert str(raised.value) == words


def test_unquoted_norwegian(tmp_path: Path) -> None:
    """YAML reads `no` as False."""
    file = tmp_path / "config.yaml"
    for text in ("{languages: [de, no]}", "{name: no}"):
        file.write_text(f"model: {text}", encoding="utf-8")
        for arguments in (("--config", str(file)), ("--model", text)):
            with pytest.raises(ArgumentError, match="quote them, as 'no' for Norwegian"):
                recipe(*arguments)
    with pytest.raises(ArgumentError) as other:
        recipe("--model", "{languages: [de, 1]}")
    assert "Norwegian" not in str(other.value)
    file.write_text("model: {languages: [de, 'no']}", encoding="utf-8")
    assert recipe("--config", str(file)) == recipe("--model.languages", "[de, 'no']")
    assert recipe("--config", str(file)).model.languages == ("de", "no")


def test_the_home_folder_in_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the command line with and without `=`, and in a file; the lock is taken on the same folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "config.yaml").write_text("{output: ~/out, model: {name: ~/model}}", encoding="utf-8")
    expected = Recipe(output=f"{tmp_path}/out", model=Model(name=f"{tmp_path}/model"))
    for arguments in (
        ("--output=~/out", "--model.name=~/model"),
        ("--output", "~/out", "--model.name", "~/model"),
        ("--config", str(tmp_path / "config.yaml")),
    ):
        assert recipe(*arguments) == expected
        assert named_output(arguments) == f"{tmp_path}/out"
    assert recipe("--output", "a~/b") == Recipe(output="a~/b")


def test_help_shows_what_is_used_most(capsys: pytest.CaptureFixture[str]) -> None:
    for option, seen in (("--help", False), ("--help_all", True)):
        with pytest.raises(SystemExit):
            parse(Recipe, "program", None, [option], shown=("output",))
        printed = capsys.readouterr().out
        assert "--output" in printed
        assert ("--model.name" in printed) == seen


def test_help_ends_a_sentence_outside_of_code_only(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(TuneRecipe, "program", None, ["--help"], shown=("seeds", "space"))
    printed = capsys.readouterr().out
    assert "`--space.alpha '{low: 0, high: 1, step: 0.1}'`\n" in printed
    assert "`seed` + 1 and so on\n" in printed


@pytest.mark.parametrize(
    ("arguments", "resume"),
    [
        (["--resume"], True),
        (["--resume", "true"], True),
        (["--resume", "Yes"], True),
        (["--resume", "false"], False),
        (["--resume", "no"], False),
        (["--resume=false"], False),
        (["--resume", "true", "--resume", "false"], False),
    ],
)
def test_flags(arguments: list[str], resume: bool) -> None:
    expected = Recipe(model=Model(name="big"), resume=resume, dry_run=True, output="a")
    assert recipe(*arguments, "--dry_run", "--model.name", "big", "--output", "a") == expected
    assert recipe("--output", "a", "--dry_run", "--model.name", "big", *arguments) == expected


def test_the_command_line_is_above_the_file(tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text("resume: true\noutput: of config\n", encoding="utf-8")
    assert recipe("--config", str(config), "--resume", "false") == Recipe(output="of config")
    assert recipe("--resume", "false", "--config", str(config)) == Recipe(output="of config")
    assert recipe("--output", "a", f"--config={config}", "--dry_run") == Recipe(resume=True, output="a", dry_run=True)


def bomb(depth: int) -> str:
    """A document of a few hundred bytes that stands for 9 ** depth values."""
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"b{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, depth)]
    return "\n".join(lines)


def test_yaml_that_repeats_itself_is_refused_before_it_is_made(tmp_path: Path) -> None:
    """Nine levels would be 387 million values."""
    config = tmp_path / "config.yaml"
    config.write_text(f"{bomb(9)}\nmodel: {{name: *a8}}\n", encoding="utf-8")
    assert config.stat().st_size < 600
    for refused in (lambda: recipe("--config", str(config)), lambda: load_yaml(config.read_bytes())):
        with pytest.raises((ArgumentError, ValueError), match="repeats itself by aliases"):
            refused()
    with pytest.raises((ArgumentError, ValueError), match="repeats itself by aliases"):
        recipe("--model", f"{{{bomb(9).replace(chr(10), ', ')}}}")
    with pytest.raises(ValueError, match="repeats itself"):
        load_yaml("a: &a [*a]")
    assert named_output(["--config", str(config), "--output", "a"]) == "a"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 1500, "nested too deeply"),
        ("a: 2026-13-45", "month must be"),
        ("a: [", "while parsing"),
        ("- a", "is not a mapping"),
    ],
)
def test_yaml_that_cannot_be_read_is_named(text: str, message: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(text, encoding="utf-8")
    for read in (lambda: read_yaml(config), lambda: recipe("--config", str(config))):
        with pytest.raises(ValueError, match=rf"config.yaml (?s:.*){message}(?s:.*): repair it"):
            read()


@pytest.mark.parametrize("value", ["3", "[a]", "null"])
def test_a_value_in_the_place_of_a_section_is_named(value: str, tmp_path: Path) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(f"model: {value}", encoding="utf-8")
    with pytest.raises(ValueError, match=r"config.yaml has model .*, but it is a section: write its fields below it"):
        recipe("--config", str(config))


def test_ordinary_aliases_are_read(tmp_path: Path) -> None:
    assert load_yaml("a: &a {name: b*c}\nb: *a\n") == {"a": {"name": "b*c"}, "b": {"name": "b*c"}}
    assert load_yaml(bomb(4))["b3"][8][8][8] == ["x"] * 9
    assert load_yaml("many: [" + "1, " * 20_000 + "'*']")["many"][0] == 1
    config = tmp_path / "config.yaml"
    config.write_text("output: &o big\nmodel: {name: *o}\n", encoding="utf-8")
    assert recipe("--config", str(config)) == Recipe(model=Model(name="big"), output="big")


@pytest.mark.parametrize(
    "text",
    [
        "model: {class_path: planted.Class}",
        "model: planted.Class",
        "class_path: planted.Class",
        "model: {name: {class_path: planted.Class}}",
    ],
)
def test_no_class_is_imported(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "planted.py").write_text("class Class: pass", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises((ArgumentError, ValueError), match=r"class|Class"):
        recipe("--config", str(tmp_path / "config.yaml"))
    if text.startswith("model: "):
        with pytest.raises((ArgumentError, ValueError), match=r"class|Class"):
            recipe("--model", text.removeprefix("model: "))
    assert "planted" not in sys.modules
