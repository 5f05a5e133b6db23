"""InfoNCE from the passage to the query: the other half of the symmetric loss."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.scores import cross_entropy, similarity


@dataclass(frozen=True, kw_only=True)
class Symmetric:
    """InfoNCE from each passage to its query, over the queries of all workers.

    Beside `loss.info_nce` with the same weight it is the symmetric loss (CLIP, arXiv 2103.00020).

    Args:
        weight: weight of this term in the training loss; 0 is off.
    """

    weight: float = 0.0
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One loss an item of this rank, [b]."""
        queries, own_b = batch.passages("query"), batch.own_b
        score_bI = similarity(batch.views["positive"][own_b, 0], queries.embedding_PD) / batch.temperature
        return cross_entropy(score_bI, own_b, batch.negatives(queries))
