"""From the configuration to the shards of all sources, to the cache key of their corpus, and to a benchmark."""

import ast
import hashlib
import sys
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Literal

from hybridir.data import build, intake
from hybridir.data.config import BenchmarkConfig, DataConfig, PairReader, Source
from hybridir.data.corpus import Corpus
from hybridir.data.formats import BENCHMARKS, LICENSES, PAIR_READERS, ROWS, hub, lareqa, recognise
from hybridir.data.intake import take
from hybridir.data.records import LICENSED, Benchmark, Part, Shard
from hybridir.data.sets import SETS
from hybridir.data.sets.published import shards as published_shards
from hybridir.runtime.secrets import without_secrets
from hybridir.runtime.words import did_you_mean

_READS = "hybridir.data."
"""Prefix of the modules whose code decides what is in a corpus."""
READERS: dict[str, PairReader] = PAIR_READERS | {
    name: getattr(one, "find_shards", partial(published_shards, about=one.ABOUT)) for name, one in SETS.items()
}
"""Readers of pairs by format, or by the name of a published set."""


def with_format(source: Source) -> Source:
    """The source with its format, found out if it is omitted; `ValueError` if it is unknown or cannot be told."""
    if not source.format:
        return replace(source, format=recognise.format_of(source, tuple(PAIR_READERS)))
    if source.format not in READERS:
        near = did_you_mean(source.format, READERS)
        raise ValueError(f"data.format {source.format!r} is unknown{near}; there are {', '.join(READERS)}")
    return source


def find_shards(data: DataConfig) -> list[Shard]:
    """The shards of all sources of `data`, in order; no row is read yet.

    Raises:
        ValueError: a format is unknown, a path has no files, or two sources have the same name.
    """
    found, names = [], []
    for source, split in _named(data):
        names.append(source.name)
        found += _of_source(source, languages=data.languages, split=split)
    if len(set(names)) < len(names):
        raise ValueError(f"two sources of data are called {max(names, key=names.count)!r}: give them different names")
    return found


def _named(data: DataConfig) -> Iterator[tuple[Source, Part | Literal[""]]]:
    """The sources of `data`, each with its format and its name in the corpus, and the part that it is for, if any."""
    sources = tuple(map(with_format, data.sources or (data,)))
    for source in sources:
        name = source.name or (without_secrets(source.path) or source.format if len(sources) > 1 else "")
        yield replace(source, name=name), ""
    if data.validation:
        yield replace(with_format(data.validation), name=data.validation.name or "validation"), "validation"


def contents_key(shards: Iterable[Shard], validation_share: float, test_share: float = 0.0) -> str:
    """The key of a corpus in the cache, 16 hexadecimal digits.

    It changes with the contents of the shards, the options they are read with, both shares, the version of Babel (which
    knows the valid language codes), and the code of intake, build and the formats in use.
    """
    digest = hashlib.sha256(f"{version('babel')} {validation_share} {test_share} {code_key(intake, build)}".encode())
    for shard in shards:
        digest.update(shard.identity.encode() + b"\0")
    return digest.hexdigest()[:16]


def code_key(*modules: ModuleType) -> str:
    """SHA-256 of the code of modules and of all modules under `_READS` that they import, directly or indirectly."""
    code: dict[str, bytes] = {}
    waiting = [module.__name__ for module in modules]
    while waiting:
        name = waiting.pop()
        if name in code or not name.startswith(_READS):
            continue
        code[name] = Path(str(sys.modules[name].__file__)).read_bytes()
        waiting += _imported(code[name])
    return hashlib.sha256(b"\0".join(code[name] for name in sorted(code))).hexdigest()


def _imported(code: bytes) -> Iterator[str]:
    """The full names of the modules that `code` imports."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            full = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in sys.modules else str(node.module) for name in full)


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """Reads the benchmark `config.name`; `ValueError` if it is unknown or a field is set that it does not use."""
    config = replace(config, name=config.name or "sample")
    if config.name not in BENCHMARKS:
        near, known = did_you_mean(config.name, BENCHMARKS), ", ".join(BENCHMARKS)
        raise ValueError(f"benchmark.name {config.name!r} is unknown{near}; there are {known}")
    benchmark = BENCHMARKS[config.name]
    for field in ("path", "facts", "language", "groups", "without_domains"):
        value = getattr(config, field)
        if field not in benchmark.uses and value != getattr(BenchmarkConfig(), field):
            shown = without_secrets(str(value))
            raise ValueError(f"benchmark.{field} is {shown!r}, which {config.name} does not use: leave it out")
    found = benchmark.read(config)
    if more := sorted(set(found.languages) - set(config.languages or found.languages)):
        raise ValueError(
            f"benchmark.languages is {', '.join(config.languages or ())}, but {config.name} has also given "
            f"{', '.join(more)}: it does not use this field, leave it out"
        )
    return found


def benchmark_at(path: str) -> str:
    """The name of the benchmark in a folder; `ValueError` if it cannot be told."""
    try:
        found = recognise.format_of(Source(path=path), BENCHMARKS)
    except ValueError as error:
        message = str(error).replace("data.format", "benchmark.name").replace("data.path", "benchmark.path")
        raise ValueError(message) from None
    if found == "lareqa":
        return lareqa.name_of(path)
    if found != "beir":
        shown, known = without_secrets(path), ", ".join(BENCHMARKS)
        raise ValueError(f"benchmark.path {shown!r}: which benchmark it is cannot be told. Name it, one of {known}")
    return found


def _of_source(source: Source, languages: tuple[str, ...] | None, split: Part | Literal[""] = "") -> list[Shard]:
    source = replace(source, languages=source.languages or languages)
    _check_columns(source)
    reader = READERS[source.format]
    code = code_key(SETS.get(source.format) or sys.modules[reader.__module__])
    if source.path.startswith("hf://") and source.format not in SETS:
        if source.format not in ROWS:
            raise ValueError(f"data.format is {source.format}, but a dataset of the hub is read as {', '.join(ROWS)}")
        found, code = hub.find_shards(source, ROWS[source.format]), code + code_key(hub)
    else:
        found = reader(source)
    taken = f"{source.format} {source.name} {source.language} {source.languages} {source.max_negatives} {split}"
    taken += f" {sorted(source.columns.items())}" if source.columns else ""
    return [
        replace(shard, read=partial(take, shard, source, split), identity=f"{shard.identity} {taken} {code}")
        for shard in found
    ]


def license_of(source_format: str) -> str:
    """The licence of the texts that a format is only used for; "" if it is used for any."""
    return SETS[source_format].ABOUT.license if source_format in SETS else LICENSES.get(source_format, "")


def licenses(data: DataConfig, corpus: Corpus) -> dict[str, str]:
    """The licence of the texts of each source of a corpus: that named in `data`, or that of the format.

    Rows can name a licence, and another source than `data` does. Which rows name which licence is not known: it is
    added to each source whose rows can.
    """
    sources = [source for source, _ in _named(data)]
    of_rows = list(corpus.notes.get(LICENSED, {}))
    found = {
        one.name: [one.license or license_of(one.format), *(of_rows if one.format in ROWS else ())] for one in sources
    }
    of_others = [licence for one in sources if one.format in ROWS for licence in found[one.name]]
    return {name: joined_licenses(found.get(name, of_others)) for name in corpus.sources}


def joined_licenses(found: Iterable[str]) -> str:
    """Licences as one text, each once."""
    return "; ".join(dict.fromkeys(filter(None, found))) or "licence not stated"


def _check_columns(source: Source) -> None:
    """`ValueError` if `source.columns` names what the format does not have, or one column twice."""
    columns = source.columns or {}
    if columns and source.format not in ROWS:
        raise ValueError(
            f"data.columns is set, but {source.format} has no columns: leave it out ({', '.join(ROWS)} have)"
        )
    for field in columns:
        if not ROWS[source.format].has(field):
            there = ", ".join(sorted(ROWS[source.format].names))
            raise ValueError(f"data.columns names the field {field!r}, which {source.format} does not have: {there}")
    if len(set(columns.values())) < len(columns):
        raise ValueError(f"data.columns reads one column as several fields: {columns}")
