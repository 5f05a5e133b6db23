"""The corpus of a run: from the cache that runs share, or read now."""

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from hybridir.data import sources
from hybridir.data.build import build_corpus, describe_rejected
from hybridir.data.config import DataConfig
from hybridir.data.corpus import Corpus
from hybridir.data.intake import number_lines, read_here, watch_reading
from hybridir.data.records import OVERLAP, Shard
from hybridir.retrieval.overlap import without_overlap
from hybridir.runs.checks import check_writable
from hybridir.runtime.progress import say

ShardReader = Callable[[Sequence[Shard]], Iterable[pa.RecordBatch]]
"""Reads shards in order, as `hybridir.data.intake.read_here` does."""


def read_corpus(data: DataConfig, cache: Path, read: ShardReader = read_here) -> Corpus:
    """The corpus of `data`, without what it excludes: from the cache, or read now. An omitted format is found out."""
    shards = sources.find_shards(data)
    validation_share, test_share = 0.0 if data.validation else data.validation_share, data.test_share or 0.0
    directory = cache / f"corpus-{sources.contents_key(shards, validation_share, test_share)}"
    if directory.exists():
        say(f"the data is in the cache already: {directory}")
    batches = watch_reading(number_lines(read(shards), shards), shards)
    corpus = build_corpus(batches, directory, validation_share, test_share)
    return without_overlap(corpus, data, cache) if data.exclude else corpus


def check_rejected(corpus: Corpus, max_rejected: float) -> None:
    """`ValueError` if too many rows were rejected, with the first rows for each reason."""
    rejected = sum(count for reason, count in corpus.rejected.items() if reason != OVERLAP)
    if rejected <= max_rejected * corpus.n_read:
        return
    raise ValueError(
        f"{rejected} of {corpus.n_read} rows ({rejected / corpus.n_read:.1%}) are rejected, but data.max_rejected is "
        f"{max_rejected:.1%}:{describe_rejected(corpus.rejected, corpus.first_rejected, corpus.notes)}\n"
        f"all of them: {corpus.directory / 'rejected.jsonl'}\n"
        "Correct the data, or raise data.max_rejected to train on the rest"
    )


class Cached(Protocol):
    """A recipe that names a cache, or "" for `cache` beside its output."""

    @property
    def cache(self) -> str: ...


def cache_folder(recipe: Cached, output: Path) -> Path:
    """The folder for corpora and tokens: `--cache`, or `cache` beside the output.

    `ValueError` if it cannot be written to, or belongs to another user and is not named: what a cache holds is trained
    on without a check.
    """
    cache = Path(recipe.cache or output.parent / "cache").absolute()
    if not recipe.cache and cache.exists() and cache.stat().st_uid != os.geteuid():
        raise ValueError(
            f"{cache} is another user's, and its data are trained on unchecked: if you trust it, name it by --cache"
        )
    check_writable(cache, "--cache")
    return cache
