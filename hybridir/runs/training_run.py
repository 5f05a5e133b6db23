"""A training run, from recipe to results: prepare the data, train on a backend, evaluate, write.

All files that a run writes are in its output folder, except the cache.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from hybridir.batches.census import show_plan
from hybridir.data.corpus import Corpus
from hybridir.data.records import Benchmark
from hybridir.evaluation.validation_metrics import full_name
from hybridir.model.check import check_encoder
from hybridir.model.config import EncoderConfig
from hybridir.reports.data_card import card_tables
from hybridir.reports.in_short import data_name, measured, trained_and_measured
from hybridir.reports.model_card import write_model_card
from hybridir.retrieval.bm25 import bm25_scorer
from hybridir.retrieval.nearest import rank_vectors
from hybridir.retrieval.search import DEPTH, rank_all
from hybridir.retrieval.systems import Encode, embed, fingerprint
from hybridir.retrieval.too_long import count_cut, describe_cut
from hybridir.runs.backend import Backend, Track, quiet_libraries, track_nothing
from hybridir.runs.corpus import cache_folder
from hybridir.runs.fill_in import benchmark_reader, fill_in, fill_in_steps, is_own_part, tell_epochs
from hybridir.runs.folder import Kind, begin_folder, open_folder, opened
from hybridir.runs.plans import validation_identity
from hybridir.runs.prepare import Prepared, check_recipe, count_tokens, load_data, prepare, tell_data, training_source
from hybridir.runs.provenance import provenance
from hybridir.runs.recipe import TRAINING_MAY_CHANGE, Recipe, public
from hybridir.runs.results import write_results
from hybridir.runtime.durable import replace_text
from hybridir.runtime.history import last_attempt, read_history
from hybridir.runtime.owner import writing
from hybridir.runtime.plain_yaml import load_yaml, read_yaml
from hybridir.runtime.problems import Problems
from hybridir.runtime.progress import Follow, say
from hybridir.runtime.signals import INTERRUPTED, saving
from hybridir.runtime.tables import show
from hybridir.training import checkpoint
from hybridir.training.config import LENGTHS
from hybridir.training.loop import STOP, check_steps

TRAINING = Kind(name="training run", job="jobs/train.py", may_change=TRAINING_MAY_CHANGE)


def run_training(recipe: Recipe, compute: AbstractContextManager[Backend], track: Track = track_nothing) -> Path:
    """The whole run; returns the path of `report.html`. A finished run is left as it is.

    `compute` gives the backend. It may wait for nodes, so it is entered only after the run's encoder is checked.
    """
    quiet_libraries()
    with opened(recipe, TRAINING, fill_in, begun=False) as recipe:  # its fields are compared later
        if page := _finished(recipe):
            with track(recipe.tracking, page.parent, ended=True):
                return page
        check_encoder(recipe.encoder)
        with compute as backend:
            return _run_training(recipe, backend, track)


def _run_training(recipe: Recipe, backend: Backend, track: Track) -> Path:
    recipe = fill_in_steps(recipe, Path(recipe.output), backend.read)
    before = Path(recipe.output, "config.yaml") if recipe.resume else None
    old = before.read_text(encoding="utf-8") if before and before.exists() else ""
    output = open_output(recipe)
    with _config_kept(output, old):
        problems = Problems()
        with problems.noted():
            read_benchmark = benchmark_reader(recipe.benchmark)
        prepared = prepare(recipe, output, backend.read, backend.tokenize, problems.found)
        benchmark = read_benchmark(prepared.corpus)
        for note in benchmark.notes:
            say(note)
    with track(recipe.tracking, output), _config_kept(output, old):  # only now: no refused start is tracked
        state = train_model(recipe, prepared, backend)
        say(f"evaluating on {benchmark.name}")
        facts = {
            "validation": validated(recipe, state) | validated_on(recipe, prepared.corpus),
            "data": {"fingerprint": prepared.corpus.fingerprint},
            "training": {"step": state["step"], "stopped": state["stopped"], "tokens": spent(output)["tokens"]},
        }
        return measure_run(output, benchmark, prepared.initial, backend.encode, facts)


def measure_run(
    output: Path, benchmark: Benchmark, initial: EncoderConfig, encode: Encode, facts: dict[str, Any]
) -> Path:
    """Measures the model of a run beside its initial encoder and BM25; returns the path of `report.html`.

    `facts` are added to `results.json`, and must hold `facts["data"]["fingerprint"]`.
    """
    config = read_yaml(output / "config.yaml")
    best = replace(initial, name=str(output / "model"), revision=None, pooling=None)
    encoders = {"trained": best, "untrained": initial}
    embedded = {name: embed(one, benchmark, encode) for name, one in encoders.items()}
    rankings = {name: [rank_vectors(*both, benchmark, DEPTH)] for name, both in embedded.items()}
    rankings["BM25"] = [rank_all(bm25_scorer(benchmark), benchmark, DEPTH)]
    card = json.loads((output / "data_card.json").read_text(encoding="utf-8"))
    made_of = {"data": facts["data"]["fingerprint"], "model": fingerprint(best), "untrained": fingerprint(initial)}
    cut = count_cut(best, benchmark)
    notes = describe_cut(cut, benchmark)
    for note in notes:
        say(note)
    facts |= {"cut": {"trained": cut}, "notes": [*benchmark.notes, *notes]}
    facts |= {
        "about": trained_and_measured(config, card, benchmark),
        "encoder": str(output / "model"),
        "provenance": provenance(benchmark, config, made_of),
    }
    write_results(benchmark, rankings, output, facts)
    write_model_card(output)
    return output / "report.html"


def train_model(recipe: Recipe, prepared: Prepared, backend: Backend) -> dict[str, Any]:
    """Trains on the prepared data; returns the last state of training.

    The best encoder is in the folder `model` of the output. If a signal asks the process to stop, it saves and exits
    with `INTERRUPTED`.
    """
    job, output = prepared.job, prepared.job.output
    with (
        Follow(output / "history.jsonl", job.steps, job.train.log_every),
        saving(output / STOP) as asked,
    ):
        state = backend.train(prepared, recipe)
    if state["stopped"] == "signal" or asked.is_set():
        say(f"stopped and saved at step {state['step']}")
        raise SystemExit(INTERRUPTED)
    found = validated(recipe, state)
    say(f"{found['metric']} {found['value']:.4f} at step {found['step']} ({_why(state)})")
    return state


def validated(recipe: Recipe, state: dict[str, Any]) -> dict[str, Any]:
    """The `metric` that chose the weights of a finished run, its `value`, and their `step`."""
    metric = full_name(recipe.validation.metric)
    return {"metric": metric, "value": state["best_value"], "step": state["best_step"]}


def validated_on(recipe: Recipe, corpus: Corpus) -> dict[str, str]:
    """`data`, a hash of all that the validation metric depends on, and `of`, the name of the data."""
    return {"data": validation_identity(recipe, corpus), "of": data_name(public(recipe)["data"])}


def spent(output: Path) -> dict[str, Any]:
    """The number of steps, tokens and seconds in a run's history."""
    lines = list(read_history(output / "history.jsonl"))
    return {"step": len(lines)} | {name: sum(line[name] for line in lines) for name in ("tokens", "seconds")}


def preview(recipe: Recipe, backend: Backend) -> None:
    """Prints what the data holds and which batches are planned; trains nothing and keeps no output."""
    quiet_libraries()
    recipe = replace(recipe, cache=str(cache_folder(recipe, Path(recipe.output or "outputs/dry-run").absolute())))
    recipe = fill_in_steps(fill_in(recipe), Path(recipe.cache), backend.read)
    problems = Problems()
    with problems.noted():
        read_benchmark = benchmark_reader(recipe.benchmark)
    with TemporaryDirectory() as output:
        data = load_data(recipe, Path(output), backend.read)
        tell_data(data)
        for table in card_tables(data.card):
            show(table)
        check_recipe(recipe, data.corpus, problems.found)
        source = training_source(recipe, data, Path(output), backend.tokenize)
    tokens = count_tokens(recipe, source)
    steps = len(tokens) - 1 if tokens else recipe.train.steps
    assert steps, "the recipe is filled in"
    tell_epochs(recipe, data.corpus, steps)
    show_plan(source, steps)
    benchmark = read_benchmark(data.corpus)
    say(f"the run would be {measured(benchmark, 'these data' if is_own_part(recipe.benchmark) else '')}")
    for note in benchmark.notes:
        say(note)


def open_output(recipe: Recipe) -> Path:
    """Makes the output folder with the resolved `config.yaml`; `ValueError` if the run cannot start or resume there."""
    output, newest = Path(recipe.output).absolute(), None
    if recipe.resume and output.exists():
        with writing(output):  # waits for workers of a killed driver, which may still move checkpoints
            newest = checkpoint.newest_whole(output / "checkpoints", say)
    open_folder(recipe, TRAINING, begun=newest is not None)
    if newest:
        if recipe.train.steps is not None:  # of train.tokens, the steps are counted first
            check_steps(checkpoint.read_state(newest), recipe.train.steps)
        say(f"resuming from {newest}")
    (output / STOP).unlink(missing_ok=True)  # left from the previous attempt; a new one counts
    begin_folder(replace(recipe, cache=str(cache_folder(recipe, output))), TRAINING)
    return output


def _finished(recipe: Recipe) -> Path | None:
    """The page of the run to resume, if it has done all its steps and was measured on this benchmark; else None."""
    output = Path(recipe.output)
    if not (recipe.resume and (output / "results.json").exists() and (output / "config.yaml").exists()):
        return None
    trained = json.loads((output / "results.json").read_text(encoding="utf-8")).get("training", {})
    config = read_yaml(output / "config.yaml")
    ended = trained.get("stopped") == "patience" or trained.get("step") == recipe.train.steps
    if recipe.train.steps is None:  # the number of steps follows from the data, which have not changed
        ended = ended or (trained.get("stopped") == "end" and config["train"].get("tokens") == recipe.train.tokens)
    benchmark = load_yaml(yaml.safe_dump(public(recipe)["benchmark"]))
    if config["benchmark"].get("split") is None:  # of a run whose split was not filled in
        benchmark["split"] = None
    if not ended or benchmark != config["benchmark"]:
        return None
    length = next(name for name in LENGTHS if getattr(recipe.train, name) is not None)
    more = "" if trained["stopped"] == "patience" else f". To train on, raise train.{length}"
    say(f"the run in {output} is finished ({trained['step']} steps): nothing is changed{more}")
    return output / "report.html"


@contextmanager
def _config_kept(output: Path, old: str) -> Iterator[None]:
    """Restores the `old` content of config.yaml, if any, when the attempt fails before it trains."""
    attempts = last_attempt(output / "history.jsonl")
    try:
        yield
    except BaseException:
        if old and last_attempt(output / "history.jsonl") <= attempts:
            replace_text(output / "config.yaml", old)
        raise


def _why(state: dict[str, Any]) -> str:
    reasons = {"end": "all steps done", "patience": "no improvement since"}
    return reasons[state["stopped"]]
