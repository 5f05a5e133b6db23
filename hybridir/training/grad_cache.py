"""GradCache: the gradients of a large batch in the memory of a small one (Gao et al. 2021, arXiv 2101.06983).

1. `_represent`: the embeddings of all texts, chunk by chunk, without a graph.
2. `_differentiate`: the loss, and its gradient with respect to the embeddings, queries block by block.
3. `_backpropagate`: each chunk once more, with a graph, from the gradients of its embeddings to those of the weights.

The last chunk keeps its graph in step 1, so that a batch of one chunk is encoded once. Memory follows from the tokens
of a chunk: no more than one chunk's graph and one block's scores live at a time.

Shapes: N texts of this rank, of which n are in a chunk, b queries of this rank, D dimension.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hybridir.batches.stream import TokenBatch
from hybridir.training.config import TrainConfig
from hybridir.training.objective import batch_terms, by_view, embed, loss_of

_Encoded = tuple[Tensor, Tensor]
"""Embeddings [n, D] of a chunk, and the temperature."""


@dataclass(frozen=True, kw_only=True)
class _Chunk:
    """Texts that are encoded together."""

    places: Tensor  # int64 [n], on the device, among all texts of the batch
    ids: Tensor  # on the device, token ids of these texts one after another
    lengths: Tensor  # [n], on the CPU
    seed: int  # of dropout: the same whenever the chunk is encoded


def add_gradients(model: nn.Module, batch: TokenBatch, device: torch.device, config: TrainConfig) -> dict[str, Tensor]:
    """Adds the gradients of the mean loss of `batch` to the parameters; returns the terms of the loss, [b], detached.

    `model` is a `DualEncoder`, or DDP of one. Without `config.chunk_tokens`, the batch is encoded at once.
    """
    if config.chunk_tokens is None:
        terms = batch_terms(model, batch, device, config.bf16)
        loss_of(model).total(terms).mean().backward()
        return {name: term.detach() for name, term in terms.items()}
    chunks = _chunks(batch, config.chunk_tokens, device)
    embeddings_ND, kept = _represent(model, chunks, len(batch.lengths), config.bf16)
    scores = config.chunk_tokens * embeddings_ND.shape[1]  # as many as numbers in one activation of a chunk
    terms, gradient_ND, of_temperature = _differentiate(model, batch, embeddings_ND, kept[1].detach(), scores)
    _backpropagate(model, chunks, kept, gradient_ND, of_temperature, config.bf16)
    return terms


def _chunks(batch: TokenBatch, tokens: int, device: torch.device) -> list[_Chunk]:
    """The texts by falling length, cut where the next would exceed `tokens`; a longer text is a chunk of its own."""
    order = np.argsort(-batch.lengths, kind="stable")[: np.count_nonzero(batch.lengths)]
    texts = np.split(batch.ids, np.cumsum(batch.lengths)[:-1])
    members: list[list[int]] = []
    room = 0
    for text in order.tolist():
        if not members or batch.lengths[text] > room:
            members.append([])
            room = tokens
        members[-1].append(text)
        room -= batch.lengths[text]
    seeds = torch.randint(2**62, (len(members),)).tolist()
    return [
        _Chunk(
            places=torch.tensor(texts_of, device=device),
            ids=torch.from_numpy(np.concatenate([texts[text] for text in texts_of])).to(device),
            lengths=torch.from_numpy(batch.lengths[texts_of]),
            seed=seed,
        )
        for texts_of, seed in zip(members, seeds, strict=True)
    ]


def _encode(model: nn.Module, chunk: _Chunk, bf16: bool) -> tuple[Tensor, Tensor]:
    torch.manual_seed(chunk.seed)
    return embed(model, chunk.ids, chunk.lengths, bf16)


def _apart(model: nn.Module, final: bool) -> AbstractContextManager[None]:
    """For a forward and backward pass after which ranks exchange gradients only if it is the `final` one of a step."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) and not final else nullcontext()


def _represent(model: nn.Module, chunks: list[_Chunk], texts: int, bf16: bool) -> tuple[Tensor, _Encoded]:
    """The embeddings [N, D], zeros where there is no text, and those of the last chunk with their graph."""
    with torch.no_grad():
        parts = [_encode(model, chunk, bf16)[0] for chunk in chunks[:-1]]
    with _apart(model, final=len(chunks) == 1):
        kept = _encode(model, chunks[-1], bf16)
    parts.append(kept[0].detach())
    embeddings_ND = parts[-1].new_zeros(texts, parts[-1].shape[1])
    embeddings_ND[torch.cat([chunk.places for chunk in chunks])] = torch.cat(parts)
    return embeddings_ND, kept


def _differentiate(
    model: nn.Module, batch: TokenBatch, embeddings_ND: Tensor, temperature: Tensor, scores: int
) -> tuple[dict[str, Tensor], Tensor, Tensor | None]:
    """The terms [b], and the gradients of the mean loss with respect to embeddings [N, D] and temperature.

    A block has at most `scores` scores of queries with other texts, or a single query.
    """
    loss = loss_of(model)
    whole = by_view(batch, embeddings_ND.requires_grad_(), temperature.requires_grad_())
    query_bD = whole.query_bD.detach().requires_grad_()
    views = {name: view.detach().requires_grad_() for name, view in whole.views.items()}
    size = max(1, scores // sum(view.shape[0] * view.shape[1] for view in views.values()))
    found = {name: query_bD.new_empty(len(query_bD)) for name in loss.terms}
    for start in range(0, len(query_bD), size):
        rows = slice(start, start + size)
        block = replace(whole, query_bD=query_bD[rows], views=views, first=whole.first + start)
        terms = loss.values(block)
        (loss.total(terms).sum() / len(query_bD)).backward()
        for name, term in terms.items():
            found[name][rows] = term.detach()
    passed = [(whole.query_bD, query_bD), *((whole.views[name], view) for name, view in views.items())]
    used = [(tensor, leaf.grad) for tensor, leaf in passed if leaf.grad is not None]
    torch.autograd.backward([tensor for tensor, _ in used], [gradient for _, gradient in used])
    assert embeddings_ND.grad is not None
    return found, embeddings_ND.grad, temperature.grad


def _backpropagate(
    model: nn.Module,
    chunks: list[_Chunk],
    kept: _Encoded,
    gradient_ND: Tensor,
    of_temperature: Tensor | None,
    bf16: bool,
) -> None:
    """Adds the gradients of the parameters, from the kept graph first: the others need its memory."""
    for number, chunk in enumerate([chunks[-1], *chunks[:-1]]):
        final = number == len(chunks) - 1
        with _apart(model, final):
            embedded_nD, temperature = _encode(model, chunk, bf16) if number else kept
            outputs, gradients = [embedded_nD], [gradient_ND[chunk.places]]
            if final and temperature.requires_grad:
                assert of_temperature is not None
                outputs.append(temperature)
                gradients.append(of_temperature)
            torch.autograd.backward(outputs, gradients)
