"""Imports go downward only, and the core runs without Ray and MLflow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

LAYERS = [
    {"records", "secrets", "owner", "signals", "durable"},
    {
        "formats",
        "sources",
        "intake",
        "corpus",
        "corpus_build",
        "sampling",
        "plan",
        "space",
        "metrics",
        "bias",
        "significance",
    },
    {
        "tokens",
        "vocabulary",
        "collate",
        "model_folder",
        "encoder",
        "losses",
        "precision",
        "distributed",
        "search",
        "bm25",
        "trec",
    },
    {
        "dual_encoder",
        "validation",
        "agreement",
        "memory",
        "clock",
        "checkpoint",
        "history",
        "evaluate",
        "bias_results",
        "compare",
        "claims",
        "per_query",
        "report",
        "html_report",
        "preview",
        "progress",
        "encode",
        "card",
        "embeddings",
        "results",
        "model_card",
    },
    {"train"},
    {"recipe"},
    {"checks"},
    {"folder", "prepare", "systems"},
    {"run"},
    {"arm"},
    {"study", "study_results", "arm_progress"},
    {"studies", "study_run", "tune", "tune_results", "tune_run"},
    {"evaluation"},
    {"command_line"},
    {"tracking"},
    {"on_ray"},
    {"jobs"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = {
    "torch": 2,
    "transformers": 2,
    "tokenizers": 2,
    "safetensors": 2,
    "ray": LEVEL["on_ray"],
    "mlflow": LEVEL["tracking"],
}
FILES = sorted([*ROOT.glob("hybridir/**/*.py"), *ROOT.glob("jobs/*.py")])


def place(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return "jobs" if parts[0] == "jobs" else parts[1]


def imported(file: Path) -> set[str]:
    """Dotted names of all imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_downward(file: Path) -> None:
    if file == ROOT / "hybridir" / "__init__.py":
        assert imported(file) == set()
        return
    for name in imported(file):
        parts = name.split(".")
        if parts[0] == "hybridir" and parts[1] in LEVEL:
            assert LEVEL[parts[1]] <= LEVEL[place(file)], f"{file} imports {name} from a layer above it"
        if parts[0] in HEAVY:
            assert LEVEL[place(file)] >= HEAVY[parts[0]], f"{file} imports {name}"


WITHOUT_RAY = """
import sys
for name in ("ray", "mlflow"):
    sys.modules[name] = None  # an import raises ImportError

from contextlib import nullcontext
from hybridir.recipe import Recipe, ScalingConfig
from hybridir.records import BenchmarkConfig, DataConfig
from hybridir.encoder import EncoderConfig
from hybridir.run import here, run_training
from hybridir.train import TrainConfig
from hybridir.validation import ValidationConfig

languages = ("de", "en")
run_training(
    Recipe(
        data=DataConfig(facts=200, languages=languages),
        encoder=EncoderConfig(hidden_size=32, layers=1, vocab_size=500),
        train=TrainConfig(steps=3, batch_size=8),
        validation=ValidationConfig(batches=2, batch_size=8),
        benchmark=BenchmarkConfig(facts=200, languages=languages),
        scaling=ScalingConfig(num_workers=0),
        output=sys.argv[1],
    ),
    nullcontext(here()),
)
"""


def test_core_trains_and_evaluates_without_ray_and_mlflow(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_RAY, str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "results.json").exists()
