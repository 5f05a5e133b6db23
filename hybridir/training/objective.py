"""The trained module and its loss on one batch, on any number of ranks.

Shapes: b queries of this rank, n hard negatives a query, N texts of this rank, D dimension.
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
    """The training loss: InfoNCE against the passages of all workers.

    Args:
        temperature: similarities are divided by it before the softmax; above 0 (E5 uses 0.01; 0.05 is common).
        learn_temperature: train the temperature too, starting from `temperature`.
    """

    temperature: float = 0.05
    learn_temperature: bool = False

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ValueError(f"loss.temperature is {self.temperature}: it must be above 0")


class DualEncoder(nn.Module):
    """The module that DDP wraps: encoder and temperature. Queries and passages share one forward pass."""

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
        """Embeddings [N, D] of all texts, and the temperature (a scalar)."""
        return self.encoder(ids, lengths), self.log_temperature.exp()


def batch_loss(model: nn.Module, batch: TokenBatch, device: torch.device, bf16: bool = False) -> Tensor:
    """InfoNCE [b] of this rank's queries against the passages of all ranks. `model`: a `DualEncoder`, or DDP of one."""
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
    """For each passage of this rank, its half of the global batch (0 or 1), int64 [b + b * n]."""
    size = len(batch.example)
    item = batch.rank * size + torch.arange(size)
    pool = (item >= first_of_second_pool(size * world_size())).long()
    return torch.cat([pool, pool.repeat_interleave(len(batch.passage_group) // size - 1)])


def to_torch(batch: TokenBatch, device: torch.device) -> tuple[Tensor, Tensor]:
    """The batch's token ids, on the device, and lengths, on the CPU."""
    return torch.from_numpy(batch.ids.copy()).to(device), torch.from_numpy(batch.lengths.copy())
