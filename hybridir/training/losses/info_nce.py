"""InfoNCE, a contrastive loss: a pure function of embeddings.

Shapes: Q queries of this rank, P passages of all ranks, D dimension.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.scores import cross_entropy, similarity

Direction = Literal["query_to_query", "passage_to_query", "passage_to_passage"]


@dataclass(frozen=True, kw_only=True)
class InfoNCE:
    """InfoNCE over the positives and hard negatives of all workers.

    Args:
        weight: weight of this term in the training loss; 0 is off.
        directions: further scores of other items that count as negatives: of the query with other queries, of its
            passage with other queries, of its passage with other passages. (All three: GTE, arXiv 2308.03281, whose sum
            has the positive twice.)
        false_negatives: leave out negatives that score far above the positive, which may be right answers: by the
            difference of the cosines (`absolute`), or by that as a share of the positive's (`relative`).
        margin: how far above, for `false_negatives` (0.1 in Qwen3 Embedding, arXiv 2506.05176). Below 0, negatives
            that score a little less than the positive are left out too, as with a guide model.
    """

    weight: float = 1.0
    directions: tuple[Direction, ...] = ()
    false_negatives: Literal["absolute", "relative"] | None = None
    margin: float = 0.1
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One loss an item of this rank, [b]."""
        own_b, passages = batch.own_b, batch.passages("positive", "negative")
        cosine_bP, negative_bP = similarity(batch.query_bD, passages.embedding_PD), batch.negatives(passages)
        if self.false_negatives:
            negative_bP &= cosine_bP <= self._limit(cosine_bP.gather(1, own_b[:, None]))
        cosines, negatives = [cosine_bP], [negative_bP]
        for direction in dict.fromkeys(self.directions):
            one, _, other = direction.partition("_to_")
            text_bD = batch.query_bD if one == "query" else batch.views["positive"][own_b, 0]
            others = batch.passages("query") if other == "query" else passages
            cosines.append(similarity(text_bD, others.embedding_PD))
            negatives.append(batch.negatives(others))
        return cross_entropy(torch.cat(cosines, 1) / batch.temperature, own_b, torch.cat(negatives, 1))

    def _limit(self, positive_b1: Tensor) -> Tensor:
        """The highest cosine of a negative, [b, 1]."""
        return positive_b1 + self.margin * (positive_b1.abs() if self.false_negatives == "relative" else 1.0)


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
        temperature: above 0.
        pool_P: int64, pool of each passage. Passages outside the positive's pool are left out of the sum. Omitted: all
            passages are one pool.
    """
    negative_QP = passage_group_P[None, :] != passage_group_P[positive_Q][:, None]
    if pool_P is not None:
        negative_QP &= pool_P[None, :] == pool_P[positive_Q][:, None]
    return cross_entropy(similarity(query_QD, passage_PD) / temperature, positive_Q, negative_QP)
