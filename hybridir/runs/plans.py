"""The plans of a run, for training and for validation, checked against its corpus before anything is computed."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace

from hybridir.batches.plan import Plan, TooLarge
from hybridir.batches.sampling import Sampling
from hybridir.batches.subset import Subset
from hybridir.batches.views import TranslationViews
from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig
from hybridir.data.corpus import Corpus
from hybridir.data.formats import heldout
from hybridir.evaluation.settings import answer_languages
from hybridir.evaluation.validation_metrics import METRICS
from hybridir.runs.fill_in import is_own_part, own_part
from hybridir.runs.recipe import Recipe
from hybridir.runtime.problems import Problems

VALIDATION_SEED = 20240816
"""The seed of the validation plan: the same for every run, whatever the run's own seed."""


def check_plans(recipe: Recipe, corpus: Corpus, found: Sequence[str] = ()) -> Plan:
    """The plan of training.

    Raises:
        ValueError: the messages in `found`, and one for each language that the data lacks, for a batch of training or
            validation that cannot be filled, and for a benchmark of the data's own pairs that has none.
    """
    problems = Problems()
    problems.found += found
    sampling, validation = recipe.sampling.languages, recipe.validation.languages
    named = {"data": recipe.data.languages, "sampling": sampling, "validation": validation}
    for section, languages in named.items():
        with problems.noted():
            check_languages(section, languages, corpus)
    known = replace(recipe.sampling, languages=_there(sampling, corpus))
    with problems.noted():
        plan = Plan(corpus, known, recipe.train.batch_size, recipe.seed)
        TranslationViews(plan)
        if "noisy_query" in recipe.loss.needs:
            recipe.sampling.noise.check(plan.languages)
    with problems.noted():
        validation_size(
            replace(recipe, validation=replace(recipe.validation, languages=_there(validation, corpus))), corpus
        )
    if is_own_part(recipe.benchmark):
        with problems.noted():
            sources.read_benchmark(own_part(recipe.benchmark, corpus))
    problems.tell()
    return plan


def validation_kinds(recipe: Recipe, corpus: Corpus) -> dict[str, Sampling]:
    """The sampling of validation batches: half monolingual, half cross-lingual; all monolingual if none is parallel."""
    languages = recipe.validation.languages
    mono = Sampling(mono=1, cross=0, languages=languages, without_domains=recipe.sampling.without_domains)
    kinds = {"mono": mono}
    columns = [n for n, code in enumerate(corpus.languages) if code in (languages or corpus.languages)]
    subset = Subset(corpus, mono, "validation")
    if ((subset.rows(subset.groups)[:, columns] >= 0).sum(axis=1) > 1).any():
        kinds["cross"] = replace(mono, mono=0, cross=1)
    return kinds


def validation_size(recipe: Recipe, corpus: Corpus) -> int:
    """`validation.batch_size`, or the largest size below it that the validation pairs can always fill.

    Raises:
        ValueError: they cannot fill a batch of 2.
    """
    size = recipe.validation.batch_size
    for kind, sampling in validation_kinds(recipe, corpus).items():
        try:
            try:
                Plan(corpus, sampling, size, VALIDATION_SEED, "validation")
            except TooLarge as error:
                size = max(2, error.largest)
                Plan(corpus, sampling, size, VALIDATION_SEED, "validation")
        except ValueError as error:
            message = str(error).replace("train.", "validation.").replace("sampling.", "validation.")
            raise ValueError(f"validation, {kind}: {message}") from error
    return size


def held_out(recipe: Recipe, corpus: Corpus) -> BenchmarkConfig | None:
    """The questions that retrieval is validated on; None if `validation.retrieval` is 0."""
    if not recipe.validation.retrieval:
        return None
    return BenchmarkConfig(
        name=heldout.NAME,
        path=str(corpus.directory),
        languages=recipe.validation.languages,
        groups=recipe.validation.retrieval,
        without_domains=recipe.sampling.without_domains,
    )


def check_held_out(recipe: Recipe, corpus: Corpus, metrics: Sequence[str]) -> None:
    """`ValueError` if the validation pairs have no questions, or no parallel answers although a metric needs them."""
    if not (config := held_out(recipe, corpus)):
        return
    benchmark = sources.read_benchmark(config)
    parallel = any(len(languages) > 1 for languages in answer_languages(benchmark))
    across = [metric for metric in metrics if METRICS[metric].needs_translations]
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
    parts += [f"without {recipe.sampling.without_domains}"] if recipe.sampling.without_domains else []
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def check_languages(section: str, languages: Sequence[str] | None, corpus: Corpus) -> None:
    """`ValueError` if the corpus lacks some of the languages that `section` names."""
    if missing := sorted(set(languages or ()) - set(corpus.languages)):
        raise ValueError(
            f"{section}.languages has {', '.join(missing)}, but the data has pairs only in "
            f"{', '.join(corpus.languages)}: remove them from {section}.languages, or check the codes in the data"
        )


def _there(languages: tuple[str, ...] | None, corpus: Corpus) -> tuple[str, ...] | None:
    """The languages that the corpus has; None, which means all, if too few are left.

    The missing ones are reported elsewhere; with these, checking goes on without reporting them again.
    """
    there = tuple(code for code in languages or () if code in corpus.languages)
    return there if there and len(there) >= min(2, len(languages or ())) else None
