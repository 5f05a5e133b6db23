"""Tuning from recipe to page: tries the points, gives the best more seeds, measures the winner, writes the results."""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig
from hybridir.data.corpus import Corpus
from hybridir.data.records import Benchmark
from hybridir.evaluation.validation_metrics import METRICS
from hybridir.experiments.one_run import ArmRun, Runner
from hybridir.experiments.progress import ArmProgress
from hybridir.experiments.space import Point
from hybridir.experiments.tuning import ERROR, Event, Trial, TuneRecipe, known_points, outcome, trial_of
from hybridir.experiments.tuning_results import tune_results, write_trials
from hybridir.model.check import resolve
from hybridir.reports.html.pages import write_tuning
from hybridir.reports.html.tuning_page import points_table
from hybridir.retrieval.systems import Encode
from hybridir.runs.backend import quiet_libraries
from hybridir.runs.fill_in import benchmark_reader, fill_in_all
from hybridir.runs.folder import Kind, begin_folder, opened
from hybridir.runs.plans import check_held_out, check_plans, held_out
from hybridir.runs.prepare import copy_cards, load_data, tell_data
from hybridir.runs.recipe import MAY_CHANGE, public
from hybridir.runs.results import write_json
from hybridir.runs.training_run import measure_run, validated_on
from hybridir.runtime.durable import replace_text
from hybridir.runtime.progress import say
from hybridir.runtime.tables import show

TUNING = Kind(name="tuning", job="jobs/tune.py", may_change=MAY_CHANGE | {"seeds", "finalists", "points"})
SHOWN = 10
"""Number of points in the table on the screen."""

TryPoints = Callable[[TuneRecipe, BenchmarkConfig, list[Point]], Iterator[Event]]
"""(recipe, validation questions, points started before) -> start and end of the first run of each point."""


def run_tune(recipe: TuneRecipe, try_points: TryPoints, runner: Runner, encode: Encode) -> tuple[Path, int]:
    """Does the runs that are not finished, measures the winner, and writes the results.

    Returns:
        The path of `report.html`, and the number of failed points.

    Raises:
        ValueError: the folder, the data or a point does not fit the recipe, or no point has finished all its seeds.
    """
    quiet_libraries()
    with opened(recipe, TUNING, fill_in_all) as recipe:
        output = Path(recipe.output)
        read_benchmark = benchmark_reader(recipe.benchmark)
        with TemporaryDirectory() as folder:
            corpus, measured = _load(recipe, Path(folder))
            test = read_benchmark(corpus)
            begin_folder(recipe, TUNING)
            copy_cards(Path(folder), output)
        with runner.track(recipe.tracking, output):
            trials = _try_all(recipe, measured, try_points, runner)
            _more_seeds(recipe, trials, runner)
            chosen = _winner(recipe, trials)
            best = min(chosen.runs, key=lambda run: _cost(recipe, run))
            _measure_winner(recipe, best, output / "best", test, encode, validated_on(recipe, corpus))
            validation = sources.read_benchmark(measured)
            results = tune_results(recipe, trials, chosen, best, validation, corpus)
            write_trials(results, output / "trials.csv")
            page = write_tuning(results, output)
            write_json(results, output)
            show(points_table(results["trials"][:SHOWN]))
            say(f"the winner is {chosen.arm.name}: {output / 'best'}")
        return page, sum(bool(trial.error) or not (trial.finished or trial.stopped) for trial in trials)


def preview_tune(recipe: TuneRecipe) -> None:
    """Prints what the data holds and the points; trains nothing."""
    quiet_libraries()
    recipe = fill_in_all(replace(recipe, output=str(Path(recipe.output or "outputs/tune").absolute())))
    with TemporaryDirectory() as folder:
        _, measured = _load(recipe, Path(folder))
    benchmark = sources.read_benchmark(measured)
    say(f"points are compared on {len(benchmark.queries)} validation questions with {len(benchmark.passages)} passages")
    space = recipe.tuned
    if not space.is_grid:
        say(f"{recipe.points} points, chosen by Optuna from {recipe.space}")
        return
    for point in space.points():
        say(f"  {trial_of(recipe, measured, point).arm.name}")
    say(f"{len(space.points())} points, {recipe.seeds} seeds each")


def _load(recipe: TuneRecipe, folder: Path) -> tuple[Corpus, BenchmarkConfig]:
    """The corpus, checked for all points of a grid or for the ends of the ranges, and the validation questions."""
    data = load_data(recipe, folder)
    tell_data(data)
    check_held_out(recipe, data.corpus, recipe.reported)
    measured = held_out(recipe, data.corpus)
    assert measured, "tuning has questions to compare points on"
    space = recipe.tuned
    for point in space.points() if space.is_grid else space.corners():
        trial = trial_of(recipe, measured, point)
        try:
            check_plans(trial.first.recipe, data.corpus)
        except ValueError as error:
            raise ValueError(f"{trial.arm.name}: {error}") from None
    return data.corpus, measured


def _try_all(recipe: TuneRecipe, measured: BenchmarkConfig, try_points: TryPoints, runner: Runner) -> list[Trial]:
    """Does the first run of every point. Returns the trials in the order in which they started."""
    output = Path(recipe.output)
    before = known_points(output)
    for trial in [trial_of(recipe, measured, point) for point in before]:
        _tell_before(trial)
        for run in trial.runs:
            (run.output / ERROR).unlink(missing_ok=True)
            if run.finished:  # a killed driver may not have recorded it
                runner.record(recipe.tracking, run.output, output)
    space = recipe.tuned
    total = len(space.points()) if space.is_grid else max(recipe.points, len(before))
    chosen, stopped = (
        " chosen by Optuna" * (not space.is_grid),
        ", worse ones stopped early" * recipe.stop_early,
    )
    say(f"{total} points{chosen}, {runner.at_once} at a time{stopped}")
    trials: dict[str, Trial] = {}
    with ArmProgress([], {}, total) as progress:
        for event in try_points(recipe, measured, before):
            trial = trial_of(recipe, measured, event.point)
            trials[trial.arm.name] = trial
            if not event.ended:
                progress.began(trial.first)
                continue
            progress.ended(trial.first, event.error, _how(trial))
            runner.record(recipe.tracking, trial.first.output, output)
            _make_room(trial)
    for trial in trials.values():
        _make_room(trial)
    return list(trials.values())


def _make_room(trial: Trial) -> None:
    """Removes the checkpoints of a point that was stopped early. Its process may still write one at first."""
    if trial.stopped:
        shutil.rmtree(trial.first.output / "checkpoints", ignore_errors=True)


def _tell_before(trial: Trial) -> None:
    """Prints which runs of a point from an earlier start are kept, which go on, and which start again."""
    if trial.stopped:
        say(f"  {trial.arm.name} was stopped early: it stays stopped")
        return
    for run in trial.runs:
        if run.finished:
            say(f"  {run.label} is finished: it stays as it is")
        elif run is trial.first or (run.output / "config.yaml").exists():
            failed = "failed and " * (run.output / ERROR).exists()
            saved = sorted((run.output / "checkpoints").glob("step-*"))
            say(f"  {run.label} {failed}{f'goes on from {saved[-1].name}' if saved else 'starts again'}")


def _how(trial: Trial) -> str:
    """The outcome of the first run, in words."""
    if stopped := trial.stopped:
        return f"stopped early: {stopped['reason']}"
    if not trial.finished:
        return "not finished"
    found = outcome(trial.first)
    return f"done: {', '.join(f'{METRICS[name].title} {value:.3f}' for name, value in found.items())}"


def _more_seeds(recipe: TuneRecipe, trials: Sequence[Trial], runner: Runner) -> None:
    """Trains the other seeds of the best `finalists` points that have finished."""
    finished = [trial for trial in trials if trial.finished]
    if not finished:
        raise ValueError(
            f"no point has finished: see {recipe.output}/arms/*/*.log, correct the cause, and continue with --resume"
        )
    ranked = _ranked(recipe, finished, seeds=1)
    todo = [run for trial in ranked[: recipe.finalists] for run in trial.runs[1:] if not run.finished]
    if not todo:
        return
    say(f"{len(todo)} runs with further seeds of the {len(ranked[: recipe.finalists])} best points")
    with ArmProgress(todo, {}, len(todo)) as progress:
        for run, error in runner.start(todo):
            if error:
                run.output.mkdir(parents=True, exist_ok=True)
                replace_text(run.output / ERROR, error)
            progress.ended(run, error)
            runner.record(recipe.tracking, run.output, Path(recipe.output))


def _ranked(recipe: TuneRecipe, trials: Sequence[Trial], seeds: int) -> list[Trial]:
    """The trials, best first, by the mean of the deciding metric over the first `seeds` runs."""
    return sorted(trials, key=lambda trial: fmean(_cost(recipe, run) for run in trial.runs[:seeds]))


def _cost(recipe: TuneRecipe, run: ArmRun) -> float:
    metric = recipe.validation.metric
    return METRICS[metric].cost(outcome(run)[metric])


def _winner(recipe: TuneRecipe, trials: Sequence[Trial]) -> Trial:
    """The best of the points whose runs are all finished."""
    complete = [trial for trial in trials if all(run.finished for run in trial.runs)]
    if not complete:
        raise ValueError(
            "no point has finished all seeds: see the errors above, correct the cause, and continue with --resume"
        )
    return _ranked(recipe, complete, recipe.seeds)[0]


def _measure_winner(
    recipe: TuneRecipe, best: ArmRun, folder: Path, test: Benchmark, encode: Encode, validated: dict[str, Any]
) -> None:
    """Copies the best run to `folder`, and measures it on the benchmark, unless this was done before."""
    source = folder / "source.json"
    if source.exists() and json.loads(source.read_text(encoding="utf-8")) == str(best.output):
        return
    say(f"measuring the winner on {test.name}, once")
    shutil.rmtree(folder, ignore_errors=True)
    own_files = shutil.ignore_patterns(
        "results.json", "per_query.parquet", "tracking.*", "owner.json", "writer.json", "ray"
    )
    shutil.copytree(best.output, folder, ignore=own_files)
    own_recipe = replace(best.recipe, benchmark=recipe.benchmark, output=str(folder))
    text = yaml.safe_dump(public(own_recipe), sort_keys=False, allow_unicode=True)
    replace_text(folder / "config.yaml", text)
    results = json.loads((best.output / "results.json").read_text(encoding="utf-8"))
    built = folder / "initial"
    initial = resolve(replace(own_recipe.encoder, name=str(built)) if built.exists() else own_recipe.encoder)
    card = json.loads((folder / "data_card.json").read_text(encoding="utf-8"))
    facts = {
        "validation": results["validation"] | validated,
        "training": {name: results["training"][name] for name in ("step", "stopped")},
        "data": {"fingerprint": card["fingerprint"]},
    }
    measure_run(folder, test, initial, encode, facts)
    replace_text(source, json.dumps(str(best.output)))
