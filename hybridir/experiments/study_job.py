"""A study from recipe to page: trains the runs that are not finished, compares the arms, writes the results."""

import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hybridir.data.corpus import Corpus
from hybridir.experiments.one_run import ArmRun, Runner, check_definition, read_results
from hybridir.experiments.progress import ArmProgress, duration
from hybridir.experiments.quick import shortened
from hybridir.experiments.study import Arm, Study, StudyRecipe, arm_runs, chosen_arms, seeds
from hybridir.experiments.study_results import Finished, study_results
from hybridir.reports.html.pages import write_study
from hybridir.reports.in_short import trained_and_measured
from hybridir.runs.backend import here, quiet_libraries
from hybridir.runs.fill_in import benchmark_reader, fill_in_all
from hybridir.runs.folder import Kind, begin_folder, opened
from hybridir.runs.plans import check_plans
from hybridir.runs.prepare import copy_cards, load_data, tell_data
from hybridir.runs.provenance import provenance
from hybridir.runs.recipe import MAY_CHANGE, public
from hybridir.runs.results import write_json
from hybridir.runtime.history import read_history
from hybridir.runtime.progress import say
from hybridir.runtime.tables import Grid, show
from hybridir.training.config import LENGTHS, TrainConfig

PROBE_STEPS = 12
"""Steps of the short run from which the times of all runs are estimated."""


def run_study(study: Study, recipe: StudyRecipe, runner: Runner) -> tuple[Path, int]:
    """Does the runs that are not finished, and writes the results.

    Returns:
        The path of `report.html`, and the number of failed runs.

    Raises:
        ValueError: the folder, the data or an arm does not fit the recipe, an arm has another definition than when
            it was started, or no run has finished.
    """
    quiet_libraries()
    kind = study_kind(study)
    with opened(recipe, kind, lambda one: _filled_in(study, one)) as recipe:
        output = Path(recipe.output)
        arms = chosen_arms(study, recipe)
        runs = [run for arm in arms for run in _runs(recipe, arm)]
        for run in runs:
            check_definition(run)
        read_benchmark = benchmark_reader(recipe.benchmark)
        with TemporaryDirectory() as data_card:
            corpus = _check(recipe, runs, Path(data_card))
            benchmark = read_benchmark(corpus)
            begin_folder(recipe, kind)
            copy_cards(Path(data_card), output)
        with runner.track(recipe.tracking, output):
            show(_plan(recipe, arms))
            errors = _run_all(recipe, runs, runner)
            say("comparing the arms")
            trained = recipe.sampling.languages or corpus.languages_of("train")
            card = json.loads((output / "data_card.json").read_text(encoding="utf-8"))
            facts = {
                "study": study.name,
                "title": study.title,
                "about": f"{trained_and_measured(public(recipe), card, benchmark, _ways(arms, recipe))} {study.about}",
                "reference": study.reference,
                "sources": dict(study.sources),
                **_published(study, benchmark.name),
                **({"x_name": study.x_name} if study.x_name else {}),
                "seeds": list(seeds(recipe)),
                "trained_languages": [x for x in benchmark.languages if x in trained],
                "zero_shot_languages": [x for x in benchmark.languages if x not in trained],
                **({"conditions": [one.name for one in recipe.conditions]} if recipe.conditions else {}),
                **({"composed_conditions": list(study.composed_conditions)} if study.composed_conditions else {}),
                "margin": {"most": recipe.margin, "share": recipe.margin_share},
                **({"family": study.family} if study.family else {}),
                "notes": [*benchmark.notes, *_notes(study, recipe), *_warmup_notes(recipe.train, runs)],
                "provenance": provenance(benchmark, public(recipe), {"data": corpus.fingerprint}),
            }
            finished = [_finished(arm, runs, errors) for arm in arms]
            composed = study.composed(arms, benchmark)
            claims = () if recipe.quick else study.claims
            results = study_results(
                finished, claims, facts, composed, lambda scores: study.by_scores(scores, facts, benchmark)
            )
            results |= {"claims": []} if recipe.quick else {}
            if study.by_models:
                folders = {arm.name: arm.folders[min(arm.folders)] for arm in finished if arm.folders}
                results |= study.by_models(recipe, benchmark, folders, here(recipe.scaling.use_gpu).encode)
            write_json(results, output)
            page = write_study(results, output, study.sections)
            if results["claims"]:
                show(_verdicts(results))
    return page, len(errors)


def study_kind(study: Study) -> Kind:
    """The kind of a study's output folder; each study is a kind of its own."""
    may_change = MAY_CHANGE | {"seeds", "arms", "conditions", "margin", "margin_share"} | study.own_fields
    return Kind(name="study", job=f"jobs/study.py {study.name}", may_change=may_change)


def preview_study(study: Study, recipe: StudyRecipe) -> None:
    """Prints what the data holds and the arms; trains nothing."""
    quiet_libraries()
    output = Path(recipe.output or f"outputs/{study.name}").absolute()
    recipe = _filled_in(study, replace(recipe, output=str(output)))
    arms = chosen_arms(study, recipe)
    runs = [run for arm in arms for run in _runs(recipe, arm)]
    with TemporaryDirectory() as data_card:
        _check(recipe, runs, Path(data_card))
    show(_plan(recipe, arms))
    say(f"{len(runs)} runs, each with a folder like {runs[0].output}")


def _filled_in(study: Study, recipe: StudyRecipe) -> StudyRecipe:
    """The recipe with what follows from the data, and with the study's conditions, if it names none."""
    recipe = fill_in_all(recipe)
    return shortened(replace(recipe, conditions=study.conditions if recipe.conditions is None else recipe.conditions))


def _run_all(recipe: StudyRecipe, runs: Sequence[ArmRun], runner: Runner) -> dict[Path, str]:
    """Does the runs that are not finished, each after those it is made of. Returns errors by folder."""
    errors: dict[Path, str] = {}

    def written_down(run: ArmRun) -> None:
        runner.record(run.recipe.tracking, run.output, Path(recipe.output))

    done = [run for run in runs if run.finished]
    for run in done:  # it may have been killed just before
        shutil.rmtree(run.output / "checkpoints", ignore_errors=True)
    if done:
        say(f"{len(done)} of {len(runs)} runs are finished: they stay as they are")
    for run in done:
        written_down(run)
    todo = [run for run in runs if not run.finished]
    if not todo:
        return errors
    expected = _expect(recipe, todo, runner)
    about = f": about {duration(sum(expected.values()) / runner.at_once)}" if expected else ""
    trained = sum(run.results.exists() for run in todo)
    measured = f"; {trained} of them are trained, and measured under what they lack" if trained else ""
    say(f"{len(todo)} runs, {runner.at_once} at a time{about}{measured}")
    with ArmProgress(todo, expected) as progress:
        left = todo
        while left:
            waited_for = {str(run.output) for run in left}
            wave = [run for run in left if waited_for.isdisjoint(run.made_of)]
            left = [run for run in left if not waited_for.isdisjoint(run.made_of)]
            assert wave, "arms are not made in a circle: `chosen_arms` has seen to that"
            for run in wave:
                if missing := [name for name in run.made_of if not Path(name, "results.json").exists()]:
                    errors[run.output] = f"it is made of {', '.join(missing)}, which failed"
                    progress.ended(run, errors[run.output])
            for run, error in runner.start([run for run in wave if run.output not in errors]):
                if error:
                    errors[run.output] = error
                progress.ended(run, error)
                written_down(run)
    return errors


def _expect(recipe: StudyRecipe, todo: Sequence[ArmRun], runner: Runner) -> dict[Path, float]:
    """Estimated seconds of each run by folder, from a few steps of one of them; empty if these fail."""
    probed = next((run for run in todo if run.trains), None)
    if probed is None:
        return {}
    steps = min(PROBE_STEPS, probed.recipe.train.steps or PROBE_STEPS)
    train = replace(probed.recipe.train, steps=steps, epochs=None, tokens=None)
    folder = Path(recipe.output, "probe")
    shutil.rmtree(folder, ignore_errors=True)
    say(f"estimating the time: {steps} steps and a measurement")
    began = time.monotonic()
    short = replace(probed.recipe, train=train, output=str(folder / "run"))
    ((_, error),) = runner.start([replace(probed, recipe=short)])
    if error:
        say(f"no estimate, because these steps failed: {error}")
        return {}
    lines = list(read_history(folder / "run" / "history.jsonl"))
    a_token = statistics.median(line["seconds"] / line["tokens"] for line in lines)
    of_pair = statistics.mean(line["tokens"] for line in lines) / train.batch_size
    rest = time.monotonic() - began - sum(line["seconds"] for line in lines)
    shutil.rmtree(folder)

    def tokens(train: TrainConfig) -> float:
        return train.tokens or (train.steps or 0) * train.batch_size * of_pair

    return {run.output: rest + run.trains * a_token * tokens(run.recipe.train) for run in todo}


def _runs(recipe: StudyRecipe, arm: Arm) -> list[ArmRun]:
    """The runs of an arm with all seeds, measured under all conditions."""
    return [replace(run, conditions=recipe.conditions or ()) for run in arm_runs(recipe, arm, seeds(recipe))]


def _published(study: Study, benchmark: str) -> dict[str, Any]:
    """Published results on this benchmark, with their note; empty if there are none."""
    if not study.published or benchmark not in study.published.rows:
        return {}
    return {"published": list(study.published.rows[benchmark]), "published_note": study.published.note}


def _ways(arms: Sequence[Arm], recipe: StudyRecipe) -> str:
    return f"in {len(arms)} ways, with {recipe.seeds} seed{'s' * (recipe.seeds != 1)} each, "


def _notes(study: Study, recipe: StudyRecipe) -> list[str]:
    """Warnings for readers of the page that follow from study and recipe."""
    best = (
        "Each run keeps the weights of its best validation; the validation loss is over monolingual and cross-lingual "
        "batches. This favours arms that train on both, and takes early weights of the others. To compare arms after "
        "equal steps, set validation.keep to last."
    )
    family = (
        f"The verdicts under “{study.sources.get(study.family)}” are corrected for the number of these claims (Holm): "
        "where the corrected p is above .05, a claim stays undecided, whatever its interval says."
    )
    quick = "A quick trial: so few steps teach little, and no claim is judged. It shows what the study will show."
    judged = bool(study.family) and not recipe.quick
    told = {best: recipe.validation.keep == "best", family: judged, quick: recipe.quick}
    return [words for words, there in told.items() if there]


def _warmup_notes(train: TrainConfig, runs: Sequence[ArmRun]) -> list[str]:
    """What to know of the warm-ups of a study's runs; said on the screen too."""
    found = []
    if train.tokens and train.warmup_ratio is None and train.warmup_steps:
        found.append(
            f"The arms train on equal tokens, but warm up over train.warmup_steps ({train.warmup_steps:,}), which hold "
            "more tokens in arms of longer steps. To warm up over equal tokens, set train.warmup_ratio, such as 0.1."
        )
    within = {
        run.arm: f"Arm {run.arm}: {words}."
        for run in runs
        if not run.made_of
        and run.finished
        and (words := run.recipe.train.too_short(read_results(run.results)["training"]["step"]))
    }
    found += within.values()
    for words in found:
        say(words)
    return found


def _finished(arm: Arm, runs: Sequence[ArmRun], errors: dict[Path, str]) -> Finished:
    own_runs = [run for run in runs if run.arm == arm.name]
    return Finished(
        name=arm.name,
        about=arm.about,
        x=arm.x,
        folders={run.recipe.seed: run.output for run in own_runs if run.finished},
        errors={run.recipe.seed: errors[run.output] for run in own_runs if run.output in errors},
    )


def _check(recipe: StudyRecipe, runs: Sequence[ArmRun], keep: Path) -> Corpus:
    """Reads the corpus, and writes its data card to `keep`; `ValueError` if an arm could not fill a batch."""
    data = load_data(recipe, keep)
    tell_data(data)
    for run in runs:
        if not run.made_of and run.recipe.seed == recipe.seed:
            try:
                check_plans(run.recipe, data.corpus)
            except ValueError as error:
                raise ValueError(f"arm {run.arm}: {error}. Or leave the arm out: name the others with --arms") from None
    return data.corpus


def _plan(recipe: StudyRecipe, arms: Sequence[Arm]) -> Grid:
    rows = []
    for arm in arms:
        runs = _runs(recipe, arm)
        train = runs[0].recipe.train
        length = next((f"{value:,} {name}" for name in LENGTHS if (value := getattr(train, name))), "")
        size = ("", "") if arm.made_of else (length, str(train.batch_size))
        rows.append((arm.name, arm.about, *size, f"{sum(run.results.exists() for run in runs)} of {len(runs)}"))
    return Grid("the arms", ("arm", "what it does", "length", "batch", "runs trained"), rows)


def _verdicts(results: dict[str, Any]) -> Grid:
    return Grid(
        "verdicts on " + results["benchmark"],
        ("claim", "verdict"),
        [(claim["text"], claim["verdict"]) for claim in results["claims"]],
    )
