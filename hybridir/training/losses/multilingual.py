"""The multilingual contrastive loss: all translations of a passage are positives of its query.

Shapes: Q queries of this rank, P passages of all ranks, K positives of a query, D dimension.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hybridir.model.precision import at_least_float32
from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.scores import similarity


@dataclass(frozen=True, kw_only=True)
class Multilingual:
    """The multilingual contrastive loss: the passage and its translations are positives, each against the negatives.

    Negatives are the positives, hard negatives and translations of other items.

    Args:
        weight: weight of this term in the training loss; 0 is off. Set `loss.info_nce.weight` to 0 to train with this
            term alone.
        share: weight of the translations together, among the positives of an item, 0 to 1; the passage itself has the
            rest. Omitted: every positive weighs the same.
    """

    weight: float = 0.0
    share: float | None = None
    needs: ClassVar[tuple[str, ...]] = ("passage_translation",)

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share <= 1:
            raise ValueError(f"loss.multilingual.share is {self.share}: it must be from 0 to 1")

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One loss an item of this rank, [b]; an item without translations has its own passage as the only positive."""
        passages, own = batch.passages("positive", "negative", "passage_translation"), batch.own_b
        there_bk = batch.there["passage_translation"][own]
        before, k = len(passages.there_P) - batch.there["passage_translation"].numel(), there_bk.shape[1]
        translation_bk = before + own[:, None] * k + torch.arange(k, device=own.device)
        return multilingual(
            batch.query_bD,
            passages.embedding_PD,
            positive_QK=torch.cat([own[:, None], translation_bk], dim=1),
            weight_QK=self._weights(there_bk.to(at_least_float32(batch.query_bD.dtype))),
            negative_QP=batch.negatives(passages),
            temperature=batch.temperature,
        )

    def _weights(self, there_bk: Tensor) -> Tensor:
        """The weight of each positive, the passage itself first; they sum to 1 for each item. `there_bk` is 0 or 1."""
        count_b = there_bk.sum(1)
        share_b = count_b / (1 + count_b) if self.share is None else self.share * count_b.clamp(max=1)
        return torch.cat([(1 - share_b)[:, None], there_bk * (share_b / count_b.clamp(min=1))[:, None]], dim=1)


def multilingual(
    query_QD: Tensor,
    passage_PD: Tensor,
    *,
    positive_QK: Tensor,
    weight_QK: Tensor,
    negative_QP: Tensor,
    temperature: Tensor | float,
) -> Tensor:
    """One loss a query, [Q], in float32 or wider.

    - sum over positives p of w_p log(exp(s_p / t) / (exp(s_p / t) + sum over negatives n of exp(s_n / t))), with s the
    dot product of normalised embeddings and t the temperature. It is the supervised contrastive loss "out" (Khosla et
    al. 2020, arXiv 2004.11362) with the other positives left out of the denominator, so that they do not compete.

    Args:
        query_QD: normalised query embeddings.
        passage_PD: normalised embeddings of all passages.
        positive_QK: int64, indices of each query's positives in `passage_PD`.
        weight_QK: their weights; 0 for a place without a positive.
        negative_QP: bool, which passages are negatives of a query.
        temperature: above 0.
    """
    score_QP = similarity(query_QD, passage_PD) / temperature
    lowest = torch.finfo(score_QP.dtype).min  # and not -inf, whose gradient is NaN for a query without negatives
    against_Q = score_QP.masked_fill(~negative_QP, lowest).logsumexp(dim=1)
    positive_QK = score_QP.gather(1, positive_QK)
    loss_QK = torch.logaddexp(positive_QK, against_Q[:, None]) - positive_QK
    return (weight_QK * loss_QK).sum(dim=1)
