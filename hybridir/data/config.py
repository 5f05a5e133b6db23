"""The configuration of data and benchmarks: which to read, and how."""

from dataclasses import dataclass
from typing import Protocol

from hybridir.data.records import SPLITS, Benchmark, Shard, Split


@dataclass(frozen=True, kw_only=True)
class Source:
    """Pairs in one format.

    Args:
        format: `jsonl` or `parquet` (fields: see the README), `tevatron`, `sentence-transformers`, `beir`, `mmarco`,
            `lareqa` or `sample` (embedded, needs no path).
        path: file or folder; a URI that pyarrow reads (s3://, gs://, ...); or hf://datasets/OWNER/NAME for a dataset of
            the Hugging Face hub, in one of the first four formats. `{language}` in it stands for a language code.
        name: of the source, in the plan and in reports. Omitted: the path, where there are several sources.
        language: of every row that does not say its own.
        languages: languages to take, all when omitted.
        max_negatives: hard negatives kept of each pair, the first ones; all when omitted.
        split: for beir and hf:// only: the split that holds the pairs.
        subset: for hf:// only: the configuration of the dataset.
        revision: for hf:// only: the commit to read (required, so that a run can be repeated).
        facts: for the sample only: number of facts, each a pair in every language.
        license: of the texts, for the model card: an SPDX id or a short text. Omitted: as known for the format, else
            not stated.
    """

    format: str = "sample"
    path: str = ""
    name: str = ""
    language: str | None = None
    languages: tuple[str, ...] | None = None
    max_negatives: int | None = None
    split: str = "train"
    subset: str | None = None
    revision: str | None = None
    facts: int = 960
    license: str | None = None

    def __post_init__(self) -> None:
        if self.max_negatives is not None and self.max_negatives < 0:
            raise ValueError(f"data.max_negatives is {self.max_negatives}: it must be at least 0")


@dataclass(frozen=True, kw_only=True)
class DataConfig(Source):
    """Training and validation pairs: one source, or several.

    Args:
        sources: several sources, instead of the one that the other fields describe.
        validation: source of the validation pairs. Omitted: those that the format sets apart (sample, lareqa), else
            `validation_share` of the groups.
        validation_share: share of the groups that are validated on instead of trained on, with all their translations
            and everything that shares a passage with them.
        max_rejected: share of rejected rows above which the run does not start.
    """

    sources: tuple[Source, ...] = ()
    validation: Source | None = None
    validation_share: float = 0.05
    max_rejected: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("validation_share", "max_rejected"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"data.{name} is {getattr(self, name)}: it must be between 0 and 1")
        if self.sources and (self.path or self.format != Source().format):
            raise ValueError("data has both sources and a format or path of its own: move that into data.sources")


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What the trained encoder is measured on.

    Args:
        name: name of the benchmark (`sample`, `xquad-r`, `mlqa-r`, `miracl`), `beir` for a folder in that format, or
            `validation` for the validation pairs of a corpus.
        path: folder with the benchmark's files, or of the corpus; the sample has none. For beir `{language}` in it
            stands for a code: one folder a language, where queries with the same id are translations of each other.
        split: what is measured on. sample, xquad-r, mlqa-r: `test` takes what training on the same data leaves out,
            `all` the whole benchmark. beir: the name of the judgements, as in `qrels/test.tsv`. miracl: `dev` or
            `train`. Omitted: `dev` of miracl, else `test`.
        language: for beir only: the language of a folder without `{language}` in its path.
        languages: languages to take, all when omitted.
        facts: for the sample only: number of facts.
        groups: for validation only: how many groups of it are taken, all when omitted.
    """

    name: str = "sample"
    path: str = ""
    split: str | None = None
    language: str | None = None
    languages: tuple[str, ...] | None = None
    facts: int = 960
    groups: int | None = None


class PairReader(Protocol):
    """Finds the parts of a source, in a fixed order; reads nothing of them yet."""

    def __call__(self, source: Source) -> list[Shard]: ...


class BenchmarkReader(Protocol):
    """Reads a benchmark."""

    def __call__(self, config: BenchmarkConfig) -> Benchmark: ...


def own_split(config: BenchmarkConfig) -> Split:
    """The split of a benchmark that this project itself divides; `ValueError` where it has no such split."""
    wanted = config.split or "test"
    for split in SPLITS:
        if split == wanted:
            return split
    raise ValueError(f"benchmark.split {wanted!r} is unknown: {config.name} has {', '.join(SPLITS)}")
