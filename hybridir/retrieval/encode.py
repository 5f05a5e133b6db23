"""Embeds many queries and passages, block by block, and shows progress.

The blocks are those of `Encoder.encode`, so any number of processes gives the same embeddings.

Shapes: Q queries, P passages, D dimension.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from hybridir.model.config import EncoderConfig
from hybridir.model.distributed import pick_device
from hybridir.model.encoder import BLOCK, Encoder
from hybridir.model.folder import Side
from hybridir.runtime.progress import watch_encoding


def encode_here(
    config: EncoderConfig, queries: Sequence[str], passages: Sequence[str], use_gpu: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Embeds queries and passages in this process, with the encoder that `config` names; float32 [Q, D] and [P, D].

    Raises `ValueError` if there is no such encoder, or if an embedding is not finite.
    """
    encoder = Encoder.load(config).to(pick_device(use_gpu))
    within = 0  # texts of the block that are embedded by now

    def count(module: object, inputs: object, output: Any) -> None:
        nonlocal within
        within += len(output.last_hidden_state)

    def blocks() -> Iterator[np.ndarray]:
        nonlocal within
        for side, texts in cut(queries, passages):
            block = encoder.encode(texts, side)
            within = 0
            yield block

    encoder.backbone.register_forward_hook(count)
    return collect(blocks(), len(queries), len(passages), lambda: within)


def cut(queries: Sequence[str], passages: Sequence[str]) -> list[tuple[Side, Sequence[str]]]:
    """Cuts the texts into blocks: first of queries, then of passages, each with its side."""
    sides: dict[Side, Sequence[str]] = {"query": queries, "passage": passages}
    return [(side, texts[i : i + BLOCK]) for side, texts in sides.items() for i in range(0, len(texts), BLOCK)]


def collect(
    blocks: Iterable[np.ndarray], n_queries: int, n_passages: int, within: Callable[[], int] = lambda: 0
) -> tuple[np.ndarray, np.ndarray]:
    """Joins the embeddings of the blocks of `cut`, in order: float32 [Q, D] of queries and [P, D] of passages.

    `within`: see `watch_encoding`.
    """
    total, done = n_queries + n_passages, 0
    embeddings = np.empty((0, 0), dtype=np.float32)
    for block in watch_encoding(blocks, total, within):
        if not done:
            embeddings = np.empty((total, block.shape[1]), dtype=np.float32)
        embeddings[done : done + len(block)] = block
        done += len(block)
    assert done == total, "every text has its embedding"
    return embeddings[:n_queries], embeddings[n_queries:]
