"""The validation loss: fixed batches, independent of what is trained, so that all runs stop for the same reason."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from hybridir.collate import BatchSource, Stream, TokenBatch
from hybridir.distributed import gather, rank, world_size
from hybridir.dual_encoder import DualEncoder, to_torch
from hybridir.encoder import Encoder
from hybridir.losses import info_nce


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """A fixed set of batches, half monolingual and half cross-lingual whatever is trained; the loss over it decides.

    Args:
        every: steps between validations; the last step has one too.
        batches: number of batches; even.
        batch_size: pairs of each.
        temperature: of the softmax, the same for every run that is to be compared.
        patience: validations without a new best after which training stops; 0 is never.
        keep: the weights that a run ends with: those of the `best` validation, or of the `last` one, as comparisons at
            equal steps need it: the best loss over both kinds of batch favours whoever trains on both.
        languages: languages of the validation pairs; all of the data when omitted.
    """

    every: int = 50
    batches: int = 16
    batch_size: int = 32
    temperature: float = 0.05
    patience: int = 0
    keep: Literal["best", "last"] = "best"
    languages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.every < 1 or self.temperature <= 0:
            raise ValueError(
                f"validation.every is {self.every} and validation.temperature {self.temperature}: "
                "they must be at least 1, and above 0"
            )
        if self.keep == "last" and self.patience:
            raise ValueError("validation.patience waits for a new best, and validation.keep is last: set one of them")
        if self.batches < 2 or self.batches % 2:
            raise ValueError(f"validation.batches is {self.batches}: it must be even and at least 2")


class Validation:
    """Validation batches, read once; each is computed whole by one rank."""

    def __init__(
        self, config: ValidationConfig, sources: dict[str, BatchSource], device: torch.device, stream: Stream
    ) -> None:
        self._temperature, self._device = config.temperature, device
        half = config.batches // len(sources)
        self._batches = [(kind, batch) for kind, source in sources.items() for batch in stream(source, 0, half, 0, 1)]

    def run(self, model: DualEncoder) -> dict[str, float]:
        """Mean loss over the batches, and by kind."""
        model.eval()
        mine = torch.zeros(len(self._batches), dtype=torch.float64)
        with torch.no_grad():
            for n in range(rank(), len(self._batches), world_size()):
                mine[n] = self._loss(model.encoder, self._batches[n][1])
        model.train()
        losses = gather(mine[None].to(self._device)).sum(0).cpu()
        kinds = np.array([kind for kind, _ in self._batches])
        by_kind = {kind: float(losses[kinds == kind].mean()) for kind in dict.fromkeys(kinds.tolist())}
        return {"loss": float(losses.mean()), **by_kind}

    def _loss(self, encoder: Encoder, batch: TokenBatch) -> float:
        embeddings = encoder(*to_torch(batch, self._device))
        size = len(batch.example)
        loss = info_nce(
            embeddings[:size],
            embeddings[size:],
            positive_Q=torch.arange(size, device=self._device),
            passage_group_P=torch.from_numpy(batch.passage_group.copy()).to(self._device),
            temperature=self._temperature,
        )
        return float(loss.mean())
