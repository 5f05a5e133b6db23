"""What every loss receives: the embeddings of a batch by view.

Shapes: b items of this rank, I items of all ranks in the order of the global batch, n texts of an item in a view, D
dimension, P passages.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Passages:
    """Passages (or queries, in whose place they may stand) of all ranks, view by view, in each view item by item."""

    embedding_PD: Tensor
    group_P: Tensor  # int64, passage group
    pool_P: Tensor | None  # int64; passages outside an item's pool are no negatives of it. None: one pool
    there_P: Tensor  # bool, False where an item has no such passage


@dataclass(frozen=True, kw_only=True)
class EmbeddedBatch:
    """A batch in embeddings. A loss computes nothing of its own with the encoder: there is one forward pass a step.

    An item is a group: no two items share a question, or a passage group, so the place of an item stands for both. An
    item whose value depends on all items (a reverse loss, or one over languages) takes their queries from
    `views["query"]`. Translations that are not there have `there` False: leave them out, their embeddings are zeros.

    Attributes:
        query_bD: queries of this rank, normalised: all, or a part (`grad_cache`). The value of an item may depend on
            the embeddings in `views`, but on no other query of `query_bD`.
        views: all views of all ranks, `query` among them, [I, n, D], with gradients to every rank; zeros where there
            is no text.
        there: bool [I, n] by view, whether there is a text.
        first: place of the first of these queries' items among all items.
        groups: int64 [I, n] by view, the passage group of the text (for queries, of their positive); -1 for no text.
        languages: int64 [I, n] by view, the language of the text, a number that is the same on every rank and in every
            step (the place in `Corpus.languages`); -1 for no text.
        pool_I: int64, the half of a batch of the kind `both` that an item is in. None: other kinds.
        temperature: a scalar, above 0.
        step: number of the step, from 0.
        teacher: another encoder's embeddings of the text of all items, by view (`query`, `positive`), [I, T]; zeros
            where it has none. Empty without a teacher.
    """

    query_bD: Tensor
    views: dict[str, Tensor]
    there: dict[str, Tensor]
    first: int
    groups: dict[str, Tensor]
    languages: dict[str, Tensor]
    pool_I: Tensor | None
    temperature: Tensor
    step: int = 0
    teacher: dict[str, Tensor] = field(default_factory=dict)

    @property
    def own_b(self) -> Tensor:
        """The places of these queries' items among all items, int64 [b]."""
        return self.first + torch.arange(len(self.query_bD), device=self.query_bD.device)

    def passages(self, *names: str) -> Passages:
        """The passages of some views, one view after another."""

        def flat(of: Callable[[str], Tensor]) -> Tensor:
            return torch.cat([of(name).flatten(0, 1) for name in names])

        pool_I = self.pool_I
        return Passages(
            embedding_PD=flat(self.views.__getitem__),
            group_P=flat(self.groups.__getitem__),
            pool_P=None if pool_I is None else flat(lambda name: pool_I[:, None].expand_as(self.groups[name])),
            there_P=flat(self.there.__getitem__),
        )

    def negatives(self, passages: Passages) -> Tensor:
        """Which passages are negatives of these items, bool [b, P]: of another passage group, in the item's pool."""
        negative_bP = passages.there_P & (passages.group_P != self.groups["positive"][self.own_b])
        if self.pool_I is not None:
            assert passages.pool_P is not None
            negative_bP &= passages.pool_P == self.pool_I[self.own_b][:, None]
        return negative_bP

    def mean_of(self, view: str, value_bk: Tensor) -> Tensor:
        """The mean of an item's values, one for each of its texts in a view, [b]; 0 for an item without such a text.

        It is scaled so that its mean over the items of all ranks is the mean over those that have a text.
        """
        there_Ik = self.there[view]
        own_bk = there_Ik[self.own_b]
        sum_b = value_bk.where(own_bk, torch.zeros_like(value_bk)).sum(dim=1)
        mean_b = sum_b / own_bk.sum(dim=1).clamp(min=1)
        return mean_b * len(there_Ik) / there_Ik.any(dim=1).sum().clamp(min=1)

    def cut(self, dimensions: int) -> "EmbeddedBatch":
        """The batch with the first `dimensions` numbers of each embedding, normalised again."""
        query_bD, *views = (
            F.normalize(text[..., :dimensions], dim=-1) for text in (self.query_bD, *self.views.values())
        )
        return replace(self, query_bD=query_bD, views=dict(zip(self.views, views, strict=True)))


class Loss(Protocol):
    """A term of the training loss: a frozen dataclass whose fields, its `weight` among them, are its parameters."""

    needs: ClassVar[tuple[str, ...]]
    """The views that it cannot do without, besides `query` and `positive`."""

    @property
    def weight(self) -> float:
        """Its factor in the training loss; 0 is off."""

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One value a query of `batch`, [b], in float32 or wider. A term over the whole batch repeats its value."""
