"""The records that every reader produces and everything else consumes.

A *group* is one question in all its translations; a *passage group* is one passage in all its translations, and
everything that is the same passage. Nothing in a passage group is ever a negative for another member of it.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Literal, Protocol

Split = Literal["train", "validation", "test", "all"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A text that can be retrieved. `passage_id` is unique within its language."""

    passage_id: str
    language: str
    text: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A question in one language and the passage in that language which answers it.

    `group_id` ties the translations of the question (unique within `source`). `passage_group_id`, where given, ties
    passages beyond that: passages are the same anyway where they share a group, an id or a text. `negatives` are
    passages in the same language that look relevant and are not. `where` names file and line, for messages.
    """

    group_id: str
    language: str
    query: str
    passage: Passage
    passage_group_id: str = ""
    negatives: tuple[Passage, ...] = ()
    source: str = ""
    where: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A row that cannot be used: where it stands, the reason (a short fixed phrase) and the offending value."""

    where: str
    reason: str
    value: str = ""


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
    order of `passages` is the order in which ties are broken.
    """

    name: str
    languages: tuple[str, ...]
    queries: tuple[Query, ...]
    passages: tuple[Passage, ...]
    relevant: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training data: the split `train` is learned from, the split `validation` decides when to stop.

    Args:
        format: name of the reader (`sample` or `lareqa`).
        path: folder or file with the data; the sample has none.
        languages: languages to take, all when omitted.
        facts: for the sample only: number of facts, each a pair in every language.
    """

    format: str = "sample"
    path: str = ""
    languages: tuple[str, ...] | None = None
    facts: int = 960


@dataclass(frozen=True, kw_only=True)
class BenchmarkConfig:
    """What the trained encoder is measured on.

    Args:
        name: name of the benchmark (`sample`, `xquad-r` or `mlqa-r`).
        path: folder with the benchmark's files; the sample has none.
        split: `test` takes what training on the same data leaves out, `all` the whole benchmark.
        languages: languages to take, all when omitted.
        facts: for the sample only: number of facts.
    """

    name: str = "sample"
    path: str = ""
    split: Split = "test"
    languages: tuple[str, ...] | None = None
    facts: int = 960


class PairReader(Protocol):
    """Reads the pairs of one split in a fixed order, one at a time."""

    def __call__(self, config: DataConfig, split: Split) -> Iterator[Pair | Rejected]: ...


class BenchmarkReader(Protocol):
    """Reads a benchmark."""

    def __call__(self, config: BenchmarkConfig) -> Benchmark: ...


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
