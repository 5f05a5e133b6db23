"""The records that every reader produces and everything else consumes.

A *group* is one question in all its translations; a *passage group* is one passage in all its translations, and
everything that is the same passage. Nothing in a passage group is ever a negative for another member of it.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

Split = Literal["train", "validation", "test", "all"]
Part = Literal["train", "validation"]
PARTS: tuple[Part, ...] = ("train", "validation")
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "all")


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A text that can be retrieved. `passage_id` is unique within its language."""

    passage_id: str
    language: str
    text: str

    @property
    def full_id(self) -> str:
        """`LANGUAGE:ID`, unique in a benchmark, as the ids of its queries are."""
        return f"{self.language}:{self.passage_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A question in one language and the passage in that language which answers it.

    `group_id` ties the translations of the question (unique within `source`). `passage_group_id`, where given, ties
    passages beyond that: passages are the same anyway where they share a group, an id or a text. `negatives` are
    passages in the same language that look relevant and are not. `split` is empty where the format knows none. `file`
    and `line` (from 1; 0 where there are no lines) say where it stands.
    """

    group_id: str
    language: str
    query: str
    passage: Passage
    passage_group_id: str = ""
    negatives: tuple[Passage, ...] = ()
    source: str = ""
    domain: str = ""
    split: Part | Literal[""] = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A row that cannot be used: where it stands, the reason (a short fixed phrase) and the offending value."""

    file: str
    reason: str
    value: str = ""
    line: int = 0


LEFT_OUT = "language not asked for"
UNREAD = "field that nothing reads"
SKIPPED = "file that is not read"
NOTES = (LEFT_OUT, UNREAD, SKIPPED)
"""Reasons that are no errors: what they are given for is counted apart, and told."""


@dataclass(frozen=True)
class Shard:
    """A part of a source that one task reads.

    Attributes:
        read: yields its rows in order; at least one record for every line, numbered from 1 within the shard.
        file: what it is a part of. Lines count on over consecutive shards of one file.
        identity: changes whenever the contents do: a corpus whose shards are as before is not read again.
        size: in bytes, 0 if unknown; for the progress alone.
    """

    read: Callable[[], Iterable[Pair | Rejected]]
    file: str
    identity: str
    size: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A question of a benchmark. Its translations share `group_id`; `cluster` is the unit of resampling."""

    query_id: str
    language: str
    text: str
    group_id: str
    cluster: str


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Queries, candidate passages and relevance judgements, all in a fixed order.

    `relevant[i]` holds the positions in `passages` of everything that answers `queries[i]`, in every language. The
    order of `passages` is the order in which ties are broken. `notes` say what was left out, with its number, and
    whatever else a reader of the results must know.
    """

    name: str
    languages: tuple[str, ...]
    queries: tuple[Query, ...]
    passages: tuple[Passage, ...]
    relevant: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()


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


def place(file: str, line: int | None) -> str:
    """Where a row stands, in the way that editors open."""
    return f"{file}:{line}" if line else file


@cache
def known_languages() -> frozenset[str]:
    """Language codes that CLDR knows (ISO 639-1 where there is one, else 639-3)."""
    from babel import Locale

    return frozenset(Locale.parse("en").languages)


def check_languages(languages: Iterable[str], available: Iterable[str], what: str) -> tuple[str, ...]:
    """`languages` as a tuple, in their order; `ValueError` naming the first that `what` does not have."""
    available = sorted(available)
    for language in (chosen := tuple(languages)):
        if language not in available:
            raise ValueError(f"{what} has no language {language!r}; it has {', '.join(available)}")
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"a language is named twice: {', '.join(chosen)}")
    return chosen
