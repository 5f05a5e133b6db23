"""The training job as a user runs it, in one process."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, XQUAD_R, job, read_lines, steady

from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark
from hybridir.runtime.history import read_history

SMALL = [
    *("--scaling.num_workers", "0", "--train.batch_size", "16", "--train.warmup_steps", "2"),
    *("--encoder.hidden_size", "32", "--encoder.layers", "1", "--encoder.vocab_size", "1000"),
    *("--validation.batches", "2", "--validation.batch_size", "8", "--validation.every", "2"),
]
SAMPLE = [*SMALL, "--data.facts", "300", "--benchmark.facts", "100"]
BRIEF = [*SAMPLE, "--benchmark.languages", "[de, en]"]
"""Where what is measured does not matter."""


def process(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The job in a process of its own."""
    command = [sys.executable, "jobs/train.py", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, umask=0o027)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    output = tmp_path_factory.mktemp("jobs") / "run"
    return output, process(*SAMPLE, "--train.steps", 4, "--output", output)


def test_run_is_complete(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output, done = run
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(output / "report.html")
    assert done.stderr == ""
    lines = [json.loads(line) for line in (output / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2, 3]
    expected = {"step", "loss", "kind", "example_ids_sha256", "world_size", "attempt", "time", "lr", "pairs_per_s"}
    assert expected <= lines[0].keys()
    assert "validation" in lines[1]
    assert "validation" in lines[3]
    assert (output / "rejected.jsonl").read_bytes() == b""
    assert (output / "model" / "modules.json").exists()
    assert json.loads((output / "data_card.json").read_text(encoding="utf-8"))["accepted"] == 2684
    assert (output.parent / "mlflow.db").exists()
    assert yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))["train"]["steps"] == 4


def test_permissions_are_those_of_the_umask(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Of the output, of the cache and of MLflow's files: here nothing that the group can write or others can read."""
    made = [file for file in run[0].parent.rglob("*") if not file.is_symlink()]
    assert {"mlflow.db", "cache", "results.json", "pairs.arrow", "model.safetensors"} <= {file.name for file in made}
    assert [file for file in made if file.stat().st_mode & 0o027] == []


def test_results_have_every_setting(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    results = json.loads((run[0] / "results.json").read_text(encoding="utf-8"))
    for setting in ("monolingual", "crosslingual", "multilingual"):
        assert results[setting].keys() >= {"mAP", "R@1", "R@10", "success@1", "n_queries", "excluded"}
        assert setting in results["untrained"]
        assert setting in results["systems"]["BM25"]
    assert "rank_distance" in results["multilingual"]
    assert len(results["per_language"]) == 11
    assert len(results["per_pair"]) == 121
    for row in results["comparisons"]:
        assert row["interval"][0] <= row["difference"] <= row["interval"][1]
        assert 0 < row["p"] <= (row["p_holm"] or 1) <= 1
    assert {row["baseline"] for row in results["comparisons"]} == {"untrained", "BM25"}
    page = (run[0] / "report.html").read_text(encoding="utf-8")
    assert f"{results['multilingual']['mAP']:.3f}" in page
    assert results["per_pair"]["de-en"]["mAP"] > 0


def test_a_run_is_not_overwritten(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    done = job(*SAMPLE, "--train.steps", 4, "--output", run[0])
    assert done.returncode != 0
    assert "--resume" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--train.stepz", "3"], "stepz"),
        (["--sampling.mono", "0.9"], "sum to 1"),
        (["--scaling.num_workers", "3"], "is not a multiple"),
        (["--scaling.num_workers", "32"], "is not a multiple"),
        (["--scaling.num_workers", "4", "--scaling.min_workers", "5"], "take 1 to scaling.num_workers, 4"),
        (["--data.format", "nothing"], "unknown"),
        (["--data.facts", "3"], "facts"),
        (["--train.batch_size", "5000"], "Lower train.batch_size"),
        (["--encoder.name", "/nowhere"], "/nowhere"),
        (["--benchmark.split", "all"], "benchmark.split"),
        (["--resume"], "no training run to resume"),
    ],
)
def test_bad_input_is_refused_with_a_remedy(arguments: list[str], message: str, tmp_path: Path, cache: Path) -> None:
    done = job(*SAMPLE, "--cache", cache, "--output", tmp_path / "run", *arguments)
    assert done.returncode != 0
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_benchmark_that_cannot_be_encoded_is_refused_before_training(tmp_path: Path) -> None:
    """Half an emoji in the last query: JSON can write it, a tokenizer cannot read it."""
    folder = tmp_path / "benchmark"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "p", "text": "p"}\n')
    (folder / "queries.jsonl").write_text('{"_id": "q", "text": "q"}\n{"_id": "r", "text": "\\ud83d"}\n')
    (folder / "qrels" / "test.tsv").write_text("q\tp\t1\nr\tp\t1\n")
    where = ("--benchmark.name", "beir", "--benchmark.path", folder, "--benchmark.language", "en")
    done = job(*SMALL, "--data.facts", 300, *where, "--output", tmp_path / "run")
    assert done.returncode == 1
    assert "queries.jsonl:2: unpaired surrogate: text: '\\ud83d'" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run" / "history.jsonl").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--data.pth", "s3://AK:CANARY@b/x"),
        ("--data", "s3://AK:CANARY@b/x"),
        ("--data.format", "s3://AK:CANARY@b/x"),
        ("--encoder.name", "s3://AK:CANARY@b/x"),
        ("--data.format", "lareqa", "--data.path", "s3://AK:CANARY@b/x"),
    ],
)
def test_errors_show_no_secret(arguments: list[str], tmp_path: Path) -> None:
    done = job(*SAMPLE, "--output", tmp_path / "run", *arguments)
    assert done.returncode != 0
    assert "://***@b/x" in done.stderr or "CANARY" not in "".join(arguments)
    assert "CANARY" not in done.stdout + done.stderr


def test_rejected_rows_stop_the_job_above_the_limit(tmp_path: Path) -> None:
    """Some 10 % are bad: the run does not start, says which and why, and starts where that many are allowed."""
    lines = []
    for n in range(400):
        for language in ("de", "en"):
            row = {"group_id": n, "language": language, "query": f"q {n}", "passage": f"p {n} {language}"}
            lines.append(json.dumps(row | ({"query": ""} if n % 10 == 3 else {})))
    (tmp_path / "pairs.jsonl").write_text("\n".join([*lines, "{"]), encoding="utf-8")
    where = ["--data.path", tmp_path / "pairs.jsonl"]
    options = [*SMALL, "--train.steps", 2, *where]
    refused = job(*options, "--output", tmp_path / "refused")
    assert refused.returncode != 0
    assert "81 of 801 rows (10.1%) are rejected, but data.max_rejected is 1.0%" in refused.stderr
    for words in ("80 x empty query, the first:", "1 x broken JSON", "pairs.jsonl:801:", "raise data.max_rejected"):
        assert words in refused.stderr
    assert len((tmp_path / "refused" / "rejected.jsonl").read_text(encoding="utf-8").splitlines()) == 81
    assert not (tmp_path / "refused" / "history.jsonl").exists()
    taken = job(*options, "--output", tmp_path / "taken", "--data.max_rejected", 0.11)
    assert taken.returncode == 0, taken.stderr
    assert "rows: 801 read = 720 accepted + 81 rejected" in taken.stdout


def test_dry_run_trains_nothing(tmp_path: Path, cache: Path) -> None:
    done = job(*SAMPLE, "--cache", cache, "--dry_run", "--output", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    for words in (
        "rows: 2684 read",
        "passage tokens",
        "in 11 languages",
        "step 0:",
        "cross",
        "query languages",
        "groups drawn at least once",
        "negatives of a query",
    ):
        assert words in done.stdout
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(not XQUAD_R.exists(), reason="../shared/xquad-r is absent")
def test_real_data(tmp_path: Path) -> None:
    """Slow: the same job as on the sample; that these files are read and measured is tested with every change."""
    paths = ["--data.path", XQUAD_R, "--benchmark.path", XQUAD_R]
    options = [*SMALL, "--train.steps", 3, "--output", tmp_path / "run", "--sampling.negatives", 1]
    options += ["--benchmark.languages", "[ar, de, en]"]
    done = job("--config", "jobs/configs/xquad_r.yaml", *paths, *options)
    assert done.returncode == 0, done.stderr
    assert "train: 8261 pairs, 751 groups" in done.stdout
    assert (
        json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))["monolingual"]["n_queries"]
        == 277 * 3
    )


@pytest.mark.parametrize("name", ["sample", "xquad_r", "xlmr", "labse", "mmarco", "e5", "bge_m3", "faq", "paper"])
def test_configs_are_valid(name: str) -> None:
    config = f"jobs/configs/{name}.yaml"
    done = job("--config", config, "--print_config")
    assert done.returncode == 0, done.stderr
    named = yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))["train"]
    assert yaml.safe_load(done.stdout)["train"].items() >= named.items()


LONGER = [*BRIEF, "--train.checkpoint_every", "7", "--validation.every", "20", "--train.schedule", "constant"]


def test_a_password_that_is_also_the_name_of_a_folder(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is found again by what its `config.yaml` says."""
    monkeypatch.setenv("POSTGRES_PASSWORD", "airflow")
    output = tmp_path / "airflow" / "run"
    first = job(*BRIEF, "--cache", cache, "--train.steps", 2, "--output", output)
    assert first.returncode == 0, first.stderr
    assert yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))["output"] == str(output)
    then = job("--config", output / "config.yaml", "--train.steps", 4, "--resume")
    assert then.returncode == 0, then.stderr
    assert last_step(output) == 3
    assert [folder.name for folder in tmp_path.iterdir()] == ["airflow"]


@pytest.fixture(scope="module")
def contest(
    tmp_path_factory: pytest.TempPathFactory, cache: Path
) -> tuple[Path, list[subprocess.Popen[str]], list[str]]:
    """Five starts at the same instant on one output folder; the one that runs is killed in the middle of 60 steps."""
    output = tmp_path_factory.mktemp("contest") / "run"
    command = [sys.executable, "jobs/train.py", *LONGER, "--train.steps", "60", "--tracking.enabled=false"]
    command += ["--output", str(output), "--cache", str(cache)]
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    starts = [subprocess.Popen(command, **options) for _ in range(5)]
    while sum(start.poll() is None for start in starts) > 1 or not last_step(output) > 20:
        assert any(start.poll() is None for start in starts)
        time.sleep(0.02)
    for start in starts:
        start.kill()
    return output, starts, [start.communicate()[1] for start in starts]


def last_step(output: Path) -> int:
    lines = list(read_history(output / "history.jsonl"))
    return lines[-1]["step"] if lines else -1


def test_of_five_starts_at_one_instant_one_runs(contest: tuple[Path, list[subprocess.Popen[str]], list[str]]) -> None:
    output, starts, errors = contest
    assert sorted(start.returncode for start in starts) == [-signal.SIGKILL, *[1] * 4]
    ran = next(start for start in starts if start.returncode < 0)
    for start, error in zip(starts, errors, strict=True):
        wanted = f"{output} belongs to a run that is going on: process {ran.pid}, since " if start is not ran else ""
        assert wanted in error, error
        assert "Traceback" not in error


def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    contest: tuple[Path, list[subprocess.Popen[str]], list[str]], tmp_path: Path, cache: Path
) -> None:
    output = contest[0]
    longer = [*LONGER, "--cache", cache]
    whole = job(*longer, "--train.steps", 60, "--output", tmp_path / "whole")
    then = job(*longer, "--train.steps", 60, "--output", output, "--resume")
    assert (whole.returncode, then.returncode) == (0, 0), then.stderr
    assert "resuming from" in then.stdout
    histories = [read_lines(folder / "history.jsonl") for folder in (output, tmp_path / "whole")]
    assert steady(histories[0]) == steady(histories[1])
    assert {line["attempt"] for line in histories[0]} == {1, 2}
    weights = [folder / "model" / "model.safetensors" for folder in (output, tmp_path / "whole")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    config = (output / "config.yaml").read_bytes()
    elsewhere = ["--benchmark.name", "mlqa-r", "--benchmark.path", "/nowhere", "--benchmark.facts", 960]
    for options, message in (
        (["--train.steps", 80, "--train.lr", "1e-4"], "train.lr"),
        (["--train.steps", 40], "the newest checkpoint is at step 60"),
        (["--train.steps", 80, *elsewhere], "/nowhere"),
    ):
        refused = job(*longer, *options, "--output", output, "--resume")
        assert refused.returncode != 0
        assert message in refused.stderr
    assert (output / "config.yaml").read_bytes() == config


def test_a_finished_run_is_left_as_it_is(run: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    output = run[0]
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    done = job(*SAMPLE, "--train.steps", 4, "--output", output, "--resume")
    assert done.returncode == 0, done.stderr
    assert "is finished (4 steps): nothing is changed. To train on, raise train.steps" in done.stdout
    assert done.stdout.splitlines()[-1] == str(output / "report.html")
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_a_file_STOP_counts_from_the_start(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put there while data is prepared; --resume takes it away."""
    read = sources.read_benchmark
    options = [*BRIEF, "--cache", cache, "--train.steps", 3, "--output", tmp_path / "run"]

    def read_and_stop(config: BenchmarkConfig) -> Benchmark:
        (tmp_path / "run" / "STOP").touch()
        return read(config)

    with monkeypatch.context() as patch:
        patch.setattr(sources, "read_benchmark", read_and_stop)
        asked = job(*options)
    assert (asked.returncode, last_step(tmp_path / "run")) == (75, 0), asked.stderr
    then = job(*options, "--resume")
    assert (then.returncode, last_step(tmp_path / "run")) == (0, 2), then.stderr


def test_data_that_has_moved_is_taken_where_it_is_now(tmp_path: Path) -> None:
    rows = [
        {"group_id": n, "language": language, "query": f"q {n}", "passage": f"p {n} {language}"}
        for n in range(400)
        for language in ("de", "en")
    ]
    for name, kept in (("old", rows), ("new", rows), ("other", rows[2:])):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, kept)), encoding="utf-8")
    options = [*SMALL, "--benchmark.facts", 100, "--data.format", "jsonl", "--output", tmp_path / "run"]
    for name in ("data", "sampling", "validation", "benchmark"):
        options += [f"--{name}.languages", "[de, en]"]
    first = job(*options, "--train.steps", 2, "--data.path", tmp_path / "old.jsonl")
    assert first.returncode == 0, first.stderr
    (tmp_path / "old.jsonl").unlink()
    gone = job(*options, "--train.steps", 4, "--resume", "--data.path", tmp_path / "old.jsonl")
    assert "does not exist: check it. If the data has moved, give the new path" in gone.stderr
    other = job(*options, "--train.steps", 4, "--resume", "--data.path", tmp_path / "other.jsonl")
    assert "was written with corpus = " in other.stderr
    then = job(*options, "--train.steps", 4, "--resume", "--data.path", tmp_path / "new.jsonl")
    assert then.returncode == 0, then.stderr
    assert last_step(tmp_path / "run") == 3
