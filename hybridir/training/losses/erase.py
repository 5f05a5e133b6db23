"""Embeddings must not vary with the language of the text."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hybridir.model.precision import at_least_float32
from hybridir.training.losses.embedded import EmbeddedBatch

SIDES = (("query", "query_translation"), ("positive", "negative", "passage_translation"))


@dataclass(frozen=True, kw_only=True)
class Erase:
    """The squared covariance of embeddings with the language of their texts, of queries and of passages.

    |Cov(e, one-hot language)|^2 in the Frobenius norm, after LANCER (EMNLP 2024, main 736), whose weight is 10. Both
    sides are summed, each over the texts of all workers and all views. A batch in one language has 0.

    Args:
        weight: weight of this term in the training loss; 0 is off.
    """

    weight: float = 0.0
    needs: ClassVar[tuple[str, ...]] = ()

    def __call__(self, batch: EmbeddedBatch) -> Tensor:
        """The value of the whole batch for each item of this rank, [b]."""
        value = 0 * batch.temperature  # which may be trained: it then has a gradient in every term
        for side in SIDES:
            names = [name for name in side if name in batch.views]
            language_N = torch.cat([batch.languages[name].flatten() for name in names])
            embedding_ND = torch.cat([batch.views[name].flatten(0, 1) for name in names])
            value = value + squared_covariance(embedding_ND[language_N >= 0], language_N[language_N >= 0])
        return value.expand(len(batch.query_bD))


def squared_covariance(embedding_ND: Tensor, language_N: Tensor) -> Tensor:
    """The squared Frobenius norm of the covariance [D, L] of embeddings with one-hot languages, divided by N.

    Args:
        embedding_ND: embeddings of any texts, at least one.
        language_N: int64, the language of each, 0 or more.
    """
    with torch.autocast(embedding_ND.device.type, enabled=False):
        centred_ND = embedding_ND.to(at_least_float32(embedding_ND.dtype))
        centred_ND = centred_ND - centred_ND.mean(dim=0)
        one_hot_NL = torch.nn.functional.one_hot(language_N).to(centred_ND.dtype)
        return (centred_ND.T @ one_hot_NL / len(language_N)).square().sum()
