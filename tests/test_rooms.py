"""A room imports only rooms before it, and the core runs without Ray and MLflow."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

ROOMS: tuple[tuple[str, ...], ...] = (
    ("runtime",),
    ("perturbations",),
    ("data",),
    ("model",),
    ("batches",),
    ("retrieval",),
    ("evaluation",),
    ("attacks",),
    ("training", "reports"),
    ("runs",),
    ("experiments", "translation"),
    ("tracking",),
    ("on_ray",),
    ("jobs",),
)
"""From the ground up; those in one place stand side by side, and do not know each other."""
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
HEAVY = {"torch": "model", "transformers": "model", "tokenizers": "model", "safetensors": "model"}
"""Libraries with the first room that may import them."""
ONLY = {"ray": {"on_ray"}, "mlflow": {"tracking"}}
"""Libraries with the only rooms that may."""
FILES = sorted([*ROOT.glob("hybridir/**/*.py"), *ROOT.glob("jobs/*.py")])


def room_of(file: Path) -> str:
    parts = file.relative_to(ROOT).parts
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
    if file == ROOT / "hybridir" / "__init__.py":  # names for notebooks, of any room, when they are first used
        return
    room = room_of(file)
    for name in imported(file):
        library, _, rest = name.partition(".")
        if library == "hybridir":
            other = rest.partition(".")[0]
            assert other == room or FLOOR[other] < FLOOR[room], f"{file} imports {name}, which is not below it"
        assert FLOOR[room] >= FLOOR[HEAVY.get(library, room)], f"{file} imports {name}"
        assert room in ONLY.get(library, {room}), f"{file} imports {name}"


def test_no_module_stands_outside_the_rooms() -> None:
    loose = {file.name for file in ROOT.glob("hybridir/*.py")}
    assert loose == {"__init__.py"}
    assert {folder.name for folder in (ROOT / "hybridir").iterdir() if folder.is_dir()} - {"__pycache__"} < set(FLOOR)


@pytest.mark.parametrize("room", [room for room in FLOOR if room != "jobs"])
def test_every_room_explains_itself_on_a_page(room: str) -> None:
    lines = (ROOT / "hybridir" / room / "README.md").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 80
    assert [line for line in lines if len(line) > 120] == []


def test_importing_the_package_imports_no_room() -> None:
    code = "import sys, hybridir; print([name for name in sys.modules if name.startswith(('hybridir.', 'torch'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"


WITHOUT_RAY = """
import sys
for name in ("ray", "mlflow"):
    sys.modules[name] = None  # an import raises ImportError

from contextlib import nullcontext
from hybridir.runs.recipe import Recipe, ScalingConfig
from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.model.config import EncoderConfig
from hybridir.runs.backend import here
from hybridir.runs.training_run import run_training
from hybridir.training.config import TrainConfig
from hybridir.training.validation import ValidationConfig

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
