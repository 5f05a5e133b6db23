"""The records that every reader produces and everything else consumes.

A *group* is one question in all its translations; a *passage group* is one passage in all its translations, and
everything that is the same passage. Nothing in a passage group is ever a negative for another member of it.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Literal

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


def benchmark_fingerprint(benchmark: Benchmark) -> str:
    """16 hexadecimal digits that change with any query, passage or judgement, and their order."""
    digest = hashlib.sha256()
    for query, relevant in zip(benchmark.queries, benchmark.relevant, strict=True):
        digest.update(repr((query, relevant)).encode())
    for passage in benchmark.passages:
        digest.update(repr(passage).encode())
    return digest.hexdigest()[:16]
