"""From a recipe to all that training needs: a checked corpus, its tokens, the data card, plans that can be filled.

Corpora, tokenizers and tokens are kept in a cache that runs share, and are made only once.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from hybridir.batches import token_counts
from hybridir.batches.stream import BatchSource
from hybridir.batches.token_cache import ChunkRunner, TokenJob, build_cache, query_texts, tokenize_here
from hybridir.data.corpus import Corpus
from hybridir.data.intake import read_here
from hybridir.model.check import check_encoder, notes_on, resolve
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import build_small_encoder
from hybridir.model.tokenizer import load_tokenizer, tokenizer_fingerprint
from hybridir.model.tokenizer_training import train_tokenizer
from hybridir.reports.data_card import data_card, intake_table, to_markdown
from hybridir.retrieval.systems import fingerprint
from hybridir.runs.checks import check_space, check_writable
from hybridir.runs.corpus import ShardReader, cache_folder, check_rejected, read_corpus
from hybridir.runs.fill_in import fill_in, tell_epochs
from hybridir.runs.plans import (
    VALIDATION_SEED,
    check_held_out,
    check_plans,
    held_out,
    validation_kinds,
    validation_size,
)
from hybridir.runs.recipe import TRAINING_MAY_CHANGE, Recipe, fixed_part, public
from hybridir.runs.teacher import teach
from hybridir.runtime.durable import copy_file, replace_text, replaced_folder
from hybridir.runtime.progress import say, watch_chunks
from hybridir.runtime.tables import show
from hybridir.training.loop import Job
from hybridir.training.losses.distill import Distill


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
        say("counting tokens, languages and groups for the data card")
        replace_text(file, json.dumps(data_card(corpus, tokens), ensure_ascii=False))
    return json.loads(file.read_text(encoding="utf-8"))


def prepare(
    recipe: Recipe,
    output: Path,
    read: ShardReader = read_here,
    tokenize: ChunkRunner = tokenize_here,
    found: Sequence[str] = (),
) -> Prepared:
    """Loads the data (see `load_data`), prints a summary, checks that every batch can be filled, and tokenises it.

    `ValueError` if something has to be mended; its message also has the messages in `found`.
    """
    recipe = fill_in(recipe)
    data = load_data(recipe, output, read)
    tell_data(data)
    recipe = check_recipe(recipe, data.corpus, found)
    source = training_source(recipe, data, output, tokenize)
    # What a checkpoint follows from besides the recipe: the frozen weights, which it lacks, and the teacher.
    more = {"base": fingerprint(data.initial)} if recipe.lora.rank else {}
    if isinstance(distill := recipe.loss.terms.get("distill"), Distill):
        taught = teach(distill, data.corpus)
        source = replace(source, teacher=str(taught.folder), teacher_language=distill.language)
        more["teacher"] = taught.identity
    tokens = count_tokens(recipe, source)
    validation = {
        kind: replace(
            source,
            sampling=sampling,
            batch_size=recipe.validation.batch_size,
            seed=VALIDATION_SEED,
            part="validation",
            noisy_query=False,
            teacher="",
        )
        for kind, sampling in validation_kinds(recipe, data.corpus).items()
    }
    tokenizer = tokenizer_fingerprint(load_tokenizer(data.initial.name, data.initial.revision))
    job = Job(
        output=output,
        seed=recipe.seed,
        train=recipe.train,
        loss=recipe.loss,
        validation=recipe.validation,
        source=source,
        tokens=tokens,
        validation_sources=validation,
        held_out=held_out(recipe, data.corpus),
        lora=recipe.lora,
        identity=fixed_part(public(recipe), TRAINING_MAY_CHANGE)
        | {"corpus": data.corpus.fingerprint, "tokenizer": tokenizer, **more}
        | _lexicon(recipe),
        defaults=fixed_part(public(type(recipe)()), TRAINING_MAY_CHANGE),
    )
    tell_epochs(recipe, data.corpus, job.steps)
    return Prepared(job, data.initial, data.corpus)


def _lexicon(recipe: Recipe) -> dict[str, str]:
    """The SHA-256 of the lexicon of the noise, if there is one: it belongs to the identity of a run."""
    if not recipe.sampling.noise.lexicon:
        return {}
    return {"lexicon": hashlib.sha256(Path(recipe.sampling.noise.lexicon).read_bytes()).hexdigest()}


def training_source(recipe: Recipe, data: Data, output: Path, tokenize: ChunkRunner = tokenize_here) -> BatchSource:
    """The batches of training, over the tokenised data."""

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
    return token_counts.in_steps(source)


def count_tokens(recipe: Recipe, source: BatchSource) -> list[int]:
    """`Job.tokens`, told on the screen too; empty if the run has another length."""
    if recipe.train.tokens is None:
        return []
    say("counting the tokens of each step")
    tokens = token_counts.count_tokens(source, recipe.train.tokens)
    say(f"training: {tokens[-1]:,} tokens, the first whole step to reach train.tokens ({recipe.train.tokens:,})")
    return tokens


def check_recipe(recipe: Recipe, corpus: Corpus, found: Sequence[str] = ()) -> Recipe:
    """Checks the plans of a run (see `check_plans`); the recipe with validation batches that its data can fill."""
    check_plans(recipe, corpus, found)
    check_held_out(recipe, corpus, [recipe.validation.metric])
    size = validation_size(recipe, corpus)
    if size < recipe.validation.batch_size:
        say(
            f"validation batches have {size} pairs instead of {recipe.validation.batch_size}: the validation pairs "
            "have too few different passages. For larger batches, raise data.validation_share"
        )
    return replace(recipe, validation=replace(recipe.validation, batch_size=size))


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


def _initial_encoder(recipe: Recipe, corpus: Corpus, output: Path) -> EncoderConfig:
    """The encoder named in the recipe, or a small new one, saved to `output / "initial"`."""
    if recipe.encoder.name:
        return resolve(recipe.encoder)
    say(
        f"no encoder is named (encoder.name): a small one is built from nothing, {recipe.encoder.layers} layers of "
        f"width {recipe.encoder.hidden_size}. It knows only these pairs; a pretrained one, such as "
        "intfloat/multilingual-e5-small, knows its languages"
    )
    tokenizer = load_tokenizer(str(train_tokenizer(corpus, recipe.encoder.vocab_size)))
    with replaced_folder(output / "initial") as work:
        build_small_encoder(recipe.encoder, tokenizer, recipe.seed).save(work)
    return resolve(replace(recipe.encoder, name=str(output / "initial")))
