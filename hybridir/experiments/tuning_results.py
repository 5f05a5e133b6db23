"""`results.json` and `trials.csv` of tuning from the folders of its points: Pareto front, and leads of the winner."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from hybridir.data.corpus import Corpus
from hybridir.data.records import Benchmark
from hybridir.evaluation.intervals import seed_interval
from hybridir.evaluation.scores import Column, Scores, read_scores, stack
from hybridir.evaluation.settings import SETTINGS
from hybridir.evaluation.validation_metrics import METRICS
from hybridir.experiments.one_run import ArmRun
from hybridir.experiments.space import described, values_of
from hybridir.experiments.study_results import Finished, study_results
from hybridir.experiments.tuning import ERROR, Trial, TuneRecipe, outcome, validations
from hybridir.reports.in_short import trained_and_measured
from hybridir.runs.provenance import provenance
from hybridir.runs.recipe import public
from hybridir.runtime.durable import replace_text
from hybridir.runtime.history import read_history
from hybridir.runtime.tables import to_csv

LONGEST_NAME = 17
"""Letters that a plot has room for in the name of a point."""


def tune_results(
    recipe: TuneRecipe, trials: Sequence[Trial], winner: Trial, best: ArmRun, benchmark: Benchmark, corpus: Corpus
) -> dict[str, Any]:
    """The content of `results.json`. Finished points come first, the best at the top; then all others.

    `best` is the run of the `winner` that was measured on the benchmark; `benchmark` has the validation questions.
    """
    ranked = _ranked(recipe, trials)
    done = [trial for trial in ranked if trial.finished]
    shown = _short_names(ranked)
    names = list(dict.fromkeys(name for trial in ranked for name in described(trial.point)))
    trained = recipe.sampling.languages or corpus.languages_of("train")
    card = json.loads(Path(recipe.output, "data_card.json").read_text(encoding="utf-8"))
    config = public(recipe) | {"benchmark": {"path": ""}}  # points are compared on these data, whatever the test is
    facts = {
        "study": "tuning",
        "about": trained_and_measured(config, card, benchmark, f"with {len(ranked)} values of {' and '.join(names)} "),
        "title": f"Tuning of {', '.join(names)}",
        "metric": recipe.validation.metric,
        "objectives": list(recipe.sought),
        "reference": shown[winner.arm.name],
        "seeds": list(range(recipe.seed, recipe.seed + recipe.seeds)),
        "x_name": names[0],
        "trained_languages": [x for x in benchmark.languages if x in trained],
        "zero_shot_languages": [x for x in benchmark.languages if x not in trained],
        "provenance": provenance(benchmark, public(recipe), {"data": corpus.fingerprint}),
    }
    listed = {shown[trial.arm.name]: _listed(recipe, trial) for trial in ranked}
    reached = {name: one["values"] for name, one in listed.items() if one["state"] == "done"}
    front = pareto_front(reached, recipe.sought)
    test = _test(Path(recipe.output, "best"))
    return study_results([_finished(shown[trial.arm.name], trial) for trial in done], (), facts) | {
        "trials": [{"point": name, **one, "front": name in front} for name, one in listed.items()],
        "winner": {
            "point": shown[winner.arm.name],
            "set": described(winner.point),
            "run": str(best.output),
            "seed": best.recipe.seed,
        },
        "leads": [{"baseline": shown[name], **lead} for name, lead in _leads(recipe, winner, done)],
        "test": test,
        "validation": test["validation"],
        "data": {"fingerprint": corpus.fingerprint},
    }


def _ranked(recipe: TuneRecipe, trials: Sequence[Trial]) -> list[Trial]:
    """The points: finished ones first, more seeds before fewer, then by the deciding metric, best first."""
    metric = recipe.validation.metric

    def key(trial: Trial) -> tuple[bool, int, float]:
        one = _listed(recipe, trial)
        reached = one["values"].get(metric)
        return not trial.finished, -one["seeds"], np.inf if reached is None else METRICS[metric].cost(reached)

    return sorted(trials, key=key)


def _short_names(ranked: Sequence[Trial]) -> dict[str, str]:
    """The names of points on the page: full names if all are short, else their values alone, `0.001 / 64`."""
    fits = max(len(trial.arm.name) for trial in ranked) <= LONGEST_NAME
    return {trial.arm.name: trial.arm.name if fits else values_of(trial.point) for trial in ranked}


def pareto_front(found: Mapping[str, Mapping[str, float]], metrics: Sequence[str]) -> set[str]:
    """The points that no other point dominates (as good in all metrics, and better in at least one)."""
    costs = {
        name: np.array([METRICS[metric].cost(values[metric]) for metric in metrics]) for name, values in found.items()
    }
    return {
        name
        for name, own in costs.items()
        if not any((other <= own).all() and (other < own).any() for other in costs.values())
    }


def write_trials(results: dict[str, Any], file: Path) -> None:
    """Writes a CSV file with one row per point: its values, its state, and its metrics (means over seeds)."""
    names = list(dict.fromkeys(name for one in results["trials"] for name in one["set"]))
    metrics = list(dict.fromkeys(name for one in results["trials"] for name in one["values"]))
    header = ("point", *names, "state", "front", "seeds", "steps", *metrics, "why", "seconds", "folder")
    rows: list[tuple[Any, ...]] = [header]
    for one in results["trials"]:
        own = [one["set"].get(name, "") for name in names]
        reached = [one["values"].get(name, "") for name in metrics]
        rest = (one["why"], round(one["seconds"], 1), one["folder"])
        rows.append((one["point"], *own, one["state"], one["front"], one["seeds"], one["steps"], *reached, *rest))
    replace_text(file, to_csv(rows))


def _finished(name: str, trial: Trial) -> Finished:
    done = [run for run in trial.runs if run.finished]
    return Finished(
        name=name,
        about="",
        x=trial.arm.x,
        folders={run.recipe.seed: run.output for run in done},
        errors={run.recipe.seed: trial.error for run in trial.runs if (run.output / ERROR).exists()},
    )


def _listed(recipe: TuneRecipe, trial: Trial) -> dict[str, Any]:
    """The entry of a point in `results.json`: its values, its state, and its metrics (means over seeds)."""
    done = [run for run in trial.runs if run.finished]
    seen = [outcome(run) for run in done] or [found for _, found in validations(trial.first)][-1:]
    known = [metric for metric in METRICS if seen and all(metric in found for found in seen)]
    lines = list(read_history(trial.first.output / "history.jsonl"))
    stopped = trial.stopped
    state = "done" if trial.finished else "stopped early" if stopped else "failed" if trial.error else "not finished"
    return {
        "set": described(trial.point),
        "state": state,
        "why": stopped["reason"] if stopped else trial.error,
        "seeds": len(done),
        "steps": lines[-1]["step"] + 1 if lines else 0,
        "values": {metric: fmean(found[metric] for found in seen) for metric in known},
        "curve": [(step, found[recipe.validation.metric]) for step, found in validations(trial.first)],
        "seconds": sum(line["seconds"] for run in trial.runs for line in read_history(run.output / "history.jsonl")),
        "folder": str(trial.first.output.parent),
    }


def _leads(recipe: TuneRecipe, winner: Trial, trials: Sequence[Trial]) -> list[tuple[str, dict[str, Any]]]:
    """The winner's lead over each other point in the deciding metric, with its interval, smallest lead first.

    Differences are paired by question and seed, over the seeds that both points have finished. The list is empty if the
    validation loss decides, because the loss has no value per question.
    """
    metric = recipe.validation.metric
    if not METRICS[metric].measure:
        return []
    found = []
    for other in trials:
        if other.arm.name == winner.arm.name:
            continue
        seeds = [n for n, run in enumerate(other.runs) if run.finished and winner.runs[n].finished]
        own, others = (
            stack([read_scores(one.runs[n].output / "per_query.parquet") for n in seeds]) for one in (winner, other)
        )
        column = _decisive(own.minus(others), metric)
        if column.enough:
            found.append((other.arm.name, seed_interval(*column).as_dict() | {"seeds": len(seeds)}))
    return sorted(found, key=lambda one: abs(one[1]["difference"]))


def _decisive(scores: Scores, metric: str) -> Column:
    """The column of scores whose macro-mean over strata is the metric.

    For a mean over several settings, values are weighted so that each setting counts the same, whatever the number
    of its languages or language pairs.
    """
    settings = METRICS[metric].settings
    columns = {setting: scores.column(METRICS[metric].measure, setting) for setting in settings}
    n_strata = {setting: len(np.unique(column.strata)) for setting, column in columns.items()}
    weight = {s: sum(n_strata.values()) / (len(settings) * n) for s, n in n_strata.items() if n}
    return Column(
        np.concatenate([column.values_KN * weight.get(s, 1) for s, column in columns.items()], axis=1),
        np.concatenate([np.char.add(f"{s} ", column.strata) for s, column in columns.items()]),
        np.concatenate([column.clusters for column in columns.values()]),
    )


def _test(best: Path) -> dict[str, Any]:
    """The parts of the winner's `results.json` on the benchmark that the page of tuning shows."""
    results = json.loads((best / "results.json").read_text(encoding="utf-8"))
    names = ("benchmark", "languages", *SETTINGS, "intervals", "systems", "untrained", "validation")
    return {name: results[name] for name in names if name in results}
