"""Training under Ray Train: one process per worker, DDP, batches from Ray Data, this project's own checkpoints."""

import contextlib
import faulthandler
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from hybridir.batches.stream import BatchSource, Stream, TokenBatch
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.on_ray.cluster import cluster, find_room, free_places, room
from hybridir.on_ray.gauges import training_shown
from hybridir.on_ray.lost import cause_of_end, has_died, in_short, is_of_ray, may_pass, was_waited_for
from hybridir.runs.backend import Backend, quiet_libraries
from hybridir.runs.prepare import Prepared
from hybridir.runs.recipe import Recipe, ScalingConfig
from hybridir.runtime.durable import replaced_folder
from hybridir.runtime.history import last_line, note
from hybridir.runtime.owner import writing
from hybridir.training.checkpoint import remove_half_written
from hybridir.training.loop import STOP, Job, train
from hybridir.training.memory import memory_error

NOTICE_SECONDS = 2.0
"""Seconds between two checks whether a node is about to go."""


@contextlib.contextmanager
def ray_backend(scaling: ScalingConfig, batch_size: int = 0) -> Iterator[Backend]:
    """While entered, gives a `Backend` on the cluster in RAY_ADDRESS, or on a local one that ends on leaving.

    `ValueError` if the cluster can never hold enough workers; their number must divide `batch_size` (see `find_room`).
    """
    with cluster(scaling.num_workers * scaling.cpus_per_worker):
        find_room(scaling, batch_size)
        from hybridir.on_ray.data import read_shards, tokenize_chunks
        from hybridir.on_ray.encode import encode_on_ray
        from hybridir.on_ray.encode_shards import encode_shards_on_ray
        from hybridir.on_ray.units import each_on_ray

        yield Backend(
            train=train_on_ray,
            read=read_shards,
            tokenize=tokenize_chunks,
            encode=partial(encode_on_ray, scaling),
            encode_shards=partial(encode_shards_on_ray, scaling),
            each=partial(each_on_ray, scaling),
        )


def train_on_ray(prepared: Prepared, recipe: Recipe) -> dict[str, Any]:
    """Trains on the workers: `train` of a `hybridir.runs.backend.Backend`.

    If a worker is lost or does not answer, all workers start again from the last checkpoint, as many as there is room
    for (see `find_room`). If a node is about to go, the run saves and starts again without it. An error of the run
    itself is raised unchanged and not retried. While others use the cluster, the run waits for room without limit.

    Raises:
        ConnectionError: workers were lost more than `scaling.max_failures` times in a row without a new checkpoint.
    """
    import ray.exceptions
    import ray.train

    scaling, job = recipe.scaling, prepared.job
    lost_in_a_row, saved, workers = 0, _saved(job), 0  # 0 workers: ray_backend has waited for all
    while True:
        workers = find_room(scaling, recipe.train.batch_size, enough=workers, can_wait=workers > 0)
        with writing(job.output):  # until a killed driver's worker has ended
            remove_half_written(job.output / "checkpoints")
        try:
            state = _in_thread(partial(_fit, prepared, scaling, workers))
        except (ray.train.TrainingFailedError, ray.exceptions.RayActorError) as error:
            last = cause_of_end(error)
            if type(last).__name__ == "WorkerGroupStartupTimeoutError" and room(scaling, free=True) < workers:
                note(job.output, "the workers did not start in time: others may use the cluster, or a node is gone")
                continue
            if not may_pass(last):
                raise last from None
            if _saved(job) != saved:
                lost_in_a_row, saved = 0, _saved(job)
            lost_in_a_row += 1
            if lost_in_a_row > scaling.max_failures:
                raise ConnectionError(
                    f"workers were lost {lost_in_a_row} times without a new checkpoint, and scaling.max_failures is "
                    f"{scaling.max_failures}. Find out what ends them, then go on with --resume. If the system kills "
                    "them because memory runs out (see dmesg), lower train.batch_size or "
                    f"encoder.max_passage_length. The last error: {in_short(last)}"
                ) from None
            if isinstance(error, ray.exceptions.RayActorError):
                free_places()
            if not isinstance(error, ray.train.WorkerGroupError):  # else _watch has noted it
                note(job.output, f"the workers are started again ({in_short(last)})")
        else:
            if state["stopped"] != "signal" or (job.output / STOP).exists():
                return state
            note(job.output, f"a node is about to go: saved at step {state['step']}, starting the workers again")


def _saved(job: Job) -> str:
    """The name of the newest checkpoint; empty without one."""
    return max((one.name for one in (job.output / "checkpoints").glob("step-*")), default="")


def _fit(prepared: Prepared, scaling: ScalingConfig, workers: int) -> dict[str, Any]:
    """One start of Ray Train; returns the last state. `ray.train.WorkerGroupError` if a worker is lost."""
    import ray.train
    from ray.train.torch import TorchConfig, TorchTrainer

    job, name = prepared.job, f"attempt-{os.urandom(8).hex()}"  # new: Ray resumes a known name
    mark = job.output / "ray" / f"{name}.here"
    mark.parent.mkdir(exist_ok=True)
    mark.touch()
    resources = {"CPU": float(scaling.cpus_per_worker)}
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(scaling.timeout)
    trainer = TorchTrainer(
        _work,
        train_loop_config={"task": _Task(job, prepared.initial, scaling.cpus_per_worker, 2 * scaling.timeout, mark)},
        torch_config=TorchConfig(timeout_s=scaling.timeout),
        scaling_config=ray.train.ScalingConfig(
            num_workers=workers, use_gpu=scaling.use_gpu, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(
            name=name,
            storage_path=str(job.output / "ray"),
            failure_config=ray.train.FailureConfig(
                max_failures=0, controller_failure_limit=0, max_preemption_failures=0
            ),
            callbacks=[_watch(job, scaling)],
        ),
    )
    print(f"starting {workers} workers (about 30 s)", flush=True)
    try:
        return trainer.fit().return_value
    finally:
        mark.unlink(missing_ok=True)


def _in_thread(function: Callable[[], Any]) -> Any:
    """Calls `function` in a thread: Ray then keeps this thread's signal handlers, and signals interrupt the wait."""
    done: list[Any] = []

    def call() -> None:
        try:
            done.extend((function(), None))
        except BaseException as error:
            done.extend((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join()
    result, error = done
    if error:
        raise error
    return result


@dataclass(frozen=True)
class _Task:
    job: Job
    initial: EncoderConfig
    threads: int
    patience: int  # seconds
    mark: Path  # a file that the driver has just made, to see whether storage is shared


def _work(config: dict[str, Any]) -> dict[str, Any]:
    """The function of each worker; the driver gets the return value of rank 0."""
    import ray.train
    import ray.train.torch

    from hybridir.on_ray.data import stream

    task: _Task = config["task"]
    for path, field in ((task.mark, "--output"), (Path(task.job.source.tokens), "--cache")):
        if not path.exists():
            raise ValueError(
                f"the worker on {socket.gethostname()} does not see the driver's {path}: set {field} to a folder on "
                "storage that all nodes share"
            )
    torch.set_num_threads(task.threads)
    quiet_libraries()
    faulthandler.dump_traceback_later(task.patience, exit=True, file=2)  # until the first batch, see _watched
    first = ray.train.get_context().get_world_rank() == 0
    notice = threading.Event()
    threading.Thread(target=_listen, args=(notice,), daemon=True).start()
    with contextlib.ExitStack() as stack:
        if first:
            stack.enter_context(writing(task.job.output))
            stack.enter_context(training_shown(task.job.output))
        encoder = Encoder.load(task.initial)
        batches = _watched(stream, task.patience)
        try:
            state = train(task.job, encoder, ray.train.torch.get_device(), batches, notice.is_set)
        finally:
            faulthandler.cancel_dump_traceback_later()
        if first and state["stopped"] != "signal":
            with replaced_folder(task.job.output / "model") as work:
                encoder.save(work)
    return state


def _listen(notice: threading.Event) -> None:
    """Sets `notice` once Ray says that a worker's node is about to go. All workers must run this: they ask together."""
    import ray.train

    while not ray.train.get_preemption_info():
        time.sleep(NOTICE_SECONDS)
    notice.set()


def _watched(stream: Stream, seconds: int) -> Stream:
    """The same stream; if no batch is taken for `seconds`, the process ends with a traceback on stderr."""

    def watched(source: BatchSource, start: int, end: int, rank: int, world_size: int) -> Iterator[TokenBatch]:
        for batch in stream(source, start, end, rank, world_size):
            faulthandler.dump_traceback_later(seconds, exit=True, file=2)
            yield batch

    return watched


def _watch(job: Job, scaling: ScalingConfig) -> Any:
    """A callback of Ray Train's controller: notes which workers were lost, and raises errors that would come again.

    Errors that a lost worker causes, in Ray or in a collective operation of its peers, are retried, and so are errors
    of storage that may come back.
    """
    import ray.train

    class Watch(ray.train.UserCallback):
        said = ""

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            last = last_line(job.output / "history.jsonl") or {"step": -1, "world_size": scaling.num_workers}
            errors = worker_exceptions.values()
            for error in errors:
                if "running low on memory" in str(error):  # Ray killed the worker before the system did
                    batch = job.source.batch(last["step"] + 1, 0, last["world_size"])
                    raise memory_error(batch, in_short(error))
                if not may_pass(error):
                    raise error
            died = {rank for rank, error in worker_exceptions.items() if has_died(error)}
            told = {rank for rank, error in worker_exceptions.items() if not is_of_ray(error)}
            lost = died or set(range(last["world_size"])) - told
            hung = not died and any(was_waited_for(error) for error in errors)
            words = (
                f"the worker of rank {', '.join(map(str, sorted(lost))) or 'unknown'} "
                f"{f'gave no answer for {scaling.timeout} s' if hung else 'was lost'} after step {last['step'] + 1}, "
                f"and is replaced ({in_short(next(iter(errors)))})"
            )
            if words != self.said:  # Ray may call this many times
                note(job.output, words)
            self.said = words

    return Watch()
