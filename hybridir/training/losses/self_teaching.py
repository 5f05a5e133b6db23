"""Self-teaching: the query with noise should find passages as the clean query does."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hybridir.training.losses.embedded import EmbeddedBatch
from hybridir.training.losses.scores import divergence, similarity


@dataclass(frozen=True, kw_only=True)
class SelfTeaching:
    """Self-teaching: the query with noise learns the scores of the clean query, over the passages of InfoNCE.

    KL(softmax of s(q, p_j) / t T || softmax of s(q', p_j) / t T), without gradient to q (Zhuang and Zuccon 2022, SIGIR,
    arXiv 2204.00716). The noise is that of `sampling.noise` (`kinds` and `severity`); its `probability` may stay 0.
    With severity 0 the clean query is encoded twice: the same cost without noise.

    Args:
        weight: weight of this term in the training loss; 0 is off. It is used beside `loss.info_nce`.
        temperature: T, above 0; scores are divided by it after `loss.temperature`.
    """

    weight: float = 0.0
    temperature: float = 1.0
    needs: ClassVar[tuple[str, ...]] = ("noisy_query",)

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise ValueError(f"loss.self_teaching.temperature is {self.temperature}: it must be above 0")

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """One loss an item of this rank, [b]."""
        passages, own_b = batch.passages("positive", "negative"), batch.own_b
        clean_bP, noisy_bP = (
            similarity(query_bD, passages.embedding_PD) / (batch.temperature * self.temperature)
            for query_bD in (batch.query_bD, batch.views["noisy_query"][own_b, 0])
        )
        return divergence(clean_bP, noisy_bP, batch.negatives(passages).scatter(1, own_b[:, None], True))
