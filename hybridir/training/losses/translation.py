"""Translation ranking: a passage must be nearer to its translation than to those of other passages."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.scores import cross_entropy, similarity


@dataclass(frozen=True, kw_only=True)
class Translation:
    """Translation ranking with an additive margin, both ways between passages and their translations.

    The loss of LaBSE (arXiv 2007.01852): (CE(p_i to p'_j) + CE(p'_i to p_j)) / 2, with the cosine of a pair lowered by
    the margin. Several translations of a passage count as their mean.

    Args:
        weight: weight of this term in the training loss; 0 is off.
        margin: additive margin, in units of the cosine. It is divided by the temperature as the cosine is: with
            `loss.temperature` below 0.05, lower it.
    """

    weight: float = 0.0
    margin: float = 0.3
    needs: ClassVar[tuple[str, ...]] = ("passage_translation",)

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One loss an item of this rank, [b]; 0 without a translation, scaled as in `EmbeddedBatch.mean_of`."""
        view, own_b = "passage_translation", batch.own_b
        passages, translations = batch.passages("positive"), batch.passages(view)
        items, places = batch.there[view].shape
        values = []
        for place in range(places):
            column = torch.arange(items, device=own_b.device) * places + place
            translation_ID = translations.embedding_PD[column]
            ways = (
                (passages.embedding_PD[own_b], translation_ID, batch.negatives(translations)[:, column]),
                (translation_ID[own_b], passages.embedding_PD, batch.negatives(passages)),
            )
            there, back = (self._rank(*way, own_b, batch.temperature) for way in ways)
            values.append((there + back) / 2)
        return batch.mean_of(view, torch.stack(values, dim=1))

    def _rank(self, from_bD: Tensor, to_ID: Tensor, negative_bI: Tensor, own_b: Tensor, temperature: Tensor) -> Tensor:
        cosine_bI = similarity(from_bD, to_ID)
        lowered = torch.zeros_like(cosine_bI).scatter(1, own_b[:, None], self.margin)
        return cross_entropy((cosine_bI - lowered) / temperature, own_b, negative_bI)
