"""The trained module and its loss on one batch, on any number of ranks.

Shapes: b queries of this rank, n hard negatives a query, N texts of this rank, D dimension.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, make_dataclass
from operator import attrgetter
from typing import TypeVar

import torch
from torch import Tensor, nn

from hybridir.batches.sampling import Sampling, first_of_second_pool
from hybridir.batches.stream import TokenBatch
from hybridir.model.distributed import gather, gather_with_grad, rank, world_size
from hybridir.model.encoder import Encoder
from hybridir.model.precision import at_least_float32
from hybridir.training.losses import LOSSES
from hybridir.training.losses.embedded import EmbeddedBatch, Loss
from hybridir.training.losses.matryoshka import Matryoshka

_ASKED_BY = {
    "negative": "negatives",
    "passage_translation": "translations.passage",
    "query_translation": "translations.query",
}
"""The field of `Sampling` that asks for a view."""
_T = TypeVar("_T")


def _with_terms(config: type[_T]) -> type[_T]:
    """Adds a section for each entry of `LOSSES` to a dataclass, documented by the first line of its docstring."""
    terms = [(name, kind, field(default_factory=kind)) for name, kind in LOSSES.items()]
    described = [f"    {name}: {(kind.__doc__ or '').partition(chr(10))[0]}" for name, kind in LOSSES.items()]
    made = make_dataclass(config.__name__, terms, bases=(config,), frozen=True, kw_only=True)
    made.__doc__ = "\n".join([(config.__doc__ or "").rstrip(), *(f"    {line}" for line in described), "    "])
    made.__module__, made.__qualname__ = config.__module__, config.__qualname__
    return made


@_with_terms
@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The training loss: the sum of its terms, each with its weight.

    Args:
        temperature: similarities are divided by it before the softmax; above 0 (E5 uses 0.01; 0.05 is common).
        learn_temperature: train the temperature too, starting from `temperature`.
        matryoshka: all terms at several dimensions of the embeddings.
    """

    temperature: float = 0.05
    learn_temperature: bool = False
    matryoshka: Matryoshka = field(default_factory=Matryoshka)

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"loss.temperature is {self.temperature}: it must be above 0")
        weights = {f"loss.{name}.weight": getattr(self, name).weight for name in LOSSES}
        for name, weight in weights.items():
            if not 0 <= weight < math.inf:
                raise ValueError(f"{name} is {weight}: it must be at least 0")
        if not any(weights.values()):
            raise ValueError(f"{', '.join(weights)} are all 0: there is nothing to train for. Set one above 0")
        distill = getattr(self, "distill", None)
        if self.matryoshka.dimensions and distill and distill.weight and distill.match == "embeddings":
            raise ValueError(
                "loss.distill.match is embeddings, which cannot be cut to loss.matryoshka.dimensions: set it to scores "
                "or margins"
            )

    @property
    def terms(self) -> dict[str, Loss]:
        """The terms whose weight is not 0."""
        return {name: term for name in LOSSES if (term := getattr(self, name)).weight}

    def values(self, batch: EmbeddedBatch) -> dict[str, Tensor]:
        """The values of these terms, [b] each, without their weights."""
        return {name: self.matryoshka(term, batch) for name, term in self.terms.items()}

    @property
    def needs(self) -> set[str]:
        """The views of a batch that the terms with a weight use."""
        return {view for term in self.terms.values() for view in term.needs}

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The loss of each item, [b], from the values of the terms, [b] each."""
        weighted = [getattr(self, name).weight * value for name, value in terms.items()]
        return torch.stack(weighted).sum(dim=0) if len(weighted) > 1 else weighted[0]

    def check_views(self, sampling: Sampling) -> None:
        """Raises `ValueError` if a term needs a view that `sampling` does not ask for."""
        for name, term in self.terms.items():
            for view in term.needs:
                if view in _ASKED_BY and not attrgetter(_ASKED_BY[view])(sampling):
                    raise ValueError(
                        f"loss.{name}.weight is {term.weight}, but batches have no {view.replace('_', ' ')}: set "
                        f"sampling.{_ASKED_BY[view]} to 1 or more, or loss.{name}.weight to 0"
                    )


class DualEncoder(nn.Module):
    """The module that DDP wraps: encoder and temperature. Queries and passages share one forward pass."""

    def __init__(self, encoder: Encoder, loss: LossConfig) -> None:
        super().__init__()
        self.encoder, self.loss = encoder, loss
        loss.matryoshka.check(encoder.width)
        dtype = at_least_float32(next(encoder.parameters()).dtype)
        log = torch.tensor(math.log(loss.temperature), dtype=dtype)
        if loss.learn_temperature:
            self.log_temperature = nn.Parameter(log)
        else:
            self.register_buffer("log_temperature", log)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [N, D] of all texts, zeros for those of length 0, and the temperature (a scalar)."""
        there = lengths > 0
        embeddings = self.encoder(ids, lengths[there])
        if not there.all():
            whole = embeddings.new_zeros(len(lengths), embeddings.shape[1])
            embeddings = whole.index_put((torch.nonzero(there)[:, 0].to(whole.device),), embeddings)
        return embeddings, self.log_temperature.exp()

    def read_temperature(self) -> float:
        """The temperature as a number: on a GPU, the host waits for it."""
        return float(self.log_temperature.detach().exp())


def batch_loss(model: nn.Module, batch: TokenBatch, device: torch.device, bf16: bool = False) -> Tensor:
    """The training loss [b] of this rank's items: the weighted sum of `batch_terms`."""
    return loss_of(model).total(batch_terms(model, batch, device, bf16))


def batch_terms(model: nn.Module, batch: TokenBatch, device: torch.device, bf16: bool = False) -> dict[str, Tensor]:
    """Each term of the loss that is switched on, [b] for this rank's items, without its weight.

    Queries are scored against the passages of all ranks. `model`: a `DualEncoder`, or DDP of one.
    """
    return loss_of(model).values(by_view(batch, *embed(model, *to_torch(batch, device), bf16)))


def embed(model: nn.Module, ids: Tensor, lengths: Tensor, bf16: bool) -> tuple[Tensor, Tensor]:
    """What `DualEncoder.forward` returns; embeddings are float32 or wider also with `bf16`."""
    with torch.autocast(ids.device.type, dtype=torch.bfloat16, enabled=bf16):
        return model(ids, lengths)


def loss_of(model: nn.Module) -> LossConfig:
    """The loss of a `DualEncoder`, or DDP of one."""
    dual = getattr(model, "module", model)  # DDP wraps it
    assert isinstance(dual, DualEncoder)
    return dual.loss


def by_view(batch: TokenBatch, embeddings: Tensor, temperature: Tensor) -> EmbeddedBatch:
    """Gathers all views from all ranks, with gradients, in the order of the global batch."""
    size, device = len(batch.example), embeddings.device
    items = size * world_size()

    def gathered(values: Tensor, how: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
        """Values of this rank's texts, [texts, ...], of all ranks: by view, [I, n, ...]."""
        by_rank = how(values).unflatten(0, (world_size(), -1))
        return {
            name: by_rank[:, place].reshape(items, batch.views[name], *values.shape[1:])
            for name, place in batch.places().items()
        }

    own, negative = torch.from_numpy(batch.passage_group.copy()).split([size, len(batch.passage_group) - size])
    counts = [count for name, count in batch.views.items() if name not in ("query", "positive", "negative")]
    group = torch.cat([own, own, negative, *(own.repeat_interleave(count) for count in counts)])
    group = group.masked_fill(torch.from_numpy(batch.lengths == 0), -1)
    groups = gathered(group.to(device), gather)
    teacher = {}
    if batch.teacher is not None:
        taught = gather(torch.from_numpy(batch.teacher.copy()).to(device)).unflatten(0, (world_size(), 2, size))
        teacher = {name: taught[:, n].flatten(0, 1) for n, name in enumerate(("query", "positive"))}
    pool_I = (torch.arange(items, device=device) >= first_of_second_pool(items)).long()
    return EmbeddedBatch(
        query_bD=embeddings[:size],
        views=gathered(embeddings, gather_with_grad),
        there={name: group >= 0 for name, group in groups.items()},
        first=rank() * size,
        groups=groups,
        languages=gathered(torch.from_numpy(batch.language.astype("int64")).to(device), gather),
        pool_I=pool_I if batch.kind == "both" else None,
        temperature=temperature,
        step=batch.step,
        teacher=teacher,
    )


def to_torch(batch: TokenBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """The batch's token ids, on the device, and lengths, on the CPU."""
    return torch.from_numpy(batch.ids.copy()).to(device), torch.from_numpy(batch.lengths.copy())
