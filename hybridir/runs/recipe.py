"""The recipe of a training run: all sections of its configuration. Each is defined beside the code that reads it."""

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from hybridir.batches.sampling import Sampling
from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.model.config import EncoderConfig
from hybridir.model.lora import LoraConfig
from hybridir.runtime.secrets import MASK, masked, without_secrets
from hybridir.training.config import LENGTHS, TrainConfig
from hybridir.training.objective import LossConfig
from hybridir.training.validation import ValidationConfig


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """Workers and devices.

    Args:
        num_workers: Ray workers, each with its share of the batch; 0 works in this process without Ray.
        use_gpu: whether each worker gets a GPU.
        cpus_per_worker: CPUs, and threads, of each worker.
        min_workers: if the cluster has no room for `num_workers`, at the start or after a loss, train with as many
            workers as fit and divide the batch, but at least this many. Omitted: `num_workers`.
        max_failures: how often in a row lost workers are replaced without a new checkpoint, before the run gives up.
        timeout: seconds without an answer after which a worker counts as lost. Every step, validation and checkpoint
            must take less. Doubled if all workers hang at once, or one before its first step; four times as long for
            encoding a block of 2,048 texts.
    """

    num_workers: int = 2
    use_gpu: bool = False
    cpus_per_worker: int = 1
    min_workers: int | None = None
    max_failures: int = 3
    timeout: int = 300

    def __post_init__(self) -> None:
        if self.timeout < 1:
            raise ValueError(f"scaling.timeout is {self.timeout}: it must be at least 1 second")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Tracking in MLflow.

    Args:
        enabled: whether the run is written to MLflow.
        uri: URI of the MLflow server or database. Omitted: the SQLite file `mlflow.db` beside the output.
        experiment: name of the MLflow experiment.
        model_name: name of the registered model; its alias `champion` is the best version by validation.
        system_metrics_every: seconds between measurements of the driver's machine; 0 turns them off.
    """

    enabled: bool = True
    uri: str = ""
    experiment: str = "train"
    model_name: str = "hybridir"
    system_metrics_every: float = 10.0

    def __post_init__(self) -> None:
        shown = without_secrets(self.uri)
        if self.uri and ("://" not in self.uri or self.uri.lower().startswith("file:")):
            raise ValueError(f"tracking.uri is {shown!r}: name a server (http://...) or a database (sqlite:///FILE)")
        if MASK in self.uri:
            raise ValueError(
                f"tracking.uri is {shown!r}: files never keep its password. Name it again with the password, or "
                "without it, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        for name in ("experiment", "model_name"):
            value = getattr(self, name)
            if not value.strip() or set(value) & set("/:'\""):
                raise ValueError(f"tracking.{name} is {value!r}: it must not be empty or contain / : or quotes")
        if self.system_metrics_every < 0:
            raise ValueError(f"tracking.system_metrics_every is {self.system_metrics_every}: it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run.

    Args:
        data: training and validation pairs.
        sampling: the mix of batches.
        encoder: the encoder to start from.
        lora: LoRA: small matrices are trained in place of the whole encoder.
        loss: the training objective.
        train: the optimisation.
        validation: the fixed validation plan.
        benchmark: the benchmark that the trained encoder is measured on.
        scaling: workers and devices.
        tracking: MLflow.
        seed: random seed of the batches, of new weights and of dropout; 0 or more.
        output: folder for the results of the run. Omitted: outputs/train-DATE-TIME.
        cache: folder for corpora, tokenizers and tokens, shared by runs. Omitted: `cache` beside the output.
        resume: continue the run in `output`.
        dry_run: print what the data hold and which batches are planned; train nothing.
    """

    data: DataConfig = field(default_factory=DataConfig)
    sampling: Sampling = field(default_factory=Sampling)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    scaling: ScalingConfig = field(default_factory=ScalingConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    seed: int = 0
    output: str = ""
    cache: str = ""
    resume: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}: it must be 0 or more")
        trained_on = {os.path.realpath(source.path) for source in self.data.sources or (self.data,)}
        if self.benchmark.split == "all" and os.path.realpath(self.benchmark.path) in trained_on:
            raise ValueError(
                "benchmark.split is all, but benchmark.path is the training data: take the split test, or other data"
            )
        validated_on = self.data.validation.path if self.data.validation else ""
        paths = {os.path.realpath(path) for path in (validated_on, self.benchmark.path) if path}
        if validated_on and self.benchmark.path and len(paths) == 1:
            raise ValueError(
                f"benchmark.path is {without_secrets(validated_on)!r}, which data.validation reads: what weights are "
                "chosen by is no test of them. Name another benchmark, or other validation pairs"
            )
        self.loss.check_views(self.sampling)
        if self.lora.rank and not self.encoder.name:
            raise ValueError(
                f"lora.rank is {self.lora.rank}, but encoder.name is empty: LoRA keeps the weights of an encoder, so "
                "name one that is trained"
            )
        workers = self.scaling.num_workers
        if self.scaling.cpus_per_worker < 1:
            raise ValueError(f"scaling.cpus_per_worker is {self.scaling.cpus_per_worker}: it must be at least 1")
        if workers < 0:
            raise ValueError(f"scaling.num_workers is {workers}: it must be 0 (no Ray) or more")
        least = self.scaling.min_workers
        if least is not None and not min(1, workers) <= least <= workers:
            raise ValueError(f"scaling.min_workers is {least}: take 1 to scaling.num_workers, {workers}")
        if workers and self.train.batch_size % workers:
            raise ValueError(
                f"train.batch_size {self.train.batch_size} is not a multiple of scaling.num_workers {workers}: take "
                f"train.batch_size {self.train.batch_size // workers * workers or workers}, or other num_workers"
            )


MOST_USED = (
    *("arms", "seeds", "space", "points"),  # of studies and tuning
    *("data.path", "data.format", "data.columns", "data.languages"),
    *("sampling.method", "sampling.alpha", "sampling.negatives", "sampling.translations"),
    *("sampling.noise", "sampling.noise.kinds", "encoder.name", "loss"),
    *("train.epochs", "train.steps", "train.tokens", "train.batch_size", "train.lr", "train.bf16", "validation.metric"),
    *("benchmark.name", "benchmark.path", "scaling.num_workers", "scaling.use_gpu", "output", "resume", "dry_run"),
)
"""The fields and sections of training, studies and tuning that `--help` shows; `--help_all` shows the others too."""
MAY_CHANGE = frozenset(("scaling", "tracking", "output", "cache", "resume", "dry_run"))
"""Sections and fields that may change when a job of any kind is resumed."""
TRAINING_MAY_CHANGE = MAY_CHANGE | {
    *("benchmark", *(f"train.{name}" for name in LENGTHS), "train.chunk_tokens", "train.log_every"),
    *("data.max_rejected", "data.path"),
}
"""The same for a training run. Another length also changes the decay of the learning rate. Another `data.path`
must hold the same data."""


def fixed_part(config: dict[str, Any], may_change: frozenset[str]) -> dict[str, Any]:
    """The part of a configuration (see `public`) that must not change on resume, as flat names and values."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
    kept = {k: v for k, v in flat.items() if k not in may_change and k.partition(".")[0] not in may_change}
    return _without_licenses(kept)


def _without_licenses(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_licenses(v) for k, v in value.items() if k not in ("license", "data.license")}
    return [_without_licenses(v) for v in value] if isinstance(value, list) else value


def public(recipe: Any) -> dict[str, Any]:
    """The recipe of any job as JSON values, with secrets masked, so that it may be written to files."""
    return masked(asdict(recipe), keep_paths=True)
