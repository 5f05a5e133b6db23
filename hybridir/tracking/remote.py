"""One run in MLflow, written from the files of its output folder.

MLflow itself is asked what it already has: the run is found by its key, and steps that are there are not posted again.
So writing twice, or again after an interruption, has the same result as writing once.
"""

import json
import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hybridir.reports.in_short import data_name
from hybridir.runtime.history import Tail, read_history
from hybridir.runtime.plain_yaml import read_yaml
from hybridir.runtime.secrets import masked, without_secrets
from hybridir.tracking.registry import Candidate, register
from hybridir.tracking.result_metrics import flatten, is_number, numbers_of
from hybridir.tracking.state import State
from hybridir.tracking.target import Target, patience, quiet

KEY = "hybridir.key"
"""Tag of a run and of its model: the run's own key, independent of MLflow's ids."""
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Makes MLflow's pages show training runs instead of traces of language models."""
RESULTS = ("results.json", "report.html", "table.md", "trials.csv")
ARTIFACTS = ("config.yaml", "history.jsonl", "data_card.json", "data_card.md", *RESULTS)
METRICS_PER_REQUEST, PARAMS_PER_REQUEST = 1000, 100
"""Limits of MLflow. The next two are limits too, in characters."""
LONGEST_PARAM, LONGEST_TAG = 6000, 8000
CONSTANT = {"step", "time", "attempt", "world_size"}
"""Fields of a history line that do not become metrics: they say nothing, or are parameters."""


class MlflowRun:
    """A run in MLflow: found by its key or created, and set to RUNNING.

    Every method raises whatever MLflow raises; after an exception, make a new `MlflowRun`.

    Args:
        target: the MLflow to write to.
        state: key, parent, times and tags of the run.
        output: output folder of the run.
    """

    def __init__(self, target: Target, state: State, output: Path) -> None:
        quiet()
        from mlflow import MlflowClient

        self._target, self._state, self._output = target, state, output
        with target.set_up():
            self._client = MlflowClient(tracking_uri=target.uri, registry_uri=target.uri)
            self._experiment = self._open_experiment()
            self.run_id = self._open_run()
        self._client.update_run(self.run_id, status="RUNNING")
        self._describe()
        self._has_card = False
        self._series = [
            _Series(Tail(output / "history.jsonl"), _step_metrics, self._last_step("train/loss")),
            _Series(
                Tail(output / "system.jsonl"), _system_metrics, self._last_step("system/cpu_utilization_percentage")
            ),
        ]

    def where(self) -> str:
        """How to look at the run, as a message: a command for a database, an address for a server."""
        shown = without_secrets(self._target.uri)
        if shown.startswith("http"):
            base = shown.replace("***@", "").partition("?")[0].rstrip("/")
            return f"the run is at {base}/#/experiments/{self._experiment}/runs/{self.run_id}"
        return f"see the run with: mlflow ui --backend-store-uri {shlex.quote(shown)}"

    def replay(self) -> None:
        """Posts the data card, once it is written, and all lines of the files that MLflow does not have yet."""
        card = self._output / "data_card.md"  # written after data_card.json
        if not self._has_card and card.exists():
            self._client.set_tag(self.run_id, "mlflow.note.content", _tag(card.read_text(encoding="utf-8")))
            self._post_dataset()
            self._has_card = True
        for series in self._series:
            while lines := series.tail.read():
                self._post(series, lines)

    def end(self, status: str, ended: int) -> str | None:
        """Posts the rest and ends the run at `ended` (unix ms) with `status` FINISHED, KILLED or FAILED.

        Results and model are posted for FINISHED only. Returns a message about the model; None without one.
        """
        self.replay()
        self._describe()  # an attempt that failed before training restored the old config.yaml
        finished = status == "FINISHED"
        said = None
        with patience():
            self._post_artifacts([name for name in ARTIFACTS if finished or name not in RESULTS])
        if finished:
            results = json.loads((self._output / "results.json").read_text(encoding="utf-8"))
            self._post_results(results)
            said = self._register(results)
        self._client.set_terminated(self.run_id, status, ended)
        return said

    def _open_experiment(self) -> str:
        from mlflow.exceptions import MlflowException

        name = self._target.experiment
        if found := self._client.get_experiment_by_name(name):
            return found.experiment_id
        try:
            return self._client.create_experiment(name, self._target.location(), EXPERIMENT_TAGS)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._client.get_experiment_by_name(name).experiment_id

    def _open_run(self) -> str:
        if found := self._find(self._state.key):
            return found
        tags = {KEY: self._state.key, "mlflow.source.type": "LOCAL", "mlflow.source.name": "hybridir"}
        name = self._output.name
        if self._state.parent:
            if not (above := self._find(self._state.parent)):
                raise LookupError("MLflow does not have its parent run: write the study or tuning first")
            tags["mlflow.parentRunId"] = above
            name = f"{self._output.parent.name} {name}"
        return self._client.create_run(self._experiment, self._state.started, tags, without_secrets(name)).info.run_id

    def _find(self, key: str) -> str | None:
        """The id of the run with that key; None without one."""
        found = self._client.search_runs([self._experiment], f"tags.`{KEY}` = '{key}'")
        return found[0].info.run_id if found else None

    def _describe(self) -> None:
        """Posts new parameters, and all tags. MLflow's parameters cannot change: new values are tags `changed.NAME`."""
        config = read_yaml(self._output / "config.yaml")
        from mlflow.entities import Param, RunTag

        params = {name: _param(value) for name, value in flatten(config).items()}
        run = self._client.get_run(self.run_id).data
        had = run.params
        new = [Param(name, value) for name, value in params.items() if name not in had]
        for start in range(0, len(new), PARAMS_PER_REQUEST):
            self._client.log_batch(self.run_id, params=new[start : start + PARAMS_PER_REQUEST])
        named = {name: f"changed.{name}" for name in params}
        changed = {named[k]: v for k, v in params.items() if had.get(k, v) != v or named[k] in run.tags}
        tags = {name: _tag(value) for name, value in (self._state.tags | changed).items()}
        all_tags = [RunTag(name, value) for name, value in tags.items() if run.tags.get(name) != value]
        for start in range(0, len(all_tags), PARAMS_PER_REQUEST):
            self._client.log_batch(self.run_id, tags=all_tags[start : start + PARAMS_PER_REQUEST])

    def _last_step(self, key: str) -> int:
        """The largest step that MLflow has of a metric; -1 without one."""
        return max((metric.step for metric in self._client.get_metric_history(self.run_id, key)), default=-1)

    def _post(self, series: "_Series", lines: list[dict[str, Any]]) -> None:
        """Posts the lines after the last step that MLflow has. No line is split between two requests."""
        from mlflow.entities import Metric

        batch: list[Metric] = []
        for line in lines:
            if line["step"] <= series.last_step:
                continue
            series.last_step = line["step"]
            timestamp = round(line["time"] * 1000)
            metrics = [Metric(k, v, timestamp, line["step"]) for k, v in series.metrics(line).items()]
            if len(batch) + len(metrics) > METRICS_PER_REQUEST:
                self._client.log_batch(self.run_id, metrics=batch)
                batch = []
            batch += metrics
        if batch:
            self._client.log_batch(self.run_id, metrics=batch)

    def _post_results(self, results: dict[str, Any]) -> None:
        """Posts the results as metrics of the last step, once, even if the run is evaluated again at that step.

        A study or tuning has no steps of its own: whenever its results have changed, they are posted as a new step.
        """
        from mlflow.entities import Metric

        values = numbers_of(results)
        step = max((line["step"] for line in read_history(self._output / "history.jsonl")), default=-1)
        if step < 0:
            known = self._client.get_run(self.run_id).data.metrics
            if all(known.get(name) == value for name, value in values.items()):
                return
            step = 1 + self._last_step(next(iter(values), "train/loss"))
        timestamp = (self._output / "results.json").stat().st_mtime_ns // 10**6
        if values and self._last_step(list(values)[-1]) < step:  # if MLflow has the last one, it has all
            metrics = [Metric(name, value, timestamp, step) for name, value in values.items()]
            for start in range(0, len(metrics), METRICS_PER_REQUEST):
                self._client.log_batch(self.run_id, metrics=metrics[start : start + METRICS_PER_REQUEST])

    def _post_dataset(self) -> None:
        """Posts the training data as the run's input: its name as pages say it, and its fingerprint."""
        card = self._output / "data_card.json"
        fingerprint = json.loads(card.read_text(encoding="utf-8")).get("fingerprint") if card.exists() else None
        if not fingerprint:
            return
        data = read_yaml(self._output / "config.yaml").get("data", {})
        from mlflow.entities import Dataset, DatasetInput, InputTag

        name = data_name({"sources": (), "name": "", "path": "", "format": "data"} | data).removeprefix("the ")
        source = json.dumps({"uri": without_secrets(data.get("path") or name)})
        dataset = Dataset(name, fingerprint[:36], "local", source)  # MLflow's limit for a digest
        self._client.log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])

    def _post_artifacts(self, names: list[str]) -> None:
        """Uploads copies of the files, without secrets."""
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                if (file := self._output / name).exists():
                    Path(folder, name).write_text(_masked(file), encoding="utf-8")
            self._client.log_artifacts(self.run_id, folder)

    def _register(self, results: dict[str, Any]) -> str | None:
        folders = (self._output / "model", self._output / "best" / "model")
        folder = next((one for one in folders if one.is_dir()), None)
        if self._state.parent or not folder:  # a run within a study or tuning is no candidate
            return None
        candidate = Candidate(
            name=self._target.model_name,
            folder=folder,
            run_id=self.run_id,
            experiment=self._experiment,
            key=self._state.key,
            validation=results.get("validation", {}),
            fingerprint=results.get("data", {}).get("fingerprint", ""),
        )
        return register(self._client, candidate)


@dataclass
class _Series:
    """A file of lines, the function that turns a line into metrics, and the last step that MLflow has."""

    tail: Tail
    metrics: Callable[[dict[str, Any]], dict[str, float]]
    last_step: int


def _step_metrics(line: dict[str, Any]) -> dict[str, float]:
    """The numbers of a history line as `train/NAME` and `validation/NAME`; the loss also by the kind of its batch."""
    losses = {f"loss_{line['kind']}": line["loss"]} if "kind" in line else {}
    train = {k: v for k, v in (line | losses).items() if k not in CONSTANT and k != "validation"}
    numbers = flatten({"train": train, "validation": line.get("validation", {})}, separator="/")
    return {name: value for name, value in numbers.items() if is_number(value)}


def _system_metrics(line: dict[str, Any]) -> dict[str, float]:
    return {f"system/{k}": v for k, v in line.items() if k not in ("step", "time")}


def _masked(file: Path) -> str:
    """The content of a file without secrets. JSON is parsed first, so that it stays valid and its numbers stay."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".jsonl":
        return "".join(json.dumps(masked(line), ensure_ascii=False) + "\n" for line in read_history(file))
    if file.suffix == ".json":
        return json.dumps(masked(json.loads(text)), indent=1, ensure_ascii=False) + "\n"
    return without_secrets(text)


def _param(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return without_secrets(text)[:LONGEST_PARAM]


def _tag(value: str) -> str:
    more = "\n\n(cut; the whole text is among the artifacts)"
    value = without_secrets(value)
    return value if len(value) <= LONGEST_TAG else value[: LONGEST_TAG - len(more)] + more
