"""Tuning: the values to try, the metric that decides, and the state of each point.

A point is an arm (see `study`): its runs are trained like any run, and measured on validation questions. The folder of
a point's first run shows the state of the point: it has `results.json` if the point is finished, `stopped.json` if it
was stopped early, `error.txt` if it failed.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hybridir.data.config import BenchmarkConfig
from hybridir.evaluation.validation_metrics import MetricName, known_values, measured
from hybridir.experiments.one_run import STOPPED, ArmRun, attempt
from hybridir.experiments.space import Point, Range, Space, Value, changes, label, parse_space
from hybridir.experiments.study import Arm, arm_runs
from hybridir.runs.backend import Backend
from hybridir.runs.recipe import Recipe, TrackingConfig
from hybridir.runtime.durable import replace_text
from hybridir.runtime.history import read_history
from hybridir.training.validation import ValidationConfig

ERROR, POINT = "error.txt", "point.json"
PAPER = {"alpha": {"low": 0, "high": 1, "step": 0.1}}
"""The grid of the ablation over alpha in arXiv 2408.10536."""
_EQUAL_STEPS = "tuning compares points after equal steps: give train.steps, and no train.tokens"


@dataclass(frozen=True, kw_only=True)
class TuneRecipe(Recipe):
    """Tuning: a training recipe that all points share, the values to try, and how to choose.

    `validation.metric` decides which points go on and which one wins. Only the winner is measured on the benchmark.
    Other fields: see `Recipe`.

    Args:
        space: values to try, by name, for example `--space.alpha '{low: 0, high: 1, step: 0.1}'`. Values are a list
            `[A, B, C]`, steps as in the example, or a range `{low: A, high: B}`, optionally with `log: true` or
            `integer: true`. A name is a field, such as `train.lr`; or `alpha`, the probability of a monolingual batch
            in hybrid batches; or `mix`, the weights of monolingual, mixed and cross-lingual batches: `simplex` for any
            weights, `{step: 0.25}` for multiples of 0.25. Omitted: alpha from 0 to 1 in steps of 0.1, as in the paper.
        points: number of points to try if the space has a range; Optuna chooses them. A grid is always tried whole.
        objectives: validation metrics that Optuna optimises and that the Pareto front shows: `monolingual`,
            `crosslingual`, `multilingual`, `mean`, `rank_distance`, `loss`. Omitted: `validation.metric`.
        seeds: number of training runs of each point, with the seeds `seed`, `seed` + 1 and so on. With fewer than 5,
            intervals hold only for these trained models, not for other seeds.
        finalists: number of points, the best after the first seed, that are trained with the other seeds. Omitted: all.
        stop_early: whether to stop points that are worse than others at the same step (ASHA).
        reduction: with `stop_early`, the best 1 / `reduction` of the points go on after `validation.every` steps, and
            again each time that the number of steps is multiplied by `reduction`.
        validation: the validation batches and questions, the same for all points, and the metric that decides.
        benchmark: the benchmark that the winner is measured on.
        scaling: workers of each run. With 1, there are as many runs at a time as the cluster has room for; with 2 or
            more, each run is trained by DDP; with 0, the points of a grid follow one another in this process, without
            Ray.
        tracking: MLflow: a run for the tuning, with a child run for each point and seed.
        seed: the first seed.
        output: folder of the results. Omitted: outputs/tune-DATE-TIME.
        resume: continue the tuning in `output`: finished runs are kept, failed runs are tried again.
        dry_run: print the points and what the data holds; train nothing.
    """

    space: dict[str, Any] = field(default_factory=dict)
    points: int = 20
    objectives: tuple[MetricName, ...] = ()
    seeds: int = 2
    finalists: int | None = None
    stop_early: bool = False
    reduction: int = 3
    validation: ValidationConfig = field(default_factory=lambda: ValidationConfig(retrieval=500, metric="mean"))
    tracking: TrackingConfig = field(default_factory=lambda: TrackingConfig(experiment="tune"))

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in {"points": 1, "seeds": 1, "reduction": 2}.items():
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least {least}")
        if self.finalists is not None and self.finalists < 1:
            raise ValueError(f"finalists is {self.finalists}: it must be at least 1")
        if not self.validation.retrieval:
            raise ValueError(
                "validation.retrieval is 0: set the number of groups of questions to compare points on, for example 500"
            )
        if self.train.tokens:
            raise ValueError(_EQUAL_STEPS)
        for point in self.tuned.points() if self.tuned.is_grid else self.tuned.corners():
            _check(self, point)
        if not self.scaling.num_workers and (self.stop_early or not self.tuned.is_grid):
            what = "stop_early" if self.stop_early else "a range in space"
            raise ValueError(
                f"scaling.num_workers is 0, which tries a grid in this process, but {what} needs Ray: set it to 1, or "
                "list the values to try and leave out stop_early"
            )
        if isinstance(self.tuned.dimensions.get("train.batch_size"), Range) and self.scaling.num_workers > 1:
            raise ValueError(
                "space.train.batch_size is a range, but scaling.num_workers must divide every size: list the sizes"
            )

    @cached_property
    def tuned(self) -> Space:
        return parse_space(self.space or PAPER)

    @property
    def sought(self) -> tuple[str, ...]:
        """The objectives: the metric that decides, unless others are named."""
        return self.objectives or (self.validation.metric,)

    @property
    def reported(self) -> tuple[str, ...]:
        """The objectives and the metric that decides."""
        return tuple(dict.fromkeys((*self.sought, self.validation.metric)))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A point with its runs, one for each seed. The first run decides whether the point goes on."""

    point: Point
    arm: Arm
    runs: tuple[ArmRun, ...]

    @property
    def first(self) -> ArmRun:
        return self.runs[0]

    @property
    def stopped(self) -> dict[str, Any] | None:
        """`reason` and `step` of an early stop; None if the point was not stopped early."""
        file = self.first.output / STOPPED
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() and not self.first.finished else None

    @property
    def error(self) -> str:
        """The error message of a failed run, of any seed; empty if none failed."""
        files = (run.output / ERROR for run in self.runs if not run.finished)
        return next((file.read_text(encoding="utf-8") for file in files if file.exists()), "")

    @property
    def finished(self) -> bool:
        """Whether the first run is finished; the others may never start."""
        return self.first.finished

    def begin(self) -> None:
        """Writes down that the point was started."""
        folder = self.first.output.parent
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / POINT).exists():
            replace_text(folder / POINT, json.dumps({"point": dict(self.point), "began": time.time()}))


@dataclass(frozen=True)
class Event:
    """The first run of a point starts, or (`ended`) has ended or was stopped; `error` is its error message."""

    point: Point
    ended: bool
    error: str = ""


def trial_of(recipe: TuneRecipe, held_out: BenchmarkConfig, point: Point) -> Trial:
    """The trial of a point, measured on `held_out`; `ValueError` if the point's values do not fit the recipe."""
    numbers = [value for value in point.values() if isinstance(value, int | float) and not isinstance(value, bool)]
    arm = Arm(
        name=label(point),
        about="",
        changes=changes(point) | {"benchmark": vars(held_out)},
        x=float(numbers[0]) if len(point) == len(numbers) == 1 else None,
    )
    runs = arm_runs(recipe, arm, range(recipe.seed, recipe.seed + recipe.seeds))
    return Trial(point=point, arm=arm, runs=tuple(runs))


def points_here(backend: Backend) -> Callable[["TuneRecipe", BenchmarkConfig, list[Point]], Iterator[Event]]:
    """Tries the points of a grid one after the other in this process; yields the start and end of each."""

    def try_points(recipe: TuneRecipe, held_out: BenchmarkConfig, before: list[Point]) -> Iterator[Event]:
        for point in recipe.tuned.points():
            trial = trial_of(recipe, held_out, point)
            trial.begin()
            yield Event(point, ended=False)
            if error := attempt(trial.first, backend):
                replace_text(trial.first.output / ERROR, error)
            yield Event(point, ended=True, error=error)

    return try_points


def known_points(output: Path) -> list[Point]:
    """The points that were started in this output folder, in that order."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in output.glob(f"arms/*/{POINT}")]
    return [one["point"] for one in sorted(found, key=lambda one: (one["began"], label(one["point"])))]


def validations(run: ArmRun) -> Iterator[tuple[int, dict[str, float]]]:
    """Yields (steps done, value of each validation metric) from the history of a run."""
    for line in read_history(run.output / "history.jsonl"):
        if "validation" in line:
            yield line["step"] + 1, known_values(line["validation"])


def outcome(run: ArmRun) -> dict[str, float]:
    """The validation metrics of the weights that a finished run kept."""
    results = json.loads((run.output / "results.json").read_text(encoding="utf-8"))
    by_step = dict(validations(run))
    return by_step[results["validation"]["step"]] | known_values(measured(results))


def _check(recipe: TuneRecipe, point: Point) -> None:
    """Raises `ValueError` if a field of the point does not exist, cannot be tuned, or does not take its value."""
    for section, of_section in changes(point).items():
        config: Any = getattr(recipe, section, None)
        if not is_dataclass(config) or isinstance(config, type):
            raise ValueError(f"space.{section}.{next(iter(of_section))}: there is no section {section}")
        if section in ("data", "validation", "benchmark", "scaling", "tracking"):
            raise ValueError(
                f"space.{section}: points that differ here could not be compared, or would be equal: remove it"
            )
        if section == "train" and not of_section.keys().isdisjoint(("epochs", "tokens")):
            raise ValueError(_EQUAL_STEPS)
        hints = get_type_hints(type(config))
        for name, value in of_section.items():
            if name not in hints:
                raise ValueError(f"space.{section}.{name}: there is no such field; {section} has {', '.join(hints)}")
            if not _takes(hints[name], value):
                shown = getattr(hints[name], "__name__", str(hints[name]).removeprefix("typing."))
                hint = "; integer: true gives whole numbers" * isinstance(value, float)
                raise ValueError(f"space.{section}.{name} has the value {value!r}, but the field takes {shown}{hint}")
        try:
            replace(config, **of_section)
        except ValueError as error:
            raise ValueError(f"{label(point)}: {error}") from None


def _takes(hint: Any, value: Value) -> bool:
    """Whether a field of type `hint` takes the value."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    kinds = get_args(hint) or (hint,)  # the members of a union
    return type(value) in kinds or (float in kinds and type(value) is int)
