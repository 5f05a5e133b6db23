"""The training loop: the same function in one process and on every rank of a process group.

The ranks decide together whether to stop and whether the loss is finite: see `agreement`. Random states are not saved:
torch is seeded at each step from (seed, step, rank).
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from hybridir.batches.stream import BatchSource, Stream, local_stream
from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig
from hybridir.evaluation.validation_metrics import METRICS, known_values
from hybridir.model.distributed import barrier, broadcast_object, rank, world_size
from hybridir.model.encoder import Encoder
from hybridir.model.lora import LoraConfig, inject, merge, trainable
from hybridir.model.precision import multiplies_bfloat16
from hybridir.runtime.history import History, last_line, note
from hybridir.training import checkpoint as ckpt
from hybridir.training.agreement import exchange, not_finite_error
from hybridir.training.clock import Clock
from hybridir.training.config import TrainConfig
from hybridir.training.grad_cache import add_gradients
from hybridir.training.identity import check_identity
from hybridir.training.memory import memory_explained
from hybridir.training.objective import DualEncoder, LossConfig
from hybridir.training.validation import Validation, ValidationConfig

STOP = "STOP"
"""Name of the file in the output folder that asks a run to save and end."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """Everything that the loop needs; the same on every rank.

    Attributes:
        source: the training plan over the tokenised pairs.
        tokens: if `train.tokens` is given, the tokens of the plan before each step and after the last, [steps + 1].
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
    tokens: Sequence[int] = ()
    lora: LoraConfig = field(default_factory=LoraConfig)

    @property
    def done(self) -> Sequence[int]:
        """What counts as done, tokens or steps, before each step and after the last, [steps + 1]."""
        assert self.tokens or self.train.steps, "the recipe is filled in"
        return self.tokens or range((self.train.steps or 0) + 1)

    @property
    def steps(self) -> int:
        """The number of steps."""
        return len(self.done) - 1


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
    if job.lora.rank:
        inject(encoder, job.lora, job.seed)
    model = DualEncoder(encoder, job.loss).to(device).train()
    if job.lora.rank and rank() == 0:
        note(job.output, trainable(model))
    if (short := job.train.too_short(job.steps)) and rank() == 0:
        note(job.output, short)
    if job.train.bf16 and device.type == "cpu" and not multiplies_bfloat16() and rank() == 0:
        note(job.output, "train.bf16 is on, but this CPU has no bfloat16 (AMX, AVX512-BF16): float32 would be faster")
    if job.train.gradient_checkpointing:
        backbone: Any = encoder.backbone
        # transformers 5 renamed the second method to the first.
        enable = getattr(backbone, "activation_checkpointing_enable", None) or backbone.gradient_checkpointing_enable
        enable({"use_reentrant": False})
    optimizer = _optimizer(model, job.train.weight_decay)
    state = _restore(job, model, optimizer)
    start = state["step"]
    if start < job.steps and not state["stopped"]:
        state = _steps(job, model, optimizer, state, stream, asked)
    if state["stopped"] != "signal":
        best = ckpt.folder(job.output / "checkpoints", state["best_step"])
        if damage := ckpt.find_damage(best):
            raise ValueError(
                f"the best checkpoint {best} is damaged ({damage}): restore it, or start a new run in another --output"
            )
        ckpt.load_weights(best, model)
        if job.lora.rank:
            merge(encoder)
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
    batches = stream(job.source, start, job.steps, rank(), world_size())
    clock, temperature = Clock(), model.read_temperature()
    for step in range(start, job.steps):
        with clock.waiting():
            batch = next(batches)
        assert (batch.step, batch.rank) == (step, rank()), f"the stream gave {batch.step, batch.rank}, not {step}"
        with memory_explained(batch):
            if step == start and world_size() > 1:
                # Discarded: DDP rebuilds its buckets after the first backward pass, and gloo's sums depend on them.
                add_gradients(wrapped, batch, device, config)
                optimizer.zero_grad()
            _seed(job.seed, step)
            terms = add_gradients(wrapped, batch, device, config)
            norm = nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm or math.inf)
            stop = asked() or (rank() == 0 and (job.output / STOP).exists())
            shared = exchange(job.loss.total(terms), terms, norm, stop, batch)
            if not math.isfinite(shared.loss + shared.norm):
                raise not_finite_error(step, shared, job.source)
            for group in optimizer.param_groups:
                group["lr"] = config.lr_at(step, job.done)
            optimizer.step()
            optimizer.zero_grad()
            if job.loss.learn_temperature:
                temperature = model.read_temperature()

        state = {**state, "step": step + 1}
        line: dict[str, Any] = {
            "step": step,
            "loss": shared.loss,
            **({"terms": shared.terms} if list(terms) != ["info_nce"] else {}),
            "kind": batch.kind,
            "example_ids_sha256": shared.sha256,
            "tokens": shared.tokens,
            "world_size": world_size(),
            "time": time.time(),
            "lr": config.lr_at(step, job.done),
            "grad_norm": shared.norm,
            "temperature": temperature,
            **clock.read(len(batch.example) * world_size()),
        }
        last = step + 1 == job.steps
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
    metric, value, best = METRICS[config.metric], known_values(found)[config.metric], state["best_value"]
    if config.keep == "last" or best is None or metric.cost(value) < metric.cost(best):
        return {**state, "best_value": value, "best_step": state["step"], "waited": 0}
    waited = state["waited"] + 1
    return {**state, "waited": waited, "stopped": "patience" if config.patience and waited >= config.patience else ""}


def check_steps(state: dict[str, Any], steps: int, tokens: int | None = None) -> None:
    """Raises `ValueError` if a run of `steps` steps (for `tokens`) has nothing left after a checkpoint's `state`."""
    at = state["step"]
    if at > steps or (at == steps and state["stopped"] in ("", "signal")):
        name, given = ("train.tokens", f"{tokens}, {steps} steps") if tokens else ("train.steps", str(steps))
        raise ValueError(f"{name} is {given}, and the newest checkpoint is at step {at}: raise {name}")


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
    check_steps(state, job.steps, job.train.tokens)
    del state["identity"]
    if state["stopped"] == "signal" or (state["stopped"] == "end" and state["step"] < job.steps):
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


def _optimizer(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed, plain = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, fused=True)  # the learning rate is set at every step


def _seed(seed: int, step: int) -> None:
    """Seeds torch: dropout depends on (seed, step, rank) alone."""
    key = hashlib.blake2b(f"{seed} {step} {rank()}".encode(), digest_size=7).digest()
    torch.manual_seed(int.from_bytes(key, "big"))
