"""The recipe of a training run: every section of its configuration, each defined beside the code that reads it."""

import os
from dataclasses import asdict, dataclass, field
from typing import Any

from hybridir.batches.sampling import Sampling
from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.model.config import EncoderConfig
from hybridir.runtime.secrets import MASK, without_secrets
from hybridir.training.loop import TrainConfig
from hybridir.training.objective import LossConfig
from hybridir.training.validation import ValidationConfig


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """Where the run computes.

    Args:
        num_workers: processes under Ray Train, each with its share of the batch; 0 is this process without Ray.
        use_gpu: whether each worker gets a GPU.
        cpus_per_worker: CPUs of each worker, and the threads it uses.
        min_workers: where the cluster has no room for `num_workers`, the run starts, and after a loss goes on, with as
            many as there is room for and the batch divides by, but no fewer than this. Omitted: `num_workers`.
        max_failures: how often in a row, without a new checkpoint, lost workers are replaced before the run gives up.
        timeout: seconds without an answer after which a worker counts as lost; the longest step, validation or writing
            of a checkpoint must take less. Where all workers hang at once, or one before its first step, twice as long;
            for a block of 2,048 texts to encode, four times.
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
    """Where the run is written down, besides its output folder.

    Args:
        enabled: whether it is written to MLflow.
        uri: of the MLflow server or database. Omitted: the sqlite file `mlflow.db` beside the output.
        experiment: name of the MLflow experiment.
        model_name: name of the registered model; its alias `champion` is the best by validation.
        system_metrics_every: seconds between measurements of the driver's machine; 0 is never.
    """

    enabled: bool = True
    uri: str = ""
    experiment: str = "train"
    model_name: str = "hybridir"
    system_metrics_every: float = 10.0

    def __post_init__(self) -> None:
        shown = without_secrets(self.uri)
        if self.uri and ("://" not in self.uri or self.uri.startswith("file:")):
            raise ValueError(f"tracking.uri is {shown!r}: name a server (http://...) or a database (sqlite:///FILE)")
        if MASK in self.uri:
            raise ValueError(
                f"tracking.uri is {shown!r}, and passwords are kept in no file: name it again with the password, "
                "or without, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        for name in ("experiment", "model_name"):
            value = getattr(self, name)
            if not value.strip() or set(value) & set("/:'\""):
                raise ValueError(f"tracking.{name} is {value!r}: it must not be empty, nor hold / : or quotes")
        if self.system_metrics_every < 0:
            raise ValueError(f"tracking.system_metrics_every is {self.system_metrics_every}: it must be 0 or more")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training run.

    Args:
        data: training and validation pairs.
        sampling: what batches are made of.
        encoder: the encoder to start from.
        loss: the training objective.
        train: the optimisation.
        validation: the fixed validation plan.
        benchmark: what the result is measured on.
        scaling: workers and devices.
        tracking: MLflow.
        seed: of the plan, of new weights and of dropout; 0 or more.
        output: folder of the run's results. Omitted: outputs/train-DATE-TIME.
        cache: folder of corpora, tokenizers and tokens that runs share. Omitted: `cache` beside the output.
        resume: go on with the run in `output`.
        dry_run: print what the plan draws, train nothing.
    """

    data: DataConfig = field(default_factory=DataConfig)
    sampling: Sampling = field(default_factory=Sampling)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
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
        same = os.path.realpath(self.data.path) == os.path.realpath(self.benchmark.path)
        if self.benchmark.split == "all" and same:
            raise ValueError("benchmark.split is all, on the data that is trained on: take test, or other data")
        workers = self.scaling.num_workers
        if self.scaling.cpus_per_worker < 1:
            raise ValueError(f"scaling.cpus_per_worker is {self.scaling.cpus_per_worker}: it must be at least 1")
        if workers < 0:
            raise ValueError(f"scaling.num_workers is {workers}: it must be 0 (no Ray) or more")
        least = self.scaling.min_workers
        if least is not None and not min(1, workers) <= least <= workers:
            raise ValueError(f"scaling.min_workers is {least}: take 1 to {workers}, which is scaling.num_workers")
        if workers and self.train.batch_size % workers:
            raise ValueError(
                f"train.batch_size {self.train.batch_size} does not divide by scaling.num_workers {workers}: "
                f"take a batch of {self.train.batch_size // workers * workers or workers}, or other workers"
            )


MAY_CHANGE = frozenset(("scaling", "tracking", "output", "cache", "resume", "dry_run"))
"""Sections and fields that may differ whenever a job goes on."""
TRAINING_MAY_CHANGE = MAY_CHANGE | {
    *("benchmark", "train.steps", "train.log_every", "data.max_rejected", "data.path"),
}
"""Those of a training run: with `train.steps` the learning rate's decay moves too, and under another `data.path` the
same data must lie."""


def fixed_part(config: dict[str, Any], may_change: frozenset[str]) -> dict[str, Any]:
    """What of a configuration (see `public`) must be the same when a job goes on, as flat names and values."""
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
    """A recipe, of whatever job, as JSON, without the secrets in its URIs: what may be written to files."""

    def mask(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: mask(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [mask(v) for v in value]
        return without_secrets(value) if isinstance(value, str) else value

    return mask(asdict(recipe))
