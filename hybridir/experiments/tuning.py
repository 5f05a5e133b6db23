"""Tuning: which values are tried, by what they are judged, and what became of each point so far.

A point is an arm (see `study`): each of its runs is trained as any run is, and measured on validation questions. The
folder of a point's first run says what became of it: `results.json` if it is finished, `stopped.json` if it was stopped
early, `error.txt` if it failed.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from hybridir.data.config import BenchmarkConfig
from hybridir.experiments.one_run import STOPPED, ArmRun
from hybridir.experiments.space import Point, Range, Space, Value, changes, label, parse_space
from hybridir.experiments.study import Arm, arm_runs
from hybridir.runs.recipe import Recipe, TrackingConfig
from hybridir.runtime.history import read_history
from hybridir.training.validation import Metric, ValidationConfig, retrieval, value_of

ERROR, POINT = "error.txt", "point.json"
PAPER = {"alpha": {"low": 0, "high": 1, "step": 0.1}}
"""The grid of arXiv 2408.10536, figure of the ablation over alpha."""


@dataclass(frozen=True, kw_only=True)
class TuneRecipe(Recipe):
    """Tuning: a training recipe that all points share, the values to try, and how to choose.

    `validation.metric` decides: which points go on, and who wins. The test benchmark is looked at once, by the winner.

    Args:
        space: by name the values to try, for example `--space.alpha '{low: 0, high: 1, step: 0.1}'`: a list
            `[A, B, C]`, steps as in the example, or a range `{low: A, high: B}`, with `log: true` or `integer: true` if
            wanted. Names are fields, such as `train.lr`; `alpha`, for hybrid batches; or `mix`, for the weights of
            monolingual, mixed and cross-lingual batches: `simplex`, or `{step: 0.25}` for those in quarters. Omitted:
            alpha in steps of .1, as in the paper.
        points: how many are tried where the space has a range; Optuna chooses them. A grid is tried whole.
        objectives: validation metrics that Optuna looks for and the Pareto front is drawn for: `monolingual`,
            `crosslingual`, `multilingual`, `mean`, `rank_distance`, `loss`. Omitted: `validation.metric`.
        seeds: training runs of each point, with the seeds from `seed` on. With fewer than 5, intervals hold for these
            very models alone.
        finalists: how many of the best points after the first seed get the other seeds; all when omitted.
        stop_early: whether points that are worse than others at the same step are stopped (ASHA).
        reduction: the share that goes on, 1 / `reduction`, each `reduction` times as long.
        data: training and validation pairs.
        sampling: what batches are made of.
        encoder: the encoder to start from.
        loss: the training objective.
        train: the optimisation.
        validation: the fixed validation plan and questions, and the metric that decides.
        benchmark: what the winner is measured on.
        scaling: what each run computes on. With 1 worker, as many runs at a time as there is room for; with more, each
            is trained by DDP.
        tracking: MLflow: a run for the tuning, and one below it for each point and seed.
        seed: the first seed.
        output: folder of the results. Omitted: outputs/tune-DATE-TIME.
        cache: folder of corpora, tokenizers and tokens that runs share. Omitted: `cache` beside the output.
        resume: go on with the tuning in `output`: what is finished is not done again, what failed is tried again.
        dry_run: print the points and what the data holds, train nothing.
    """

    space: dict[str, Any] = field(default_factory=dict)
    points: int = 20
    objectives: tuple[Metric, ...] = ()
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
        if not self.scaling.num_workers:
            raise ValueError("scaling.num_workers is 0, and tuning runs on Ray: take 1, or more for DDP")
        if not self.validation.retrieval:
            raise ValueError(
                "validation.retrieval is 0: name how many groups of questions points are compared on, 500 say"
            )
        for point in self.tuned.points() if self.tuned.is_grid else self.tuned.corners():
            _check(self, point)
        if isinstance(self.tuned.dimensions.get("train.batch_size"), Range) and self.scaling.num_workers > 1:
            raise ValueError(
                "space.train.batch_size has sizes that the workers do not divide: list those to try, [A, B, C]"
            )

    @cached_property
    def tuned(self) -> Space:
        return parse_space(self.space or PAPER)

    @property
    def sought(self) -> tuple[Metric, ...]:
        """The objectives."""
        return self.objectives or (self.validation.metric,)

    @property
    def reported(self) -> tuple[Metric, ...]:
        """The objectives, and what decides."""
        return tuple(dict.fromkeys((*self.sought, self.validation.metric)))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A point with its runs, one for each seed; the first decides whether it goes on."""

    point: Point
    arm: Arm
    runs: tuple[ArmRun, ...]

    @property
    def first(self) -> ArmRun:
        return self.runs[0]

    @property
    def stopped(self) -> dict[str, Any] | None:
        """Why it was stopped early, and after how many steps."""
        file = self.first.output / STOPPED
        return json.loads(file.read_text(encoding="utf-8")) if file.exists() and not self.first.finished else None

    @property
    def error(self) -> str:
        """What went wrong, of any seed."""
        files = (run.output / ERROR for run in self.runs if not run.finished)
        return next((file.read_text(encoding="utf-8") for file in files if file.exists()), "")

    @property
    def finished(self) -> bool:
        """Whether its first run is; the others may never start."""
        return self.first.finished


@dataclass(frozen=True)
class Event:
    """The first run of a point begins, or (`ended`) has ended or was stopped; `error` is what went wrong."""

    point: Point
    ended: bool
    error: str = ""


def trial_of(recipe: TuneRecipe, held_out: BenchmarkConfig, point: Point) -> Trial:
    """The trial of a point; `ValueError` where the point's values do not go with the recipe."""
    numbers = [value for value in point.values() if isinstance(value, int | float) and not isinstance(value, bool)]
    arm = Arm(
        name=label(point),
        about="",
        changes=changes(point) | {"benchmark": vars(held_out)},
        x=float(numbers[0]) if len(point) == len(numbers) == 1 else None,
    )
    runs = arm_runs(recipe, arm, range(recipe.seed, recipe.seed + recipe.seeds))
    return Trial(point=point, arm=arm, runs=tuple(runs))


def known_points(output: Path) -> list[Point]:
    """The points that tuning in this folder has begun with, in that order."""
    found = [json.loads(file.read_text(encoding="utf-8")) for file in output.glob(f"arms/*/{POINT}")]
    return [one["point"] for one in sorted(found, key=lambda one: (one["began"], label(one["point"])))]


def validations(run: ArmRun) -> Iterator[tuple[int, dict[str, Any]]]:
    """(steps done, what was found), as the history has it."""
    for line in read_history(run.output / "history.jsonl"):
        if "validation" in line:
            yield line["step"] + 1, line["validation"]


def outcome(run: ArmRun) -> dict[str, Any]:
    """What a finished run ended with, as a validation's findings: `loss`, `mAP`, `rank_distance`."""
    results = json.loads((run.output / "results.json").read_text(encoding="utf-8"))
    by_step = dict(validations(run))
    return {"loss": by_step[results["validation"]["step"]]["loss"]} | retrieval(results)


def values(found: dict[str, Any], metrics: tuple[Metric, ...]) -> dict[str, float]:
    """By metric its value in what a validation found."""
    return {metric: value_of(found, metric) for metric in metrics}


def _check(recipe: TuneRecipe, point: Point) -> None:
    """`ValueError` where a value is not one that its field takes."""
    for section, of_section in changes(point).items():
        config: Any = getattr(recipe, section, None)
        if not is_dataclass(config) or isinstance(config, type):
            raise ValueError(f"space.{section}.{next(iter(of_section))}: there is no section {section}")
        if section in ("data", "validation", "benchmark", "scaling", "tracking"):
            raise ValueError(f"space.{section}: points that differ in it could not be compared, or would be no others")
        hints = get_type_hints(type(config))
        for name, value in of_section.items():
            if name not in hints:
                raise ValueError(f"space.{section}.{name}: there is no such field; {section} has {', '.join(hints)}")
            if not _takes(hints[name], value):
                shown = getattr(hints[name], "__name__", str(hints[name]).removeprefix("typing."))
                hint = "; integer: true gives whole numbers" * isinstance(value, float)
                raise ValueError(f"space.{section}.{name} has the value {value!r}, and the field takes {shown}{hint}")
        try:
            replace(config, **of_section)
        except ValueError as error:
            raise ValueError(f"{label(point)}: {error}") from None


def _takes(hint: Any, value: Value) -> bool:
    """Whether a field of that type takes the value."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    kinds = get_args(hint) or (hint,)  # of a union
    return type(value) in kinds or (float in kinds and type(value) is int)
