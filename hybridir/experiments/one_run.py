"""One run of a study or of tuning: trained like any run, or averaged from other runs, and then measured.

Its folder holds the files of a training run (`config.yaml`, `history.jsonl`, `model/`) and `per_query.parquet`. A run
is finished when it has `results.json`, which is written last. Then its checkpoints are removed.
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
from hybridir.runs.corpus import cache_folder, read_corpus
from hybridir.runs.fill_in import own_part, read_own_part
from hybridir.runs.folder import Kind, begin_folder
from hybridir.runs.prepare import prepare
from hybridir.runs.recipe import MAY_CHANGE, Recipe, TrackingConfig
from hybridir.runs.results import write_json
from hybridir.runs.training_run import open_output, train_model, validated
from hybridir.runtime.durable import appended, replaced_folder
from hybridir.runtime.history import read_history
from hybridir.runtime.owner import own, owned
from hybridir.runtime.secrets import without_secrets

STOPPED = "stopped.json"
"""File in the folder of a run that was stopped early: the reason, and the steps it had done."""
OWNER_PATIENCE = 30.0
"""Seconds to wait until another process releases the folder of a run."""
AVERAGE = Kind(name="mean of weights", job="", may_change=MAY_CHANGE)
"""It is a part of a study, and is continued with that."""


@dataclass(frozen=True, kw_only=True)
class ArmRun:
    """A run to do: one arm with one seed.

    Attributes:
        arm: name of the arm.
        recipe: recipe of the training, with the seed and output of this run, and the cache that all runs share.
        average_of: folders of finished runs. If given, the weights are the mean of theirs, and nothing is trained.
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
    """How runs are computed and tracked.

    Attributes:
        start: does the runs, in any order; yields each when it ends, with its error message (see `attempt`).
        at_once: estimated number of runs at a time.
        track: a context manager that tracks the output folder of the whole study while it is entered.
        record: (config, folder of an ended run, folder of its study): tracks the run as a child of the study.
    """

    start: Callable[[Sequence[ArmRun]], Iterable[tuple[ArmRun, str]]]
    at_once: int
    track: Track
    record: Callable[[TrackingConfig, Path, Path], None]


def attempt(run: ArmRun, backend: Backend) -> str:
    """Does or continues a run, unless it is finished. Returns the error message, empty if it succeeded.

    The run prints to the file `OUTPUT.log` beside its folder. Signals are not caught here; the run is saved before.
    """
    run.output.parent.mkdir(parents=True, exist_ok=True)
    with appended(Path(f"{run.output}.log")) as log, contextlib.redirect_stdout(log):
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
    """Waits for the process that had this run before: a worker can live a little longer than its driver."""
    until = time.monotonic() + OWNER_PATIENCE
    while owned(output) and time.monotonic() < until:
        time.sleep(0.5)


def arms_here(backend: Backend) -> Callable[[Sequence[ArmRun]], Iterator[tuple[ArmRun, str]]]:
    """A `Runner.start` that does the runs one after the other in this process."""

    def start(runs: Sequence[ArmRun]) -> Iterator[tuple[ArmRun, str]]:
        for run in runs:
            yield run, attempt(run, backend)

    return start


def average_models(folders: Sequence[Path], output: Path) -> None:
    """Writes an encoder to `output` whose weights are the mean of the encoders in `folders`.

    (Model soups: Wortsman et al. 2022, arXiv 2203.05482.) All weights must have the same shapes. Everything else is
    taken from the first encoder.
    """
    encoders = [Encoder.load(EncoderConfig(name=str(folder))) for folder in folders]
    states = [encoder.state_dict() for encoder in encoders]
    mean = {
        name: torch.stack([state[name] for state in states]).mean(dim=0) if value.is_floating_point() else value
        for name, value in states[0].items()
    }
    encoders[0].load_state_dict(mean)
    with replaced_folder(output) as work:
        encoders[0].save(work)


def _run(run: ArmRun, backend: Backend) -> None:
    quiet_libraries()
    benchmark = _benchmark(_with_corpus(run.recipe))
    if run.average_of:
        trained = _average(run)
    else:
        recipe = replace(run.recipe, resume=(run.output / "config.yaml").exists())
        prepared = prepare(recipe, open_output(recipe), backend.read, backend.tokenize)
        state = train_model(recipe, prepared, backend)
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
    """The number of steps, tokens and seconds in a run's history."""
    lines = list(read_history(output / "history.jsonl"))
    return {"step": len(lines)} | {name: sum(line[name] for line in lines) for name in ("tokens", "seconds")}


def _with_corpus(recipe: Recipe) -> BenchmarkConfig:
    """The benchmark of a run; of its own data, with their corpus."""
    if not own_part(recipe.benchmark):
        return recipe.benchmark
    return read_own_part(recipe.benchmark, read_corpus(recipe.data, cache_folder(recipe, Path(recipe.output))))


@lru_cache(maxsize=1)
def _benchmark(config: BenchmarkConfig) -> Benchmark:
    """The benchmark, read once per process."""
    return sources.read_benchmark(config)
