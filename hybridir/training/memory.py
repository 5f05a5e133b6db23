"""Out of memory: an error that names the batch and the settings that help."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hybridir.batches.stream import TokenBatch


@contextmanager
def memory_explained(batch: TokenBatch, section: str = "train") -> Iterator[None]:
    """While entered, every kind of out-of-memory error from torch becomes the `memory_error` of `batch`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        known = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not known and not any(words in str(error) for words in ("can't allocate memory", "out of memory")):
            raise
        raise memory_error(batch, str(error).partition("\n")[0], section) from None


def memory_error(batch: TokenBatch, reason: str, section: str = "train") -> MemoryError:
    """The error for a worker that ran out of memory on `batch`; `section` is `train` or `validation`."""
    more = "set train.chunk_tokens, switch on train.gradient_checkpointing or train.bf16, or take more workers"
    return MemoryError(
        f"out of memory in step {batch.step}{' of validation' * (section == 'validation')}, with {len(batch.example)} "
        f"pairs on this worker and a longest text of {batch.lengths.max()} tokens. Lower {section}.batch_size or "
        f"encoder.max_passage_length{f', {more}' * (section == 'train')} ({reason})"
    )
