"""How a run is optimised: its length, batch size and learning rates."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

LENGTHS = ("steps", "epochs", "tokens")
"""The fields of `TrainConfig` that say how long to train; only one of them may be set."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Optimisation with AdamW.

    Args:
        steps: number of optimiser steps. If `steps`, `epochs` and `tokens` are all omitted: 400.
        epochs: length of training in epochs, instead of `steps`. An epoch draws as many items, with replacement, as
            there are training pairs in the languages that are drawn.
        tokens: length of training in tokens, instead of `steps`: the last step is the one that reaches this number.
            All texts count, padding does not.
        batch_size: pairs in a global batch, all workers together.
        lr: peak learning rate. Omitted: 3e-5 for an encoder that is named (3e-4 with LoRA), 1e-3 for one built
            from nothing.
        weight_decay: weight decay of matrices; biases, norms and the temperature have none.
        warmup_steps: steps over which the learning rate rises linearly from 0.
        warmup_ratio: the share of the run over which it rises, instead of `warmup_steps`: of its tokens with `tokens`,
            so that runs of equal tokens rise over equal tokens, whatever their steps hold; of its steps otherwise.
        schedule: after the warm-up, `linear` falls to 0 at the end, over steps, or over `tokens` if these are
            given; `constant` keeps the peak.
        clip_norm: gradients with a larger norm are scaled down to this norm; 0 is off.
        chunk_tokens: tokens, without padding, that a worker encodes at a time. Memory then follows from this number
            and not from `batch_size`, and all chunks but one are encoded twice (GradCache, arXiv 2101.06983): first set
            the number that fits. Omitted: the whole batch at once.
        bf16: forward passes in bfloat16; scores and loss stay float32. For GPUs of the Ampere generation or later, and
            CPUs with AMX or AVX512-BF16.
        gradient_checkpointing: recompute activations in the backward pass: saves memory, costs a second forward pass.
        checkpoint_every: steps between checkpoints; every validation writes one too.
        keep_last: number of latest checkpoints to keep, besides the best.
        log_every: steps between progress lines (where the output is not a terminal).
    """

    steps: int | None = None
    epochs: float | None = None
    tokens: int | None = None
    batch_size: int = 64
    lr: float | None = None
    weight_decay: float = 0.01
    warmup_steps: int = 40
    warmup_ratio: float | None = None
    schedule: Literal["linear", "constant"] = "linear"
    clip_norm: float = 1.0
    chunk_tokens: int | None = None
    bf16: bool = False
    gradient_checkpointing: bool = False
    checkpoint_every: int = 200
    keep_last: int = 2
    log_every: int = 20

    def __post_init__(self) -> None:
        for name in ("steps", "tokens", "batch_size", "chunk_tokens", "checkpoint_every", "keep_last", "log_every"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"train.{name} is {value}: it must be at least 1")
        if self.epochs is not None and not self.epochs > 0:
            raise ValueError(f"train.epochs is {self.epochs}: it must be above 0")
        if self.warmup_ratio is not None and not 0 <= self.warmup_ratio < 1:
            raise ValueError(f"train.warmup_ratio is {self.warmup_ratio}: it must be at least 0 and below 1")
        lengths = {f"train.{name}": getattr(self, name) for name in LENGTHS if getattr(self, name) is not None}
        if len(lengths) > 1:
            given = " and ".join(f"{name} is {value:g}" for name, value in lengths.items())
            raise ValueError(f"{given}: give only one of them")

    def lr_at(self, step: int, done: Sequence[int]) -> float:
        """Learning rate at `step`, counted from 0; `lr` must be set.

        `done` is what counts as done, tokens or steps, before each step and after the last: [steps + 1].
        """
        assert self.lr is not None, "the recipe is filled in"
        if self.warmup_ratio is None:
            rising = min(1.0, (step + 1) / max(1, self.warmup_steps))
            warm: float = done[min(self.warmup_steps, len(done) - 1)]
        else:
            warm = self.warmup_ratio * done[-1]
            rising = min(1.0, done[step + 1] / max(1, warm))
        falling = (done[-1] - done[step]) / max(1, done[-1] - warm)
        return self.lr * min(rising, falling if self.schedule == "linear" else 1.0)

    def too_short(self, steps: int) -> str:
        """What to know of a run of `steps` steps that ends within its warm-up; empty if it does not."""
        if self.warmup_ratio is not None or steps >= self.warmup_steps:
            return ""
        has, rate = f"{steps:,} step{'s' * (steps != 1)}", f"{steps / self.warmup_steps:.0%}"
        return (
            f"The run has {has}, fewer than train.warmup_steps ({self.warmup_steps:,}): the learning rate only rises, "
            f"to {rate} of train.lr. Set train.warmup_ratio, such as 0.1, or train longer"
        )
