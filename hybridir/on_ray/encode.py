"""Encoding on Ray: each worker loads the encoder once, and takes the next block of texts whenever it is free."""

import os
import socket
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
import ray.exceptions
import torch

from hybridir.model.config import EncoderConfig
from hybridir.model.distributed import pick_device
from hybridir.model.encoder import Encoder
from hybridir.model.folder import Side
from hybridir.on_ray.cluster import find_room, room
from hybridir.on_ray.data import cause
from hybridir.on_ray.gauges import show
from hybridir.retrieval.encode import Block, collect
from hybridir.runs.backend import quiet_libraries
from hybridir.runs.recipe import ScalingConfig
from hybridir.runtime.progress import say

BLOCKS_TAKE = 4
"""A worker counts as lost after this many times `scaling.timeout` for one block: on a CPU, a block takes minutes."""


def encode_on_ray(
    scaling: ScalingConfig, config: EncoderConfig, queries: Sequence[str], passages: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Like `encode_here`, on the workers of `scaling`: the same embeddings, float32 [Q, D] and [P, D]. Ray must run.

    The block of a worker that is lost, or gives no answer, is encoded again by a new worker; or by the others, if there
    is no room for a new one. An error of the encoder itself is raised unchanged.

    Raises:
        ConnectionError: more than `scaling.max_failures` workers were lost in a row.
    """
    is_folder = os.path.isdir(config.name)
    if is_folder:
        config = replace(config, name=os.path.abspath(config.name))
    return collect(lambda blocks: _encoded(blocks, config, is_folder, scaling), queries, passages)


def _encoded(
    texts: Sequence[Block], config: EncoderConfig, is_folder: bool, scaling: ScalingConfig
) -> Iterator[np.ndarray]:
    """The embeddings of each block of texts, in order."""
    remote = ray.remote(num_cpus=scaling.cpus_per_worker, num_gpus=int(scaling.use_gpu))(_Worker)
    waiting, done = deque(range(len(texts))), dict[int, np.ndarray]()
    going: dict[ray.ObjectRef, tuple[Any, int | None]] = {}  # the worker and its block; None while it starts

    def start(workers: int) -> None:
        for _ in range(workers):
            worker = remote.remote(config, is_folder, scaling)
            going[worker.begin.remote()] = (worker, None)

    lost = given = 0
    while given < len(texts):
        if not going:
            there = max(1, min(room(scaling), scaling.num_workers, len(waiting)))
            start(find_room(replace(scaling, num_workers=there, min_workers=None), can_wait=bool(lost)))
        patience = BLOCKS_TAKE * scaling.timeout
        ready, _ = ray.wait(list(going), timeout=patience)
        at_work = [ref for ref, (_, block) in going.items() if block is not None]
        if not ready and not at_work:
            say("there is no room for an encoding worker: waiting for nodes, or for other jobs to end")
            continue
        ref = (ready or at_work)[0]
        worker, block = going.pop(ref)
        try:
            if not ready:
                ray.kill(worker)
            found = ray.get(ref)
        except ray.exceptions.RayTaskError as error:
            raise cause(error) from None
        except ray.exceptions.RayError as error:
            lost += 1
            how = "was lost" if ready else f"gave no answer for {patience} s ({BLOCKS_TAKE} x scaling.timeout)"
            if lost > scaling.max_failures:
                raise ConnectionError(
                    f"{lost} encoding workers were lost in a row; the last one {how}: {error}"
                ) from None
            say(f"an encoding worker {how}: its block of texts is encoded again")
            waiting.extendleft([block] if block is not None else [])
            if going:
                start(1)  # without room for it, the others do its part
            continue
        if block is not None:
            done[block], lost = found, 0
        if waiting:
            block = waiting.popleft()
            going[worker.encode.remote(*texts[block])] = (worker, block)
        while given in done:
            yield done.pop(given)
            given += 1
            show(os.path.basename(config.name), texts_encoded=sum(len(some) for _, some in texts[:given]))


class _Worker:
    """Loads the encoder with its first block, not in `__init__`: there, an error would look like a lost worker."""

    def __init__(self, config: EncoderConfig, is_folder: bool, scaling: ScalingConfig) -> None:
        self._config, self._is_folder, self._scaling = config, is_folder, scaling
        self._encoder: Encoder | None = None

    def begin(self) -> None:
        """Returns once the worker has its resources."""

    def encode(self, side: Side, texts: Sequence[str]) -> np.ndarray:
        self._encoder = self._encoder or self._load()
        return self._encoder.encode(texts, side)

    def _load(self) -> Encoder:
        torch.set_num_threads(self._scaling.cpus_per_worker)
        quiet_libraries()
        if self._is_folder and not os.path.isdir(self._config.name):
            raise ValueError(
                f"the folder {self._config.name!r} is not on {socket.gethostname()}, where a worker runs: put the "
                "model on storage that all nodes see, or give a hub id"
            )
        return Encoder.load(self._config).to(pick_device(self._scaling.use_gpu))
