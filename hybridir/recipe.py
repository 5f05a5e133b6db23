"""The recipe of a training run: every section of its configuration, each defined beside the code that reads it."""

import json
import os
from dataclasses import asdict, dataclass, field
from typing import Any

from hybridir.dual_encoder import LossConfig
from hybridir.encoder import EncoderConfig
from hybridir.plan import Sampling
from hybridir.records import BenchmarkConfig, DataConfig
from hybridir.train import TrainConfig
from hybridir.validation import ValidationConfig


@dataclass(frozen=True, kw_only=True)
class ScalingConfig:
    """Where the run computes.

    Args:
        num_workers: processes under Ray Train, each with its share of the batch; 0 is this process without Ray.
        use_gpu: whether each worker gets a GPU.
        cpus_per_worker: CPUs of each worker, and the threads it uses.
        max_failures: how often lost workers are replaced before the run gives up.
    """

    num_workers: int = 2
    use_gpu: bool = False
    cpus_per_worker: int = 1
    max_failures: int = 3


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
        if workers and self.train.batch_size % workers:
            raise ValueError(
                f"train.batch_size {self.train.batch_size} does not divide by scaling.num_workers {workers}: "
                f"take a batch of {self.train.batch_size // workers * workers or workers}, or other workers"
            )


MAY_CHANGE = {"scaling", "benchmark", "output", "cache", "resume", "dry_run", "train.steps", "train.log_every"}
"""Fields that may differ when a run is resumed; with `train.steps` the learning rate's decay moves too."""


def fixed_part(recipe: Recipe) -> dict[str, Any]:
    """What must be the same when a run is resumed, as flat names and values."""
    flat = {f"{s}.{k}": v for s, part in asdict(recipe).items() if isinstance(part, dict) for k, v in part.items()}
    flat["seed"] = recipe.seed
    kept = {k: v for k, v in flat.items() if k not in MAY_CHANGE and k.partition(".")[0] not in MAY_CHANGE}
    return json.loads(json.dumps(kept))
