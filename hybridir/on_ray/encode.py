"""Encoding by Ray Data: each worker loads the encoder once, and takes blocks of texts as they come."""

import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import ray.data
import ray.exceptions
import torch
from ray.data import ActorPoolStrategy, DataContext

from hybridir.distributed import pick_device
from hybridir.encode import collect, cut
from hybridir.encoder import Encoder, EncoderConfig
from hybridir.on_ray.cluster import find_room
from hybridir.on_ray.data import cause, ordered
from hybridir.recipe import ScalingConfig
from hybridir.run import quiet_libraries


def encode_on_ray(
    scaling: ScalingConfig, config: EncoderConfig, queries: Sequence[str], passages: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """`encode_here` on the workers of `scaling`, in a Ray that runs: the same embeddings, float32 [Q, D] and [P, D].

    A lost worker is replaced, and what it had in hand encoded again. An error of the encoder is raised here as it is.
    """
    is_folder = os.path.isdir(config.name)
    if is_folder:
        config = replace(config, name=os.path.abspath(config.name))
    rows = [pa.table({"side": [side], "texts": [texts]}) for side, texts in cut(queries, passages)]
    if not rows:
        return collect([], 0, 0)
    workers = min(find_room(replace(scaling, min_workers=1)), len(rows))  # any number gives the same
    with DataContext.current(ordered()):
        embedded = ray.data.from_arrow(rows).map_batches(
            _Worker,
            fn_constructor_args=(config, is_folder, scaling),
            batch_size=1,
            batch_format="pyarrow",
            compute=ActorPoolStrategy(size=workers),
            num_cpus=scaling.cpus_per_worker,
            num_gpus=int(scaling.use_gpu),
        )
        try:
            return collect(_arrays(embedded), len(queries), len(passages))
        except ray.exceptions.RayError as error:
            raise cause(error) from None


def _arrays(embedded: ray.data.Dataset) -> Iterator[np.ndarray]:
    return (batch["embedding"][0] for batch in embedded.iter_batches(batch_size=None, batch_format="numpy"))


class _Worker:
    """Loads the encoder with its first block: Ray tells an error that is raised then from a worker that was lost."""

    def __init__(self, config: EncoderConfig, is_folder: bool, scaling: ScalingConfig) -> None:
        self._config, self._is_folder, self._scaling = config, is_folder, scaling
        self._encoder: Encoder | None = None

    def __call__(self, row: pa.Table) -> dict[str, np.ndarray]:
        self._encoder = self._encoder or self._load()
        side, texts = (row[name][0].as_py() for name in ("side", "texts"))
        return {"embedding": self._encoder.encode(texts, side)[None]}

    def _load(self) -> Encoder:
        torch.set_num_threads(self._scaling.cpus_per_worker)
        quiet_libraries()
        if self._is_folder and not os.path.isdir(self._config.name):
            raise ValueError(
                f"the folder {self._config.name!r} is not on {socket.gethostname()}, where a worker runs: put the "
                "model on storage that all nodes see, or name a hub id"
            )
        return Encoder.load(self._config).to(pick_device(self._scaling.use_gpu))
