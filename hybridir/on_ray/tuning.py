"""Tuning with Ray Tune: which points are tried (a grid, or drawn by Optuna), and which are stopped early (ASHA).

The state of a point is in its folders, not in Tune. Resumed tuning gives Tune the earlier points again; those that have
ended only report what their folders hold.
"""

import json
import logging
import os
import queue
import shutil
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hybridir.data.config import BenchmarkConfig
from hybridir.evaluation.validation_metrics import METRICS, known_values
from hybridir.experiments.one_run import STOPPED, attempt
from hybridir.experiments.space import Point, Range, label
from hybridir.experiments.tuning import ERROR, Event, TuneRecipe, outcome, trial_of
from hybridir.on_ray.encode import encode_on_ray
from hybridir.on_ray.many import RETRIES, RayArms, ray_arms, run_backend, run_resources
from hybridir.runs.recipe import ScalingConfig
from hybridir.runtime.durable import replace_text
from hybridir.runtime.history import Tail
from hybridir.training.loop import STOP

_POLL = 0.5
"""Seconds between two reads of a history."""
_NEVER = 1 << 30
_DRAWS = 100
"""How often Optuna may draw again until a point is new and fits the recipe."""
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a point may fail before it has a metric
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
}


class RayTune(RayArms):
    """What tuning needs from Ray, in addition to `RayArms`."""

    def __init__(self, scaling: ScalingConfig) -> None:
        super().__init__(scaling)
        self.encode = partial(encode_on_ray, scaling)

    def try_points(self, recipe: TuneRecipe, held_out: BenchmarkConfig, before: list[Point]) -> Iterator[Event]:
        """Trains the first run of each point, those of `before` first; yields the start and end of each."""
        events: queue.Queue[Event | BaseException | None] = queue.Queue()

        def fit() -> None:
            try:
                _tuner(recipe, held_out, before, self.at_once, events).fit()
                shutil.rmtree(_storage(recipe))
                events.put(None)
            except BaseException as error:
                events.put(error)

        threading.Thread(target=fit, daemon=True).start()  # so Tune leaves the signal handlers alone
        while True:
            try:
                event = events.get(timeout=1.0)  # without a timeout, signals would have to wait
            except queue.Empty:
                continue
            if isinstance(event, BaseException):
                raise event
            if event is None:
                return
            yield event


@contextmanager
def ray_tune(scaling: ScalingConfig) -> Iterator[RayTune]:
    """While entered, gives a `RayTune` on the cluster in RAY_ADDRESS, or on a local one that ends on leaving."""
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    with ray_arms(scaling):
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # errors are listed in the results
        yield RayTune(scaling)


def _tuner(recipe: TuneRecipe, held_out: BenchmarkConfig, before: list[Point], at_once: int, events: Any) -> Any:
    """The `ray.tune.Tuner` of a recipe.

    With DDP, the number of points at a time is fixed by the room there is now: the process that drives a point reserves
    nothing that Tune could count.
    """
    from ray import tune

    space = recipe.tuned
    trainable = tune.with_resources(
        tune.with_parameters(_trial, recipe=recipe, held_out=held_out),
        tune.PlacementGroupFactory([run_resources(recipe.scaling)]),
    )
    config = tune.TuneConfig(
        max_concurrent_trials=None if recipe.scaling.num_workers == 1 else at_once,
        num_samples=1 if space.is_grid else max(recipe.points, len(before)),
        scheduler=_asha(recipe, held_out) if recipe.stop_early else None,
        search_alg=None if space.is_grid else _optuna(recipe, held_out, before),
    )
    return tune.Tuner(
        trainable,
        param_space={"point": tune.grid_search(space.points())} if space.is_grid else None,
        tune_config=config,
        run_config=tune.RunConfig(
            name=f"tuning-{os.urandom(8).hex()}",
            storage_path=str(_storage(recipe)),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[_watch(recipe, held_out, events)],
            verbose=0,
        ),
    )


def _storage(recipe: TuneRecipe) -> Path:
    """The folder for Tune's own files while it runs."""
    return Path(recipe.output, "ray")


def _optuna(recipe: TuneRecipe, held_out: BenchmarkConfig, before: list[Point]) -> Any:
    """Optuna's tree-structured Parzen estimator, for one objective or several.

    It sees only the first seed of a point, and not how long it took. If a point was drawn before, or the recipe refuses
    it, another one is drawn.
    """
    import optuna
    from ray.tune.search import Searcher
    from ray.tune.search.optuna import OptunaSearch

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sought = recipe.sought

    class Draws(OptunaSearch):
        drawn: set[str]

        def suggest(self, trial_id: str) -> Any:
            self.drawn = getattr(self, "drawn", set())
            for _ in range(_DRAWS):
                found = super().suggest(trial_id)
                point = recipe.tuned.rounded(found)
                if label(point) not in self.drawn and _fits(point):
                    self.drawn.add(label(point))
                    return found
                self._ot_study.tell(self._ot_trials.pop(trial_id), state=optuna.trial.TrialState.FAIL)
            return Searcher.FINISHED

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            if sought[0] in result:
                super().on_trial_result(trial_id, result)

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            known = result is not None and sought[0] in result  # False: it failed before its first validation
            super().on_trial_complete(trial_id, result if known else None, error=error or not known)

    def _fits(point: Point) -> bool:
        try:
            return bool(trial_of(recipe, held_out, point))
        except ValueError:
            return False

    distributions = {
        name: optuna.distributions.CategoricalDistribution(one)
        if not isinstance(one, Range)
        else optuna.distributions.IntDistribution(int(one.low), int(one.high))
        if one.integer
        else optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)
        for name, one in recipe.tuned.dimensions.items()
    }
    modes = ["min" if METRICS[metric].lower_is_better else "max" for metric in sought]
    return Draws(
        distributions,
        metric=list(sought) if len(sought) > 1 else sought[0],
        mode=modes if len(sought) > 1 else modes[0],
        points_to_evaluate=[dict(point) for point in before],
        sampler=optuna.samplers.TPESampler(seed=recipe.seed + len(before), multivariate=True, constant_liar=True),
    )


def _asha(recipe: TuneRecipe, held_out: BenchmarkConfig) -> Any:
    """ASHA (Li et al. 2020, arXiv 1810.05934): writes to a point's folder why it is stopped, and asks its run to end.

    Tune itself would kill the process, and the resources that Ray Train reserved for the workers would stay reserved.
    """
    from ray.tune.schedulers import AsyncHyperBandScheduler

    metric = recipe.validation.metric
    seen: defaultdict[int, dict[str, float]] = defaultdict(dict)  # step -> trial -> value

    class Asha(AsyncHyperBandScheduler):
        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            decision = super().on_trial_result(controller, trial, result)
            if metric not in result:
                return decision
            step, value = result["step"], result[metric]
            seen[step][trial.trial_id] = value
            run = trial_of(recipe, held_out, _point(recipe, trial.config)).first
            if decision == self.STOP and not (run.finished or (run.output / STOPPED).exists()):
                ranked = sorted(seen[step].values(), key=lambda one: METRICS[metric].cost(one))
                words = (
                    f"after {step} steps its {metric} is {value:.4g}, rank {ranked.index(value) + 1} of the "
                    f"{len(ranked)} points that have got so far, and 1 in {recipe.reduction} goes on"
                )
                replace_text(run.output / STOPPED, json.dumps({"step": step, "value": value, "reason": words}))
                (run.output / STOP).touch()
            return self.CONTINUE

    return Asha(
        time_attr="step",
        metric=metric,
        mode="min" if METRICS[metric].lower_is_better else "max",
        grace_period=recipe.validation.every,
        reduction_factor=recipe.reduction,
        max_t=_NEVER,  # Tune kills a trial at max_t, but the run must still be measured
    )


def _watch(recipe: TuneRecipe, held_out: BenchmarkConfig, events: Any) -> Any:
    """A callback of Tune: puts the start and end of each trial into `events`."""
    from ray import tune

    class Watch(tune.Callback):
        def __init__(self, events: Any) -> None:
            self.events = events

        def __getstate__(self) -> dict[str, Any]:  # Tune saves it, and locks cannot be saved
            return {}

        def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self.events.put(Event(_point(recipe, trial.config), ended=False))

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            found = trial_of(recipe, held_out, _point(recipe, trial.config))
            self.events.put(Event(found.point, ended=True, error=found.error))

        def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            found = trial_of(recipe, held_out, _point(recipe, trial.config))
            words = f"Ray gave up on the point after {RETRIES} retries: {_cause(trial)}"
            found.first.output.mkdir(parents=True, exist_ok=True)
            replace_text(found.first.output / ERROR, words)
            self.events.put(Event(found.point, ended=True, error=words))

    return Watch(events)


def _cause(trial: Any) -> str:
    lines = str(trial.get_error() or "no more is known").strip().splitlines()
    return lines[-1]


def _point(recipe: TuneRecipe, config: dict[str, Any]) -> Point:
    """The point of a trial: what Tune drew, with rounded values."""
    return config["point"] if "point" in config else recipe.tuned.rounded(config)


def _trial(config: dict[str, Any], recipe: TuneRecipe, held_out: BenchmarkConfig) -> None:
    """The first run of a point: reports each validation to Tune, and at the end the values of the kept weights."""
    from ray import tune

    trial = trial_of(recipe, held_out, _point(recipe, config))
    run, told, history = trial.first, 0, Tail(trial.first.output / "history.jsonl")
    last = run.recipe.train.steps
    assert last, "tuning compares after equal steps"
    failed: list[str] = []
    thread = threading.Thread(target=lambda: failed.append(attempt(run, run_backend(recipe.scaling))), daemon=True)
    if not (trial.finished or trial.stopped):  # otherwise it only reports
        trial.begin()
        thread.start()
    going = True
    while going:
        going = thread.is_alive()
        while lines := history.read():
            for line in lines:
                if "validation" in line and told <= line["step"] < last - 1:
                    told = line["step"] + 1
                    tune.report({"step": told, **known_values(line["validation"])})
        thread.join(_POLL) if going else None
    if any(failed):  # if raised, Tune would try again
        replace_text(run.output / ERROR, failed[0])
    if run.finished:
        tune.report({"step": last, **outcome(run)})
