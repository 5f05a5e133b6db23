"""One reader a file format. A new format is one module here and one line in the dict that fits it."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from hybridir.formats import beir, columns, fields, heldout, hub, lareqa, miracl, mmarco, rows, sample, tevatron
from hybridir.records import (
    LEFT_OUT,
    Benchmark,
    BenchmarkConfig,
    BenchmarkReader,
    DataConfig,
    Pair,
    PairReader,
    Part,
    Rejected,
    Shard,
    Source,
    known_languages,
)
from hybridir.secrets import without_secrets

PAIR_READERS: dict[str, PairReader] = {
    "sample": sample.find_shards,
    "lareqa": lareqa.find_shards,
    "jsonl": fields.find_shards,
    "parquet": fields.find_shards,
    "tevatron": tevatron.find_shards,
    "sentence-transformers": columns.find_shards,
    "beir": beir.find_shards,
    "mmarco": mmarco.find_shards,
}
ROWS: dict[str, rows.Fields] = {
    "jsonl": fields.FIELDS,
    "parquet": fields.FIELDS,
    "tevatron": tevatron.FIELDS,
    "sentence-transformers": columns.FIELDS,
}
"""The formats whose rows stand for themselves: what a dataset of the Hugging Face hub can hold."""
LICENSES = {
    "sample": "Unicode-3.0",  # of CLDR
    "lareqa": "XQuAD-R: CC-BY-SA-4.0, MLQA-R: CC-BY-NC-4.0",  # as the README of `lareqa.SOURCE` has it at that commit
}
"""Licences of the formats that published data alone comes in."""
BENCHMARK_READERS: dict[str, BenchmarkReader] = {
    "sample": sample.read_benchmark,
    "xquad-r": lareqa.read_benchmark,
    "mlqa-r": lareqa.read_benchmark,
    "beir": beir.read_benchmark,
    "miracl": miracl.read_benchmark,
    heldout.NAME: heldout.read_benchmark,
}


def find_shards(data: DataConfig) -> list[Shard]:
    """The parts of all sources of `data`, in order; nothing of them is read yet."""
    sources: tuple[Source, ...] = data.sources or (data,)
    found, names = [], []
    for source in sources:
        name = source.name or (without_secrets(source.path) or source.format if len(sources) > 1 else "")
        names.append(name)
        found += _of_source(replace(source, name=name), languages=data.languages)
    if data.validation:
        names.append(data.validation.name or "validation")
        found += _of_source(replace(data.validation, name=names[-1]), languages=data.languages, split="validation")
    if len(set(names)) < len(names):
        raise ValueError(f"two sources of data are called {max(names, key=names.count)!r}: give them different names")
    return found


def contents_key(shards: Iterable[Shard], validation_share: float) -> str:
    """16 hexadecimal digits that change with the contents, how they are taken and parted, and the code that reads."""
    digest = hashlib.sha256(str(validation_share).encode())
    for file in sorted(Path(__file__).parents[1].glob("*.py")) + sorted(Path(__file__).parent.iterdir()):
        if file.is_file() and (file.parent.name == "formats" or file.stem in ("records", "intake", "corpus_build")):
            digest.update(file.read_bytes())
    for shard in shards:
        digest.update(shard.identity.encode() + b"\0")
    return digest.hexdigest()[:16]


def read_benchmark(config: BenchmarkConfig) -> Benchmark:
    """The benchmark that `config.name` names; `ValueError` where a field is set that it does not use."""
    if config.name not in BENCHMARK_READERS:
        raise ValueError(f"benchmark.name {config.name!r} is unknown; there are {', '.join(BENCHMARK_READERS)}")
    is_sample, is_held_out = config.name == "sample", config.name == heldout.NAME
    uses = {"path": not is_sample, "facts": is_sample, "language": config.name == "beir", "groups": is_held_out}
    for field, used in uses.items():
        value = getattr(config, field)
        if not used and value != getattr(BenchmarkConfig(), field):
            shown = without_secrets(str(value))
            raise ValueError(f"benchmark.{field} is {shown!r}, which {config.name} does not use: leave it out")
    return BENCHMARK_READERS[config.name](config)


def _of_source(source: Source, languages: tuple[str, ...] | None, split: Part | Literal[""] = "") -> list[Shard]:
    source = replace(source, languages=source.languages or languages)
    if source.format not in PAIR_READERS:
        raise ValueError(f"data.format {source.format!r} is unknown; there are {', '.join(PAIR_READERS)}")
    if source.path.startswith("hf://"):
        if source.format not in ROWS:
            raise ValueError(f"a dataset of the hub is read as {', '.join(ROWS)}, not as {source.format}")
        found = hub.find_shards(source, ROWS[source.format])
    else:
        found = PAIR_READERS[source.format](source)
    taken = f"{source.format} {source.name} {source.language} {source.languages} {source.max_negatives} {split}"
    if source.format != "sample":  # rows name their languages; Babel's release says which there are
        taken += f" babel {version('babel')}"
    return [
        replace(shard, read=partial(_take, shard.read, source, split), identity=f"{shard.identity} {taken}")
        for shard in found
    ]


def _take(
    read: Callable[[], Iterable[Pair | Rejected]], source: Source, split: Part | Literal[""]
) -> Iterator[Pair | Rejected]:
    """What `source` asks for of the records that are read; validation pairs are a source apart from all others."""
    for record in read():
        if isinstance(record, Pair):
            left_out = source.languages and record.language not in source.languages
            if left_out and record.language in known_languages():  # an unknown one is rejected as such
                record = Rejected(file=record.file, line=record.line, reason=LEFT_OUT, value=record.language)
            elif source.name or split or source.max_negatives is not None:
                record = replace(
                    record,
                    source=f"{source.name} {record.source}".strip() if split else record.source or source.name,
                    split=split or record.split,
                    negatives=record.negatives[: source.max_negatives],
                )
        yield record
