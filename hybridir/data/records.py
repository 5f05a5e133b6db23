"""The records that every reader produces and everything else consumes.

A *group* is one question in all its translations. A *passage group* is one passage in all its translations, together
with all other passages that count as the same. Members of a passage group are never negatives for each other.
"""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np

    from hybridir.data.passages import Passages

Split = Literal["train", "validation", "test", "all"]
Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, ...] = ("train", "validation", "test")
SEEN_PARTS: tuple[Part, ...] = ("train", "validation")
"""The parts of a corpus that a run sees while it trains; `test` is only measured on."""
SPLITS: tuple[Split, ...] = ("train", "validation", "test", "all")


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A text that can be retrieved. `passage_id` is unique within its language."""

    passage_id: str
    language: str
    text: str

    @property
    def full_id(self) -> str:
        """`LANGUAGE:ID`, unique in a benchmark; query ids of a benchmark have the same form."""
        return f"{self.language}:{self.passage_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """A question in one language, and the passage in the same language that answers it.

    `group_id` ties the translations of a question; it is unique within `source`. `passage_group_id`, if given, ties
    further passages that count as the same; passages with the same group, id or text are tied without it. `negatives`
    (hard negatives) are passages, each in a language of its own, that look relevant but are not; `negative_scores`,
    empty or one for each, say how relevant another model finds them. `split` is empty if the format has no splits.
    `topic` is the domain that a format assigns by itself, of pairs whose data name none: it is no part of the
    fingerprint. `file` and `line` (from 1; 0 if there are no lines) say where the pair was read.
    """

    group_id: str
    language: str
    query: str
    passage: Passage
    passage_group_id: str = ""
    negatives: tuple[Passage, ...] = ()
    negative_scores: tuple[float, ...] = ()
    source: str = ""
    domain: str = ""
    topic: str = ""
    split: Part | Literal[""] = ""
    file: str = ""
    line: int = 0

    def at(self, file: str, line: int) -> "Pair":
        """This pair, just made, with its place. It is set, not copied: readers do this for every row."""
        object.__setattr__(self, "file", file)
        object.__setattr__(self, "line", line)
        return self


@dataclass(frozen=True, kw_only=True, slots=True)
class Rejected:
    """A row that cannot be used: its file and line, the reason (a short fixed phrase) and the value that is wrong."""

    file: str
    reason: str
    value: str = ""
    line: int = 0


class BadRow(Exception):
    """A row that cannot be used: the reason (a short fixed phrase) and the value that is wrong."""

    def __init__(self, reason: str, value: str) -> None:
        super().__init__(reason, value)
        self.reason, self.value = reason, value

    def at(self, file: str, line: int) -> Rejected:
        """What is rejected, with its place."""
        return Rejected(file=file, line=line, reason=self.reason, value=self.value)


UNKNOWN = "unknown language code"
"""A reason for which all values are counted."""

Row = dict[str, Any]
"""A row of a file: column -> value."""

OVERLAP = "overlaps with an excluded benchmark"
"""The reason for which `data.exclude` rejects pairs; as it is asked for, `data.max_rejected` does not count it."""
LEFT_OUT = "language not asked for"
UNREAD = "fields not read"
SKIPPED = "files not read"
REPEATED = "passages given twice, kept once"
OWN = "hard negatives that are the positive, left out"
LICENSED = "licences of rows"
NO_ANSWER = "rows without an answer"
NOTES = (LEFT_OUT, UNREAD, SKIPPED, REPEATED, OWN, LICENSED, NO_ANSWER)
"""Reasons that are notes, not errors: counted separately from rejected rows, and shown to the user."""


@dataclass(frozen=True)
class Shard:
    """A part of a source that one task reads.

    Attributes:
        read: yields the records in order, at least one for every line. Lines are numbered from 1 within the shard.
        file: the file that the shard is a part of. Line numbers continue over consecutive shards of one file.
        identity: changes if the contents change. A cached corpus is used if the identities of all shards are the same.
        size: bytes, 0 if unknown; used for progress only.
    """

    read: Callable[[], Iterable[Pair | Rejected]]
    file: str
    identity: str
    size: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """A question of a benchmark. Translations share `group_id`; intervals resample whole clusters (`cluster`).

    `domain` is empty if it is not known; it is no part of the benchmark's fingerprint.
    """

    query_id: str
    language: str
    text: str
    group_id: str
    cluster: str
    domain: str = field(default="", repr=False)


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Queries, candidate passages and relevance judgements, all in a fixed order.

    `relevant[i]` has the positions in `passages` of all passages, in any language, that are relevant to `queries[i]`.
    Ties in a ranking are broken by the order of `passages`. `notes` are sentences for readers of the results: what was
    left out and how often, and other remarks. `grades`, parallel to `relevant`, has the grade of each judgement, above
    0; it is empty if all are the same. `own[i]` is the position of the passage that `queries[i]` is itself, which its
    rankings leave out; -1 if there is none, and `own` is empty if no query has one.
    """

    name: str
    languages: tuple[str, ...]
    queries: tuple[Query, ...]
    passages: "Passages"
    relevant: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...] = ()
    grades: tuple[tuple[int, ...], ...] = ()
    own: tuple[int, ...] = ()

    @property
    def language_P(self) -> "np.ndarray":
        """int32, one for each passage: the position of its language in `languages`."""
        return self.passages.language_numbers(self.languages)


def place(file: str, line: int | None) -> str:
    """`FILE:LINE`, a form that editors can open; only the file if there is no line."""
    return f"{file}:{line}" if line else file


def benchmark_fingerprint(benchmark: Benchmark) -> str:
    """16 hexadecimal digits that change with any query, passage or judgement, and with their order."""
    digest = hashlib.sha256()
    for query, relevant in zip(benchmark.queries, benchmark.relevant, strict=True):
        digest.update(repr((query, relevant)).encode())
    for passage in benchmark.passages:
        digest.update(repr(passage).encode())
    for more in filter(None, (benchmark.grades, benchmark.own)):
        digest.update(repr(more).encode())
    return digest.hexdigest()[:16]
