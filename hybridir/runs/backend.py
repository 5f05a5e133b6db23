"""How a run is computed (in this process, or on workers elsewhere) and tracked."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch

from hybridir.batches.token_cache import ChunkRunner, tokenize_here
from hybridir.data.intake import read_here
from hybridir.model.distributed import pick_device
from hybridir.model.encoder import Encoder
from hybridir.retrieval.encode import encode_here
from hybridir.retrieval.encode_shards import Run, encode_shards_here
from hybridir.retrieval.sharded import Each, each_here
from hybridir.retrieval.systems import Encode
from hybridir.runs.corpus import ShardReader
from hybridir.runs.prepare import Prepared
from hybridir.runs.recipe import Recipe, TrackingConfig
from hybridir.runtime.cpus import usable_cpus
from hybridir.runtime.durable import replaced_folder
from hybridir.runtime.owner import writing
from hybridir.training.loop import train


class Track(Protocol):
    """Tracks the run in a folder while entered. For a run that `ended` earlier, only what is missing is written."""

    def __call__(self, config: TrackingConfig, output: Path, ended: bool = False) -> AbstractContextManager[None]: ...


def track_nothing(config: TrackingConfig, output: Path, ended: bool = False) -> AbstractContextManager[None]:
    """A `Track` that writes nothing."""
    return nullcontext()


@dataclass(frozen=True)
class Backend:
    """The functions that compute a run, in this process (`here`) or on workers elsewhere.

    Attributes:
        train: trains to the end, writes the best encoder to `job.output / "model"`, returns the last state.
        read: reads shards of data.
        tokenize: tokenises chunks of a corpus, see `build_cache`.
        encode: embeds texts.
        encode_shards: encodes the shards of an index.
        each: calls a function on each of several workers.
    """

    train: Callable[[Prepared, Recipe], dict[str, Any]]
    read: ShardReader
    tokenize: ChunkRunner
    encode: Encode
    encode_shards: Run = encode_shards_here
    each: Each = each_here


def quiet_libraries() -> None:
    """Turns off the progress bars and warnings of transformers and the hub's client; errors still show."""
    from huggingface_hub.utils import logging as hub_logging
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    hub_logging.set_verbosity_error()  # it warns of each of its retries


def train_here(prepared: Prepared, recipe: Recipe) -> dict[str, Any]:
    """Trains in this process."""
    scaling = recipe.scaling
    torch.set_num_threads(scaling.cpus_per_worker if scaling.num_workers else usable_cpus())
    with writing(prepared.job.output):
        encoder = Encoder.load(prepared.initial)
        state = train(prepared.job, encoder, pick_device(recipe.scaling.use_gpu))
        if state["stopped"] != "signal":
            with replaced_folder(prepared.job.output / "model") as work:
                encoder.save(work)
    return state


def here(use_gpu: bool = False) -> Backend:
    """This process, without Ray."""
    return Backend(train_here, read_here, tokenize_here, partial(encode_here, use_gpu=use_gpu))
