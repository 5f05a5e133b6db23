"""Style and types: part of the one command."""

import re
import subprocess
import sys

import pytest
from helpers import ROOT


@pytest.mark.parametrize("command", ["ruff check .", "ruff format --check .", "mypy"])
def test_clean(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command.split()], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_nothing_unpickles() -> None:
    for file in [*ROOT.glob("hybridir/**/*.py"), *ROOT.glob("jobs/**/*.py")]:
        text = file.read_text(encoding="utf-8")
        for word in ("pickle", "torch.load(", "yaml.load(", "0.0.0.0"):
            assert word not in text, f"{file} has {word}"


def test_all_yaml_is_read_within_bounds() -> None:
    for file in [*ROOT.glob("hybridir/**/*.py"), *ROOT.glob("jobs/**/*.py")]:
        if file.name != "plain_yaml.py":
            assert ".safe_load(" not in file.read_text(encoding="utf-8"), f"{file} reads YAML not by load_yaml"


def test_code_of_models_never_runs() -> None:
    """Whatever transformers loads by a name says so: else an open stdin would be asked whether to run the code."""
    loads = re.compile(r"\.(from_pretrained|from_config)\(")
    for file in [*ROOT.glob("hybridir/**/*.py"), *ROOT.glob("jobs/**/*.py")]:
        text = file.read_text(encoding="utf-8")
        for call in loads.finditer(text):
            inside = _arguments(text, call.end())
            in_message = text[text.rfind("\n", 0, call.start()) : call.start()].count('"') % 2
            assert in_message or "trust_remote_code=False" in inside, f"{file} loads without trust_remote_code=False"
        assert not re.search(r"trust_remote_code(?!=False\b|\")", text), f"{file} uses trust_remote_code otherwise"


def _arguments(text: str, start: int) -> str:
    depth = 1
    for end in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[end], 0)
        if not depth:
            return text[start:end]
    raise AssertionError("a call has an end")
