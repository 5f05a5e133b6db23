"""A search by Ray Tune: which points are tried (a grid, or Optuna), and which of them are stopped early (ASHA).

What is true of a point stands in its folders, not in Tune: a search that goes on gives Tune the points that were tried
before, which only report again what their folders have.
"""

import json
import logging
import os
import queue
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from hybridir.data.config import BenchmarkConfig
from hybridir.experiments.one_run import STOPPED, attempt
from hybridir.experiments.space import Point, Range, label
from hybridir.experiments.tuning import ERROR, POINT, Event, Trial, TuneRecipe, outcome, trial_of, values
from hybridir.on_ray.encode import encode_on_ray
from hybridir.on_ray.many import RETRIES, RayArms, ray_arms, run_backend, run_resources
from hybridir.runs.recipe import ScalingConfig
from hybridir.runtime.durable import replace_text
from hybridir.runtime.history import Tail
from hybridir.training.loop import STOP
from hybridir.training.validation import LOWER_IS_BETTER, cost

_POLL = 0.5
"""Seconds between looks at a history."""
_NEVER = 1 << 30
_DRAWS = 100
"""How often Optuna is asked for a point that is new and goes with the recipe."""
_QUIET = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a point may fail before it has a metric
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "0",
}


class RayTune(RayArms):
    """Searches, beside what runs of a study need."""

    def __init__(self, scaling: ScalingConfig) -> None:
        super().__init__(scaling)
        self.encode = partial(encode_on_ray, scaling)

    def search(self, recipe: TuneRecipe, held_out: BenchmarkConfig, before: list[Point]) -> Iterator[Event]:
        """Does the first run of each point, those of `before` first."""
        events: queue.Queue[Event | BaseException | None] = queue.Queue()

        def fit() -> None:
            try:
                _tuner(recipe, held_out, before, self.at_once, events).fit()
                shutil.rmtree(_storage(recipe))
                events.put(None)
            except BaseException as error:
                events.put(error)

        threading.Thread(target=fit, daemon=True).start()  # so that Tune leaves the handlers of signals alone
        while True:
            try:
                event = events.get(timeout=1.0)  # a wait without end would hold up signals
            except queue.Empty:
                continue
            if isinstance(event, BaseException):
                raise event
            if event is None:
                return
            yield event


@contextmanager
def ray_tune(scaling: ScalingConfig) -> Iterator[RayTune]:
    """Computes on the cluster of RAY_ADDRESS, or on one started here for as long as it is entered."""
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    with ray_arms(scaling):
        logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # errors are listed
        yield RayTune(scaling)


def _tuner(recipe: TuneRecipe, held_out: BenchmarkConfig, before: list[Point], at_once: int, events: Any) -> Any:
    """The `ray.tune.Tuner` of a search.

    With DDP as many points go at a time as there is room for now: what drives one holds nothing that Tune could count.
    """
    from ray import tune

    space = recipe.searched
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
            name=f"search-{os.urandom(8).hex()}",
            storage_path=str(_storage(recipe)),
            failure_config=tune.FailureConfig(max_failures=RETRIES),
            callbacks=[_watch(recipe, held_out, events)],
            verbose=0,
        ),
    )


def _storage(recipe: TuneRecipe) -> Path:
    """Where Tune keeps what it needs while it runs."""
    return Path(recipe.output, "ray")


def _optuna(recipe: TuneRecipe, held_out: BenchmarkConfig, before: list[Point]) -> Any:
    """Optuna's tree-structured Parzen estimator, for one objective or several.

    It does not see how long a point took, nor seeds but the first. A point that was drawn before, or that the recipe
    refuses, is drawn again.
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
                point = recipe.searched.rounded(found)
                if label(point) not in self.drawn and _fits(point):
                    self.drawn.add(label(point))
                    return found
                self._ot_study.tell(self._ot_trials.pop(trial_id), state=optuna.trial.TrialState.FAIL)
            return Searcher.FINISHED

        def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
            if sought[0] in result:
                super().on_trial_result(trial_id, result)

        def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
            known = result is not None and sought[0] in result  # else it failed before its first validation
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
        for name, one in recipe.searched.dimensions.items()
    }
    modes = ["min" if metric in LOWER_IS_BETTER else "max" for metric in sought]
    return Draws(
        distributions,
        metric=list(sought) if len(sought) > 1 else sought[0],
        mode=modes if len(sought) > 1 else modes[0],
        points_to_evaluate=[dict(point) for point in before],
        sampler=optuna.samplers.TPESampler(seed=recipe.seed + len(before), multivariate=True, constant_liar=True),
    )


def _asha(recipe: TuneRecipe, held_out: BenchmarkConfig) -> Any:
    """ASHA (Li et al. 2020, arXiv 1810.05934), which notes in a point's folder why it is stopped, and asks it to end.

    Tune would kill its process, and leave what Ray Train reserved for its workers.
    """
    from ray.tune.schedulers import AsyncHyperBandScheduler

    metric = recipe.validation.metric
    seen: defaultdict[int, dict[str, float]] = defaultdict(dict)  # by step the value of each trial

    class Asha(AsyncHyperBandScheduler):
        def on_trial_result(self, controller: Any, trial: Any, result: dict[str, Any]) -> str:
            decision = super().on_trial_result(controller, trial, result)
            if metric not in result:
                return decision
            step, value = result["step"], result[metric]
            seen[step][trial.trial_id] = value
            run = trial_of(recipe, held_out, _point(recipe, trial.config)).first
            if decision == self.STOP and not (run.finished or (run.output / STOPPED).exists()):
                ranked = sorted(seen[step].values(), key=lambda one: cost(one, metric))
                words = (
                    f"after {step} steps its {metric} is {value:.4g}, place {ranked.index(value) + 1} of the "
                    f"{len(ranked)} points that came so far, and 1 in {recipe.reduction} goes on"
                )
                replace_text(run.output / STOPPED, json.dumps({"step": step, "value": value, "reason": words}))
                (run.output / STOP).touch()
            return self.CONTINUE

    return Asha(
        time_attr="step",
        metric=metric,
        mode="min" if metric in LOWER_IS_BETTER else "max",
        grace_period=recipe.validation.every,
        reduction_factor=recipe.reduction,
        max_t=_NEVER,  # Tune stops what reaches it, and a run still has to measure then
    )


def _watch(recipe: TuneRecipe, held_out: BenchmarkConfig, events: Any) -> Any:
    """A callback of Tune: tells what happens to the trials."""
    from ray import tune

    class Watch(tune.Callback):
        def __init__(self, events: Any) -> None:
            self.events = events

        def __getstate__(self) -> dict[str, Any]:  # Tune saves it, with locks it could not
            return {}

        def on_trial_start(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            self.events.put(Event(_point(recipe, trial.config), ended=False))

        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            found = trial_of(recipe, held_out, _point(recipe, trial.config))
            self.events.put(Event(found.point, ended=True, error=found.error))

        def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            found = trial_of(recipe, held_out, _point(recipe, trial.config))
            words = f"Ray gave up on it after {RETRIES} more tries: {_cause(trial)}"
            found.first.output.mkdir(parents=True, exist_ok=True)
            replace_text(found.first.output / ERROR, words)
            self.events.put(Event(found.point, ended=True, error=words))

    return Watch(events)


def _cause(trial: Any) -> str:
    lines = str(trial.get_error() or "no more is known").strip().splitlines()
    return lines[-1]


def _point(recipe: TuneRecipe, config: dict[str, Any]) -> Point:
    """What Tune drew, as it is trained."""
    return config["point"] if "point" in config else recipe.searched.rounded(config)


def _trial(config: dict[str, Any], recipe: TuneRecipe, held_out: BenchmarkConfig) -> None:
    """The first run of a point; reports each validation, and at last what the run ended with."""
    from ray import tune

    trial = trial_of(recipe, held_out, _point(recipe, config))
    run, told, history = trial.first, 0, Tail(trial.first.output / "history.jsonl")
    last = run.recipe.train.steps
    failed: list[str] = []
    thread = threading.Thread(target=lambda: failed.append(attempt(run, run_backend(recipe.scaling))), daemon=True)
    if not (trial.finished or trial.stopped):  # else it only reports again
        _begin(trial)
        thread.start()
    going = True
    while going:
        going = thread.is_alive()
        while lines := history.read():
            for line in lines:
                if "validation" in line and told <= line["step"] < last - 1:
                    told = line["step"] + 1
                    tune.report({"step": told, **values(line["validation"], recipe.reported)})
        thread.join(_POLL) if going else None
    if any(failed):  # not raised: Tune would try again
        replace_text(run.output / ERROR, failed[0])
    if run.finished:
        tune.report({"step": last, **values(outcome(run), recipe.reported)})


def _begin(trial: Trial) -> None:
    folder = trial.first.output.parent
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / POINT).exists():
        replace_text(folder / POINT, json.dumps({"point": dict(trial.point), "began": time.time()}))
