"""The module that is trained and its loss on one batch, on any number of ranks.

Shapes: b queries of this rank, N texts, D dimension.
"""

import math
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from hybridir.batches.sampling import first_of_second_pool
from hybridir.batches.stream import TokenBatch
from hybridir.model.distributed import gather, gather_with_grad, rank, world_size
from hybridir.model.encoder import Encoder
from hybridir.model.precision import at_least_float32
from hybridir.training.losses.info_nce import info_nce


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The objective: InfoNCE over the passages of all workers.

    Args:
        temperature: of the softmax, above 0 (E5 takes 0.01, often 0.05).
        learn_temperature: whether it is a parameter, starting from `temperature`.
    """

    temperature: float = 0.05
    learn_temperature: bool = False

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"loss.temperature is {self.temperature}: it must be above 0")


class DualEncoder(nn.Module):
    """What DDP wraps: the encoder with the temperature. Queries and passages go through in one forward pass."""

    def __init__(self, encoder: Encoder, loss: LossConfig) -> None:
        super().__init__()
        self.encoder = encoder
        dtype = at_least_float32(next(encoder.parameters()).dtype)
        log = torch.tensor(math.log(loss.temperature), dtype=dtype)
        if loss.learn_temperature:
            self.log_temperature = nn.Parameter(log)
        else:
            self.register_buffer("log_temperature", log)

    def forward(self, ids: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings [N, D] of all texts, and the temperature."""
        return self.encoder(ids, lengths), self.log_temperature.exp()


def batch_loss(model: nn.Module, batch: TokenBatch, device: torch.device, bf16: bool = False) -> Tensor:
    """InfoNCE of this rank's queries against the passages of all ranks, [b]. `model` is a (wrapped) DualEncoder."""
    context = torch.autocast(device.type, dtype=torch.bfloat16) if bf16 else nullcontext()
    with context:
        embeddings, temperature = model(*to_torch(batch, device))
    size = len(batch.example)
    groups = gather(torch.from_numpy(batch.passage_group.copy()).to(device))
    first = rank() * len(batch.passage_group)
    return info_nce(
        embeddings[:size],
        gather_with_grad(embeddings[size:]),
        positive_Q=torch.arange(first, first + size, device=device),
        passage_group_P=groups,
        temperature=temperature,
        pool_P=gather(_pools(batch).to(device)) if batch.kind == "both" else None,
    )


def _pools(batch: TokenBatch) -> Tensor:
    """The half of the global batch that each of this rank's passages is in, int64 [b + b * n]."""
    size = len(batch.example)
    item = batch.rank * size + torch.arange(size)
    pool = (item >= first_of_second_pool(size * world_size())).long()
    return torch.cat([pool, pool.repeat_interleave(len(batch.passage_group) // size - 1)])


def to_torch(batch: TokenBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Token ids on the device, lengths on the CPU."""
    return torch.from_numpy(batch.ids.copy()).to(device), torch.from_numpy(batch.lengths.copy())
