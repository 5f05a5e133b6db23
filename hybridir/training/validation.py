"""Validation on fixed batches and questions, the same for every method: all runs are judged and stopped alike."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from hybridir.batches.stream import BatchSource, Stream, TokenBatch
from hybridir.data.languages import spell_languages
from hybridir.data.records import Benchmark
from hybridir.evaluation.settings import evaluate_encoder, summarise
from hybridir.evaluation.validation_metrics import METRICS, MetricName, measured
from hybridir.model.distributed import broadcast_object, gather, rank, world_size
from hybridir.model.encoder import Encoder
from hybridir.training.losses.info_nce import info_nce
from hybridir.training.memory import memory_explained
from hybridir.training.objective import DualEncoder, to_torch


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """A fixed set of batches and questions. Half of the batches are monolingual, half cross-lingual, for every method.

    Args:
        every: steps between validations; there is one after the last step too.
        batches: number of validation batches; even.
        batch_size: pairs in each validation batch.
        temperature: softmax temperature of the validation loss; keep it equal in runs that you compare.
        retrieval: number of validation groups whose questions also measure retrieval, at each validation; 0 is none.
        metric: how the best weights are chosen: lowest `loss` over the batches; or, measured on the `retrieval`
            questions, highest mAP (`monolingual`, `crosslingual`, `multilingual` or their `mean`) or lowest
            `rank_distance`.
        patience: training stops after this many validations without a new best; 0 is never.
        keep: weights at the end of the run: of the `best` validation, or of the `last` one. Take `last` to compare runs
            after equal steps: the best loss over both kinds of batch favours methods that train on both.
        languages: languages of the validation pairs. Omitted: all languages of the data.
    """

    every: int = 50
    batches: int = 16
    batch_size: int = 32
    temperature: float = 0.05
    retrieval: int = 0
    metric: MetricName = "loss"
    patience: int = 0
    keep: Literal["best", "last"] = "best"
    languages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        spell_languages(self)
        if self.metric not in METRICS:
            raise ValueError(f"validation.metric is {self.metric!r}: name one of {', '.join(METRICS)}")
        if self.every < 1 or self.temperature <= 0:
            raise ValueError(
                f"validation.every is {self.every} and validation.temperature {self.temperature}: "
                "every must be at least 1, and the temperature above 0"
            )
        if self.retrieval < 0 or (self.metric != "loss" and not self.retrieval):
            raise ValueError(
                f"validation.retrieval is {self.retrieval} and validation.metric {self.metric}: set "
                "validation.retrieval to a number of groups of validation questions, for example 500"
            )
        if self.keep == "last" and self.patience:
            raise ValueError(
                f"validation.patience is {self.patience} and validation.keep is last: patience waits for a new best. "
                "Set validation.patience to 0, or validation.keep to best"
            )
        if self.batches < 2 or self.batches % 2:
            raise ValueError(f"validation.batches is {self.batches}: it must be even and at least 2")


class Validation:
    """Reads the batches once. Each batch is computed by one rank; rank 0 alone measures retrieval on `held_out`."""

    def __init__(
        self,
        config: ValidationConfig,
        sources: dict[str, BatchSource],
        device: torch.device,
        stream: Stream,
        held_out: Benchmark | None = None,
    ) -> None:
        self._temperature, self._device, self._held_out = config.temperature, device, held_out
        half = config.batches // len(sources)
        self._batches = [(kind, batch) for kind, source in sources.items() for batch in stream(source, 0, half, 0, 1)]

    def run(self, model: DualEncoder) -> dict[str, Any]:
        """`loss` (mean over all batches), the mean loss of each kind of batch, and the metrics of retrieval."""
        model.eval()
        mine = torch.zeros(len(self._batches), dtype=torch.float64)
        with torch.no_grad():
            for n in range(rank(), len(self._batches), world_size()):
                with memory_explained(self._batches[n][1], "validation"):
                    mine[n] = self._loss(model.encoder, self._batches[n][1])
        model.train()
        losses = gather(mine[None].to(self._device)).sum(0).cpu()
        kinds = np.array([kind for kind, _ in self._batches])
        by_kind = {kind: float(losses[kinds == kind].mean()) for kind in dict.fromkeys(kinds.tolist())}
        return {"loss": float(losses.mean()), **by_kind, **self._retrieval(model.encoder, float(losses.mean()))}

    def _retrieval(self, encoder: Encoder, loss: float) -> dict[str, Any]:
        if not self._held_out or not math.isfinite(loss):
            return {}
        found: Any = None
        if rank() == 0:
            found = measured(summarise(evaluate_encoder(encoder, self._held_out), self._held_out))
        found = broadcast_object(found)
        return found

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
