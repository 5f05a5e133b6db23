"""One small gather per step: all ranks get the same loss, stop request and errors, so they stop or go on together."""

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
    """Values of one step that are the same on every rank.

    Attributes:
        loss: mean loss over the ranks.
        terms: mean of each term of the loss, without its weight.
        norm: largest gradient norm of any rank.
        stop: whether any rank was asked to stop.
        tokens: number of tokens in the global batch.
        sha256: hash of all items of the global batch, as the ranks received them.
        not_finite: indices in the global batch of the items whose own loss is NaN or infinite.
    """

    loss: float
    terms: dict[str, float]
    norm: float
    stop: bool
    tokens: int
    sha256: str
    not_finite: list[int]


def exchange(losses: Tensor, terms: dict[str, Tensor], norm: Tensor, stop: bool, batch: TokenBatch) -> Shared:
    """Gathers the losses [b] with their terms, gradient norm, stop request and batch; the same result on all ranks.

    It copies once from the device of the losses, which the host waits for; what needs no device is done before.
    """
    values = torch.stack([value.double() for value in (norm, losses.mean(), *(term.mean() for term in terms.values()))])
    computed = torch.cat([values.view(torch.int64), losses.isfinite().long()])
    known = torch.from_numpy(np.concatenate([[stop, batch.lengths.sum()], batch.digests()]))
    backend = torch.device("cuda" if dist.is_initialized() and dist.get_backend() == "nccl" else "cpu")
    mine = torch.cat([computed.to(backend), known.to(backend)])
    ends = np.cumsum([len(values), len(losses), 1, 1])
    found, finites, stops, tokens, digests = np.split(gather(mine[None]).cpu().numpy(), ends, axis=1)
    norms, *by_term = np.ascontiguousarray(found).view(np.float64).T
    loss, *others = (float(each.mean()) for each in by_term)
    return Shared(
        loss=loss,
        terms=dict(zip(terms, others, strict=True)),
        norm=float(norms.max()),
        stop=bool(stops.any()),
        tokens=int(tokens.sum()),
        sha256=hashlib.sha256(digests.tobytes()).hexdigest(),
        not_finite=np.flatnonzero(finites.ravel() == 0).tolist(),
    )


def not_finite_error(step: int, shared: Shared, source: BatchSource) -> FloatingPointError:
    """The error for a loss or gradient that is NaN or infinite; the same on every rank.

    It shows file, line and texts of up to three items: those with such a loss, or the first of the batch if there are
    none.
    """
    plan = source.plan()
    batch = plan.batch(step)
    noisy, shown = source.noisy_texts(batch), []
    for item in (shared.not_finite or range(len(batch.groups)))[:3]:
        query, passage = (plan.corpus.pair(int(rows[item])) for rows in (batch.query_row, batch.passage_row))
        asked = f"{query['query'][:200]!r}"
        if item in noisy:
            asked = f"{noisy[item][:200]!r} (with noise; without: {asked})"
        texts = f"query {asked}, passage {passage['passage']['text'][:200]!r}"
        shown.append(f"{place(query['file'], query['line'])}: {texts}")
    many = f"the loss of {len(shared.not_finite)} of {len(batch.groups)} examples is not finite. The first:"
    what = many if shared.not_finite else "the losses are finite and the gradient is not. The batch begins with:"
    return FloatingPointError(
        f"step {step}: no update was made and no checkpoint written, because {what}\n  "
        + "\n  ".join(shown)
        + "\nLower train.lr, switch train.bf16 off, or correct the data"
    )
