"""Output folders know what kind of results they hold."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from helpers import foreign_server, job, read_lines, small_recipe

from hybridir.data.config import BenchmarkConfig, Source
from hybridir.experiments.one_run import ArmRun, Runner, _check_made
from hybridir.experiments.studies import STUDIES
from hybridir.experiments.study import StudyRecipe
from hybridir.experiments.study_job import run_study, study_kind
from hybridir.experiments.tuning import TuneRecipe
from hybridir.experiments.tuning_job import TUNING, run_tune
from hybridir.model.check import check_encoder
from hybridir.model.config import EncoderConfig
from hybridir.reports.model_card import write_model_card
from hybridir.retrieval.systems import System, _label, check_member, find_systems
from hybridir.runs.backend import Backend, here, track_nothing
from hybridir.runs.evaluation_run import EVALUATION, Evaluation, run_evaluation
from hybridir.runs.fill_in import trains_on
from hybridir.runs.folder import NAME, Kind, begin_folder, kind_of, open_folder, opened, output_folder
from hybridir.runs.measured_on import choose
from hybridir.runs.recipe import MAY_CHANGE, Recipe, ScalingConfig, TrackingConfig
from hybridir.runs.training_run import TRAINING, _finished, measure_run, run_training
from hybridir.runtime.command_line import parse
from hybridir.tracking.__main__ import _write
from hybridir.tracking.remote import MlflowRun

ANY: Any = SimpleNamespace
"""Stands for what is not looked at before the config."""
ONE_PROCESS = ScalingConfig(num_workers=0)


def nothing(*_: Any) -> Any:
    raise AssertionError("nothing is to be computed")


RUNNER = Runner(nothing, 1, track_nothing, nothing)
JOBS: dict[str, tuple[Kind, Callable[[str], Any], Callable[[Any], Any]]] = {
    "train": (
        TRAINING,
        lambda output: Recipe(output=output, scaling=ONE_PROCESS),
        lambda recipe: run_training(recipe, nullcontext(Backend(nothing, nothing, nothing, nothing))),
    ),
    "evaluate": (
        EVALUATION,
        lambda output: Evaluation(output=output, encoder=EncoderConfig(name="bm25")),
        lambda recipe: run_evaluation(recipe, nothing, track_nothing),
    ),
    "study": (
        study_kind(STUDIES["alpha"]),
        lambda output: StudyRecipe(output=output, scaling=ONE_PROCESS),
        lambda recipe: run_study(STUDIES["alpha"], recipe, RUNNER),
    ),
    "tune": (
        TUNING,
        lambda output: TuneRecipe(output=output, space={"alpha": [0.0, 1.0]}),
        lambda recipe: run_tune(recipe, nothing, RUNNER, nothing),
    ),
}
"""By job: its kind of results, a recipe for a folder, and the job itself."""


def holds(output: Path, job: str) -> Any:
    """Makes the folder one of the results of a job, with a file in it; the recipe."""
    kind, recipe_for, _ = JOBS[job]
    begin_folder(recipe := recipe_for(str(output)), kind)
    (output / "results.json").write_text("{}", encoding="utf-8")
    return recipe


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_job_that_is_stopped_says_how_to_resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Once its folder is begun: before that, there is nothing to resume."""
    kind, recipe_for, _ = JOBS["evaluate"]

    def begin_and_stop(recipe: Evaluation) -> None:
        begin_folder(recipe, kind)
        raise SystemExit(75)

    with pytest.raises(KeyboardInterrupt), opened(recipe_for(str(tmp_path / "run")), kind):
        raise KeyboardInterrupt
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "run").exists()
    with pytest.raises(SystemExit), opened(recipe_for(str(tmp_path / "run")), kind) as recipe:
        begin_and_stop(recipe)
    told = f"continue with: python jobs/evaluate.py --config {tmp_path}/run/config.yaml --resume"
    assert told in capsys.readouterr().out


def test_a_refused_start_leaves_its_folder_free(cache: Path, tmp_path: Path) -> None:
    """For a corrected start, and for another job; what was prepared for the refused one goes."""
    run = tmp_path / "run"
    tracked: list[Path] = []

    def track(config: TrackingConfig, output: Path, ended: bool = False) -> Any:
        tracked.append(output)
        return nullcontext()

    recipe = small_recipe(run, cache, train={"batch_size": 500})
    with pytest.raises(ValueError, match="a mono batch needs 500 groups"):
        run_training(recipe, nullcontext(here()), track)
    assert (run / "initial").exists()
    assert not tracked
    open_folder(JOBS["evaluate"][1](str(run)), EVALUATION)
    corrected = replace(recipe, train=replace(recipe.train, batch_size=8), encoder=EncoderConfig(name="other"))
    open_folder(corrected, TRAINING)
    open_folder(replace(corrected, resume=True), TRAINING, begun=False)
    begin_folder(replace(corrected, resume=True), TRAINING)
    assert (run / "initial").exists()
    begin_folder(corrected, TRAINING)
    assert {path.name for path in run.iterdir()} == {NAME, "config.yaml"}


@pytest.mark.parametrize("job", JOBS)
def test_what_counts_as_a_result(job: str, tmp_path: Path) -> None:
    """A step or a checkpoint does, and a file of somebody else; what is left of preparations does not."""
    kind, recipe_for, _ = JOBS[job]
    begin_folder(recipe := recipe_for(str(tmp_path)), kind)
    for name in ("initial/model.safetensors", "data_card.md", "checkpoints/1.tmp/state.json", "history.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    open_folder(recipe, kind)
    for name in ("history.jsonl", "checkpoints/1/state.json", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
        with pytest.raises(ValueError, match="holds results already"):
            open_folder(recipe, kind)
        (tmp_path / name).unlink()
    (tmp_path / NAME).unlink()
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(ValueError, match="holds files that no job has written"):
        open_folder(recipe, kind)


@pytest.mark.parametrize(
    ("there", "files", "message"),
    [
        ("train", (), r"the training run in .*/out has no trained model yet: continue it with python jobs/train\.py "),
        ("train", ("model",), r"out is the folder of a training run, not a model: name the model in it, .*/out/model$"),
        ("study", (), r"out is the folder of another job \(study\), not a model"),
    ],
)
def test_a_folder_without_a_model_is_told_for_what_it_is(
    there: str, files: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    kind, recipe_for, _ = JOBS[there]
    begin_folder(recipe_for(str(tmp_path / "out")), kind)
    for name in files:
        (tmp_path / "out" / name).mkdir()
    with pytest.raises(ValueError, match=message):
        check_encoder(EncoderConfig(name=str(tmp_path / "out")))  # as `--encoder.name` of a training run
    if not files:
        (member,) = find_systems([str(tmp_path / "out")])[0].members
        with pytest.raises(ValueError, match=message):
            check_member(member)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("there", JOBS)
@pytest.mark.parametrize("job", JOBS)
def test_no_job_takes_the_folder_of_another(job: str, there: str, resume: bool, tmp_path: Path) -> None:
    holds(tmp_path / "out", there)
    before = contents(tmp_path / "out")
    kind, recipe_for, run = JOBS[job]
    recipe = replace(recipe_for(str(tmp_path / "out")), resume=resume)
    if job != there:
        wanted = f"holds another kind of results: {JOBS[there][0].name}.*--config .*/out/config.yaml --resume"
        with pytest.raises(ValueError, match=wanted):
            run(recipe)
    elif resume:
        open_folder(recipe, kind)
    else:
        with pytest.raises(ValueError, match="holds results already"):
            run(recipe)
    assert contents(tmp_path / "out") == before


def test_one_study_does_not_take_the_folder_of_another(tmp_path: Path) -> None:
    recipe = holds(tmp_path / "out", "study")
    with pytest.raises(ValueError, match=r"study \(jobs/study.py alpha\), not .* sampling"):
        run_study(STUDIES["sampling"], replace(recipe, resume=True), RUNNER)


@pytest.mark.parametrize("job", JOBS)
def test_fields_that_decide_must_stay(job: str, tmp_path: Path) -> None:
    """Others may change, and what an older version did not write had its default."""
    recipe, kind = replace(holds(tmp_path / "out", job), resume=True), JOBS[job][0]
    open_folder(replace(recipe, scaling=ScalingConfig(num_workers=4)), kind)
    changed = replace(recipe, encoder=replace(recipe.encoder, max_query_length=7))
    with pytest.raises(ValueError, match=r"was started with encoder\.max_query_length None, but now it is 7"):
        open_folder(changed, kind)
    open_folder(changed, kind, begun=False)
    config = yaml.safe_load((tmp_path / "out" / "config.yaml").read_text(encoding="utf-8"))
    del config["encoder"]["max_query_length"]
    (tmp_path / "out" / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    open_folder(recipe, kind)
    with pytest.raises(ValueError, match="max_query_length"):
        open_folder(changed, kind)


def test_a_new_kind_needs_no_change_elsewhere(tmp_path: Path) -> None:
    kind = Kind(name="translation", job="jobs/translate.py", may_change=MAY_CHANGE)
    begin_folder(Recipe(output=str(tmp_path)), kind)
    assert json.loads((tmp_path / NAME).read_text(encoding="utf-8"))["may_change"] == sorted(MAY_CHANGE)
    with pytest.raises(ValueError, match=r"translation \(jobs/translate.py\)"):
        open_folder(Recipe(output=str(tmp_path), resume=True), TRAINING)


@pytest.mark.parametrize(
    ("files", "kind"),
    [
        ({}, None),
        ({"notes.txt": "x"}, None),
        ({"config.yaml": "train: {steps: 3}"}, "training run"),
        ({"config.yaml": "average_of: [a, b]"}, "mean of weights"),
        ({"config.yaml": "compare_to: []"}, "evaluation"),
        ({"config.yaml": "seeds: 3", "belongs_to": "sampling"}, "study"),
        ({"config.yaml": "seeds: 3", "belongs_to": "search"}, "tuning"),
    ],
)
def test_folders_of_before_are_known(files: dict[str, str], kind: str | None, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    assert kind_of(tmp_path).get("kind") == kind


@pytest.mark.parametrize(("name", "text"), [(NAME, "{"), (NAME, "[]"), ("config.yaml", "a: [")])
def test_a_damaged_file_is_named(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=name):
        open_folder(Recipe(output=str(tmp_path), resume=True), TRAINING)


READERS: dict[str, Callable[[Path], object]] = {
    "kind": kind_of,
    "resume": lambda run: open_folder(Recipe(output=str(run), resume=True), TRAINING),
    "finished": lambda run: _finished(Recipe(output=str(run), resume=True)),
    "command line": lambda run: parse(Recipe, "train", None, ["--config", str(run / "config.yaml")]),
    "measures": lambda run: measure_run(run, ANY, EncoderConfig(), nothing, {}),
    "model card": write_model_card,
    "parameters": lambda run: MlflowRun._describe(ANY(_output=run)),
    "data set": lambda run: MlflowRun._post_dataset(ANY(_output=run)),
    "tracked later": lambda run: _write(run, None),
    "trained on": lambda run: choose(BenchmarkConfig(), [System("a", (EncoderConfig(name=str(run)),), ("",))]),
    "made of": lambda run: trains_on(Source(path=str(run)), BenchmarkConfig(name="sample")),
    "name": lambda run: _label(str(run)),
    "made for a study": lambda run: _check_made(ArmRun(arm="a", recipe=Recipe(output=str(run)))),
}
"""What reads the `config.yaml` of a folder."""


@pytest.mark.parametrize("text", ["a: [", "- a", "", "a: \udc80"])
@pytest.mark.parametrize("reader", READERS)
def test_a_config_that_cannot_be_read_is_named_by_all_readers(reader: str, text: str, tmp_path: Path) -> None:
    run = tmp_path / "train-20260101-120000"
    (run / "model").mkdir(parents=True)
    (run / "config.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
    if reader != "kind":
        (run / NAME).write_text(json.dumps({"kind": TRAINING.name, "job": TRAINING.job}), encoding="utf-8")
    for name in ("results.json", "data_card.json"):
        (run / name).write_text('{"fingerprint": "f"}', encoding="utf-8")
    with pytest.raises(ValueError, match=rf"{run}/config.yaml (?s:.*): repair it, or name another"):
        READERS[reader](run)


def go_on(folder: Path, steps: int, *more: str) -> CompletedProcess[str]:
    """Continues the run of version 0.1 in `folder / "run"`, which it stopped after four steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        measured = ("--benchmark.facts", 100, "--benchmark.languages", "[de, en]")
        done = job(
            "--config", "run/config.yaml", "--output", "run", "--train.steps", steps, *measured, *more, "--resume"
        )
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def gone_on(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of that run, continued to six steps, and what was printed."""
    folder = tmp_path_factory.mktemp("before")
    shutil.copytree(Path(__file__).with_name("run_of_0.1"), folder, dirs_exist_ok=True)
    return folder, go_on(folder, 6).stdout


def test_a_run_of_before_goes_on(gone_on: tuple[Path, str]) -> None:
    """The batches are those that it would have drawn."""
    folder, said = gone_on
    assert "resuming from" in said
    lines = read_lines(folder / "run" / "history.jsonl")
    assert [(line["step"], line["attempt"]) for line in lines] == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2)]
    assert [line["example_ids_sha256"][:8] for line in lines[4:]] == ["cdeffbb3", "cf3eb353"]
    assert kind_of(folder / "run") == {"kind": "training run", "job": "jobs/train.py"}


def test_a_foreign_folder_changes_nothing_elsewhere_and_gets_no_password(
    gone_on: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of a run is a link to a file elsewhere, and its config.yaml names a server for MLflow; the run is
    continued, and measured again."""
    shutil.copytree(gone_on[0], tmp_path, dirs_exist_ok=True)
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary4711")
    with foreign_server() as (address, seen):
        config = (run / "config.yaml").read_text(encoding="utf-8")
        foreign = config.replace("enabled: false\n  uri: ''", f"enabled: true\n  uri: {address}")
        (run / "config.yaml").write_text(foreign, encoding="utf-8")
        _go_on_through_links(run, elsewhere)
        assert seen == []


def _go_on_through_links(run: Path, elsewhere: Path) -> None:
    shutil.copytree(run, elsewhere)
    for file in [file for file in run.rglob("*") if file.is_file()]:
        file.unlink()
        file.symlink_to(elsewhere / file.relative_to(run))
    (run / "events.jsonl").unlink(missing_ok=True)  # it is appended to, so a link is refused
    before = contents(elsewhere)
    assert {"results.json", "report.html", "table.md", "rejected.jsonl", "data_card.md"} <= before.keys()
    said = go_on(run.parent, 8, "--tracking.enabled", "true").stdout
    assert "only a file names this server, and MLFLOW_TRACKING_PASSWORD would be sent there" in said
    assert contents(elsewhere) == before
    links = {str(file.relative_to(run)) for file in run.rglob("*") if file.is_symlink()}
    assert {name.partition("/")[0] for name in links} <= {"checkpoints"}, "what was written is no link any more"


def test_no_output_lies_where_ray_deletes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job_folder = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    job_folder.mkdir(parents=True)
    (tmp_path / "link").symlink_to(job_folder)
    monkeypatch.chdir(job_folder)
    for named in ("outputs/run", str(job_folder / "run"), str(tmp_path / "link" / "run"), "../../run", ""):
        with pytest.raises(ValueError, match="a folder that Ray deletes"):
            output_folder(named, "train")
    assert output_folder(str(tmp_path / "run"), "train") == tmp_path / "run"
    assert output_folder("../../../../run", "train").resolve() == tmp_path / "run"


def test_a_split_that_was_left_out_is_what_it_meant(tmp_path: Path) -> None:
    """Earlier versions measured on `test` where none was named; now that is written down."""
    recipe = Evaluation(output=str(tmp_path), benchmark=BenchmarkConfig(name="xquad-r"))
    begin_folder(recipe, EVALUATION)
    for benchmark in ({"name": "xquad-r", "split": None}, {"name": "xquad-r"}):
        config = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8")) | {"benchmark": benchmark}
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
        open_folder(replace(recipe, resume=True, benchmark=BenchmarkConfig(name="xquad-r", split="test")), EVALUATION)
        with pytest.raises(
            ValueError, match=r"started with benchmark\.split 'test', but now it is 'all': take the old"
        ):
            open_folder(
                replace(recipe, resume=True, benchmark=BenchmarkConfig(name="xquad-r", split="all")), EVALUATION
            )


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_a_run_with_a_loss_that_is_no_more(weight: float, tmp_path: Path) -> None:
    """It resumes if the loss was off; else the loss is named, also where another config than the run's is given."""
    kind, recipe_for, _ = JOBS["train"]
    begin_folder(recipe := recipe_for(str(tmp_path)), kind)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    config["loss"]["gone"] = {"weight": weight}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    resumed = replace(recipe, resume=True)
    if not weight:
        open_folder(resumed, kind)
        return
    with pytest.raises(ValueError, match=rf"{tmp_path}/config.yaml has loss\.gone\.weight 0\.5, but this version has"):
        open_folder(resumed, kind)
