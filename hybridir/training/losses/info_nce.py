"""InfoNCE, a contrastive loss: a pure function of embeddings.

Shapes: Q queries of this rank, P passages of all ranks, D dimension.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridir.model.precision import at_least_float32
from hybridir.training.losses.embedded import EmbeddedBatch


@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """InfoNCE over the positives and hard negatives of all workers.

    Args:
        weight: weight of this term in the training loss; 0 is off.
    """

    weight: float = 1.0
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One loss an item of this rank, [b]."""
        passages = batch.passages("positive", "negative")
        return info_nce(
            batch.query_bD,
            passages.embedding_PD,
            positive_Q=batch.own_b,
            passage_group_P=passages.group_P,
            temperature=batch.temperature,
            pool_P=passages.pool_P,
        )


def info_nce(
    query_QD: Tensor,
    passage_PD: Tensor,
    *,
    positive_Q: Tensor,
    passage_group_P: Tensor,
    temperature: Tensor | float,
    pool_P: Tensor | None = None,
) -> Tensor:
    """InfoNCE over in-batch and hard negatives: one loss a query, [Q], in float32 or wider.

    -log(exp(s(q, d+) / t) / sum over d of exp(s(q, d) / t)), with s the dot product of normalised embeddings and t the
    temperature (van den Oord et al. 2018, arXiv 1807.03748). Equation 1 of arXiv 2408.10536 has hard negatives only and
    no temperature; its text adds in-batch negatives. Cosines do not train without a temperature: this form has both.

    Args:
        query_QD: normalised query embeddings.
        passage_PD: normalised embeddings of the passages that the queries are scored against.
        positive_Q: int64, index of each query's positive in `passage_PD`.
        passage_group_P: int64, passage group of each passage. Passages in the positive's group are left out of the sum,
            since a translation of the answer is no negative; the positive itself stays.
        temperature: above 0. Scores are computed in float32 or wider even under autocast: in bfloat16, at temperature
            0.02, they would be off by about 0.1.
        pool_P: int64, pool of each passage. Passages outside the positive's pool are left out of the sum. Omitted: all
            passages are one pool.
    """
    with torch.autocast(query_QD.device.type, enabled=False):
        dtype = at_least_float32(query_QD.dtype)
        score_QP = query_QD.to(dtype) @ passage_PD.to(dtype).T / temperature
        masked_QP = passage_group_P[None, :] == passage_group_P[positive_Q][:, None]
        if pool_P is not None:
            masked_QP |= pool_P[None, :] != pool_P[positive_Q][:, None]
        masked_QP[torch.arange(len(positive_Q), device=positive_Q.device), positive_Q] = False
        return F.cross_entropy(score_QP.masked_fill(masked_QP, float("-inf")), positive_Q, reduction="none")
