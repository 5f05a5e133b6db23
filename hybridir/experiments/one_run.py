"""One run of a study or of tuning: trained like any run, or made of the models of other runs, and then measured.

Its folder holds the files of a training run (`config.yaml`, `history.jsonl`, `model/`) and `per_query.parquet`. A run
is measured when it has `results.json`, which is written last. Then its checkpoints are removed. Conditions that are
asked for later are measured on its model.
"""

import contextlib
import json
import shutil
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark
from hybridir.evaluation.bias_summary import bias_results
from hybridir.evaluation.conditions import Condition, condition_results, under
from hybridir.evaluation.entropy import NAME as ENTROPY
from hybridir.evaluation.entropy import contrastive_entropy
from hybridir.evaluation.scores import join, read_scores, write_scores
from hybridir.evaluation.settings import measure, summarise
from hybridir.model.by_language import Change
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.model.transforms import mean_of_weights
from hybridir.retrieval.systems import Encode, embed, rank_each
from hybridir.runs.backend import Backend, Track, quiet_libraries
from hybridir.runs.corpus import cache_folder, read_corpus
from hybridir.runs.fill_in import fill_in_steps, is_own_part, own_part
from hybridir.runs.folder import NAME, Kind, begin_folder, open_folder
from hybridir.runs.prepare import prepare
from hybridir.runs.recipe import MAY_CHANGE, Recipe, TrackingConfig
from hybridir.runs.results import write_json
from hybridir.runs.training_run import TRAINING, open_output, spent, train_model, validated
from hybridir.runtime.durable import appended, replaced_folder
from hybridir.runtime.owner import own, owned
from hybridir.runtime.plain_yaml import read_yaml
from hybridir.runtime.secrets import without_secrets

STOPPED = "stopped.json"
"""File in the folder of a run that was stopped early: the reason, and the steps it had done."""
MOST_TEXTS = 10_000
"""Training texts of a language that say how its embeddings are changed."""
OWNER_PATIENCE = 30.0
"""Seconds to wait until another process releases the folder of a run."""
MADE = Kind(name="model made of others", job="", may_change=MAY_CHANGE)
"""It is a part of a study, and is continued with that."""


@dataclass(frozen=True, kw_only=True)
class ArmRun:
    """A run to do: one arm with one seed.

    Attributes:
        arm: name of the arm.
        recipe: recipe of the training, with the seed and output of this run, and the cache that all runs share.
        made_of: folders of finished runs. If given, `make` makes the model of theirs, and nothing is trained.
        make: makes an encoder of these encoders.
        conditions: conditions that it is measured under, besides the plain benchmark.
        change: from embeddings of training texts in a language, the change of all embeddings in that language before
            it is measured (see `hybridir.model.by_language` and `quantised`).
        entropy: whether contrastive entropy is measured too, on the plain benchmark.
    """

    arm: str
    recipe: Recipe
    made_of: tuple[str, ...] = ()
    make: Callable[..., Encoder] = mean_of_weights
    conditions: tuple[Condition, ...] = ()
    change: Callable[[np.ndarray], Change] | None = None
    entropy: bool = False

    @property
    def output(self) -> Path:
        return Path(self.recipe.output)

    @property
    def results(self) -> Path:
        return self.output / "results.json"

    @property
    def trains(self) -> bool:
        """Whether there is something to train, not only to make or to measure."""
        return not self.made_of and not self.results.exists()

    @property
    def missing(self) -> tuple[Condition, ...]:
        """The conditions that it is not measured under yet."""
        there = self.conditions and self.results.exists()
        measured = read_results(self.results).get("conditions", {}) if there else {}
        return tuple(one for one in self.conditions if one.name not in measured)

    @property
    def finished(self) -> bool:
        return self.results.exists() and not self.missing

    @property
    def label(self) -> str:
        return f"{self.arm} seed {self.recipe.seed}"


def check_definition(run: ArmRun) -> None:
    """Raises `ValueError` if a run has results of another definition of its arm, or of a condition."""
    if not (run.results.exists() and (run.output / NAME).exists()):  # without: of a version that did not write it down
        return
    measured = read_results(run.results).get("conditions", {})
    for condition in run.conditions:
        found = measured.get(condition.name, {}).get("definition", {})
        for name, value in _definition(condition).items():
            if found.get(name, value) != value:
                raise ValueError(
                    f"{run.output} was measured under {condition.name} with {name} {found[name]!r}, but now it is "
                    f"{value!r}: take the old value, or name another --output"
                )
    try:
        recipe = replace(fill_in_steps(run.recipe, run.output), resume=True)
        open_folder(recipe, MADE if run.made_of else replace(TRAINING, may_change=MAY_CHANGE))
        if run.made_of:
            _check_made(run)
    except ValueError as error:
        raise ValueError(f"arm {run.arm} has changed: {error}") from None


def _check_made(run: ArmRun) -> None:
    config = read_yaml(run.output / "config.yaml")
    for name, value in _made(run).items():
        if config.get(name, value) != value:
            raise ValueError(
                f"the model in {run.output} was {name.replace('_', ' ')} {config[name]}, but now it is {value}: take "
                "the old value, or name another --output"
            )


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


def read_results(file: Path) -> dict[str, Any]:
    """The content of a `results.json`."""
    return json.loads(file.read_text(encoding="utf-8"))


def _run(run: ArmRun, backend: Backend) -> None:
    """Trains or makes the model, unless there are results, and measures what is missing."""
    quiet_libraries()
    plain = _benchmark(_with_corpus(run.recipe))
    changed = {one.name: under(plain, one) for one in run.missing}
    parts = []
    if run.results.exists():
        results, benchmarks = read_results(run.results), changed
        parts.append(read_scores(run.output / "per_query.parquet").under("", *results.get("conditions", {})))
    else:
        results, benchmarks = _make(run) if run.made_of else _train(run, backend), {"": plain} | changed
    began = time.monotonic()
    encoder = EncoderConfig(name=str(run.output / "model"))
    encode = _changed(run, encoder, plain, backend.encode) if run.change else backend.encode
    embedded = embed(encoder, plain, encode) if run.entropy and "" in benchmarks else None
    ranked = rank_each(encoder, list(benchmarks.values()), encode, embedded)
    rankings = dict(zip(benchmarks, ranked, strict=True))
    measured = {name: measure(ranking, plain, name) for name, ranking in rankings.items()}
    if embedded:
        entropy_N = contrastive_entropy(measured[""].rows, plain, *embedded)
        measured[""] = replace(measured[""], values={**measured[""].values, ENTROPY: entropy_N[None]})
    scores = join([*parts, *measured.values()])
    if "" in rankings:
        summary = summarise(scores, plain)
        bias = bias_results(rankings[""], plain, summary)
        results = summary | {"encoder": encoder.name, "bias": bias} | results
        results["training"]["measuring_seconds"] = time.monotonic() - began
    if changed:
        found = condition_results(scores, plain, changed)
        for one in run.missing:
            found[one.name]["definition"] = _definition(one)
        results["conditions"] = results.get("conditions", {}) | found
    write_scores({run.arm: scores}, run.output / "per_query.parquet")
    write_json(results, run.output)
    shutil.rmtree(run.output / "checkpoints", ignore_errors=True)


def _train(run: ArmRun, backend: Backend) -> dict[str, Any]:
    """Trains the model; returns what `results.json` says of it."""
    recipe = replace(run.recipe, resume=(run.output / "config.yaml").exists())
    recipe = fill_in_steps(recipe, run.output, backend.read)
    prepared = prepare(recipe, open_output(recipe), backend.read, backend.tokenize)
    state = train_model(recipe, prepared, backend)
    training = spent(run.output) | {"stopped": state["stopped"]}
    return {"training": training, "validation": validated(recipe, state)}


def _make(run: ArmRun) -> dict[str, Any]:
    """Makes the model of others; returns what `results.json` says of it."""
    members = [Path(name) for name in run.made_of]
    begin_folder(run.recipe, MADE, _made(run))
    made = run.make(*(Encoder.load(EncoderConfig(name=str(member / "model"))) for member in members))
    with replaced_folder(run.output / "model") as work:
        made.save(work)
    spent_on = {name: spent for member in members for name, spent in _spent_on(member).items()}
    total = {name: sum(spent[name] for spent in spent_on.values()) for name in ("step", "tokens", "seconds")}
    return {"training": total | {"of": spent_on}}


def _changed(run: ArmRun, encoder: EncoderConfig, benchmark: Benchmark, encode: Encode) -> Encode:
    """`encode` for the texts of a benchmark, changed by language as the training texts say, queries and passages apart.

    Raises:
        ValueError: there are no training texts in a language of the benchmark.
    """
    assert run.change
    corpus = read_corpus(run.recipe.data, cache_folder(run.recipe, run.output))
    rows_GL = corpus.row_of[corpus.groups("train")]
    changes: list[list[Change]] = [[], []]
    for language in benchmark.languages:
        column = corpus.languages.index(language) if language in corpus.languages else None
        rows = np.empty(0) if column is None else rows_GL[rows_GL[:, column] >= 0, column][:MOST_TEXTS]
        if not len(rows):
            raise ValueError(f"the arm {run.arm} needs training texts in {language}, and there are none: leave it out")
        for of_side, embedding_ND in zip(changes, encode(encoder, *corpus.texts(rows)), strict=True):
            of_side.append(run.change(embedding_ND))
    languages = ([benchmark.languages.index(query.language) for query in benchmark.queries], benchmark.language_P)

    def changed(
        config: EncoderConfig, queries: Sequence[str], passages: Sequence[str]
    ) -> tuple[np.ndarray, np.ndarray]:
        query_QD, passage_PD = (np.array(one) for one in encode(config, queries, passages))
        for embedding_ND, of_side, language_N in zip((query_QD, passage_PD), changes, languages, strict=True):
            for number, change in enumerate(of_side) if len(embedding_ND) else ():
                own = np.asarray(language_N) == number
                embedding_ND[own] = change(embedding_ND[own])
        return query_QD, passage_PD

    return changed


def _spent_on(member: Path) -> dict[str, dict[str, Any]]:
    """What the training of each run took that the model in `member` comes from, by the run's name."""
    training = read_results(member / "results.json")["training"]
    return training.get("of") or {"/".join(member.parts[-2:]): training}


def _made(run: ArmRun) -> dict[str, Any]:
    """What the `config.yaml` of a model made of others says of that."""
    made = {"made_of": list(run.made_of), "made_by": _described(run.make)}
    return made | ({"changed_by": run.change.__name__} if run.change else {})


def _definition(condition: Condition) -> dict[str, Any]:
    """The fields of a condition, as they are read back from JSON."""
    return json.loads(json.dumps(asdict(condition)))


def _described(make: Callable[..., Encoder]) -> str:
    """The name of a function, with the arguments that `functools.partial` gives it."""
    given = make.keywords if isinstance(make, partial) else {}
    function = make.func if isinstance(make, partial) else make
    return " ".join([function.__name__, *(f"{name}={value}" for name, value in given.items())])


def _with_corpus(recipe: Recipe) -> BenchmarkConfig:
    """The benchmark of a run; of its own data, with their corpus."""
    if not is_own_part(recipe.benchmark):
        return recipe.benchmark
    return own_part(recipe.benchmark, read_corpus(recipe.data, cache_folder(recipe, Path(recipe.output))))


@lru_cache(maxsize=1)
def _benchmark(config: BenchmarkConfig) -> Benchmark:
    """The benchmark, read once per process."""
    return sources.read_benchmark(config)
