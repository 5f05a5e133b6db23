"""A translated query must score passages as the query does."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.scores import divergence, similarity


@dataclass(frozen=True, kw_only=True)
class ScoreKL:
    """Divergence of the scores of a translated query from those of the query, over the passages of all workers.

    KL(softmax of s(q, p_j) / t || softmax of s(q', p_j) / t), without gradient to q in the first (LaKDA, arXiv
    2509.06195). It is 0 for scores that are all equal: it trains nothing without InfoNCE.

    Args:
        weight: weight of this term in the training loss; 0 is off.
        ramp: steps over which the term rises linearly from 0, so that scores that mean nothing yet are not copied.
    """

    weight: float = 0.0
    ramp: int = 0
    needs: ClassVar[tuple[str, ...]] = ("query_translation",)

    def __post_init__(self) -> None:
        if self.ramp < 0:
            raise ValueError(f"loss.score_kl.ramp is {self.ramp}: it must be at least 0")

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One loss an item of this rank, [b]; 0 without a translation, scaled as in `EmbeddedBatch.mean_of`."""
        view, passages = "query_translation", batch.passages("positive", "negative")
        own_b = batch.own_b
        counted_bP = batch.negatives(passages).scatter(1, own_b[:, None], True)
        query_bP = similarity(batch.query_bD, passages.embedding_PD) / batch.temperature
        translated_bkD = batch.views[view][own_b]
        values = [
            divergence(query_bP, similarity(translated_bD, passages.embedding_PD) / batch.temperature, counted_bP)
            for translated_bD in translated_bkD.unbind(dim=1)
        ]
        risen = min(1.0, batch.step / self.ramp) if self.ramp else 1.0
        return risen * batch.mean_of(view, torch.stack(values, dim=1))
