"""Training under Ray Train: one process a worker, DDP, batches from Ray Data, checkpoints of our own."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from hybridir.encoder import Encoder, EncoderConfig
from hybridir.on_ray.cluster import cluster
from hybridir.prepare import Prepared
from hybridir.recipe import Recipe, ScalingConfig
from hybridir.run import Backend, quiet_libraries
from hybridir.train import Job, train


@contextlib.contextmanager
def ray_backend(scaling: ScalingConfig) -> Iterator[Backend]:
    """Computes on the cluster of RAY_ADDRESS, or on one started here for as long as it is entered."""
    with cluster(scaling.num_workers * scaling.cpus_per_worker, scaling.num_workers * scaling.use_gpu):
        from hybridir.on_ray.data import read_shards, tokenize_chunks
        from hybridir.on_ray.encode import encode_on_ray

        yield Backend(train_on_ray, read_shards, tokenize_chunks, partial(encode_on_ray, scaling))


def train_on_ray(prepared: Prepared, recipe: Recipe) -> dict[str, Any]:
    """Trains on the workers; see `hybridir.run.Backend`.

    A lost worker is replaced and the run goes on from its last checkpoint. An error of the run's own is raised here as
    it is, without another try.
    """
    import ray.train
    from ray.train.torch import TorchTrainer

    scaling = recipe.scaling
    resources = {"CPU": float(scaling.cpus_per_worker)}
    trainer = TorchTrainer(
        _work,
        train_loop_config={"task": _Task(prepared.job, prepared.initial, scaling.cpus_per_worker)},
        scaling_config=ray.train.ScalingConfig(
            num_workers=scaling.num_workers, use_gpu=scaling.use_gpu, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=f"attempt-{os.urandom(8).hex()}",  # Ray resumes a name that it knows
            storage_path=str(prepared.job.output / "ray"),
            failure_config=ray.train.FailureConfig(max_failures=scaling.max_failures),
            callbacks=[_stop_on_own_error()],
        ),
    )
    print(f"starting {scaling.num_workers} workers (about 30 s)", flush=True)
    try:
        return trainer.fit().return_value
    except ray.train.ControllerError as error:
        raise error.controller_failure from None
    except ray.train.WorkerGroupError as error:
        raise next(iter(error.worker_failures.values()), error) from None


@dataclass(frozen=True)
class _Task:
    job: Job
    initial: EncoderConfig
    threads: int


def _work(config: dict[str, Any]) -> dict[str, Any]:
    """What each worker does; the return value of rank 0 reaches the driver."""
    import ray.train
    import ray.train.torch

    from hybridir.on_ray.data import stream

    task: _Task = config["task"]
    torch.set_num_threads(task.threads)
    quiet_libraries()
    encoder = Encoder.load(task.initial)
    state = train(task.job, encoder, ray.train.torch.get_device(), stream)
    if ray.train.get_context().get_world_rank() == 0 and state["stopped"] != "signal":
        encoder.save(task.job.output / "model")
    return state


def _stop_on_own_error() -> Any:
    """A callback of Ray Train's controller: errors that would come again are not tried again.

    What a lost worker causes, in Ray or in a collective operation of its peers, is tried again, and so is trouble with
    storage.
    """
    import ray.train

    class StopOnOwnError(ray.train.UserCallback):
        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            for error in worker_exceptions.values():
                lost_peer = isinstance(error, RuntimeError) and any(
                    w in str(error) for w in ("gloo", "NCCL", "onnection")
                )
                from_ray = type(error).__module__.startswith("ray.")
                if not (lost_peer or from_ray or isinstance(error, OSError)):
                    raise error

    return StopOnOwnError()
