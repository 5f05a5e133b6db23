"""From a passage to translations of its query: retrieval turned round, across languages."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.scores import cross_entropy, divergence, similarity


@dataclass(frozen=True, kw_only=True)
class Reverse:
    """From each passage to the translations of its query, over those of all workers.

    After CLEAR (arXiv 2604.05821): CE(p_i to q'_j), and KL(softmax of s(q_i, p_j) || softmax of s(p_i, q'_j)), whose
    first distribution gets no gradient here (published code lets it have some). Several translations of a query count
    as their mean.

    Args:
        weight: weight of this term in the training loss; 0 is off, 0.4 is published.
        kl: weight of the divergence within this term; 0 is off.
    """

    weight: float = 0.0
    kl: float = 0.5
    needs: ClassVar[tuple[str, ...]] = ("query_translation",)

    def __post_init__(self) -> None:
        if not self.kl >= 0:
            raise ValueError(f"loss.reverse.kl is {self.kl}: it must be at least 0")

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One loss an item of this rank, [b]; 0 without a translation, scaled as in `EmbeddedBatch.mean_of`."""
        view, own_b = "query_translation", batch.own_b
        passage_ID, translations = batch.views["positive"][:, 0], batch.passages(view)
        negative_bP = batch.negatives(translations)
        forward_bI = similarity(batch.query_bD, passage_ID) / batch.temperature
        items, places = batch.there[view].shape
        values = []
        for place in range(places):
            column = torch.arange(items, device=own_b.device) * places + place
            reverse_bI = similarity(passage_ID[own_b], translations.embedding_PD[column]) / batch.temperature
            value_b = cross_entropy(reverse_bI, own_b, negative_bP[:, column])
            if self.kl:
                counted_bI = negative_bP[:, column].scatter(1, own_b[:, None], True)
                value_b = value_b + self.kl * divergence(forward_bI, reverse_bI, counted_bI)
            values.append(value_b)
        return batch.mean_of(view, torch.stack(values, dim=1))
