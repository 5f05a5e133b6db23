"""Embeddings whose first numbers are embeddings too: every loss at several dimensions."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hybridir.training.losses.embedded import EmbeddedBatch, Loss


@dataclass(frozen=True, kw_only=True)
class Matryoshka:
    """Each term of the loss also on the first numbers of the embeddings, normalised again, so that they can be cut.

    (Kusupati et al. 2022, arXiv 2205.13147.) The value of a term is the weighted sum of its values at all dimensions.

    Args:
        dimensions: the numbers of dimensions, besides all of them. Omitted: embeddings are trained as a whole.
        weights: a weight for each of `dimensions`; all of them together have 1. Omitted: 1 each.
    """

    dimensions: tuple[int, ...] = ()
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if any(dimensions < 1 for dimensions in self.dimensions) or len(set(self.dimensions)) < len(self.dimensions):
            raise ValueError(
                f"loss.matryoshka.dimensions is {self.dimensions}: they must be at least 1, each named once"
            )
        if self.weights is not None and (len(self.weights) != len(self.dimensions) or not min(self.weights) > 0):
            raise ValueError(
                f"loss.matryoshka.weights is {self.weights}: give one above 0 for each of the "
                f"{len(self.dimensions)} dimensions"
            )

    def check(self, width: int) -> None:
        """Raises `ValueError` if embeddings of `width` numbers cannot be cut to all dimensions."""
        if self.dimensions and max(self.dimensions) >= width:
            raise ValueError(
                f"loss.matryoshka.dimensions has {max(self.dimensions)}, but embeddings have {width} numbers, and are "
                "trained as a whole anyway: name smaller ones"
            )

    def __call__(self, loss: Loss, batch: EmbeddedBatch) -> Tensor:
        """The value of a loss, [b]."""
        values = [loss(batch)]
        for dimensions, weight in zip(self.dimensions, self.weights or (1.0,) * len(self.dimensions), strict=True):
            values.append(weight * loss(batch.cut(dimensions)))
        return torch.stack(values).sum(dim=0) if len(values) > 1 else values[0]
