"""The systems that can be measured: encoders, embeddings made elsewhere, and BM25."""

import glob
import hashlib
import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from hybridir.data.records import Benchmark, benchmark_fingerprint
from hybridir.model.check import as_published, check_encoder, notes_on
from hybridir.model.config import EncoderConfig
from hybridir.model.files import commit_of, model_of
from hybridir.retrieval.bm25 import bm25_index, bm25_scorer
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.embeddings import holds_embeddings, read_embeddings, read_queries, write_embeddings
from hybridir.retrieval.encode_shards import Work, encode_shards_here
from hybridir.retrieval.nearest import rank_vectors
from hybridir.retrieval.search import DEPTH, Ranking, rank_all
from hybridir.retrieval.sharded import Means, Sharded, rank_sharded
from hybridir.retrieval.shards import MANIFEST, Index, lay_out, open_index
from hybridir.runtime.durable import replace_text
from hybridir.runtime.plain_yaml import read_yaml
from hybridir.runtime.progress import say

BM25 = "bm25"
"""The name of the BM25 baseline in configurations; upper case is accepted too."""

Encode = Callable[[EncoderConfig, Sequence[str], Sequence[str]], tuple[np.ndarray, np.ndarray]]
"""(encoder, queries, passages) -> embeddings float32 [Q, D] and [P, D]."""


Fill = Callable[[Index, EncoderConfig], None]
"""Encodes the shards of an index that are not there."""


def fill_here(index: Index, encoder: EncoderConfig) -> None:
    """A `Fill` in this process, on its CPU."""
    deque(encode_shards_here(Work(index, encoder), [shard.number for shard in index.waiting()]), maxlen=0)


@dataclass(frozen=True)
class Way:
    """How passages are kept, encoded and searched."""

    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    fill: Fill = fill_here
    means: Means = field(default_factory=Means)


class Ranker(Protocol):
    """Ranks a benchmark, and keeps the first `depth` passages of each query and language."""

    def __call__(self, benchmark: Benchmark, depth: int = 0, /) -> Ranking: ...


@dataclass(frozen=True)
class System:
    """What is measured under one name: a model, or several models that differ only in their training seed.

    Attributes:
        label: a short name that no other system has.
        members: the models, one for each seed.
        seeds: for each member, the text that `*` of the pattern stands for in its name; "" for a single model.
    """

    label: str
    members: tuple[EncoderConfig, ...]
    seeds: tuple[str, ...]


def find_systems(wanted: Sequence[EncoderConfig | str], given: Sequence[str] = ()) -> list[System]:
    """Resolves the names in a configuration to systems, each with a short label of its own: the one `given`, if any.

    A name is a folder (a model, a run, embeddings), a hub id, `bm25`, or a pattern with `*` that matches the folders of
    one system trained with several seeds. The seeds of two systems are paired by the text that `*` stands for.

    Raises:
        ValueError: a name is empty, a pattern matches no folder, two systems are the same or have different seeds; more
            labels than systems are given, or one of them twice.
    """
    configs = [EncoderConfig(name=one) if isinstance(one, str) else one for one in wanted]
    configs = [replace(config, name=BM25) if config.name.lower() == BM25 else config for config in configs]
    for config in configs:
        if not config.name:
            raise ValueError("encoder.name is empty: name a model folder, a hub id, a folder of embeddings, or bm25")
    named = [*given, *[""] * (len(configs) - len(given))]
    if len(named) > len(configs):
        raise ValueError(f"label has {len(named)} names for {len(configs)} systems: remove the last")
    labels = [label or _label(config.name) for label, config in zip(named, configs, strict=True)]
    for longer in (lambda config: config.name, _described):
        labels = [
            own or (label if labels.count(label) == 1 else longer(config))
            for own, label, config in zip(named, labels, configs, strict=True)
        ]
    if len(set(labels)) < len(labels) and max(labels, key=labels.count) in given:
        raise ValueError(f"label {max(labels, key=labels.count)!r} is the name of two systems: choose another")
    if len(set(labels)) < len(labels):
        raise ValueError(f"{max(labels, key=labels.count)} is named twice among the systems to measure: name it once")
    systems = [System(label, *_members(config)) for label, config in zip(labels, configs, strict=True)]
    first = systems[0]
    for other in systems[1:]:
        if len(first.seeds) > 1 < len(other.seeds) and first.seeds != other.seeds:
            raise ValueError(
                f"{first.label} has the seeds {', '.join(first.seeds)}, {other.label} has {', '.join(other.seeds)}: "
                "compare the same seeds"
            )
    return systems


def rank_system(
    config: EncoderConfig,
    benchmarks: Sequence[Benchmark],
    encode: Encode,
    keep: Path,
    way: Way = Way(),
) -> tuple[list[Ranking], list[str]]:
    """Ranks all passages for each query by one member of a system; also returns notes on what was left out.

    The benchmarks differ only in the texts of their queries, as in `rank_each`. Embeddings of the first one, if made
    here, are written to the folder `keep`, and read from there if the model and the texts are the same.
    """
    try:
        if config.name == BM25:
            depths = [DEPTH, *[0] * (len(benchmarks) - 1)]
            return [rank_all(bm25_scorer(x), x, depth) for x, depth in zip(benchmarks, depths, strict=True)], []
        found = _kept(config, benchmarks[0], encode, keep, way)
        rankings = [found.rank(found.query_QD, benchmarks[0], DEPTH)]
        for one in benchmarks[1:]:
            rankings.append(found.rank(_queries(as_published(config), one, encode), one, 0))
        return rankings, list(found.notes)
    except ValueError as error:
        raise ValueError(f"{config.name}: {error}") from error


def ranker(config: EncoderConfig, benchmark: Benchmark, encode: Encode, keep: Path) -> Ranker:
    """A `Ranker` by one member of a system, for benchmarks with the same passages, which are embedded or indexed once.

    `keep`: see `rank_system`. A folder of embeddings must hold the queries, by their ids.
    """
    if config.name == BM25:
        index = bm25_index(benchmark)
        return lambda other, depth=0: rank_all(index(other.queries), other, depth)
    if holds_embeddings(config.name):
        passage_PD = read_embeddings(config.name, benchmark).passage_PD
        return lambda other, depth=0: rank_vectors(
            read_queries(config.name, [one.query_id for one in other.queries]), passage_PD, other, depth
        )
    config = as_published(config)
    search = _kept(config, benchmark, encode, keep, Way()).rank
    return lambda other, depth=0: search(_queries(config, other, encode), other, depth)


def rank_each(
    config: EncoderConfig,
    benchmarks: Sequence[Benchmark],
    encode: Encode,
    embedded: tuple[np.ndarray, np.ndarray] | None = None,
) -> list[Ranking]:
    """Ranks, by one encoder, benchmarks that differ only in the texts of their queries; passages are embedded once.

    Only the first ranking keeps the best passages, for examples and files. `embedded`: the embeddings of the first
    benchmark, if there are any yet. Each benchmark is embedded in blocks of its own, so its numbers do not depend on
    the others.
    """
    first, *others = benchmarks
    query_QD, passage_PD = embedded or embed(config, first, encode)
    rankings = [rank_vectors(query_QD, passage_PD, first, DEPTH)]
    for one in others:
        query_QD, _ = encode(config, [query.text for query in one.queries], [])
        rankings.append(rank_vectors(query_QD, passage_PD, one))
    return rankings


@dataclass(frozen=True)
class _Kept:
    """Embeddings of a benchmark that are kept in files: of its queries, and a search of its passages.

    `rank` takes embeddings of queries, a benchmark with the same passages, and a depth.
    """

    query_QD: np.ndarray
    rank: Callable[[np.ndarray, Benchmark, int], Ranking]
    notes: tuple[str, ...] = ()


def _kept(config: EncoderConfig, benchmark: Benchmark, encode: Encode, keep: Path, way: Way) -> _Kept:
    """Embeddings of a benchmark: made elsewhere, or by an encoder, in memory or, if they are many, in shards."""
    ready = config.name
    if not holds_embeddings(ready):
        config = as_published(config)
        if len(benchmark.passages) > way.retrieval.in_memory:
            vectors = _shards(config, benchmark, keep, way)
            return _Kept(
                _queries(config, benchmark, encode),
                lambda query_QD, one, depth: rank_sharded(query_QD, vectors, one, depth, way.means),
            )
        ready = _embeddings(config, benchmark, encode, keep)
    found = read_embeddings(ready, benchmark)
    passage_PD = found.passage_PD.astype(way.retrieval.dtype, copy=False)
    return _Kept(
        found.query_QD,
        lambda query_QD, one, depth: rank_vectors(query_QD, passage_PD, one, depth, way.means.device),
        found.notes,
    )


def _queries(config: EncoderConfig, benchmark: Benchmark, encode: Encode) -> np.ndarray:
    return encode(config, [query.text for query in benchmark.queries], [])[0]


def _shards(config: EncoderConfig, benchmark: Benchmark, keep: Path, way: Way) -> Sharded:
    """The passages of a benchmark in shards in the folder `keep`; encodes those that are not there."""
    retrieval = way.retrieval
    decides = made_of(config, retrieval) | {"benchmark": benchmark_fingerprint(benchmark), "shard": retrieval.shard}
    if (keep / MANIFEST).exists() and open_index(keep).made_of != decides:
        shutil.rmtree(keep)
    index = lay_out(keep, decides, benchmark.passages, retrieval.shard)
    way.fill(index, config)
    language_P = benchmark.language_P
    places = []
    for language in index.languages:  # as `lay_out` cuts them
        of_language = np.flatnonzero(language_P == benchmark.languages.index(language))
        places += [of_language[n : n + retrieval.shard] for n in range(0, len(of_language), retrieval.shard)]
    return Sharded(index, {language: n for n, language in enumerate(benchmark.languages)}, places)


def made_of(encoder: EncoderConfig, retrieval: RetrievalConfig) -> dict[str, object]:
    """What decides the vectors of passages, besides the texts."""
    fields = {k: v for k, v in asdict(encoder).items() if k not in ("name", "query_prefix", "max_query_length")}
    return {"encoder": fields, "weights": fingerprint(encoder), "dtype": retrieval.dtype}


def _embeddings(config: EncoderConfig, benchmark: Benchmark, encode: Encode, keep: Path) -> str:
    """Embeds a benchmark unless `keep` has its embeddings by this encoder; returns their folder."""
    made_of = {"encoder": asdict(config), "weights": fingerprint(config), "benchmark": benchmark_fingerprint(benchmark)}
    record = keep / "made_of.json"
    if record.exists() and json.loads(record.read_text(encoding="utf-8")) == made_of:
        say(f"embeddings of {config.name} are taken from {keep}")
        return str(keep)
    shutil.rmtree(keep, ignore_errors=True)
    write_embeddings(str(keep), benchmark, *embed(config, benchmark, encode))
    replace_text(record, json.dumps(made_of, indent=1))
    return str(keep)


def embed(config: EncoderConfig, benchmark: Benchmark, encode: Encode) -> tuple[np.ndarray, np.ndarray]:
    """Embeds all queries and passages of a benchmark; float32 [Q, D] and [P, D]."""
    return encode(config, [query.text for query in benchmark.queries], benchmark.passages.texts)


def is_encoder(config: EncoderConfig) -> bool:
    """Whether a member is an encoder, and neither BM25 nor embeddings made elsewhere."""
    return config.name != BM25 and not holds_embeddings(config.name)


def check_member(config: EncoderConfig) -> list[str]:
    """Raises `ValueError` if a member is neither BM25, nor embeddings, nor an encoder; reads nothing large.

    Returns what should be known of an encoder before it is measured: see `notes_on`.
    """
    if not is_encoder(config):
        return []
    check_encoder(config)
    return notes_on(config)


def file_name(name: str) -> str:
    """Turns a name into a file name; different names give different file names."""
    plain = "".join(c if c.isalnum() or c in "-_." else "_" for c in name)[:80]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def fingerprint(config: EncoderConfig) -> str:
    """Identifies a member: 16 digits of the SHA-256 of a folder's files, the commit of a hub id, or bm25s' version."""
    if config.name == BM25:
        return f"bm25s {version('bm25s')}"
    if not os.path.isdir(config.name):
        return commit_of(config.name, config.revision) or "unknown"
    digest = hashlib.sha256()
    for file in sorted(Path(config.name).rglob("*")):
        if file.is_file() and file.suffix != ".md":
            digest.update(str(file.relative_to(config.name)).encode())
            with open(file, "rb") as content:
                digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()[:16]


def _members(config: EncoderConfig) -> tuple[tuple[EncoderConfig, ...], tuple[str, ...]]:
    """The models that a name stands for, and the seed of each, in order of the seeds."""
    if os.path.isdir(config.name) or "*" not in config.name:
        return (replace(config, name=model_of(config.name)),), ("",)
    pattern = re.compile("(.*)".join(map(re.escape, config.name.split("*"))))
    names = [name for name in glob.glob(config.name) if os.path.isdir(name)]
    if not names:
        raise ValueError(f"no folder matches {config.name}: check the pattern")
    found = [(" ".join(match.groups()), name) for name in names if (match := pattern.fullmatch(name))]
    found.sort(key=lambda one: (len(one[0]), one[0]))  # seed 10 after seed 9
    return tuple(replace(config, name=model_of(name)) for _, name in found), tuple(seed for seed, _ in found)


def _described(config: EncoderConfig) -> str:
    """The name, with all other fields that differ from their defaults."""
    plain = asdict(EncoderConfig())
    return ", ".join([config.name, *(f"{k}={v}" for k, v in asdict(config).items() if k != "name" and v != plain[k])])


def _label(name: str) -> str:
    if name == BM25:
        return BM25.upper()
    if not os.path.isdir(name) and "*" not in name:
        return name
    folder = Path(os.path.abspath(name))
    folder = folder.parent if folder.name == "model" else folder
    return _model_and_data(folder) if re.fullmatch(r"train-\d{8}-\d{6}", folder.name) else folder.name


def _model_and_data(run: Path) -> str:
    """`MODEL on DATA` of a training run's folder, by its configuration; the folder's name if there is none."""
    config = run / "config.yaml"
    if not config.exists():
        return run.name
    found = read_yaml(config)
    encoder, data = found["encoder"]["name"], found["data"]
    names = [one["name"] or Path(one["path"]).stem or one["format"] for one in data["sources"] or [data]]
    model = _label(encoder) if encoder else "a small new encoder"
    return f"{model} on {', '.join(names)}"
