"""The training loop: the same function in one process and on every rank of a process group.

The ranks decide together whether to stop and whether the loss is finite: see `agreement`. Random states are not saved:
torch is seeded at each step from (seed, step, rank).
"""

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hybridir.batches.stream import BatchSource, Stream, local_stream
from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig
from hybridir.model.distributed import barrier, broadcast_object, rank, world_size
from hybridir.model.encoder import Encoder
from hybridir.runtime.history import History, last_line, note
from hybridir.training import checkpoint as ckpt
from hybridir.training.agreement import exchange, not_finite_error
from hybridir.training.clock import Clock
from hybridir.training.identity import check_identity
from hybridir.training.memory import memory_explained
from hybridir.training.objective import DualEncoder, LossConfig, batch_loss, batch_terms
from hybridir.training.validation import Validation, ValidationConfig, cost, value_of

STOP = "STOP"
"""Name of the file in the output folder that asks a run to save and end."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation with AdamW.

    Args:
        steps: number of optimiser steps.
        epochs: number of epochs, instead of `steps`. An epoch is as many items as there are training pairs in the
            languages that are drawn; items are drawn with replacement.
        batch_size: pairs in a global batch, all workers together.
        lr: peak learning rate. Omitted: 3e-5 for an encoder that is named, 1e-3 for one built from nothing.
        weight_decay: weight decay of matrices; biases, norms and the temperature have none.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        schedule: after the warm-up, `linear` falls to 0 at the end, `constant` keeps the peak.
        clip_norm: gradients with a larger norm are scaled down to this norm; 0 is off.
        bf16: forward passes in bfloat16 (needs a GPU of the Ampere generation or later).
        gradient_checkpointing: recompute activations in the backward pass: saves memory, costs a second forward pass.
        checkpoint_every: steps between checkpoints; every validation writes one too.
        keep_last: number of latest checkpoints to keep, besides the best.
        log_every: steps between progress lines (where the output is not a terminal).
    """

    steps: int = 400
    epochs: float | None = None
    batch_size: int = 64
    lr: float | None = None
    weight_decay: float = 0.01
    warmup_steps: int = 40
    schedule: Literal["linear", "constant"] = "linear"
    clip_norm: float = 1.0
    bf16: bool = False
    gradient_checkpointing: bool = False
    checkpoint_every: int = 200
    keep_last: int = 2
    log_every: int = 20

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "checkpoint_every", "keep_last", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} is {getattr(self, name)}: it must be at least 1")
        if self.epochs is not None and not self.epochs > 0:
            raise ValueError(f"train.epochs is {self.epochs}: it must be above 0")

    def lr_at(self, step: int) -> float:
        """Learning rate at `step`, counted from 0; `lr` must be set."""
        assert self.lr is not None, "the recipe is filled in"
        rising = min(1.0, (step + 1) / max(1, self.warmup_steps))
        falling = (self.steps - step) / max(1, self.steps - self.warmup_steps)
        return self.lr * min(rising, falling if self.schedule == "linear" else 1.0)


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that the loop needs; the same on every rank.

    Attributes:
        source: the training plan over the tokenised pairs.
        validation_sources: validation plan by kind of batch; their seed does not depend on the run's.
        held_out: questions for validation of retrieval; None for none.
        identity: fields that must not change on resume, and fingerprints of the data. A checkpoint with another
            identity is refused.
        defaults: what those fields were before they existed, for checkpoints of earlier versions.
    """

    output: Path
    seed: int
    train: TrainConfig
    loss: LossConfig
    validation: ValidationConfig
    source: BatchSource
    validation_sources: dict[str, BatchSource]
    held_out: BenchmarkConfig | None
    identity: dict[str, Any]
    defaults: dict[str, Any] = field(default_factory=dict)


def train(
    job: Job,
    encoder: Encoder,
    device: torch.device,
    stream: Stream = local_stream,
    asked: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Trains `encoder` to the end, from the newest checkpoint in `job.output` or, without one, from its own weights.

    Batches come from `stream`. If the output folder has a file `STOP`, or `asked` returns True on any rank, the run
    saves after the current step and ends; otherwise `encoder` has the best weights at the end. Returns the last state:
    `step` (steps done), `best_step`, `best_value` (of `validation.metric`), `stopped` (`end`, `patience`, `signal`).

    Raises:
        ValueError: the newest checkpoint has another recipe, other data or no steps left; or the best is damaged.
        FloatingPointError: loss or gradient is NaN or infinite. No update was made; the message shows the items.
        MemoryError: the batch does not fit into memory; the message has its size.
        OSError: the output folder cannot be written.
    """
    model = DualEncoder(encoder, job.loss).to(device).train()
    if job.train.gradient_checkpointing:
        backbone: Any = encoder.backbone
        # transformers 5 renamed the second method to the first.
        enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    optimizer = _optimizer(model, job.train)
    state = _restore(job, model, optimizer)
    start = state["step"]
    if start < job.train.steps and not state["stopped"]:
        state = _steps(job, model, optimizer, state, stream, asked)
    if state["stopped"] != "signal":
        best = ckpt.folder(job.output / "checkpoints", state["best_step"])
        if damage := ckpt.find_damage(best):
            raise ValueError(
                f"the best checkpoint {best} is damaged ({damage}): restore it, or start a new run in another --output"
            )
        ckpt.load_weights(best, model)
    barrier()
    return state


def _steps(
    job: Job,
    model: DualEncoder,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    stream: Stream,
    asked: Callable[[], bool],
) -> dict[str, Any]:
    """Trains from `state["step"]` to the last step; returns the new state."""
    config, start = job.train, state["step"]
    device = next(model.parameters()).device
    history = History(job.output, start) if rank() == 0 else None
    held_out = sources.read_benchmark(job.held_out) if job.held_out else None
    validation = Validation(job.validation, job.validation_sources, device, stream, held_out)
    wrapped: nn.Module = DistributedDataParallel(model, broadcast_buffers=False) if dist.is_initialized() else model
    batches = stream(job.source, start, config.steps, rank(), world_size())
    clock = Clock()
    for step in range(start, config.steps):
        with clock.waiting():
            batch = next(batches)
        assert (batch.step, batch.rank) == (step, rank()), f"the stream gave {batch.step, batch.rank}, not {step}"
        with memory_explained(batch):
            if step == start and world_size() > 1:
                # Discarded: DDP rebuilds its buckets after the first backward pass, and gloo's sums depend on them.
                batch_loss(wrapped, batch, device, config.bf16).mean().backward()
                optimizer.zero_grad()
            _seed(job.seed, step)
            terms = batch_terms(wrapped, batch, device, config.bf16)
            losses = job.loss.total(terms)
            losses.mean().backward()
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or math.inf)
            stop = asked() or (rank() == 0 and (job.output / STOP).exists())
            shared = exchange(losses, terms, norm.item(), stop, batch)
            if not math.isfinite(shared.loss + shared.norm):
                raise not_finite_error(step, shared, job.source)
            for group in optimizer.param_groups:
                group["lr"] = config.lr_at(step)
            optimizer.step()
            optimizer.zero_grad()

        state = {**state, "step": step + 1}
        line: dict[str, Any] = {
            "step": step,
            "loss": shared.loss,
            **({"terms": shared.terms} if len(terms) > 1 else {}),
            "kind": batch.kind,
            "example_ids_sha256": shared.sha256,
            "tokens": shared.tokens,
            "world_size": world_size(),
            "time": time.time(),
            "lr": config.lr_at(step),
            "grad_norm": float(norm),
            "temperature": float(model.log_temperature.detach().exp()),
            **clock.read(len(batch.example) * world_size()),
        }
        last = step + 1 == config.steps
        if (step + 1) % job.validation.every == 0 or last:
            line["validation"] = validation.run(model)
            clock.restart()
            state = _judge(state, line["validation"], job.validation)
        if shared.stop and not state["stopped"]:
            state["stopped"] = "signal"
        if last:
            state["stopped"] = "end"
        if history:
            history.append(line)
        if state["stopped"] or "validation" in line or (step + 1) % config.checkpoint_every == 0:
            if history:
                history.sync()
                root = job.output / "checkpoints"
                ckpt.save_checkpoint(root, step + 1, model, optimizer, {**state, "identity": job.identity})
                ckpt.prune(root, step + 1, config.keep_last, state["best_step"], partial(note, job.output))
            barrier()
        if state["stopped"]:
            break
    if history:
        history.close()
    return state


def _judge(state: dict[str, Any], found: dict[str, Any], config: ValidationConfig) -> dict[str, Any]:
    """The state after a validation: a new best (always, with `keep: last`), or one more validation without one."""
    if not math.isfinite(found["loss"]):
        raise FloatingPointError(f"the validation loss after step {state['step']} is {found['loss']}: lower train.lr")
    value, best = value_of(found, config.metric), state["best_value"]
    if config.keep == "last" or best is None or cost(value, config.metric) < cost(best, config.metric):
        return {**state, "best_value": value, "best_step": state["step"], "waited": 0}
    waited = state["waited"] + 1
    return {**state, "waited": waited, "stopped": "patience" if config.patience and waited >= config.patience else ""}


def check_steps(state: dict[str, Any], steps: int) -> None:
    """Raises `ValueError` if a run of `steps` steps has nothing left to do after a checkpoint's `state`."""
    at = state["step"]
    if at > steps or (at == steps and state["stopped"] in ("", "signal")):
        raise ValueError(f"train.steps is {steps}, and the newest checkpoint is at step {at}: raise train.steps")


def _restore(job: Job, model: DualEncoder, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Loads, on every rank, the checkpoint that rank 0 finds; returns its state, or the initial one."""
    found = _find(job) if rank() == 0 else None
    newest, state = cast("tuple[Path, dict[str, Any]]", broadcast_object(found))
    if state["step"]:
        ckpt.load_weights(newest, model)
        ckpt.load_optimizer(newest, model, optimizer)
    return state


def _find(job: Job) -> tuple[Path | None, dict[str, Any]]:
    """The checkpoint to resume from (None: from the start), and its state."""
    root = job.output / "checkpoints"
    none_yet = {"best_step": None, "best_value": None, "waited": 0}
    ckpt.remove_half_written(root)
    newest = ckpt.newest_whole(root, partial(note, job.output))
    if newest is None:
        if line := last_line(job.output / "history.jsonl"):
            note(job.output, f"{root} has no checkpoint: the {line['step'] + 1} steps done so far are repeated")
        return None, {"step": 0, **none_yet, "stopped": ""}
    check_identity(newest, job.identity, job.defaults)
    state = ckpt.read_state(newest)
    check_steps(state, job.train.steps)
    del state["identity"]
    if state["stopped"] == "signal" or (state["stopped"] == "end" and state["step"] < job.train.steps):
        state["stopped"] = ""
    if state["best_step"] and not state["stopped"]:
        best = ckpt.folder(root, state["best_step"])
        if damage := ckpt.find_damage(best):
            note(
                job.output,
                f"the best checkpoint {best} is damaged ({damage}): the best of the coming validations replaces it",
            )
            state |= none_yet
    return newest, state


def _optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr_at(0))  # set anew at every step


def _seed(seed: int, step: int) -> None:
    """Seeds torch: dropout depends on (seed, step, rank) alone."""
    key = hashlib.blake2b(f"{seed} {step} {rank()}".encode(), digest_size=7).digest()
    torch.manual_seed(int.from_bytes(key, "big"))
