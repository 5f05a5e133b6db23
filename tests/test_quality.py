"""Style and types: part of the one command."""

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
        for word in ("pickle", "torch.load(", "trust_remote_code", "yaml.load(", "0.0.0.0"):
            assert word not in text, f"{file} has {word}"
