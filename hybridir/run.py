"""A training run from recipe to results: prepare the data, train (by whatever computes), evaluate, write.

Everything a run writes lies under `--output`; corpora, tokenizers and tokens lie in the cache, which runs share.
"""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
import yaml

from hybridir import checkpoint, formats
from hybridir.bm25 import bm25_scorer
from hybridir.collate import BatchSource
from hybridir.corpus import Corpus, build_corpus
from hybridir.encoder import Encoder, EncoderConfig, build_small_encoder, resolve
from hybridir.evaluate import SETTINGS, PerQuery, evaluate_encoder, evaluate_scores, intervals, summarise, versions
from hybridir.plan import Plan, Sampling
from hybridir.preview import show_plan
from hybridir.progress import Follow
from hybridir.recipe import Recipe, fixed_part
from hybridir.records import Benchmark
from hybridir.report import results_table, show
from hybridir.tokens import ChunkRunner, TokenJob, build_cache, load_tokenizer, tokenizer_fingerprint
from hybridir.train import STOP, Job, check_identity, train
from hybridir.vocabulary import train_tokenizer

VALIDATION_SEED = 20240816
"""Of the validation plan: the same for every run, whatever its own seed."""


@dataclass(frozen=True)
class Prepared:
    """What training needs, on disk. `initial` is the encoder to start from; `corpus` and `validation` are open."""

    job: Job
    initial: EncoderConfig
    corpus: Corpus
    validation: Corpus


@dataclass(frozen=True)
class Backend:
    """What computes a run: this process (`HERE`), or workers elsewhere.

    Attributes:
        train: trains to the end, writes the best encoder to `job.output / "model"`, returns the last state.
        tokenize: see `build_cache`.
        call: calls a function where an encoder can be used: with a GPU, if the run has GPUs.
    """

    train: Callable[[Prepared, Recipe], dict[str, Any]]
    tokenize: ChunkRunner | None
    call: Callable[..., Any]


def run_training(recipe: Recipe, backend: Backend) -> Path:
    """The whole run; returns the path of `results.json`."""
    quiet_libraries()
    output = open_output(recipe)
    benchmark = formats.read_benchmark(recipe.benchmark)  # before training: what is wrong with it is said now
    prepared = prepare(recipe, output, backend.tokenize)
    (output / STOP).unlink(missing_ok=True)
    with Follow(output / "history.jsonl", recipe.train.steps, recipe.train.log_every):
        state = backend.train(prepared, recipe)
    if state["stopped"] == "signal":
        again = f"--config {output / 'config.yaml'} --resume"
        raise SystemExit(f"stopped and saved at step {state['step']}; go on with {again}")
    say(f"best validation loss {state['best_loss']:.4f} at step {state['best_step']} ({_why(state)})")
    say(f"evaluating on {benchmark.name}")
    best = replace(prepared.initial, name=str(output / "model"), revision=None, pooling=None)
    encoders = {"trained": best, "untrained": prepared.initial}
    per_query = backend.call(score_encoders, encoders, benchmark, recipe.scaling.use_gpu)
    return write_results(benchmark, per_query, output)


def preview(recipe: Recipe) -> None:
    """Prints what the corpus holds and what the plan draws; trains nothing and keeps no output."""
    cache = cache_folder(recipe, Path(recipe.output or "outputs/dry-run").absolute())
    corpus = build_corpus(formats.read_pairs(recipe.data, "train"), cache)
    _tell_corpus("training", corpus)
    show_plan(Plan(corpus, recipe.sampling, recipe.train.batch_size, recipe.seed), recipe.train.steps)


def quiet_libraries() -> None:
    """Turns off the progress bars and reports of transformers; errors still show."""
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def train_here(prepared: Prepared, recipe: Recipe) -> dict[str, Any]:
    """Trains in this process."""
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    encoder = Encoder.load(prepared.initial)
    state = train(prepared.job, encoder, _device(recipe.scaling.use_gpu))
    if state["stopped"] != "signal":
        encoder.save(prepared.job.output / "model")
    return state


HERE = Backend(train_here, None, lambda function, *arguments: function(*arguments))
"""This process, without Ray."""


def open_output(recipe: Recipe) -> Path:
    """The output folder, made, with the resolved `config.yaml`; `ValueError` where it belongs to another run."""
    output = Path(recipe.output or f"outputs/train-{datetime.now():%Y%m%d-%H%M%S}").absolute()
    if not recipe.output and "RAY_ADDRESS" in os.environ:
        raise ValueError("a submitted job runs in a folder of Ray's that goes with it: name an --output that stays")
    is_run = (output / "config.yaml").exists()
    if is_run and not recipe.resume:
        raise ValueError(f"{output} holds a run already: add --resume to go on with it, or name another --output")
    if recipe.resume and not is_run:
        raise ValueError(f"{output} holds no run to resume: check --output, or leave --resume out")
    if output.exists() and any(output.iterdir()) and not is_run:
        raise ValueError(f"{output} is not empty and holds no run: name another --output")
    if recipe.resume and (newest := checkpoint.newest_whole(output / "checkpoints", say)):
        check_identity(newest, fixed_part(recipe))
        say(f"resuming from {newest}")
    output.mkdir(parents=True, exist_ok=True)
    resolved = replace(recipe, output=str(output), cache=str(cache_folder(recipe, output)), resume=False)
    text = yaml.safe_dump(json.loads(json.dumps(asdict(resolved))), sort_keys=False, allow_unicode=True)
    (output / "config.yaml").write_text(text, encoding="utf-8")
    say(f"results go to {output}")
    return output


def prepare(recipe: Recipe, output: Path, tokenize: ChunkRunner | None = None) -> Prepared:
    """Reads and tokenises the data, checks that every batch can be filled, and makes the first encoder."""
    output.mkdir(parents=True, exist_ok=True)
    cache = cache_folder(recipe, output)
    corpus = build_corpus(formats.read_pairs(recipe.data, "train"), cache)
    validation = build_corpus(formats.read_pairs(recipe.data, "validation"), cache)
    for name, part in (("training", corpus), ("validation", validation)):
        _tell_corpus(name, part)
    rejected = [(part.directory / "rejected.jsonl").read_bytes() for part in (corpus, validation)]
    (output / "rejected.jsonl").write_bytes(b"".join(rejected))
    initial = _initial_encoder(recipe, corpus, output)
    tokenizer = load_tokenizer(initial.name, initial.revision)
    say("tokenising")
    jobs = [
        TokenJob(
            corpus=str(part.directory),
            tokenizer=initial.name,
            revision=initial.revision,
            query_prefix=initial.query_prefix or "",
            passage_prefix=initial.passage_prefix or "",
            max_query_length=initial.max_length("query"),
            max_passage_length=initial.max_length("passage"),
        )
        for part in (corpus, validation)
    ]
    tokens = [build_cache(job, tokenize) for job in jobs]
    source = BatchSource(
        corpus=str(corpus.directory),
        tokens=str(tokens[0]),
        sampling=recipe.sampling,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
    )
    source.plan()  # whatever cannot fill a batch is said now
    languages = recipe.validation.languages
    kinds = {"mono": Sampling(mono=1, cross=0, languages=languages)}
    if len(languages or validation.languages) > 1:
        kinds["cross"] = Sampling(mono=0, cross=1, languages=languages)
    validation_sources = {
        kind: BatchSource(
            corpus=str(validation.directory),
            tokens=str(tokens[1]),
            sampling=sampling,
            batch_size=recipe.validation.batch_size,
            seed=VALIDATION_SEED,
        )
        for kind, sampling in kinds.items()
    }
    for kind, one in validation_sources.items():
        try:
            one.plan()
        except ValueError as error:
            raise ValueError(
                f"validation, {kind}: {str(error).replace('train.', 'validation.').replace('sampling.', 'validation.')}"
            ) from error
    data = {"corpus": corpus.fingerprint, "validation": validation.fingerprint}
    job = Job(
        output=output,
        seed=recipe.seed,
        train=recipe.train,
        loss=recipe.loss,
        validation=recipe.validation,
        source=source,
        validation_sources=validation_sources,
        identity=fixed_part(recipe) | data | {"tokenizer": tokenizer_fingerprint(tokenizer)},
    )
    return Prepared(job, initial, corpus, validation)


def cache_folder(recipe: Recipe, output: Path) -> Path:
    """The folder for corpora and tokens: `--cache`, or `cache` beside the output."""
    cache = Path(recipe.cache or output.parent / "cache").absolute()
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def score_encoders(
    encoders: dict[str, EncoderConfig], benchmark: Benchmark, use_gpu: bool
) -> dict[str, list[PerQuery]]:
    """The scores of several encoders on a benchmark, query by query."""
    quiet_libraries()
    return {
        name: evaluate_encoder(Encoder.load(encoder).to(_device(use_gpu)), benchmark)
        for name, encoder in encoders.items()
    }


def write_results(benchmark: Benchmark, per_query: dict[str, list[PerQuery]], output: Path) -> Path:
    """Writes `results.json` and shows the table, with BM25 beside the `trained` and the `untrained` encoder."""
    per_query = per_query | {"BM25": evaluate_scores(bm25_scorer(benchmark), benchmark)}
    systems = {name: summarise(scores, benchmark) for name, scores in per_query.items()}
    changes = intervals(per_query["trained"], benchmark, per_query["untrained"])
    results = systems["trained"] | {
        "encoder": str(output / "model"),
        "intervals": changes,
        "untrained": {setting: systems["untrained"][setting] for setting in SETTINGS},
        "bm25": {setting: systems["BM25"][setting] for setting in SETTINGS},
        "versions": versions(),
    }
    path = output / "results.json"
    path.write_text(json.dumps(results, indent=1, ensure_ascii=False), encoding="utf-8")
    title = f"{benchmark.name}: {len(benchmark.queries)} queries, {len(benchmark.passages)} passages"
    show(results_table(title, systems))
    for setting, change in changes.items():
        if "mAP" in change:
            low, high = change["mAP"]["difference_interval"]
            gain = change["mAP"]["difference"]
            say(f"{setting} mAP, trained - untrained: {gain:+.3f}, 95 % interval [{low:+.3f}, {high:+.3f}]")
    say("(intervals resample clusters of questions, for this one seed)")
    say(f"(multilingual R@1 is at most {1 / len(benchmark.languages):.3f}: each of the parallel answers counts)")
    return path


def _device(use_gpu: bool) -> torch.device:
    if use_gpu and not torch.cuda.is_available():
        raise ValueError(
            "scaling.use_gpu is true, and torch sees no GPU here: set it to false, or install a CUDA build"
        )
    return torch.device("cuda" if use_gpu else "cpu")


def say(message: str) -> None:
    print(message, flush=True)


def _initial_encoder(recipe: Recipe, corpus: Corpus, output: Path) -> EncoderConfig:
    """The encoder named in the recipe, or a small new one, saved to `initial`."""
    if recipe.encoder.name:
        return resolve(recipe.encoder)
    say("training a tokenizer on the corpus")
    tokenizer = load_tokenizer(str(train_tokenizer(corpus, recipe.encoder.vocab_size)))
    build_small_encoder(recipe.encoder, tokenizer, recipe.seed).save(output / "initial")
    return resolve(replace(recipe.encoder, name=str(output / "initial")))


def _tell_corpus(name: str, corpus: Corpus) -> None:
    """Says what was read, and what was not."""
    say(f"{name}: {corpus.n_pairs} pairs, {corpus.n_groups} groups, languages {', '.join(corpus.languages)}")
    for reason, count in corpus.rejected.items():
        say(f"  rejected: {count} x {reason} (see {corpus.directory / 'rejected.jsonl'})")


def _why(state: dict[str, Any]) -> str:
    reasons = {"end": "all steps done", "patience": "no improvement since"}
    return reasons[state["stopped"]]
