"""Out of memory: which batch it was, and what helps."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hybridir.collate import TokenBatch


@contextmanager
def memory_explained(batch: TokenBatch) -> Iterator[None]:
    """While entered, running out of memory becomes the `memory_error` of `batch`, whatever torch calls it."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and "can't allocate memory" not in str(error):
            raise
        raise memory_error(batch, str(error).partition("\n")[0]) from None


def memory_error(batch: TokenBatch, reason: str) -> MemoryError:
    """The error of a worker that ran out of memory on `batch`."""
    return MemoryError(
        f"out of memory in step {batch.step}, with {len(batch.example)} pairs on this worker and a longest text of "
        f"{batch.lengths.max()} tokens. Lower train.batch_size or encoder.max_passage_length, switch on "
        f"train.gradient_checkpointing or train.bf16, or take more workers ({reason})"
    )
