"""Turns batches of the plan into token ids and lengths: what a worker receives for a step.

There is no padding here: the encoder decides how texts are laid out in a forward pass.

Shapes: b items of one rank, n hard negatives an item, T tokens of all texts of the rank.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from hybridir.batches.noise import NoisyQueries
from hybridir.batches.plan import Batch, Plan
from hybridir.batches.sampling import Sampling
from hybridir.batches.teacher import Teacher
from hybridir.batches.token_cache import TokenCache, TokenJob
from hybridir.batches.views import TranslationViews
from hybridir.data.corpus import Corpus

_NONE = np.empty(0, dtype=np.int32)


@dataclass(frozen=True, kw_only=True)
class TokenBatch:
    """One rank's part of a global batch: its texts view by view, in each view item by item.

    The views are `query`, `positive`, `negative` (n an item), and where asked for `passage_translation`,
    `query_translation` and `noisy_query`.
    """

    step: int
    rank: int
    kind: str
    views: dict[str, int]  # texts of an item, by view
    ids: np.ndarray  # int32 [T]
    lengths: np.ndarray  # int32 [texts]; 0 where an item has no translation
    passage_group: np.ndarray  # int64 [b + b * n], of positives and hard negatives
    language: (
        np.ndarray
    )  # int16 [texts], index into `Corpus.languages`, or as `Corpus.negative_language`; -1 for no text
    example: np.ndarray  # uint64 [b, 3]: key of the group, index of the query language, of the passage language
    teacher: np.ndarray | None = None  # float32 [2 b, T], see `Teacher.take`

    def places(self) -> dict[str, slice]:
        """Where the texts of each view stand among all texts."""
        ends = np.cumsum([count * len(self.example) for count in self.views.values()]).tolist()
        return dict(zip(self.views, map(slice, [0, *ends], ends), strict=False))

    def digests(self) -> np.ndarray:
        """A hash of each item (its group, languages and token ids) as it arrived at the worker, int64 [b]."""
        texts = np.split(self.ids, np.cumsum(self.lengths)[:-1])
        places, hashes = self.places(), []
        for item, example in enumerate(self.example):
            digest = hashlib.blake2b(example.tobytes(), digest_size=8)
            for view, count in self.views.items():
                for text in texts[places[view]][item * count : (item + 1) * count]:
                    digest.update(len(text).to_bytes(4, "little") + text.tobytes())
            hashes.append(int.from_bytes(digest.digest(), "little", signed=True))
        return np.array(hashes, dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class BatchSource:
    """A plan over a tokenised corpus, as a small value to send to other processes, which then open the files."""

    corpus: str  # folder
    tokens: str  # folder of the token cache
    sampling: Sampling
    batch_size: int
    seed: int
    part: str = "train"
    token_job: TokenJob | None = None  # how texts with noise become tokens; needed only for these
    noisy_query: bool = False  # whether a loss needs this view
    teacher: str = ""  # folder of a teacher's embeddings, if a loss needs them
    teacher_language: str | None = None  # the language in which the teacher reads; None: that of the text

    def plan(self) -> Plan:
        """The plan; opened once a process."""
        return _open(self)[0]

    def noise_of(self, batch: Batch) -> list[str]:
        """The kinds of noise of the queries of `batch` that have some (`sampling.noise`)."""
        noise = _open(self)[3]
        return [kind for kind, _ in noise.drawn(batch).values()] if self.sampling.noise.probability and noise else []

    def noisy_texts(self, batch: Batch) -> dict[int, str]:
        """These queries with their noise, by item."""
        noise = _open(self)[3]
        return noise.texts(batch) if self.sampling.noise.probability and noise else {}

    def lengths(self, step: int) -> dict[str, np.ndarray]:
        """The lengths in tokens of the texts of the global batch of `step` by view, as `batch` gives them.

        Only texts with noise are tokenised for that; nothing else is read but lengths.
        """
        plan, cache, translations, noise, _ = _open(self)
        batch = plan.batch(step)
        views = {
            "query": cache.query.lengths(batch.query_row),
            "positive": cache.passage.lengths(batch.passage_row),
            "negative": cache.negatives.lengths(batch.negatives.ravel()),
        }
        for name, rows in translations.rows(batch):
            views[name] = (cache.passage if name == "passage_translation" else cache.query).lengths(rows.ravel())
        if self.noisy_query and noise:
            views["noisy_query"] = np.array([len(ids) for ids in noise.every(batch)])
        if self.sampling.noise.probability and noise:
            for item, ids in noise.some(batch).items():
                views["query"][item] = len(ids)
        return views

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> TokenBatch:
        """The part of one rank of the global batch of `step`."""
        plan, cache, translations, noise, teacher = _open(self)
        batch = plan.batch(step).part(rank, world_size)
        views = {
            "query": cache.query.take(batch.query_row),
            "positive": cache.passage.take(batch.passage_row),
            "negative": cache.negatives.take(batch.negatives.ravel()),
        }
        query_b, passage_b = plan.columns[batch.query_language], plan.columns[batch.passage_language]
        own_bn = plan.corpus.negative_language[batch.negatives]
        languages = [query_b, passage_b, np.where(own_bn < 0, passage_b[:, None], own_bn).ravel()]
        for name, rows in translations.rows(batch):
            column = cache.passage if name == "passage_translation" else cache.query
            views[name] = [column.take(row)[0] if row[0] >= 0 else _NONE for row in rows.reshape(-1, 1)]
            same_bkL = plan.corpus.row_of[batch.groups][:, None] == rows[..., None]
            languages.append(np.where(rows < 0, -1, same_bkL.argmax(axis=-1)).ravel())
        if self.noisy_query and noise:
            views["noisy_query"] = noise.every(batch)
            languages.append(query_b)
        if self.sampling.noise.probability and noise:
            noisy = noise.some(batch)
            views["query"] = [noisy.get(item, ids) for item, ids in enumerate(views["query"])]
        texts = [text for view in views.values() for text in view]
        example = (plan.corpus.group_key[batch.groups], batch.query_language, batch.passage_language)
        groups = [plan.corpus.passage_group[batch.groups], plan.corpus.negative_group[batch.negatives.ravel()]]
        return TokenBatch(
            step=step,
            rank=rank,
            kind=batch.kind,
            views={name: len(view) // len(batch.groups) for name, view in views.items()},
            ids=np.concatenate(texts),
            lengths=np.array([len(text) for text in texts], dtype=np.int32),
            passage_group=np.concatenate(groups),
            language=np.concatenate(languages).astype(np.int16),
            example=np.stack([column.astype(np.uint64) for column in example], axis=1),  # mixed types become floats
            teacher=teacher.take(batch) if teacher else None,
        )


Stream = Callable[[BatchSource, int, int, int, int], Iterator[TokenBatch]]
"""(source, start, end, rank, world size) -> the batches of one rank for the steps start to end - 1, in order."""


def local_stream(source: BatchSource, start: int, end: int, rank: int, world_size: int) -> Iterator[TokenBatch]:
    """The `Stream` without Ray: draws batches in this process."""
    return (source.batch(step, rank, world_size) for step in range(start, end))


def to_table(batches: list[TokenBatch]) -> pa.Table:
    """An Arrow table with one row for each batch."""
    lists = ["ids", "lengths", "passage_group", "language", "example"]
    lists += ["teacher"] if batches[0].teacher is not None else []
    columns = {name: [getattr(batch, name) for batch in batches] for name in ("step", "rank", "kind", "views")}
    columns |= {name: [getattr(batch, name).ravel() for batch in batches] for name in lists}
    return pa.table(columns)


def from_table(row: pa.Table) -> TokenBatch:
    """The batch in a table of one row."""
    values = {name: row[name][0] for name in row.column_names}
    arrays = {n: v.values.to_numpy() for n, v in values.items() if isinstance(v, pa.ListScalar)}
    arrays["example"] = arrays["example"].reshape(-1, 3)
    if "teacher" in arrays:
        arrays["teacher"] = arrays["teacher"].reshape(2 * len(arrays["example"]), -1)
    return TokenBatch(**{name: value.as_py() for name, value in values.items() if name not in arrays}, **arrays)


@lru_cache(maxsize=4)
def _open(source: BatchSource) -> tuple[Plan, TokenCache, TranslationViews, NoisyQueries | None, Teacher | None]:
    plan = Plan(Corpus.open(source.corpus), source.sampling, source.batch_size, source.seed, source.part)
    noise = None
    if source.noisy_query or source.sampling.noise.probability:
        assert source.token_job, "texts with noise are tokenised on the way"
        noise = NoisyQueries(plan, source.token_job)
    teacher = Teacher(source.teacher, plan, source.teacher_language) if source.teacher else None
    return plan, TokenCache(source.tokens), TranslationViews(plan), noise, teacher
