"""Embeds many queries and passages, block by block, and shows progress.

The blocks are those of `Encoder.encode`, so any number of processes gives the same embeddings.

Shapes: Q queries, P passages, D dimension.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from hybridir.model.config import EncoderConfig
from hybridir.model.distributed import pick_device
from hybridir.model.encoder import BLOCK, Encoder, distinct
from hybridir.model.folder import Side
from hybridir.runtime.progress import watch_encoding

Block = tuple[Side, Sequence[str]]
"""Texts of one side that are encoded at a time."""


def encode_here(
    config: EncoderConfig, queries: Sequence[str], passages: Sequence[str], use_gpu: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Embeds queries and passages in this process, with the encoder that `config` names; float32 [Q, D] and [P, D].

    Raises `ValueError` if there is no such encoder, or if an embedding is not finite.
    """
    encoder = Encoder.load(config).to(pick_device(use_gpu))
    within = 0  # texts of the block that are embedded by now

    def count(texts: int) -> None:
        nonlocal within
        within += texts

    def encoded(blocks: list[Block]) -> Iterator[np.ndarray]:
        nonlocal within
        for side, texts in blocks:
            block = encoder.encode(texts, side, count)
            within = 0
            yield block

    return collect(encoded, queries, passages, lambda: within)


def collect(
    encoded: Callable[[list[Block]], Iterable[np.ndarray]],
    queries: Sequence[str],
    passages: Sequence[str],
    within: Callable[[], int] = lambda: 0,
) -> tuple[np.ndarray, np.ndarray]:
    """The embeddings of queries and passages, float32 [Q, D] and [P, D], block by block. Equal texts are encoded once.

    `encoded` gives the embeddings of each block of texts, in order. `within`: see `watch_encoding`.
    """
    (queries, query_places), (passages, passage_places) = distinct(queries), distinct(passages)
    total, done = len(queries) + len(passages), 0
    embeddings = np.empty((0, 0), dtype=np.float32)
    for block in watch_encoding(encoded(_cut(queries, passages)), total, within):
        if not done:
            embeddings = np.empty((total, block.shape[1]), dtype=np.float32)
        embeddings[done : done + len(block)] = block
        done += len(block)
    assert done == total, "every text has its embedding"
    both = (embeddings[: len(queries)], query_places), (embeddings[len(queries) :], passage_places)
    first, second = (found if places is None else found[places] for found, places in both)
    return first, second


def _cut(queries: Sequence[str], passages: Sequence[str]) -> list[Block]:
    """Cuts the texts into blocks: first of queries, then of passages, each with its side."""
    sides: dict[Side, Sequence[str]] = {"query": queries, "passage": passages}
    return [(side, texts[i : i + BLOCK]) for side, texts in sides.items() for i in range(0, len(texts), BLOCK)]
