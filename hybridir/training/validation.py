"""Validation: fixed batches and questions, whatever is trained, so that all runs stop for the same reason."""

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from hybridir.batches.stream import BatchSource, Stream, TokenBatch
from hybridir.data.records import Benchmark
from hybridir.evaluation.settings import SETTINGS, evaluate_encoder, summarise
from hybridir.model.distributed import broadcast_object, gather, rank, world_size
from hybridir.model.encoder import Encoder
from hybridir.training.losses.info_nce import info_nce
from hybridir.training.memory import memory_explained
from hybridir.training.objective import DualEncoder, to_torch

Metric = Literal["loss", "monolingual", "crosslingual", "multilingual", "mean", "rank_distance"]
"""The validation loss; mAP in a setting, or its mean over the three; rank distance."""
METRICS: tuple[Metric, ...] = get_args(Metric)
LOWER_IS_BETTER: tuple[Metric, ...] = ("loss", "rank_distance")


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """A fixed set of batches, half monolingual and half cross-lingual whatever is trained, and of questions.

    Args:
        every: steps between validations; the last step has one too.
        batches: number of batches; even.
        batch_size: pairs of each.
        temperature: of the softmax, the same for every run that is to be compared.
        retrieval: groups of validation questions that retrieval is measured on too, each time; 0 is none.
        metric: what is best: the least `loss` over the batches, or of `retrieval` the highest mAP `monolingual`,
            `crosslingual`, `multilingual`, their `mean`, or the least `rank_distance`.
        patience: validations without a new best after which training stops; 0 is never.
        keep: the weights that a run ends with: those of the `best` validation, or of the `last` one, as comparisons at
            equal steps need it: the best loss over both kinds of batch favours whoever trains on both.
        languages: languages of the validation pairs; all of the data when omitted.
    """

    every: int = 50
    batches: int = 16
    batch_size: int = 32
    temperature: float = 0.05
    retrieval: int = 0
    metric: Metric = "loss"
    patience: int = 0
    keep: Literal["best", "last"] = "best"
    languages: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.every < 1 or self.temperature <= 0:
            raise ValueError(
                f"validation.every is {self.every} and validation.temperature {self.temperature}: "
                "they must be at least 1, and above 0"
            )
        if self.retrieval < 0 or (self.metric != "loss" and not self.retrieval):
            raise ValueError(
                f"validation.retrieval is {self.retrieval} and validation.metric {self.metric}: say how many groups of "
                "validation questions retrieval is measured on, 500 for example"
            )
        if self.keep == "last" and self.patience:
            raise ValueError("validation.patience waits for a new best, and validation.keep is last: set one of them")
        if self.batches < 2 or self.batches % 2:
            raise ValueError(f"validation.batches is {self.batches}: it must be even and at least 2")


def value_of(found: dict[str, Any], metric: Metric) -> float:
    """The value of a metric in what a validation found."""
    return float(found[metric] if metric in LOWER_IS_BETTER else found["mAP"][metric])


def cost(value: float, metric: Metric) -> float:
    """The value, or what it falls short of 0 where more is better: the least is the best."""
    return value if metric in LOWER_IS_BETTER else -value


def full_name(metric: Metric) -> str:
    """Its name in MLflow and in results."""
    return f"validation.{metric}" if metric in LOWER_IS_BETTER else f"validation.mAP.{metric}"


def retrieval(summary: dict[str, Any]) -> dict[str, Any]:
    """`mAP` by setting and their `mean`, and `rank_distance`, as far as `summary` has them (see `summarise`)."""
    found = {setting: summary[setting]["mAP"] for setting in SETTINGS if "mAP" in summary[setting]}
    if len(found) == len(SETTINGS):
        found["mean"] = sum(found.values()) / len(found)
    distance = summary["multilingual"].get("rank_distance")
    return {"mAP": found} | ({"rank_distance": distance} if distance is not None else {})


class Validation:
    """Validation batches, read once; each is computed whole by one rank, and `held_out` is searched by the first."""

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
        """`loss`, the mean over the batches, by kind likewise, and what `retrieval` gives."""
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
        return {"loss": float(losses.mean()), **by_kind, **self._search(model.encoder, float(losses.mean()))}

    def _search(self, encoder: Encoder, loss: float) -> dict[str, Any]:
        if not self._held_out or not math.isfinite(loss):
            return {}
        found: Any = None
        if rank() == 0:
            found = retrieval(summarise(evaluate_encoder(encoder, self._held_out), self._held_out))
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
