"""What the ranks decide together at each step, from one small gather: none goes on alone, and none stops alone."""

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from hybridir.batches.stream import BatchSource, TokenBatch
from hybridir.data.records import place
from hybridir.model.distributed import gather


@dataclass(frozen=True)
class Shared:
    """The same on every rank.

    Attributes:
        loss: mean over the ranks.
        norm: the largest norm of the gradient.
        stop: whether any rank was asked to stop.
        tokens: of all texts of the global batch.
        sha256: of all items of the global batch, as they arrived.
        not_finite: the items of the global batch whose own loss is not finite.
    """

    loss: float
    norm: float
    stop: bool
    tokens: int
    sha256: str
    not_finite: list[int]


def exchange(losses: Tensor, norm: float, stop: bool, batch: TokenBatch) -> Shared:
    """What all ranks must agree on, from the losses [b] of each one's items."""
    head = np.array([losses.mean().item(), norm, stop, batch.lengths.sum()], dtype=np.float64).view(np.int64)
    finite = losses.detach().isfinite().cpu().numpy().astype(np.int64)
    backend = torch.device("cuda" if dist.is_initialized() and dist.get_backend() == "nccl" else "cpu")
    mine = torch.from_numpy(np.concatenate([head, finite, batch.digests()])).to(backend)
    heads, finites, digests = np.split(gather(mine[None]).cpu().numpy(), [4, 4 + len(finite)], axis=1)
    means, norms, stops, tokens = np.ascontiguousarray(heads).view(np.float64).T
    return Shared(
        loss=float(means.mean()),
        norm=float(norms.max()),
        stop=bool(stops.any()),
        tokens=int(tokens.sum()),
        sha256=hashlib.sha256(digests.tobytes()).hexdigest(),
        not_finite=np.flatnonzero(finites.ravel() == 0).tolist(),
    )


def not_finite_error(step: int, shared: Shared, source: BatchSource) -> FloatingPointError:
    """The same error on every rank: it names the first items whose loss is not finite, with their texts."""
    plan = source.plan()
    batch = plan.batch(step)
    shown = []
    for item in (shared.not_finite or range(len(batch.groups)))[:3]:
        query, passage = (plan.corpus.pair(int(rows[item])) for rows in (batch.query_row, batch.passage_row))
        texts = f"query {query['query'][:200]!r}, passage {passage['passage']['text'][:200]!r}"
        shown.append(f"{place(query['file'], query['line'])}: {texts}")
    many = f"the loss of {len(shared.not_finite)} of {len(batch.groups)} examples is not finite, the first"
    what = many if shared.not_finite else "the losses are finite and the gradient is not; the batch begins with"
    return FloatingPointError(
        f"step {step}: no update was made and no checkpoint written, for {what}:\n  "
        + "\n  ".join(shown)
        + "\nLower train.lr, switch train.bf16 off, or mend the data"
    )
