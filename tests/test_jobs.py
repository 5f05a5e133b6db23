"""The training job as a user runs it, in one process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
XQUAD_R = ROOT.parent / "shared" / "xquad-r"
SMALL = [
    *("--scaling.num_workers", "0", "--train.batch_size", "16", "--train.warmup_steps", "2"),
    *("--encoder.hidden_size", "32", "--encoder.layers", "1", "--encoder.vocab_size", "1000"),
    *("--validation.batches", "2", "--validation.batch_size", "8", "--validation.every", "2"),
]
SAMPLE = [*SMALL, "--data.facts", "300", "--benchmark.facts", "300"]


def job(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "jobs/train.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = tmp_path_factory.mktemp("jobs") / "run"
    return output, job(*SAMPLE, "--train.steps", 4, "--output", output)


def test_run_is_complete(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, done = run
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(output / "results.json")
    assert "Warning" not in done.stderr
    lines = [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    expected = {"step", "loss", "kind", "example_ids_sha256", "world_size", "attempt", "time", "lr", "pairs_per_s"}
    assert expected <= lines[0].keys()
    assert "validation" in lines[1]
    assert "validation" in lines[3]
    assert (output / "rejected.jsonl").read_bytes() == b""
    assert (output / "model" / "modules.json").exists()
    assert yaml.safe_load((output / "config.yaml").read_text())["train"]["steps"] == 4


def test_results_have_every_setting(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    results = json.loads((run[0] / "results.json").read_text())
    for setting in ("monolingual", "crosslingual", "multilingual"):
        assert results[setting].keys() >= {"mAP", "R@1", "R@10", "success@1", "n_queries", "excluded"}
        assert setting in results["untrained"]
        assert setting in results["bm25"]
    assert "rank_distance" in results["multilingual"]
    assert len(results["per_language"]) == 11
    assert len(results["per_pair"]) == 121
    assert results["per_pair"]["de-en"]["mAP"] > 0


def test_a_run_is_not_overwritten(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    done = job(*SAMPLE, "--train.steps", 4, "--output", run[0])
    assert done.returncode != 0
    assert "--resume" in done.stderr
    assert "Traceback" not in done.stderr


def test_resume_goes_on(run: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    output = tmp_path / "run"
    whole = job(*SAMPLE, "--train.steps", 6, "--train.schedule", "constant", "--output", tmp_path / "whole")
    first = job(*SAMPLE, "--train.steps", 3, "--train.schedule", "constant", "--output", output)
    then = job(*SAMPLE, "--train.steps", 6, "--train.schedule", "constant", "--output", output, "--resume")
    assert (whole.returncode, first.returncode, then.returncode) == (0, 0, 0), then.stderr
    losses = [
        [json.loads(line)["loss"] for line in (folder / "history.jsonl").read_text().splitlines()]
        for folder in (tmp_path / "whole", output)
    ]
    assert losses[0] == losses[1]
    changed = job(*SAMPLE, "--train.steps", 8, "--train.lr", "1e-4", "--output", output, "--resume")
    assert changed.returncode != 0
    assert "train.lr" in changed.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train.stepz", "3"], "stepz"),
        (["--sampling.mono", "0.9"], "sum to 1"),
        (["--scaling.num_workers", "3"], "does not divide"),
        (["--data.format", "nothing"], "unknown"),
        (["--data.facts", "3"], "facts"),
        (["--train.batch_size", "5000"], "Lower train.batch_size"),
        (["--encoder.name", "/nowhere"], "/nowhere"),
        (["--benchmark.split", "all"], "benchmark.split"),
        (["--resume"], "no run to resume"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(arguments: list[str], message: str, tmp_path: Path) -> None:
    done = job(*SAMPLE, "--output", tmp_path / "run", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_dry_run_trains_nothing(tmp_path: Path) -> None:
    done = job(*SAMPLE, "--dry_run", "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for words in ("step 0:", "cross", "query languages", "groups drawn at least once", "negatives of a query"):
        assert words in done.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(not XQUAD_R.exists(), reason="../shared/xquad-r is absent")
def test_real_data(tmp_path: Path) -> None:
    paths = ["--data.path", XQUAD_R, "--benchmark.path", XQUAD_R]
    options = [*SMALL, "--train.steps", 3, "--output", tmp_path / "run", "--sampling.negatives", 1]
    done = job("--config", "jobs/configs/xquad_r.yaml", *paths, *options)
    assert done.returncode == 0, done.stderr
    assert "training: 8261 pairs, 751 groups" in done.stdout
    assert json.loads((tmp_path / "run" / "results.json").read_text())["monolingual"]["n_queries"] == 277 * 11


@pytest.mark.parametrize("name", ["sample", "xquad_r", "xlmr", "labse"])
def test_configs_are_valid(name: str) -> None:
    done = job("--config", f"jobs/configs/{name}.yaml", "--print_config")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["train"]["batch_size"] in (64, 100)


def test_python_in_the_readme_runs(tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = text.split("## In Python")[1].split("```python")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert 0 < float(done.stdout.splitlines()[-1]) < 1
