"""The pairs that a plan may draw: which domains, how many groups, how many of these in all or in scarce languages.

Groups are chosen by their hashes alone, so a smaller choice is a subset of a larger one; every choice has the same
shares of domains.

Shapes: G groups of the corpus, M groups that may be drawn, L languages of the corpus.
"""

import hashlib

import numpy as np

from hybridir.batches.sampling import Sampling
from hybridir.data.corpus import Corpus
from hybridir.data.languages import check_languages

_MIX = np.uint64(0x9E3779B97F4A7C15)


class Subset:
    """The groups and pairs of a part of the corpus that `sampling` allows.

    Attributes:
        groups: int64 [M], in ascending order.

    Raises:
        ValueError: a domain or a language is unknown, or there are fewer groups than `sampling.groups`.
    """

    def __init__(self, corpus: Corpus, sampling: Sampling, part: str) -> None:
        there = corpus.groups(part)
        if sampling.without_domains:
            there &= ~corpus.in_domains(sampling.without_domains)
        languages = sampling.languages or corpus.languages
        self._columns = [n for n, code in enumerate(corpus.languages) if code in languages]
        self._corpus, self.groups = corpus, np.flatnonzero(there)
        if sampling.groups is not None:
            self._keep(sampling.groups)
        self._scarce = sampling.low_resource
        self._place_of = {code: self._places(code) for code in self._scarce_languages()}
        self._single: np.ndarray | None = None
        if sampling.translated < 1:
            order = self._order(self._mixed(self.groups))
            self._single = np.zeros(corpus.n_groups, dtype=bool)
            self._single[self.groups[order[round(sampling.translated * len(order)) :]]] = True

    def rows(self, groups: np.ndarray, texts: bool = False) -> np.ndarray:
        """The rows of some groups' pairs, int32 [groups, L]; -1 where there is no pair, or it must not be drawn.

        A group that is not translated keeps its pair in one of the languages drawn from, each equally likely. With
        `texts`, also the pairs are kept that only serve as translations (`LowResource`).
        """
        rows = self._corpus.row_of[groups]
        share = self._scarce.texts if texts else self._scarce.pairs
        for code, place in self._place_of.items():
            column = self._corpus.languages.index(code)
            rows[:, column] = np.where(place[groups] < share, rows[:, column], -1)
        if self._single is None or not (single := np.flatnonzero(self._single[groups])).size:
            return rows
        there = rows[single][:, self._columns] >= 0
        chosen = (self._mixed(groups[single]) >> np.uint64(32)).astype(np.int64) % np.maximum(there.sum(axis=1), 1)
        kept = there & (np.cumsum(there, axis=1) - 1 == chosen[:, None])
        mask = np.zeros((len(single), rows.shape[1]), dtype=bool)
        mask[:, self._columns] = kept
        rows[single] = np.where(mask, rows[single], -1)
        return rows

    def _scarce_languages(self) -> tuple[str, ...]:
        """The languages of `sampling.low_resource`, if any pair or text is left out."""
        scarce = self._scarce
        if scarce.pairs == 1 or not scarce.languages:
            return ()
        return check_languages(scarce.languages, self._corpus.languages, "sampling.low_resource: the corpus")

    def _places(self, code: str) -> np.ndarray:
        """The rank by hash, scaled to 0 to 1, of each group of the corpus among those with a pair in a language.

        The value of a group without such a pair has no meaning.
        """
        has_pair = self._corpus.row_of[:, self._corpus.languages.index(code)] >= 0
        members = self.groups[has_pair[self.groups]]
        salt = np.uint64(int.from_bytes(hashlib.blake2b(code.encode(), digest_size=8).digest(), "little"))
        place = np.ones(self._corpus.n_groups)
        hash_M = self._corpus.group_key[members] ^ salt
        place[members[np.argsort(hash_M * _MIX, kind="stable")]] = np.arange(len(members)) / max(1, len(members))
        return place

    def _keep(self, count: int) -> None:
        has_pair = (self._corpus.row_of[self.groups][:, self._columns] >= 0).any(axis=1)
        self.groups = self.groups[has_pair]
        if count > len(self.groups):
            raise ValueError(
                f"sampling.groups is {count:,}, but the data has {len(self.groups):,} groups to draw from: lower it"
            )
        self.groups = np.sort(self.groups[self._order(self._corpus.group_key[self.groups])[:count]])

    def _mixed(self, groups: np.ndarray) -> np.ndarray:
        """Hashes of groups, uint64, that are independent of the order of the groups."""
        return self._corpus.group_key[groups] * _MIX

    def _order(self, hash_M: np.ndarray) -> np.ndarray:
        """The order in which groups are taken, int64 [M]: by their hashes, in equal steps through each domain."""
        domain_M = self._corpus.domain_of[self.groups]
        by_domain = np.lexsort((hash_M, domain_M))
        domains, start, size = np.unique(domain_M[by_domain], return_index=True, return_counts=True)
        number = np.searchsorted(domains, domain_M[by_domain])
        place = np.empty(len(hash_M))
        place[by_domain] = (np.arange(len(hash_M)) - start[number] + 0.5) / size[number]
        return np.lexsort((hash_M, place))
