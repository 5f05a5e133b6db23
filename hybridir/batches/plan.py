"""The batch plan, a pure function: (corpus, sampling config, batch size, seed, step) -> the global batch.

`sampling.py` explains the kinds of batch. No two items of a batch share a passage group, so no positive is a false
negative of another item. Random numbers are counter-based (Philox: the seed is the key, the step is in the counter), so
any step can be drawn without those before it.

Shapes: B items of a batch, n hard negatives an item, G groups, L languages.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from hybridir.batches import draws
from hybridir.batches.sampling import KINDS, Sampling, first_of_second_pool
from hybridir.batches.subset import Subset
from hybridir.data.corpus import Corpus
from hybridir.data.languages import check_languages
from hybridir.runtime.random_numbers import Uniform, uniform_numbers

_ROUNDS = 64
"""Random tries for an item before the groups that are still free are listed."""
_NO_PART = {
    "train": "Lower data.validation_share, or check data.languages",
    "validation": "Raise data.validation_share, or give validation data of its own by data.validation",
}


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A global batch, or one rank's part. Language indices refer to `Plan.languages`, all others to the corpus."""

    step: int
    kind: str
    groups: np.ndarray  # int64 [B]
    query_language: np.ndarray  # int64 [B]
    passage_language: np.ndarray  # int64 [B]
    query_row: np.ndarray  # int64 [B]
    passage_row: np.ndarray  # int64 [B]
    negatives: np.ndarray  # int64 [B, n], indices into `Corpus.negative_group`
    first: int = 0  # place of the first item in the global batch

    def part(self, rank: int, world_size: int) -> "Batch":
        """The part of one rank: a contiguous slice of the items."""
        size = len(self.groups) // world_size
        assert size * world_size == len(self.groups), "the batch size is divisible by the number of workers"
        chosen = slice(rank * size, (rank + 1) * size)
        arrays = {k: v[chosen] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        return Batch(step=self.step, kind=self.kind, first=rank * size, **arrays)


class TooLarge(ValueError):
    """The corpus cannot fill a batch. `largest` is the size of the largest batch that it can always fill."""

    def __init__(self, message: str, largest: int) -> None:
        super().__init__(message)
        self.largest = largest


class Plan:
    """Draws the global batch of any step, from the groups of one part of the corpus (`train` or `validation`).

    If a mixed or cross batch has no free group left in the languages drawn for an item, other languages are drawn.
    `columns` holds, for each of `languages`, its place in `corpus.languages`.

    Raises:
        ValueError: the corpus cannot fill every batch that `sampling` may ask for, whatever the seed; `TooLarge` if a
            smaller batch size would do.
    """

    def __init__(self, corpus: Corpus, sampling: Sampling, batch_size: int, seed: int, part: str = "train") -> None:
        if batch_size < 2:
            raise ValueError(f"the batch size is {batch_size}: in-batch negatives need at least 2 items")
        self.corpus, self.sampling, self.batch_size, self.seed, self.part = corpus, sampling, batch_size, seed, part
        self.languages = check_languages(sampling.languages or corpus.languages, corpus.languages, "the corpus")
        if sampling.noise.probability:
            sampling.noise.check(self.languages)
        self.columns = np.array([corpus.languages.index(code) for code in self.languages])
        self.subset = Subset(corpus, sampling, part)
        self._weights: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}  # by pair of languages, once computed
        self._sort_groups()
        self._check()

    def batch(self, step: int) -> Batch:
        """The global batch of `step` (0 or more)."""
        assert not self.sampling.mono_first_tokens, "they are counted first: see `in_steps`"
        uniform = uniform_numbers(self.seed, draws.PLAN, step)
        kind = KINDS[_choose(np.array(self.sampling.weights), uniform(1))[0]]
        kind = "mono" if step < self.sampling.mono_first else kind
        if kind == "both":
            half = first_of_second_pool(self.batch_size)
            sizes = {"mono": half, "cross": self.batch_size - half}
        else:
            sizes = {kind: self.batch_size}
        pair_B = np.concatenate([self._draw_languages(part, size, uniform) for part, size in sizes.items()])
        groups = self._draw_groups(pair_B, uniform)
        query_language, passage_language = pair_B.T
        row_of = self.corpus.row_of
        passage_row = row_of[groups, self.columns[passage_language]].astype(np.int64)
        return Batch(
            step=step,
            kind=kind,
            groups=groups,
            query_language=query_language.copy(),
            passage_language=passage_language.copy(),
            query_row=row_of[groups, self.columns[query_language]].astype(np.int64),
            passage_row=passage_row,
            negatives=self._draw_negatives(passage_row, uniform),
        )

    def _draw_languages(self, kind: str, size: int, uniform: Uniform) -> np.ndarray:
        """Draws the (query, passage) languages of `size` items, int64 [size, 2]; all are equal for `mono`."""
        pairs, weights = self._language_pairs[kind]
        drawn = _choose(weights, uniform(1 if kind == "mono" else size))
        return np.broadcast_to(pairs[drawn], (size, 2)).copy()

    @cached_property
    def _language_pairs(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each kind, the (query, passage) languages that can be drawn, int64 [pairs, 2], and their weights."""
        table = {}
        for kind in ("mono", "mixed", "cross"):
            every = [(x, y) for x in range(len(self.languages)) for y in range(len(self.languages))]
            pairs = np.array([p for p in every if (p[0] != p[1]) == (kind == "cross") and self._sizes(*p).any()])
            sizes = np.array([self._sizes(*pair).sum() for pair in pairs], dtype=np.float64)
            table[kind] = (pairs.reshape(-1, 2), sizes**self.sampling.language_exponent)
        return table

    def _sort_groups(self) -> None:
        """Sorts groups into classes.

        The groups of a class have the same source, queries in the same languages, and passages with enough hard
        negatives in the same languages.
        """
        corpus = self.corpus
        members = self.subset.groups
        rows_GL = self.subset.rows(members)[:, self.columns]
        as_query = rows_GL >= 0
        count = np.diff(corpus.negative_start)
        as_passage = as_query & (count[rows_GL] >= self.sampling.negatives)
        key = np.concatenate([np.packbits(as_query, axis=1), np.packbits(as_passage, axis=1)], axis=1)
        source_of = corpus.source_of[members]
        key = np.concatenate([source_of[:, None].astype(">u2").view(np.uint8), key], axis=1)
        key = np.ascontiguousarray(key).view(f"V{key.shape[1]}").ravel()
        _, first, class_G = np.unique(key, return_index=True, return_inverse=True)
        self._order = members[np.argsort(class_G, kind="stable")].astype(np.int32)  # groups, class by class
        self._class_start = np.concatenate([[0], np.cumsum(np.bincount(class_G))])
        self._class_source = source_of[first]
        self._class_query, self._class_passage = as_query[first], as_passage[first]

    def _classes(self, query_language: int, passage_language: int) -> np.ndarray:
        """The classes whose groups have a query and a passage in these languages."""
        return np.flatnonzero(self._class_query[:, query_language] & self._class_passage[:, passage_language])

    def _sizes(self, query_language: int, passage_language: int) -> np.ndarray:
        """The number of groups in each of `_classes`."""
        return np.diff(self._class_start)[self._classes(query_language, passage_language)]

    def _eligible(self, query_language: int, passage_language: int) -> np.ndarray:
        """The groups that have a query and a passage in these languages."""
        spans = [
            (self._class_start[c], self._class_start[c + 1]) for c in self._classes(query_language, passage_language)
        ]
        return np.concatenate([self._order[a:b] for a, b in spans] or [self._order[:0]])

    def _group_weights(self, query_language: int, passage_language: int) -> tuple[np.ndarray, np.ndarray]:
        """The classes in these languages, and weights that draw a source by size ** exponent, then a group in it."""
        pair = (int(query_language), int(passage_language))
        if pair not in self._weights:
            classes, sizes = self._classes(*pair), self._sizes(*pair).astype(np.float64)
            sources, of_class = np.unique(self._class_source[classes], return_inverse=True)
            size_of_source = np.bincount(of_class, weights=sizes, minlength=len(sources))
            self._weights[pair] = classes, sizes * (size_of_source ** (self.sampling.source_exponent - 1))[of_class]
        return self._weights[pair]

    def _draw_groups(self, pair_B: np.ndarray, uniform: Uniform) -> np.ndarray:
        """Draws one group for each item, int64 [B], all of different passage groups.

        An item that collides with an earlier one is drawn again. If no free group is left in the languages of an item,
        other languages are drawn for it and written to `pair_B`.
        """
        groups = np.full(len(pair_B), -1, dtype=np.int64)
        taken = np.empty(0, dtype=np.int64)
        pending = np.arange(len(pair_B))
        for _ in range(_ROUNDS):
            choice, place = uniform(len(pending)), uniform(len(pending))
            candidate = np.empty(len(pending), dtype=np.int64)
            for pair in np.unique(pair_B[pending], axis=0):
                at = np.flatnonzero((pair_B[pending] == pair).all(axis=1))
                candidate[at] = self._draw(pair, choice[at], place[at])
            passage_group = self.corpus.passage_group[candidate]
            new = np.zeros(len(pending), dtype=bool)
            new[np.unique(passage_group, return_index=True)[1]] = True
            new &= ~np.isin(passage_group, taken)
            groups[pending[new]] = candidate[new]
            taken = np.concatenate([taken, passage_group[new]])
            pending = pending[~new]
            if not len(pending):
                return groups
        for item in pending:
            pairs, weights = self._language_pairs["mixed" if pair_B[item, 0] == pair_B[item, 1] else "cross"]
            while (group := self._draw_free(pair_B[item], taken, uniform)) < 0:
                weights = np.where((pairs == pair_B[item]).all(axis=1), 0.0, weights)
                pair_B[item] = pairs[_choose(weights, uniform(1))[0]]
            groups[item] = group
            taken = np.append(taken, self.corpus.passage_group[group])
        return groups

    def _draw_free(self, pair: np.ndarray, taken: np.ndarray, uniform: Uniform) -> int:
        """A group with a query and a passage in these languages whose passage group is not taken; -1 if none is left.

        Tries at random first, and lists all free groups only if that fails.
        """
        candidates = self._draw(pair, uniform(_ROUNDS), uniform(_ROUNDS)) if _ROUNDS else np.empty(0, dtype=np.int64)
        free = candidates[~np.isin(self.corpus.passage_group[candidates], taken)]
        if len(free):
            return int(free[0])
        eligible = self._eligible(*pair)
        free = eligible[~np.isin(self.corpus.passage_group[eligible], taken)]
        return int(free[int(uniform(1)[0] * len(free))]) if len(free) else -1

    def _draw(self, pair: np.ndarray, choice: np.ndarray, place: np.ndarray) -> np.ndarray:
        """Draws groups in these languages by numbers in [0, 1): `choice` picks the class, `place` the group in it."""
        classes, weights = self._group_weights(*pair)
        chosen = classes[_choose(weights, choice)]
        start, end = self._class_start[chosen], self._class_start[chosen + 1]
        return self._order[start + (place * (end - start)).astype(np.int64)]

    def _draw_negatives(self, passage_row: np.ndarray, uniform: Uniform) -> np.ndarray:
        """Draws n = `sampling.negatives` hard negatives of each passage, without replacement; int64 [B, n]."""
        n = self.sampling.negatives
        drawn = np.empty((len(passage_row), n), dtype=np.int64)
        for item, row in enumerate(passage_row if n else ()):
            start, end = self.corpus.negative_start[row : row + 2]
            drawn[item] = start + np.argsort(uniform(int(end - start)), kind="stable")[:n]
        return drawn

    def _no_pair(self, kind: str) -> str:
        least = self.sampling.negatives
        enough = f", with at least {least} hard negatives" if least else ""
        if kind in ("mono", "mixed"):
            return (
                f"sampling asks for {kind} batches, but no pair is in one of the languages {', '.join(self.languages)}"
                f"{enough}: ask for fewer hard negatives (sampling.negatives), or name other languages"
            )
        return (
            f"sampling asks for {kind} batches, but no question is in two of the languages {', '.join(self.languages)}"
            f"{enough}: translations of a question share their group_id (another column: --data.columns "
            "'{group_id: NAME}'). Without translations take --sampling.method X-X-mono"
        )

    def _check(self) -> None:
        """Checks that each language alone can fill a mono batch, and all languages together the other kinds."""
        if not len(self._order):
            raise ValueError(f"the data has no {self.part} pairs. {_NO_PART[self.part]}")
        largest = int(np.bincount(self.corpus.passage_group[self._order]).max())
        lacking: list[tuple[int, int, str, str]] = []  # distinct passages, groups, kind, languages
        for kind in (kind for kind in KINDS if kind in self.sampling.parts):
            pairs = self._language_pairs[kind][0]
            if not len(pairs):
                raise ValueError(self._no_pair(kind))
            for fillers in pairs[:, None] if kind == "mono" else [pairs]:
                if max(self._sizes(*pair).sum() for pair in fillers) >= self.batch_size * largest:
                    continue
                groups = np.concatenate([self._eligible(*pair) for pair in fillers])
                distinct = len(np.unique(self.corpus.passage_group[groups]))
                if distinct < self.batch_size:
                    names = self.languages[fillers[0][0]] if kind == "mono" else ", ".join(self.languages)
                    lacking.append((distinct, len(groups), kind, names))
        if lacking:
            short = [names for _, _, kind, names in lacking if kind == "mono"]
            others = len(short) < len(self._language_pairs["mono"][0])
            raise self._too_large(*min(lacking), ", ".join(short) if others else "")

    def _too_large(self, distinct: int, groups: int, kind: str, names: str, left_out: str) -> TooLarge:
        """The error about the languages with the fewest passages; without those of `left_out`, if any, it would do."""
        remedies = [f"lower train.batch_size to {distinct}"] * (distinct > 1)
        if self.part == "validation":
            remedies += ["raise data.validation_share"]
        if left_out and kind == "mono":
            remedies += [f"leave {left_out} out of sampling.languages"]
        remedies = remedies or ["add data"]
        told = " or ".join(remedies)
        shared = f"; {groups} groups share these passages: check passage_id and passage_group_id"
        return TooLarge(
            f"a {kind} batch needs {self.batch_size} groups with different passages in {names}, and there are "
            f"{distinct}. {told[0].upper()}{told[1:]}{shared * (groups > distinct)}",
            distinct,
        )


def _choose(weights: np.ndarray, u: np.ndarray) -> np.ndarray:
    """For each u in [0, 1), an index with probability proportional to its weight."""
    bounds = np.cumsum(weights)
    return np.minimum(np.searchsorted(bounds, u * bounds[-1], side="right"), np.flatnonzero(weights)[-1])
