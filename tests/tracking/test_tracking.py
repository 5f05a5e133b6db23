"""Runs in MLflow: a real sqlite store and a real server; folders are written by hand rather than trained."""

import ast
import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from helpers import HOSTILE, ROOT, foreign_server, live
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from hybridir.batches.token_cache import TokenJob
from hybridir.data.config import DataConfig
from hybridir.model.encoder import Encoder
from hybridir.model.tokenizer_training import train_tokenizer
from hybridir.reports.data_card import data_card, to_markdown
from hybridir.runs.corpus import read_corpus
from hybridir.runs.prepare import Prepared
from hybridir.runs.recipe import Recipe, TrackingConfig
from hybridir.runs.training_run import open_output
from hybridir.runtime.history import History, Tail
from hybridir.tracking import __main__ as job
from hybridir.tracking import follow as follow_module
from hybridir.tracking.follow import SILENT_LIMIT, follow
from hybridir.tracking.nested import record
from hybridir.tracking.remote import ARTIFACTS
from hybridir.tracking.result_metrics import numbers_of
from hybridir.tracking.state import begin, load, save
from hybridir.tracking.target import CREDENTIALS, Target, named_uris, reason, target, trouble
from hybridir.training.config import TrainConfig
from hybridir.training.loop import train

START = 1_700_000_000.25
"""Unix seconds of step 0 of every run."""


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow_module, "EVERY", 0.2)
    monkeypatch.setattr(follow_module, "LONGEST_WAIT", 0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that runs lie in, with the sqlite store beside them."""
    return tmp_path_factory.mktemp("runs")


def recipe_of(output: Path, steps: int = 10, **tracking: Any) -> Recipe:
    config = TrackingConfig(**{"system_metrics_every": 0.2} | tracking)
    return Recipe(
        data=DataConfig(format="sample"),
        output=str(output),
        cache=str(output.parent / "cache"),
        train=TrainConfig(steps=steps),
        tracking=config,
    )


def line(step: int, shift: float = 0.0) -> dict[str, Any]:
    """A line of the history; every fifth has a validation."""
    found = {"step": step, "loss": 1 / (step + 1), "kind": ("mono", "cross")[step % 2], "lr": 1e-3}
    found |= {"example_ids_sha256": "ab", "world_size": 2, "seconds": 0.5, "time": START + step + shift}
    return found | ({"validation": {"loss": 2.0, "mono": 1.0, "cross": 3.0}} if step % 5 == 4 else {})


def write_steps(output: Path, start: int, stop: int, shift: float = 0.0) -> None:
    history = History(output, start)
    for step in range(start, stop):
        history.append(line(step, shift))
    history.close()


def write_card(output: Path, fingerprint: str = "f" * 64) -> None:
    (output / "data_card.json").write_text(json.dumps({"fingerprint": fingerprint}), encoding="utf-8")
    (output / "data_card.md").write_text("# The data\n", encoding="utf-8")


def write_results(output: Path, value: float = 1.5, data: str = "plan-1", metric: str = "validation.loss") -> None:
    (output / "model").mkdir(exist_ok=True)
    (output / "model" / "modules.json").write_text("[]", encoding="utf-8")
    measures = {"mAP": 0.5, "R@10": 0.75, "n_queries": 7}
    results = {
        "benchmark": "sample",
        "monolingual": measures,
        "systems": {"untrained": {"monolingual": measures}},
        "intervals": {"monolingual": {"mAP": {"interval": [0.25, 0.625]}}},
        "validation": {"metric": metric, "value": value, "step": 5, "data": data},
        "data": {"fingerprint": "f" * 64},
    }
    (output / "results.json").write_text(json.dumps(results), encoding="utf-8")
    for name in ("report.html", "table.md"):
        (output / name).write_text(f"the {name} of {output.name}", encoding="utf-8")


def write_run(output: Path, **results: Any) -> None:
    """A finished run that was never tracked."""
    open_output(recipe_of(output, model_name=results.pop("model_name", "hybridir")))
    write_steps(output, 0, 10)
    write_results(output, **results)


def sync(output: Path, *arguments: str) -> None:
    """`python -m hybridir.tracking` in this process; SystemExit where it is not complete."""
    before = sys.argv
    sys.argv = ["tracking", str(output), *arguments]
    try:
        job.main()
    finally:
        sys.argv = before


def rows(store: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(store / "mlflow.db")) as database:
        return database.execute(query, values).fetchall()


def run_of(output: Path) -> str:
    """The one MLflow run of a folder."""
    key = json.loads((output / "tracking.json").read_text(encoding="utf-8"))["key"]
    found = rows(output.parent, "select run_uuid from tags where key = 'hybridir.key' and value = ?", key)
    assert len(found) == 1
    return found[0][0]


def count(config: Any) -> int:
    return sum(map(count, config.values())) if isinstance(config, dict) else 1


def points(output: Path, key: str) -> dict[int, tuple[float, int]]:
    """Value and timestamp (ms) of a metric by step; no step twice."""
    query = "select step, value, timestamp from metrics where run_uuid = ? and key = ? order by step"
    found = rows(output.parent, query, run_of(output), key)
    assert max(Counter(step for step, *_ in found).values(), default=1) == 1
    return {step: (value, timestamp) for step, value, timestamp in found}


def tags(output: Path) -> dict[str, str]:
    return dict(rows(output.parent, "select key, value from tags where run_uuid = ?", run_of(output)))


def status(output: Path) -> str:
    return rows(output.parent, "select status from runs where run_uuid = ?", run_of(output))[0][0]


def assert_steps(output: Path, steps: int) -> None:
    """Each step once, with every metric of its line."""
    assert list(points(output, "train/loss")) == list(points(output, "train/lr")) == list(range(steps))
    assert list(points(output, "train/loss_mono")) == list(range(0, steps, 2))
    assert list(points(output, "train/loss_cross")) == list(range(1, steps, 2))
    assert list(points(output, "validation/loss")) == list(range(4, steps, 5))


def dump(folder: Path) -> tuple[list[str], list[Path]]:
    """All that a store holds; of files, their names."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        return list(database.iterdump()), sorted((folder / "mlartifacts").rglob("*"))


def test_a_run_is_written_once(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    output = store / "whole"
    recipe = recipe_of(output)
    open_output(recipe)
    write_card(output)
    monkeypatch.setattr("hybridir.tracking.follow.SAY_EVERY", math.inf)  # however slow the machine is
    with follow(recipe.tracking, output):
        write_steps(output, 0, 10)
        wait_for(lambda: (output / "system.jsonl").read_text(encoding="utf-8").count("\n") >= 2, 60)
        write_results(output)
    captured = capfd.readouterr()
    assert captured.err == ""
    ui = f"mlflow ui --backend-store-uri sqlite:///{store}/mlflow.db"
    assert captured.out.splitlines()[1:] == [
        "tracking: model hybridir, version 1, is the champion now",
        f"tracking: see the run with: {ui}",
    ]
    assert_steps(output, 10)
    assert points(output, "train/loss")[3] == (0.25, round((START + 3) * 1000))
    assert points(output, "validation/cross")[9] == (3.0, round((START + 9) * 1000))
    assert points(output, "result/monolingual/R_at_10").keys() == {9}
    assert points(output, "result/untrained/monolingual/mAP") == {}  # in results.json, which is an artifact
    system = [json.loads(text) for text in (output / "system.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(system) >= 2
    cpu = {one["step"]: (one["cpu_utilization_percentage"], round(one["time"] * 1000)) for one in system}
    assert points(output, "system/cpu_utilization_percentage") == cpu

    run = MlflowClient(f"sqlite:///{store}/mlflow.db").get_run(run_of(output))
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "whole"
    config = yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))
    expected = {"train.weight_decay": "0.01", "data.languages": "null", "train.bf16": "false", "seed": "0"}
    assert expected.items() <= run.data.params.items()
    assert len(run.data.params) == count(config)
    assert {"version.torch", "version.mlflow", "hardware.cpu", "hardware.gpus"} <= run.data.tags.keys()
    assert run.data.tags["mlflow.note.content"] == "# The data\n"
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert run.data.tags.get("mlflow.source.git.commit", "") == head.stdout.strip()
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("sample", "f" * 36)
    stored = store / "mlartifacts" / run_of(output) / "artifacts"
    assert {file.name for file in stored.iterdir()} == set(ARTIFACTS) - {"trials.csv"}  # a search has that
    model = MlflowClient(f"sqlite:///{store}/mlflow.db").get_model_version_by_alias("hybridir", "champion")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, f"sqlite:///{store}/mlflow.db")
    read_back = download_artifacts("models:/hybridir@champion", dst_path=str(tmp_path))
    assert Path(read_back, "modules.json").read_text(encoding="utf-8") == "[]"
    expected = {"validation.metric": "validation.loss", "validation.value": "1.5", "validation.data": "plan-1"}
    assert (expected | {"hybridir.key": run.data.tags["hybridir.key"], "data.fingerprint": "f" * 64}).items() <= (
        model.tags.items()
    )

    before = dump(store)
    sync(output)
    assert dump(store) == before


def test_numbers_of_results() -> None:
    row = {"setting": "monolingual", "measure": "mAP", "difference": 0.25, "interval": [0.125, 0.5], "language": ""}
    results = {
        "monolingual": {"mAP": 0.5, "R@1": 0.25},
        "systems": {"a/b": {"monolingual": {"mAP": 1.0}}},
        "intervals": {"monolingual": {"R@1": {"interval": [0.1, 0.2]}}},
        "comparisons": [
            row | {"baseline": "a/b"},
            row | {"baseline": "a_b", "difference": -0.5},
            row | {"baseline": "a_b", "language": "de"},
            row | {"baseline": "a/b", "measure": "nDCG@10"},
        ],
        "bias": {"score_margin": {"mean": 0.75, "per_language": {"de": 1.0}}, "top_k_languages": {"kl": 0.0625}},
    }
    assert numbers_of(results) == {
        "result/monolingual/mAP": 0.5,
        "result/monolingual/R_at_1": 0.25,
        "result/difference/a_b monolingual": 0.25,
        "result/difference/a_b-2 monolingual": -0.5,
        "result/bias/score_margin": 0.75,
        "result/bias/top_k_languages": 0.0625,
    }
    arms = {"arms": {name: {"monolingual": {"mAP": n}} for n, name in enumerate(("a/b", "a@b", "bias"))}}
    assert numbers_of(arms) == {
        f"result/{name}/monolingual/mAP": n for n, name in enumerate(("a_b", "a_b-2", "bias-2"))
    }


def test_a_run_of_before_gets_the_names_of_today(store: Path) -> None:
    output = store / "of before"
    write_run(output)
    sync(output)
    run = run_of(output)
    with closing(sqlite3.connect(store / "mlflow.db")) as database, database:
        for name in ("metrics", "latest_metrics"):
            database.execute(f"delete from {name} where run_uuid = ?", (run,))
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    for step in range(5):  # five steps with a name of before
        client.log_metric(run, "loss", 1 / (step + 1), step=step)
    sync(output)
    assert_steps(output, 10)
    assert list(points(output, "loss")) == list(range(5))


def test_the_champion_is_the_best_by_the_same_validation(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"value": 2.0}, 1, "version 1, is the champion now"),
        ({"value": 1.5}, 2, "version 2, is the champion now"),
        ({"value": 1.8}, 2, "version 2 stays champion, with validation.loss 1.5000 against 1.8000"),
        ({"value": 1.0, "data": "plan-2"}, 2, "version 2 stays champion: its validation data is not the same"),
        ({"value": 9.0, "metric": "validation.mAP"}, 2, "its validation metric is not the same"),
        ({"value": float("nan")}, 2, "has no validation value that is a number"),
        ({"value": None}, 2, "has no validation value that is a number"),
    ]
    for n, (results, champion, said) in enumerate(cases):
        output = store / f"candidate-{n}"
        write_run(output, model_name="contest", **results)
        capsys.readouterr()
        sync(output)
        assert said in capsys.readouterr().out
        sync(output)
        assert client.get_model_version_by_alias("contest", "champion").version == champion
        assert len(client.search_model_versions("name = 'contest'")) == n + 1


def test_a_champion_without_a_number_is_none(store: Path) -> None:
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    write_run(store / "first", model_name="odd", value=1.0)
    sync(store / "first")
    client.set_model_version_tag("odd", "1", "validation.value", "nan")
    write_run(store / "second", model_name="odd", value=2.0)
    sync(store / "second")
    assert client.get_model_version_by_alias("odd", "champion").version == 2


def test_higher_is_better_unless_it_is_a_loss(store: Path) -> None:
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    for value, champion in ((0.3, 1), (0.2, 1), (0.4, 3)):
        output = store / f"higher-{value}"
        write_run(output, model_name="higher", value=value, metric="validation.mAP.mean")
        sync(output)
        assert client.get_model_version_by_alias("higher", "champion").version == champion


def test_a_resumed_run_is_one_run_with_a_point_a_step(store: Path) -> None:
    output = store / "resumed"
    recipe = recipe_of(output)
    open_output(recipe)

    def first_attempt() -> None:
        with follow(recipe.tracking, output):
            write_steps(output, 0, 8)
            wait_for(lambda: len(points(output, "train/loss")) == 8, 60)
            write_steps(output, 6, 10, shift=50)  # a worker was lost, steps 6 and 7 are done again
            raise SystemExit("stopped and saved")

    with pytest.raises(SystemExit, match="stopped and saved"):
        first_attempt()
    assert status(output) == "KILLED"
    assert_steps(output, 10)
    longer = recipe_of(output, steps=15)
    open_output(replace(longer, resume=True))
    with follow(longer.tracking, output):
        write_steps(output, 5, 15, shift=100)
        write_results(output)
    assert status(output) == "FINISHED"
    assert_steps(output, 15)
    shifts = [timestamp / 1000 - START - step for step, (_, timestamp) in points(output, "train/loss").items()]
    assert shifts == [0] * 8 + [50] * 2 + [100] * 5
    assert tags(output)["changed.train.steps"] == "15"
    assert "changed.train.lr" not in tags(output)
    assert list(points(output, "result/monolingual/mAP")) == [14]
    lines = len((output / "system.jsonl").read_text(encoding="utf-8").splitlines())
    assert list(points(output, "system/disk_usage_percentage")) == list(range(lines))


def test_a_resume_completes_what_a_driver_that_was_killed_after_its_results_did_not(store: Path) -> None:
    output = store / "killed at the end"
    recipe = recipe_of(output)
    write_run(output)
    sync(output)
    state = load(output)
    save(replace(state, status="RUNNING", ended=None, complete=False), output)
    MlflowClient(f"sqlite:///{store}/mlflow.db").update_run(run_of(output), "RUNNING")
    save(begin(load(output), output), output)  # as a first resume does, that is killed, too
    with follow(recipe.tracking, output, ended=True):
        pass
    assert status(output) == "FINISHED"
    assert load(output).complete
    assert load(output).ended == (output / "results.json").stat().st_mtime_ns // 10**6
    before = (output / "tracking.json").stat().st_mtime_ns
    with follow(recipe.tracking, output, ended=True):
        pass
    assert (output / "tracking.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("error", "expected"), [(RuntimeError, "FAILED"), (KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED")]
)
def test_an_error_passes_through(error: type[BaseException], expected: str, store: Path) -> None:
    output = store / error.__name__
    recipe = recipe_of(output)
    open_output(recipe)
    raised = error("of the run")

    def attempt() -> None:
        with follow(recipe.tracking, output):
            write_steps(output, 0, 10)
            raise raised

    with pytest.raises(error) as caught:
        attempt()
    assert caught.value is raised
    assert status(output) == expected
    assert_steps(output, 10)


def test_a_resume_that_is_refused_leaves_a_finished_run_as_it_was(store: Path) -> None:
    output = store / "finished"
    write_run(output)
    with follow(recipe_of(output).tracking, output):
        write_steps(output, 10, 12)
        write_results(output)
    before = json.loads((output / "tracking.json").read_text(encoding="utf-8"))["ended"]
    open_output(replace(recipe_of(output, steps=9), resume=True))
    with pytest.raises(ValueError, match="refused"), follow(recipe_of(output).tracking, output):
        raise ValueError("refused")
    assert status(output) == "FINISHED"
    assert json.loads((output / "tracking.json").read_text(encoding="utf-8"))["ended"] == before
    assert tags(output)["changed.train.steps"] == "9"
    open_output(replace(recipe_of(output), resume=True))

    def attempt() -> None:
        with follow(recipe_of(output).tracking, output):
            write_steps(output, 12, 13)
            raise ValueError("late")

    with pytest.raises(ValueError, match="late"):
        attempt()
    assert status(output) == "FAILED"
    assert tags(output)["changed.train.steps"] == "10"  # taken back


def test_a_run_that_goes_on_is_not_written_twice(tmp_path: Path) -> None:
    output = tmp_path / "run"
    open_output(recipe_of(output, uri=f"http://127.0.0.1:{free_port()}"))
    with follow(recipe_of(output, uri=f"http://127.0.0.1:{free_port()}").tracking, output):
        with pytest.raises(SystemExit, match="still going on"):
            sync(output)
        assert json.loads((output / "tracking.json").read_text(encoding="utf-8"))["status"] == "RUNNING"


def test_a_failed_run_has_its_data(store: Path) -> None:
    output = store / "early"
    pairs = store / "faq.jsonl"
    pairs.touch()
    open_output(replace(recipe_of(output), data=DataConfig(path=str(pairs), format="jsonl")))
    write_card(output)
    with pytest.raises(RuntimeError), follow(recipe_of(output).tracking, output):
        raise RuntimeError("early")
    run = MlflowClient(f"sqlite:///{store}/mlflow.db").get_run(run_of(output))
    assert run.info.status == "FAILED"
    dataset = run.inputs.dataset_inputs[0].dataset
    assert (dataset.name, dataset.digest) == ("faq.jsonl", "f" * 36)


def test_a_damaged_state_is_refused_with_a_remedy(tmp_path: Path) -> None:
    open_output(recipe_of(tmp_path / "run"))
    (tmp_path / "run" / "tracking.json").write_text("{", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"tracking.json is damaged: delete it"):
        sync(tmp_path / "run")


@pytest.mark.slow
def test_two_runs_may_make_the_database_at_once(tmp_path: Path) -> None:
    outputs = [tmp_path / "one", tmp_path / "two"]
    for output in outputs:
        write_run(output)
    command = [sys.executable, "-m", "hybridir.tracking"]
    running = [subprocess.Popen([*command, str(output)], cwd=ROOT) for output in outputs]
    assert [process.wait() for process in running] == [0, 0]
    for output in outputs:
        assert_steps(output, 10)


def test_runs_of_the_same_data_may_be_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow stores a data set once: of two runs that create it at once, one gets an error."""
    study, log_inputs = tmp_path / "study", MlflowClient.log_inputs
    write_run(study)
    sync(study)
    both, seen = threading.Barrier(2), set()

    def at_the_same_moment(client: MlflowClient, run_id: str, *arguments: Any) -> None:
        if run_id not in seen:
            seen.add(run_id)
            both.wait()
        log_inputs(client, run_id, *arguments)

    monkeypatch.setattr(MlflowClient, "log_inputs", at_the_same_moment)
    for turn in range(4):
        outputs = [study / "arms" / f"{turn}-{name}" for name in ("one", "two")]
        for output in outputs:
            write_run(output)
            write_card(output, fingerprint=f"{turn}" * 64)
        threads = [threading.Thread(target=record, args=(TrackingConfig(), output, study)) for output in outputs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    statuses = rows(tmp_path, "select status from runs join tags using (run_uuid) where key = 'mlflow.parentRunId'")
    assert statuses == [("FINISHED",)] * 8
    assert rows(tmp_path, "select count(*) from datasets") == [(4,)]


def test_a_database_that_cannot_be_written_is_named_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output, missing = tmp_path / "run", tmp_path / "missing" / "mlflow.db"
    recipe = recipe_of(output, uri=f"sqlite:///{missing}")
    open_output(recipe)
    with follow(recipe.tracking, output):
        time.sleep(1)
        left = time.monotonic()
    assert time.monotonic() - left < SILENT_LIMIT
    said = capsys.readouterr().out
    assert f"there is no folder {missing.parent}" in said
    assert "write it later with" in said
    assert not missing.parent.exists()
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(SystemExit, match="unable to open database file"):
        sync(output, "--uri", f"sqlite:///{tmp_path}/mlflow.db")


def test_troubles_are_told_in_words() -> None:
    long = "API request to http://h/api failed: HTTPConnectionPool(host='h'): [Errno 111] Connection refused"
    assert trouble(RuntimeError(long)) == "no answer: connection refused"
    assert trouble(ValueError("no space")) == "it could not be written: ValueError: no space"
    assert reason(ValueError("words " * 99)).endswith("words ...")


def test_nothing_is_written_when_disabled(tmp_path: Path) -> None:
    output = tmp_path / "run"
    recipe = recipe_of(output, enabled=False)
    open_output(recipe)
    with follow(recipe.tracking, output):
        write_steps(output, 0, 2)
    assert not (output / "tracking.json").exists()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_tracker_that_cannot_begin_is_no_harm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run" / "tracking.json").mkdir(parents=True)
    with follow(recipe_of(tmp_path / "run").tracking, tmp_path / "run"):
        pass
    assert "the run goes on" in capsys.readouterr().out


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def server(folder: Path, port: int) -> Iterator[None]:
    """An MLflow server on loopback; killed on leaving."""
    store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept")]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with open(folder / "server.log", "ab") as log:
        process = subprocess.Popen([*command, *store], stdout=log, stderr=log, start_new_session=True)
    try:
        wait_for(lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).status == 200, 120)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while True:
        try:
            if condition():
                return
        except (OSError, AssertionError):
            pass
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.2)


@pytest.mark.slow
def test_a_server_that_is_killed_and_comes_back_misses_nothing(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output, port = tmp_path / "run", free_port()
    uri = f"http://127.0.0.1:{port}"
    recipe = recipe_of(output, steps=15, uri=uri)
    open_output(recipe)
    with ExitStack() as after:
        with follow(recipe.tracking, output):
            with server(tmp_path, port):
                write_steps(output, 0, 5)
                wait_for(lambda: len(points(output, "train/loss")) == 5, 60)
            write_steps(output, 5, 10)
            time.sleep(2)  # two tries or more
            assert len(points(output, "train/loss")) == 5
            after.enter_context(server(tmp_path, port))
            wait_for(lambda: len(points(output, "train/loss")) == 10, 60)
            write_steps(output, 8, 15, shift=100)
            write_results(output)
        captured = capfd.readouterr()
        assert captured.err == ""
        said = captured.out.splitlines()[1:]
        assert len(said) == 4
        assert said[0].startswith(f"tracking: MLflow at {uri}: no answer: connection refused; the run goes on")
        assert said[1] == "tracking: MLflow answers again"
        assert said[3].startswith(f"tracking: the run is at {uri}/#/experiments/1/runs/{run_of(output)}")
        before = dump(tmp_path)
        sync(output)
        assert dump(tmp_path) == before
    assert status(output) == "FINISHED"
    assert_steps(output, 15)
    lines = len((output / "system.jsonl").read_text(encoding="utf-8").splitlines())
    assert list(points(output, "system/cpu_utilization_percentage")) == list(range(lines))
    assert {file.name for file in (tmp_path / "kept").rglob("*.json*")} == {
        "history.jsonl",
        "modules.json",
        "results.json",
    }
    assert rows(tmp_path, "select alias, version from registered_model_aliases") == [("champion", 1)]


def test_a_server_that_is_never_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    output, uri = tmp_path / "run", f"http://127.0.0.1:{free_port()}"
    recipe = recipe_of(output, uri=uri)
    open_output(recipe)
    with follow(recipe.tracking, output):
        write_steps(output, 0, 10)
        write_results(output)
        left = time.monotonic()
    assert time.monotonic() - left < SILENT_LIMIT
    captured = capfd.readouterr()
    assert captured.err == ""
    assert f"python -m hybridir.tracking {output} --uri {uri}" in captured.out.splitlines()[-1]
    with pytest.raises(SystemExit) as stopped:
        sync(output)
    assert "Nothing is lost" in str(stopped.value.code)
    sync(output, "--uri", f"sqlite:///{tmp_path}/mlflow.db")
    assert json.loads((output / "tracking.json").read_text(encoding="utf-8"))["complete"]
    assert status(output) == "FINISHED"
    assert_steps(output, 10)


def test_the_folder_of_a_killed_driver_is_written_later(store: Path) -> None:
    output = store / "killed"
    code = f"""
import os
from pathlib import Path
from test_tracking import follow, open_output, recipe_of, write_steps
output = Path({str(output)!r})
recipe = recipe_of(output, uri="http://127.0.0.1:{free_port()}")
open_output(recipe)
with follow(recipe.tracking, output):
    write_steps(output, 0, 5)
    os._exit(9)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=False).returncode == 9
    (output / "system.jsonl").write_text(
        '{"step": 0, "time": 1.0, "cpu_utilization_percentage": 5.0}\n{"step": 1, "ti', encoding="utf-8"
    )
    sync(output, "--uri", f"sqlite:///{store}/mlflow.db")
    assert status(output) == "KILLED"
    assert_steps(output, 5)
    recipe = recipe_of(output)
    with follow(recipe.tracking, output):
        write_steps(output, 3, 10, shift=100)
        write_results(output)
    assert status(output) == "FINISHED"
    assert_steps(output, 10)
    assert points(output, "system/cpu_utilization_percentage")[0] == (5.0, 1000)
    assert 1 in points(output, "system/cpu_utilization_percentage")


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="holds no run"):
        sync(tmp_path)


def test_a_history_is_followed_over_its_cuts(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "history.jsonl")
    assert tail.read() == []
    write_steps(tmp_path, 0, 4)
    assert [one["step"] for one in tail.read(at_most=300)] + [one["step"] for one in tail.read()] == [0, 1, 2, 3]
    assert tail.read() == []
    write_steps(tmp_path, 2, 9)  # longer than before
    assert [one["step"] for one in tail.read()] == list(range(9))
    with open(tmp_path / "history.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 9')
        file.flush()
        assert tail.read() == []
        file.write("}\n")
    assert tail.read() == [{"step": 9}]


def test_no_secret_is_written_or_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    canaries = [f"canary{n}4711" for n in range(5)]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", canaries[0])
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", canaries[1])
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    output, port = tmp_path / "run", free_port()
    path = f"s3://ann:{canaries[3]}@bucket/{canaries[0]}?sig={canaries[4]}"
    recipe = recipe_of(output, uri=f"http://ann:{canaries[2]}@127.0.0.1:{port}/base?token={canaries[4]}")
    recipe = replace(recipe, data=DataConfig(path=path))
    open_output(recipe)
    (output / "data_card.md").write_text(f"read from {path}\n", encoding="utf-8")
    (output / "data_card.json").write_text(json.dumps({"path": path, "note": canaries[0]}), encoding="utf-8")
    with follow(recipe.tracking, output):
        write_steps(output, 0, 10)
        time.sleep(2)  # two tries or more
    with follow(TrackingConfig(), output):
        write_results(output)
    with pytest.raises(SystemExit) as stopped:
        sync(output, "--uri", recipe.tracking.uri)
    captured = capfd.readouterr()
    assert status(output) == "FINISHED"
    assert "***@127.0.0.1" in captured.out
    assert "***" in (output / "config.yaml").read_text(encoding="utf-8")
    shown = captured.out + captured.err + str(stopped.value.code)
    for name in ("data_card.json", "data_card.md"):
        (output / name).unlink()  # not ours
    written = b"".join(file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())
    assert b"s3://***@bucket/***?sig=***" in written
    for canary in canaries:
        assert canary not in shown
        assert canary.encode() not in written


@pytest.mark.parametrize("name", ["a%41 b", "c?x=1#d"])
def test_the_database_lies_beside_the_output_whatever_its_name(name: str, tmp_path: Path) -> None:
    """`a%41` is not `aA`, and `?` begins no options."""
    output = tmp_path / name / "run"
    write_run(output, data="d")
    sync(output)
    assert rows(tmp_path / name, "select status from runs") == [("FINISHED",)]
    assert [file for file in tmp_path.rglob("mlflow.db")] == [tmp_path / name / "mlflow.db"]
    assert not (tmp_path / "aA b").exists()


def test_no_secret_of_files_and_names_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no one masked before: the folder's name, a config.yaml by hand, results. Only the path itself stays."""
    canary = "canary4711"
    output = tmp_path / f"run-{canary}"
    write_run(output, data=canary)
    with open(output / "config.yaml", "a", encoding="utf-8") as file:
        file.write(f"note: {canary}\n")
    monkeypatch.setenv("MY_TOKEN", canary)
    sync(output)
    database, files = dump(tmp_path)
    assert any("run-***" in text for text in database)
    found = [*database, *(file.read_text(encoding="utf-8") for file in files if file.is_file())]
    assert not [text for text in found if canary in text.replace(str(output), "")]


def test_hostile_names_are_text_in_mlflow(tmp_path: Path) -> None:
    """The note is read as Markdown by MLflow's page; names of runs and parameters are not."""
    output = tmp_path / HOSTILE.replace("/", "")
    write_run(output)
    row = f'{{"group_id": "1", "language": "en", "query": "q", "passage": "p", "domain": {json.dumps(HOSTILE)}}}\n'
    (tmp_path / "pairs.jsonl").write_text(row + row.replace('"en"', json.dumps(HOSTILE)), encoding="utf-8")
    data = DataConfig(format="jsonl", path=str(tmp_path / "pairs.jsonl"), validation_share=0)
    corpus = read_corpus(data, tmp_path / "cache")
    tokens = TokenJob(
        corpus=str(corpus.directory),
        tokenizer=str(train_tokenizer(corpus, 300)),
        max_query_length=8,
        max_passage_length=8,
    )
    card = data_card(corpus, tokens)
    (output / "data_card.json").write_text(json.dumps(card), encoding="utf-8")
    (output / "data_card.md").write_text(to_markdown(card), encoding="utf-8")
    sync(output)
    note = tags(output)["mlflow.note.content"]
    assert "canary" in note
    assert live(note) == ["##"]
    assert status(output) == "FINISHED"


def test_a_foreign_folder_gets_no_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary4711")
    monkeypatch.setattr(follow_module, "FINISH_LIMIT", 2.0)
    with foreign_server() as (address, seen):
        output = tmp_path / "run"
        open_output(recipe_of(output, uri=address))
        recipe = yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))
        with follow(TrackingConfig(**recipe["tracking"]), output):  # as --config FOLDER/config.yaml --resume does
            write_steps(output, 0, 3)
            time.sleep(1)
        for server in ("", "http://127.0.0.1:1", address.replace("http", "https")):
            monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
            with pytest.raises(SystemExit, match=r"only a file names this server.*MLFLOW_TRACKING_URI.* or --uri"):
                sync(output)
        mixed = Target(uri=address.replace("//", "//127.0.0.1:2\\@"), experiment="e", model_name="m")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        with pytest.raises(ValueError, match="only a file"):
            mixed.set_up().__enter__()
        assert seen == []
        with pytest.raises(SystemExit, match="404"):
            sync(output)  # the user has named the server, by the environment or an option
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        with pytest.raises(SystemExit, match="404"):
            sync(output, "--uri", f"{address}/base")
        seen.clear()
        with follow(recipe_of(output, uri=address).tracking, output, named=[address]):  # a caller in Python names it
            write_steps(output, 3, 5)
    assert set(seen) == {"Basic " + b64encode(b"ann:canary4711").decode()}


@pytest.mark.parametrize("dialect", ["sqlite", "sqlite+pysqlite"])
def test_a_database_of_something_else_is_left_alone(dialect: str, tmp_path: Path) -> None:
    """A config that came with a folder may name any file of this user."""
    file = tmp_path / "mail.db"
    with closing(sqlite3.connect(file)) as database:
        database.execute("create table letters (text)")
    before = file.read_bytes()
    goal = target(TrackingConfig(uri=f"{dialect}:///{file}"), tmp_path / "run", [])
    with pytest.raises(ValueError, match=r"mail.db is a database of something else"), goal.set_up():
        pass
    assert file.read_bytes() == before


@pytest.mark.parametrize("name", ["DATABRICKS_TOKEN", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD"])
def test_no_credentials_of_any_kind_go_to_a_server_that_only_a_file_names(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in filter(CREDENTIALS.fullmatch, list(os.environ)):
        monkeypatch.delenv(other)
    monkeypatch.setenv("HOME", str(tmp_path))
    config = TrackingConfig(uri="postgresql://127.0.0.1/x")
    with target(config, tmp_path, []).set_up():
        pass
    monkeypatch.setenv(name, "canary4711")
    with pytest.raises(ValueError, match=f"only a file names this server, and {name} would be sent"):
        target(config, tmp_path, ["postgresql://127.0.0.2/x"]).set_up().__enter__()
    for trusted in (
        target(config, tmp_path, named_uris(["--tracking.uri", config.uri])),
        target(TrackingConfig(), tmp_path, []),
    ):
        with trusted.set_up():
            pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"uri": "File:///runs"}, "sqlite:///FILE"),
        ({"uri": "mlflow.db"}, "sqlite:///FILE"),
        ({"uri": "file:///runs"}, "sqlite:///FILE"),
        ({"uri": "http://***@host"}, "MLFLOW_TRACKING_PASSWORD"),
        ({"experiment": ""}, "tracking.experiment is ''"),
        ({"model_name": "a/b"}, "tracking.model_name is 'a/b'"),
        ({"system_metrics_every": -1.0}, "tracking.system_metrics_every is -1.0"),
    ],
)
def test_bad_values_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="tracking") as refused:
        TrackingConfig(**options)
    assert message in str(refused.value)


def test_the_training_loop_knows_no_tracking() -> None:
    """Whatever the loop imports, over all steps, inside functions too."""
    reached, new = set(), {"hybridir.training.loop", "hybridir.on_ray.train"}
    while new:
        reached |= new
        new = {name for module in new for name in imported_modules(module)} - reached
    assert "hybridir.runtime.history" in reached
    assert not [name for name in reached if name.partition(".")[0] == "mlflow" or "hybridir.tracking" in name]


def test_the_thread_that_trains_never_calls_mlflow(
    tmp_path: Path, make_run: Callable[..., Prepared], monkeypatch: pytest.MonkeyPatch
) -> None:
    callers = set()

    def recorded(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            callers.add(threading.current_thread())
            return method(*arguments, **options)

        return call

    for name in [name for name, one in vars(MlflowClient).items() if callable(one)]:
        monkeypatch.setattr(MlflowClient, name, recorded(getattr(MlflowClient, name)))
    output = tmp_path / "run"
    recipe = recipe_of(output)
    open_output(recipe)
    with follow(recipe.tracking, output):
        prepared = make_run(output, train={"steps": 4})
        train(prepared.job, Encoder.load(prepared.initial), torch.device("cpu"))
        write_results(output)
    assert {thread.name for thread in callers} == {"tracking"}
    assert list(points(output, "train/loss")) == [0, 1, 2, 3]


def imported_modules(module: str) -> set[str]:
    """What a module of ours imports, as far as it is ours or MLflow's."""
    file = ROOT.joinpath(*module.split("."))
    file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
    if not file.exists():
        return set()
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in found if name.partition(".")[0] in ("hybridir", "mlflow")}
