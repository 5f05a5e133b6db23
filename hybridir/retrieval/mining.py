"""Hard negatives: passages of an index that rank high for a question and are not of the passage group of its answer.

`MiningRules` ask three things of it: it is outside the passage group of the answer; its rank among such passages is in
a window; its score is below that of the answer by a margin (`relative_margin` is TopK-PercPos of NV-Retriever, arXiv
2407.15831). Members of a passage group are all passages with the id or the text of one of its passages, in any
language. Of passages with the same text in one language, only the first takes part.

Shapes: Q pairs (each a question with its answer), P passages, S those of a shard, K candidates of a question, D
dimension, M members.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from hybridir.data.corpus import Corpus
from hybridir.data.intake import hash_of
from hybridir.data.texts import as_read
from hybridir.retrieval.sharded import Means, Sharded, top_k_sharded
from hybridir.retrieval.shards import Index, Shard


@dataclass(frozen=True, kw_only=True)
class MiningRules:
    """Which passages are hard negatives of a pair.

    Args:
        count: negatives of a pair at most, the best ranked ones.
        count_of: the same for the pairs of some sources: `{faq: 4}`.
        ranks: first and last rank, from 1, counted among the passages outside the passage group.
        absolute_margin: how far the score of a negative is below that of the pair's passage, at least.
        relative_margin: the same as a share of that score, so .05 leaves negatives with at most 95 % of it.
        languages: `same` takes negatives in the language of the pair, `any` in all languages of the index.
    """

    count: int = 8
    count_of: dict[str, int] = field(default_factory=dict)
    ranks: tuple[int, int] = (1, 100)
    absolute_margin: float | None = None
    relative_margin: float | None = 0.05
    languages: Literal["same", "any"] = "same"

    def __post_init__(self) -> None:
        first, last = self.ranks
        if not 1 <= first <= last:
            raise ValueError(f"rules.ranks is {list(self.ranks)}: take two ranks from 1, the lower one first")
        for name, count in {
            "rules.count": self.count,
            **{f"rules.count_of.{k}": v for k, v in self.count_of.items()},
        }.items():
            if not 0 <= count <= last - first + 1:
                raise ValueError(
                    f"{name} is {count}: it must be from 0 to {last - first + 1}, as many as rules.ranks has"
                )
        for name in ("absolute_margin", "relative_margin"):
            if not 0 <= (getattr(self, name) or 0) < float("inf"):
                raise ValueError(f"rules.{name} is {getattr(self, name)}: it must be 0 or more")

    @property
    def has_margin(self) -> bool:
        return self.absolute_margin is not None or self.relative_margin is not None


def choose(
    rules: MiningRules, score_QK: np.ndarray, other_QK: np.ndarray, positive_Q: np.ndarray | None, count_Q: np.ndarray
) -> np.ndarray:
    """bool [Q, K]: which candidates are the hard negatives.

    Args:
        score_QK: the scores of the candidates, best first.
        other_QK: which of them exist and are outside the passage group.
        positive_Q: the scores of the answers; needed for margins only.
        count_Q: how many negatives each question gets at most.
    """
    rank_QK = np.cumsum(other_QK, axis=1)
    kept_QK = other_QK & (rank_QK >= rules.ranks[0]) & (rank_QK <= rules.ranks[1])
    if positive_Q is not None:
        positive = positive_Q.astype(np.float64)[:, None]
        if rules.absolute_margin is not None:
            kept_QK &= score_QK <= positive - rules.absolute_margin
        if rules.relative_margin is not None:
            kept_QK &= score_QK <= positive - rules.relative_margin * np.abs(positive)
    return kept_QK & (np.cumsum(kept_QK, axis=1) <= count_Q[:, None])


@dataclass(frozen=True)
class Members:
    """Which passages of an index are in which passage group: int64 [M], sorted by group, then by position."""

    group_M: np.ndarray
    place_M: np.ndarray

    def of(self, group: int) -> np.ndarray:
        """The positions of a group's members, ascending."""
        return self.place_M[slice(*np.searchsorted(self.group_M, [group, group + 1]))]

    def most(self, group_Q: np.ndarray) -> int:
        """The number of members of the largest of some groups."""
        ends = np.searchsorted(self.group_M, [group_Q, group_Q + 1])
        return int((ends[1] - ends[0]).max(initial=0))


def find_members(index: Index, corpus: Corpus) -> tuple[Index, Members]:
    """The index without passages that repeat a text in their language, and where the corpus' passage groups are in it.

    It reads all texts once. Memory: 40 bytes a passage while repetitions are sought, and 50 a pair.
    """
    known, group = _keys(corpus)
    groups, places, hashes = [np.empty(0, np.int64)], [np.empty(0, np.int64)], dict[str, list[np.ndarray]]()
    for shard in index.shards:
        ids, texts = index.passages(shard)
        hash_S = np.fromiter((_text_key(one) for one in texts), np.uint64, len(texts))
        hashes.setdefault(shard.language, []).append(hash_S[_there(shard)])
        for key_S in (hash_S, np.fromiter((_id_key(one) for one in ids), np.uint64, len(ids))):
            first_S, end_S = (np.searchsorted(known, key_S, side=side) for side in ("left", "right"))
            size_S = end_S - first_S
            nth = np.arange(size_S.sum()) - np.repeat(np.cumsum(size_S) - size_S, size_S)
            groups.append(group[np.repeat(first_S, size_S) + nth])
            places.append(np.repeat(np.asarray(shard.places), size_S))
    pairs = np.unique(np.stack([np.concatenate(groups), np.concatenate(places)]), axis=1)
    return _without_repeated(index, hashes), Members(*pairs)


def _keys(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of the texts and ids of all answers, ascending, and the passage group of each."""
    keys, group_N = list[np.ndarray](), corpus.group_of_row()
    for chunk in range(corpus.n_chunks):
        passages = corpus.chunk(chunk)["passage"]
        for name, key in (("text", _text_key), ("passage_id", _id_key)):
            keys.append(np.fromiter(map(key, passages.field(name).to_pylist()), np.uint64, len(passages)))
    passage_group_N = np.where(group_N < 0, -1, corpus.passage_group[group_N])
    key_2N = np.concatenate([np.concatenate(keys[n::2]) for n in range(2)])
    group_2N = np.tile(passage_group_N, 2)
    kept = np.flatnonzero((key_2N != 0) & (group_2N >= 0))
    kept = kept[np.argsort(key_2N[kept], kind="stable")]
    return key_2N[kept], group_2N[kept]


def _text_key(text: str) -> int:
    return hash_of("text", as_read(text))


def _id_key(name: str) -> int:
    return hash_of("id", name) if name else 0


def _without_repeated(index: Index, hashes: dict[str, list[np.ndarray]]) -> Index:
    """`hashes`: by language, those of the texts of rows that are not dropped."""
    first = {language: np.sort(np.unique(np.concatenate(of), return_index=True)[1]) for language, of in hashes.items()}
    begin, shards = dict.fromkeys(hashes, 0), []
    for shard in index.shards:
        there, start = _there(shard), begin[shard.language]
        new = there[np.isin(np.arange(start, start + len(there)), first[shard.language])]
        begin[shard.language] += len(there)
        shards.append(replace(shard, dropped=tuple(np.delete(np.arange(shard.rows), new).tolist())))
    return replace(index, shards=tuple(shards))


def _there(shard: Shard) -> np.ndarray:
    return np.delete(np.arange(shard.rows), shard.dropped)


@dataclass(frozen=True)
class Asked:
    """Some pairs: the vectors of their questions, the scores of their answers, languages, groups, and counts."""

    query_QD: np.ndarray
    positive_Q: np.ndarray | None
    languages: list[str]
    group_Q: np.ndarray
    count_Q: np.ndarray


def mine(
    rules: MiningRules, asked: Asked, index: Index, members: Members, means: Means
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each pair, in any order: its number, and the scores and the positions of its hard negatives, best first.

    The search is exact, reads each shard once for as many questions as fit into the memory, and sees no repetitions if
    `index` and `members` are those of `find_members`.
    """
    language_Q = np.array(asked.languages)
    for language in np.unique(language_Q).tolist() if rules.languages == "same" else [None]:
        some = np.flatnonzero(language_Q == language) if language else np.arange(len(language_Q))
        vectors = Sharded(index, index.together([language] if language else ()))
        depth = rules.ranks[1] + members.most(asked.group_Q[some])
        score_QK, place_QK = top_k_sharded(asked.query_QD[some], vectors, depth, means)
        other_QK = place_QK >= 0
        for n, group in enumerate(asked.group_Q[some].tolist()):
            other_QK[n] &= ~np.isin(place_QK[n], members.of(group))
        positive_Q = None if asked.positive_Q is None else asked.positive_Q[some]
        kept_QK = choose(rules, score_QK, other_QK, positive_Q, asked.count_Q[some])
        for n, pair in enumerate(some.tolist()):
            yield pair, score_QK[n, kept_QK[n]], place_QK[n, kept_QK[n]]
