"""One arm of a study with one seed: trained as any run is, or averaged from others, and measured.

Its folder holds what a run's does (`config.yaml`, `history.jsonl`, `model/`) without checkpoints once it is measured,
`per_query.parquet`, and at last `results.json`, by which it is known to be finished.
"""

import contextlib
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark
from hybridir.evaluation.bias_summary import bias_results
from hybridir.evaluation.scores import write_scores
from hybridir.evaluation.settings import measure, summarise
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.retrieval.search import DEPTH, dot_scorer, rank_all
from hybridir.retrieval.systems import embed
from hybridir.runs.backend import Backend, Track, quiet_libraries
from hybridir.runs.folder import Kind, begin_folder
from hybridir.runs.recipe import MAY_CHANGE, Recipe, TrackingConfig
from hybridir.runs.results import write_json
from hybridir.runs.training_run import open_output, train_model, validated
from hybridir.runtime.history import read_history
from hybridir.runtime.owner import own, owned
from hybridir.runtime.secrets import without_secrets

STOPPED = "stopped.json"
"""In the folder of a run that was stopped early: why, and after how many steps."""
OWNER_PATIENCE = 30.0
"""Seconds for another process to let go of a run."""
AVERAGE = Kind(name="mean of weights", job="jobs/study.py", may_change=MAY_CHANGE)


@dataclass(frozen=True, kw_only=True)
class ArmRun:
    """What is to be done for one arm and seed.

    Attributes:
        arm: its name.
        recipe: of the training, with its seed, its own output and a cache that all share.
        average_of: folders of finished runs whose weights are averaged instead of a training.
    """

    arm: str
    recipe: Recipe
    average_of: tuple[str, ...] = ()

    @property
    def output(self) -> Path:
        return Path(self.recipe.output)

    @property
    def finished(self) -> bool:
        return (self.output / "results.json").exists()

    @property
    def label(self) -> str:
        return f"{self.arm} seed {self.recipe.seed}"


@dataclass(frozen=True)
class Runner:
    """What computes runs.

    Attributes:
        start: does all runs, in any order, and gives each as it ends, with what went wrong (see `attempt`).
        at_once: how many at a time, as far as is known.
        track: while entered, what fills the folder is tracked.
        record: (config, folder of a run that has ended, of what it is part of): writes the run down below that.
    """

    start: Callable[[Sequence[ArmRun]], Iterable[tuple[ArmRun, str]]]
    at_once: int
    track: Track
    record: Callable[[TrackingConfig, Path, Path], None]


def attempt(run: ArmRun, backend: Backend) -> str:
    """Runs it, or goes on with it, unless it is finished; what went wrong, empty where nothing did.

    What it prints goes to a file beside its folder. A signal passes through, after the run was saved.
    """
    run.output.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{run.output}.log", "a", encoding="utf-8") as log, contextlib.redirect_stdout(log):
        try:
            _wait_for_owner(run.output)
            with own(run.output):
                if not run.finished:
                    _run(run, backend)
        except Exception as error:
            print(without_secrets(traceback.format_exc()), flush=True)
            return without_secrets(f"{type(error).__name__}: {error}")
    return ""


def _wait_for_owner(output: Path) -> None:
    """Waits until the worker that had this run before, and may outlive its driver for a moment, has ended."""
    until = time.monotonic() + OWNER_PATIENCE
    while owned(output) and time.monotonic() < until:
        time.sleep(0.5)


def arms_here(backend: Backend) -> Callable[[Sequence[ArmRun]], Iterator[tuple[ArmRun, str]]]:
    """Does runs one after the other in this process; gives each as it ends, with what went wrong."""

    def start(runs: Sequence[ArmRun]) -> Iterator[tuple[ArmRun, str]]:
        for run in runs:
            yield run, attempt(run, backend)

    return start


def average_models(folders: Sequence[Path], output: Path) -> None:
    """Writes the encoder whose weights are the means of those in `folders`, which have the same shapes.

    (Model soups: Wortsman et al. 2022, arXiv 2203.05482.) Everything else is as in the first.
    """
    encoders = [Encoder.load(EncoderConfig(name=str(folder))) for folder in folders]
    states = [encoder.state_dict() for encoder in encoders]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    encoders[0].load_state_dict(mean)
    encoders[0].save(output)


def _run(run: ArmRun, backend: Backend) -> None:
    quiet_libraries()
    benchmark = _benchmark(run.recipe.benchmark)
    if run.average_of:
        trained = _average(run)
    else:
        recipe = replace(run.recipe, resume=(run.output / "config.yaml").exists())
        _, state = train_model(recipe, backend, open_output(recipe))
        trained = {
            "training": _spent(run.output) | {"stopped": state["stopped"]},
            "validation": validated(recipe, state),
        }
    began = time.monotonic()
    encoder = EncoderConfig(name=str(run.output / "model"))
    ranking = rank_all(dot_scorer(*embed(encoder, benchmark, backend.encode)), benchmark, DEPTH)
    scores = measure(ranking, benchmark)
    summary = summarise(scores, benchmark)
    write_scores({run.arm: scores}, run.output / "per_query.parquet")
    trained["training"]["measuring_seconds"] = time.monotonic() - began
    bias = bias_results(ranking, benchmark, summary)
    write_json(summary | {"encoder": encoder.name, "bias": bias} | trained, run.output)
    shutil.rmtree(run.output / "checkpoints", ignore_errors=True)


def _average(run: ArmRun) -> dict[str, Any]:
    members = [Path(name) for name in run.average_of]
    begin_folder(run.recipe, AVERAGE, {"average_of": [str(member) for member in members]})
    average_models([member / "model" for member in members], run.output / "model")
    spent = [_spent(member) for member in members]
    return {"training": {name: sum(one[name] for one in spent) for name in spent[0]}}


def _spent(output: Path) -> dict[str, Any]:
    """Steps, tokens and seconds of a run's training."""
    lines = list(read_history(output / "history.jsonl"))
    return {"step": len(lines)} | {name: sum(line[name] for line in lines) for name in ("tokens", "seconds")}


@lru_cache(maxsize=1)
def _benchmark(config: BenchmarkConfig) -> Benchmark:
    """Read once in a process."""
    return sources.read_benchmark(config)
