"""Encoding on Ray: each worker loads the encoder once, and takes blocks of texts as it is free."""

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
from hybridir.retrieval.encode import collect, cut
from hybridir.runs.backend import quiet_libraries
from hybridir.runs.recipe import ScalingConfig
from hybridir.runtime.progress import say

BLOCKS_TAKE = 4
"""Times `scaling.timeout` after which a worker with a block of texts counts as lost: on a CPU a block takes minutes."""


def encode_on_ray(
    scaling: ScalingConfig, config: EncoderConfig, queries: Sequence[str], passages: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """`encode_here` on the workers of `scaling`, in a Ray that runs: the same embeddings, float32 [Q, D] and [P, D].

    What a lost worker had in hand, or one that gives no answer, is encoded by another one: by a new one, or by those
    that are left where there is no room for it. An error of the encoder is raised here as it is.
    """
    is_folder = os.path.isdir(config.name)
    if is_folder:
        config = replace(config, name=os.path.abspath(config.name))
    blocks = _encoded(cut(queries, passages), config, is_folder, scaling)
    return collect(blocks, len(queries), len(passages))


def _encoded(
    texts: Sequence[tuple[Side, Sequence[str]]], config: EncoderConfig, is_folder: bool, scaling: ScalingConfig
) -> Iterator[np.ndarray]:
    """The embeddings of each block of texts, in order; `ConnectionError` where one worker after the other is lost."""
    remote = ray.remote(num_cpus=scaling.cpus_per_worker, num_gpus=int(scaling.use_gpu))(_Worker)
    waiting, done = deque(range(len(texts))), dict[int, np.ndarray]()
    going: dict[ray.ObjectRef, tuple[Any, int | None]] = {}  # a worker, and the block it has; None while it starts

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
            say("there is no place for a worker that encodes: waiting for nodes, or for the end of others")
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
                    f"{lost} workers that encode were lost, one after the other; the last {how}: {error}"
                ) from None
            say(f"a worker that encodes {how}: what it had in hand is encoded again")
            waiting.extendleft([block] if block is not None else [])
            if going:
                start(1)  # where it finds no place, the others do its part
            continue
        if block is not None:
            done[block], lost = found, 0
        if waiting:
            block = waiting.popleft()
            going[worker.encode.remote(*texts[block])] = (worker, block)
        while given in done:
            yield done.pop(given)
            given += 1


class _Worker:
    """Loads the encoder with its first block, so that an error of that is told from a worker that was lost."""

    def __init__(self, config: EncoderConfig, is_folder: bool, scaling: ScalingConfig) -> None:
        self._config, self._is_folder, self._scaling = config, is_folder, scaling
        self._encoder: Encoder | None = None

    def begin(self) -> None:
        """Returns once the worker has its place."""

    def encode(self, side: Side, texts: Sequence[str]) -> np.ndarray:
        self._encoder = self._encoder or self._load()
        return self._encoder.encode(texts, side)

    def _load(self) -> Encoder:
        torch.set_num_threads(self._scaling.cpus_per_worker)
        quiet_libraries()
        if self._is_folder and not os.path.isdir(self._config.name):
            raise ValueError(
                f"the folder {self._config.name!r} is not on {socket.gethostname()}, where a worker runs: put the "
                "model on storage that all nodes see, or name a hub id"
            )
        return Encoder.load(self._config).to(pick_device(self._scaling.use_gpu))
