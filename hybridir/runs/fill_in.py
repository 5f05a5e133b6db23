"""Fills in the open fields of a recipe that the data decide: formats, benchmark, held-out pairs, learning rate, steps.

A filled-in recipe stays the same when it is filled in again, and it is what the output folder keeps.
"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from hybridir.batches.subset import Subset
from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.corpus import Corpus
from hybridir.data.formats import heldout, lareqa
from hybridir.data.intake import read_here
from hybridir.data.records import Benchmark
from hybridir.runs.corpus import ShardReader, cache_folder, read_corpus
from hybridir.runs.folder import NAME
from hybridir.runs.recipe import Recipe
from hybridir.runtime.plain_yaml import read_yaml
from hybridir.runtime.progress import say
from hybridir.training.config import LENGTHS

TEST_SHARE = 0.2
"""`data.test_share` of a run that is measured on held-out pairs of its own data."""
LR_BUILT, LR_NAMED, LR_LORA = 1e-3, 3e-5, 3e-4
"""Learning rates of an encoder that is built from nothing, of one that is named, and of LoRA beside it."""
STEPS = 400
"""Steps of a run that does not say how long it trains."""
MANY_EPOCHS = 1000

AnyRecipe = TypeVar("AnyRecipe", bound=Recipe)


def fill_in(recipe: AnyRecipe) -> AnyRecipe:
    """The recipe with all that follows without reading rows; `ValueError` if a format cannot be told."""
    data = _with_formats(recipe.data)
    benchmark = _benchmark(recipe.benchmark, data.sources or (data,))
    if benchmark.name == heldout.TEST and not benchmark.path and data.test_share is None:
        data = replace(data, test_share=TEST_SHARE)
    train = recipe.train
    if train.lr is None:
        train = replace(train, lr=LR_LORA if recipe.lora.rank else LR_NAMED if recipe.encoder.name else LR_BUILT)
    if all(getattr(train, name) is None for name in LENGTHS):
        train = replace(train, steps=STEPS)
    return replace(recipe, data=data, benchmark=benchmark, train=train)


def fill_in_all(recipe: AnyRecipe) -> AnyRecipe:
    """The recipe with its cache folder, with all that follows without reading rows, and with its steps."""
    output = Path(recipe.output)
    return fill_in_steps(fill_in(replace(recipe, cache=str(cache_folder(recipe, output)))), output)


def fill_in_steps(recipe: AnyRecipe, output: Path, read: ShardReader = read_here) -> AnyRecipe:
    """The recipe with `train.steps` in place of `train.epochs`, for which the data are read."""
    if recipe.train.epochs is None:
        return recipe
    corpus = read_corpus(recipe.data, cache_folder(recipe, output), read)
    steps = max(1, math.ceil(recipe.train.epochs * epoch(recipe, corpus) / recipe.train.batch_size))
    return replace(recipe, train=replace(recipe.train, epochs=None, steps=steps))


def epoch(recipe: Recipe, corpus: Corpus) -> int:
    """The number of training pairs that `sampling` draws from."""
    chosen = [code in (recipe.sampling.languages or corpus.languages) for code in corpus.languages]
    subset = Subset(corpus, recipe.sampling, "train")
    return int((subset.rows(subset.groups)[:, chosen] >= 0).sum())


def tell_epochs(recipe: Recipe, corpus: Corpus, steps: int) -> None:
    """Prints how many epochs the steps are, and what share of the pairs they are expected to draw at least once."""
    pairs, items = epoch(recipe, corpus), steps * recipe.train.batch_size
    epochs = items / pairs
    shown = f"{epochs:.3g}" if epochs < 100 else f"{epochs:,.0f}"
    drawn = -math.expm1(items * math.log1p(-1 / pairs)) if pairs > 1 else 1.0
    say(
        f"training: {steps:,} steps of {recipe.train.batch_size} items are {shown} epochs of "
        f"{pairs:,} pairs. Items are drawn with replacement: about {drawn:.1%} of the pairs are drawn at least once"
    )
    if epochs >= MANY_EPOCHS:
        say(f"  note: {epochs:,.0f} epochs are unusually many: set train.epochs to 10, for example")


def own_part(config: BenchmarkConfig, corpus: Corpus) -> BenchmarkConfig:
    """The benchmark, with the run's own corpus as its path if it is a part of that."""
    return replace(config, path=str(corpus.directory)) if is_own_part(config) else config


def benchmark_reader(config: BenchmarkConfig) -> Callable[[Corpus], Benchmark]:
    """A function from the run's corpus to the benchmark.

    A benchmark that is no part of the corpus is read at once, so that its errors come before training.
    """
    if is_own_part(config):
        return lambda corpus: sources.read_benchmark(own_part(config, corpus))
    benchmark = sources.read_benchmark(config)
    return lambda corpus: benchmark


def is_own_part(config: BenchmarkConfig) -> bool:
    """Whether the benchmark is a part of the run's own data."""
    return config.name in heldout.PARTS and not config.path


def _with_formats(data: DataConfig) -> DataConfig:
    validation = data.validation and sources.with_format(data.validation)
    if data.sources:
        return replace(data, sources=tuple(map(sources.with_format, data.sources)), validation=validation)
    return replace(data, format=sources.with_format(data).format, validation=validation)


def _benchmark(config: BenchmarkConfig, trained: Sequence[Source]) -> BenchmarkConfig:
    """The benchmark of a run on these sources: its name, and the whole of it unless the run trains on it."""
    if not config.name:
        config = replace(config, name=_name(config, trained))
        if config.name in lareqa.PUBLISHED and not config.path:
            config = replace(config, path=next(one.path for one in trained if one.format == "lareqa"))
    if config.split is None and whole_exists(config) and not any(trains_on(source, config) for source in trained):
        config = replace(config, split="all")
    return config


def _name(config: BenchmarkConfig, trained: Sequence[Source]) -> str:
    formats = {source.format for source in trained}
    if config.path:
        return sources.benchmark_at(config.path)
    if config.facts != BenchmarkConfig().facts or formats == {"sample"}:
        return "sample"
    if formats == {"lareqa"}:
        return lareqa.name_of(trained[0].path)
    return heldout.TEST


def whole_exists(config: BenchmarkConfig) -> bool:
    """Whether the benchmark has a split `all`, of which this project leaves out a part for training."""
    return config.name == "sample" or config.name in lareqa.PUBLISHED


def trains_on(source: Source, config: BenchmarkConfig) -> bool:
    """Whether training on `source` trains on questions of the benchmark, judged by the ids of the questions.

    Pairs that a job of this project made of others (with negatives, or translated) are judged by those. A folder that
    no longer exists counts as having the same articles.
    """
    if made_of := _made_of(source):
        return any(trains_on(one, config) for one in made_of)
    if config.name == "sample" or source.format != "lareqa":
        return config.name == source.format
    if os.path.realpath(source.path) == os.path.realpath(config.path):
        return True
    try:
        return not lareqa.question_ids(source.path).isdisjoint(lareqa.question_ids(config.path))
    except (ValueError, OSError):
        return True


def _made_of(source: Source) -> list[Source]:
    """The sources of the pairs that a source was made of, by the configuration in its folder; none if it has none."""
    for folder in (Path(source.path), Path(source.path).parent) if source.path else ():
        if (folder / NAME).is_file() and (folder / "config.yaml").is_file():
            data = read_yaml(folder / "config.yaml").get("data", {})
            return [
                sources.with_format(Source(format=one["format"], path=one["path"]))
                for one in data.get("sources") or [data]
                if one.get("format") or os.path.exists(one.get("path", ""))
            ]
    return []
