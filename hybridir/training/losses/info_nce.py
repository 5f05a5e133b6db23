"""Contrastive losses: pure functions of embeddings.

Shapes: Q queries of this rank, P passages of all ranks, D dimension.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from hybridir.model.precision import at_least_float32


def info_nce(
    query_QD: Tensor,
    passage_PD: Tensor,
    *,
    positive_Q: Tensor,
    passage_group_P: Tensor,
    temperature: Tensor | float,
    pool_P: Tensor | None = None,
) -> Tensor:
    """InfoNCE over in-batch and hard negatives, one loss a query, [Q], at least in float32.

    -log(exp(s(q, d+) / t) / sum over d of exp(s(q, d) / t)), s the dot product of normalised embeddings (van den Oord
    et al. 2018, arXiv 1807.03748). Equation 1 of arXiv 2408.10536 names hard negatives only and no temperature, its
    text in-batch negatives: cosines without a temperature cannot train, so this is the usual form with both.

    Args:
        query_QD: normalised embeddings of the queries.
        passage_PD: normalised embeddings of the passages they are scored against.
        positive_Q: int64, the position of each query's positive among the passages.
        passage_group_P: int64; passages in the passage group of the positive are left out of the sum, except the
            positive itself: a translation of the answer is no negative.
        temperature: above 0. Scores are taken in float32 at least, whatever autocast says: in bfloat16 at 0.02 they are
            off by about 0.1.
        pool_P: int64; passages in another pool than the positive are left out of the sum. Omitted: one pool.
    """
    with torch.autocast(query_QD.device.type, enabled=False):
        dtype = at_least_float32(query_QD.dtype)
        score_QP = query_QD.to(dtype) @ passage_PD.to(dtype).T / temperature
        masked_QP = passage_group_P[None, :] == passage_group_P[positive_Q][:, None]
        if pool_P is not None:
            masked_QP |= pool_P[None, :] != pool_P[positive_Q][:, None]
        masked_QP[torch.arange(len(positive_Q), device=positive_Q.device), positive_Q] = False
        return F.cross_entropy(score_QP.masked_fill(masked_QP, float("-inf")), positive_Q, reduction="none")
