"""From a recipe to all that training needs: a checked corpus, its tokens, the data card, plans that can be filled.

Corpora, tokenizers and tokens are kept in a cache that runs share, and are made only once.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from hybridir.batches.plan import Plan
from hybridir.batches.sampling import Sampling
from hybridir.batches.stream import BatchSource
from hybridir.batches.token_cache import ChunkRunner, TokenJob, build_cache, query_texts, tokenize_here
from hybridir.batches.views import TranslationViews
from hybridir.data import sources
from hybridir.data.build import build_corpus, describe_rejected
from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.data.corpus import Corpus
from hybridir.data.formats import heldout
from hybridir.data.intake import number_lines, read_here, watch_reading
from hybridir.data.languages import code_of
from hybridir.data.records import Shard
from hybridir.evaluation.settings import answer_languages
from hybridir.model.check import check_encoder, notes_on, resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import build_small_encoder
from hybridir.model.tokenizer import load_tokenizer, tokenizer_fingerprint
from hybridir.model.tokenizer_training import train_tokenizer
from hybridir.reports.data_card import data_card, intake_table, to_markdown
from hybridir.runs.checks import check_space, check_writable
from hybridir.runs.recipe import TRAINING_MAY_CHANGE, Recipe, fixed_part, public
from hybridir.runtime.durable import copy_file, replace_text, replaced_folder
from hybridir.runtime.progress import say, watch_chunks
from hybridir.runtime.tables import show
from hybridir.training.loop import Job
from hybridir.training.validation import Metric

VALIDATION_SEED = 20240816
"""The seed of the validation plan: the same for every run, whatever the run's own seed."""

ShardReader = Callable[[Sequence[Shard]], Iterable[pa.RecordBatch]]
"""Reads shards in order, as `hybridir.data.intake.read_here` does."""


@dataclass(frozen=True)
class Data:
    """The data of a run, before it is tokenised.

    Attributes:
        corpus: the open corpus.
        initial: the encoder to start from.
        tokens: how the texts of the corpus are tokenised.
        card: the data card.
    """

    corpus: Corpus
    initial: EncoderConfig
    tokens: TokenJob
    card: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """All that training needs. `initial` is the encoder to start from; `corpus` is open."""

    job: Job
    initial: EncoderConfig
    corpus: Corpus


def load_data(recipe: Recipe, output: Path, read: ShardReader = read_here) -> Data:
    """Checks encoder and storage, reads and checks the data, makes the initial encoder and the data card.

    Writes `rejected.jsonl`, `data_card.json` and `data_card.md` to `output`, and the encoder to `output / "initial"` if
    it is new. `ValueError` if a check fails.
    """
    cache = cache_folder(recipe, output)
    check_writable(output, "--output")
    check_encoder(recipe.encoder)
    for note in notes_on(recipe.encoder, recipe.loss.temperature):
        say(f"note: {note}")
    check_space(recipe, output, cache)
    corpus = read_corpus(recipe.data, cache, read)
    copy_file(corpus.directory / "rejected.jsonl", output)
    check_rejected(corpus, recipe.data.max_rejected)
    initial = _initial_encoder(recipe, corpus, output)
    tokens = TokenJob(
        corpus=str(corpus.directory),
        tokenizer=initial.name,
        revision=initial.revision,
        query_prefix=initial.query_prefix or "",
        passage_prefix=initial.passage_prefix or "",
        max_query_length=initial.max_length("query"),
        max_passage_length=initial.max_length("passage"),
    )
    card = _cached_card(corpus, tokens)
    replace_text(output / "data_card.json", json.dumps(card, indent=1, ensure_ascii=False))
    replace_text(output / "data_card.md", to_markdown(card))
    return Data(corpus, initial, tokens, card)


def _cached_card(corpus: Corpus, tokens: TokenJob) -> dict[str, Any]:
    """The data card, from the cache if the same code has made it before."""
    code = hashlib.sha256(Path(data_card.__code__.co_filename).read_bytes()).hexdigest()[:8]
    file = corpus.directory.parent / f"{corpus.directory.name}-card-{tokens.fingerprint()}-{code}.json"
    if not file.exists():
        replace_text(file, json.dumps(data_card(corpus, tokens), ensure_ascii=False))
    return json.loads(file.read_text(encoding="utf-8"))


def prepare(
    recipe: Recipe, output: Path, read: ShardReader = read_here, tokenize: ChunkRunner = tokenize_here
) -> Prepared:
    """Loads the data (see `load_data`), prints a summary, checks that every batch can be filled, and tokenises it."""
    data = load_data(recipe, output, read)
    tell_data(data)
    check_plans(recipe, data.corpus)
    check_held_out(recipe, data.corpus, [recipe.validation.metric])

    def make_tokens(job: TokenJob, n_chunks: int) -> Iterable[pa.RecordBatch]:
        size = sum(file.stat().st_size for file in data.corpus.directory.iterdir())
        check_space(recipe, output, data.corpus.directory.parent, size)
        return watch_chunks("tokenised", tokenize(job, n_chunks), n_chunks)

    tokens = build_cache(data.tokens, make_tokens)
    source = BatchSource(
        corpus=str(data.corpus.directory),
        tokens=str(tokens),
        sampling=recipe.sampling,
        batch_size=recipe.train.batch_size,
        seed=recipe.seed,
        token_job=data.tokens,
        noisy_query="noisy_query" in recipe.loss.needs,
    )
    if source.noisy_query or recipe.sampling.noise.probability:
        query_texts(data.corpus)  # made here, not by every worker
    validation = {
        kind: replace(
            source,
            sampling=sampling,
            batch_size=recipe.validation.batch_size,
            seed=VALIDATION_SEED,
            part="validation",
            noisy_query=False,
        )
        for kind, sampling in _validation_kinds(recipe, data.corpus).items()
    }
    tokenizer = tokenizer_fingerprint(load_tokenizer(data.initial.name, data.initial.revision))
    job = Job(
        output=output,
        seed=recipe.seed,
        train=recipe.train,
        loss=recipe.loss,
        validation=recipe.validation,
        source=source,
        validation_sources=validation,
        held_out=held_out(recipe, data.corpus),
        identity=fixed_part(public(recipe), TRAINING_MAY_CHANGE)
        | {"corpus": data.corpus.fingerprint, "tokenizer": tokenizer},
        defaults=fixed_part(public(type(recipe)()), TRAINING_MAY_CHANGE),
    )
    return Prepared(job, data.initial, data.corpus)


def read_corpus(data: DataConfig, cache: Path, read: ShardReader = read_here) -> Corpus:
    """The corpus of `data`: from the cache, or read now. `ValueError` if it lacks one of `data.languages`."""
    shards, share = sources.find_shards(data), 0.0 if data.validation else data.validation_share
    directory = cache / f"corpus-{sources.contents_key(shards, share)}"
    if directory.exists():
        say(f"the data is in the cache already: {directory}")
    corpus = build_corpus(watch_reading(number_lines(read(shards), shards), shards), directory, share)
    if missing := sorted(set(map(code_of, data.languages or ())) - set(corpus.languages)):
        raise ValueError(
            f"data.languages has {', '.join(missing)}, but the data has pairs only in {', '.join(corpus.languages)}: "
            "remove them from data.languages, or check the codes in the data"
        )
    return corpus


def copy_cards(folder: Path, output: Path) -> None:
    """Copies the data card and the rejected rows, as `load_data` writes them, from `folder` to `output`."""
    for file in ("data_card.json", "data_card.md", "rejected.jsonl"):
        copy_file(folder / file, output)


def tell_data(data: Data) -> None:
    """Prints how many pairs and rows were read, why rows were rejected, and warnings."""
    card = data.card
    for part, size in card["parts"].items():
        languages = ", ".join(data.corpus.languages_of(part))
        say(f"{part}: {size['pairs']} pairs, {size['groups']} groups, languages {languages}")
    rejected = sum(card["rejected"].values())
    say(f"rows: {card['read']} read = {card['accepted']} accepted + {rejected} rejected")
    if rejected:
        show(intake_table(card))
    for warning in card["warnings"]:
        say(f"  note: {warning}")


def check_rejected(corpus: Corpus, max_rejected: float) -> None:
    """`ValueError` if too many rows were rejected, with the first rows for each reason."""
    rejected = sum(corpus.rejected.values())
    if rejected <= max_rejected * corpus.n_read:
        return
    raise ValueError(
        f"{rejected} of {corpus.n_read} rows ({rejected / corpus.n_read:.1%}) are rejected, but data.max_rejected is "
        f"{max_rejected:.1%}:{describe_rejected(corpus.rejected, corpus.first_rejected, corpus.notes)}\n"
        f"all of them: {corpus.directory / 'rejected.jsonl'}\n"
        "Correct the data, or raise data.max_rejected to train on the rest"
    )


def held_out(recipe: Recipe, corpus: Corpus) -> BenchmarkConfig | None:
    """The questions that retrieval is validated on; None if `validation.retrieval` is 0."""
    if not recipe.validation.retrieval:
        return None
    return BenchmarkConfig(
        name=heldout.NAME,
        path=str(corpus.directory),
        languages=recipe.validation.languages,
        groups=recipe.validation.retrieval,
    )


def check_held_out(recipe: Recipe, corpus: Corpus, metrics: Sequence[Metric]) -> None:
    """`ValueError` if the validation pairs have no questions, or no parallel answers although a metric needs them."""
    if not (config := held_out(recipe, corpus)):
        return
    benchmark = sources.read_benchmark(config)
    parallel = any(len(languages) > 1 for languages in answer_languages(benchmark))
    across = [metric for metric in metrics if metric in ("crosslingual", "mean", "rank_distance")]
    if not benchmark.queries or (across and not parallel):
        raise ValueError(
            f"{' and '.join(across or metrics)} cannot be validated: the {len(benchmark.queries)} validation questions "
            f"in {', '.join(benchmark.languages)} have no answers in several languages: choose monolingual, or provide "
            "parallel pairs (data.validation)"
        )


def validation_identity(recipe: Recipe, corpus: Corpus) -> str:
    """SHA-256 of everything that the validation metric depends on, except the encoder."""
    leave_out = {"every", "patience", "metric"} | ({"retrieval"} if recipe.validation.metric == "loss" else set())
    config = {k: v for k, v in asdict(recipe.validation).items() if k not in leave_out}
    parts = [corpus.part_fingerprints["validation"], json.dumps(config, sort_keys=True), str(VALIDATION_SEED)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def cache_folder(recipe: Recipe, output: Path) -> Path:
    """The folder for corpora and tokens: `--cache`, or `cache` beside the output."""
    cache = Path(recipe.cache or output.parent / "cache").absolute()
    check_writable(cache, "--cache")
    return cache


def _validation_kinds(recipe: Recipe, corpus: Corpus) -> dict[str, Sampling]:
    """The sampling of validation batches: half monolingual, half cross-lingual; all monolingual if none is parallel."""
    languages = recipe.validation.languages
    kinds = {"mono": Sampling(mono=1, cross=0, languages=languages)}
    columns = [n for n, code in enumerate(corpus.languages) if code in (languages or corpus.languages)]
    if ((corpus.row_of[corpus.groups("validation")][:, columns] >= 0).sum(axis=1) > 1).any():
        kinds["cross"] = Sampling(mono=0, cross=1, languages=languages)
    return kinds


def check_plans(recipe: Recipe, corpus: Corpus) -> Plan:
    """The plan of training; `ValueError` if a batch of training or validation cannot be filled."""
    plan = Plan(corpus, recipe.sampling, recipe.train.batch_size, recipe.seed)
    TranslationViews(plan)
    for kind, sampling in _validation_kinds(recipe, corpus).items():
        try:
            Plan(corpus, sampling, recipe.validation.batch_size, VALIDATION_SEED, "validation")
        except ValueError as error:
            message = str(error).replace("train.", "validation.").replace("sampling.", "validation.")
            raise ValueError(f"validation, {kind}: {message}") from error
    return plan


def _initial_encoder(recipe: Recipe, corpus: Corpus, output: Path) -> EncoderConfig:
    """The encoder named in the recipe, or a small new one, saved to `output / "initial"`."""
    if recipe.encoder.name:
        return resolve(recipe.encoder)
    say("training a tokenizer on the corpus")
    tokenizer = load_tokenizer(str(train_tokenizer(corpus, recipe.encoder.vocab_size)))
    with replaced_folder(output / "initial") as work:
        build_small_encoder(recipe.encoder, tokenizer, recipe.seed).save(work)
    return resolve(replace(recipe.encoder, name=str(output / "initial")))
