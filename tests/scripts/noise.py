"""What noise costs: a training step with noisy queries beside one without, in one run.

    python tests/scripts/noise.py RUN [PROBABILITY]

RUN is the output folder of a run on the sample in one process. One thread; steps of the two alternate, and CPU seconds
are counted, so that the load of the machine matters little. Printed are medians over steps: of drawing a batch, and of
a whole step (batch, forward, backward).
"""

import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
import yaml

from hybridir.batches.sampling import Noise, Sampling
from hybridir.data.config import DataConfig
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.runs.backend import quiet_libraries
from hybridir.runs.prepare import prepare
from hybridir.runs.recipe import Recipe
from hybridir.training.objective import DualEncoder, LossConfig, batch_loss

STEPS = 60


def main(run: Path, probability: float) -> None:
    quiet_libraries()
    torch.set_num_threads(1)
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    data = DataConfig(facts=config["data"]["facts"], languages=tuple(config["data"]["languages"]))
    noisy = Sampling(noise=Noise(probability=probability))
    recipe = Recipe(
        data=data, sampling=noisy, encoder=EncoderConfig(**config["encoder"]), cache=str(run.parent / "cache")
    )
    source = prepare(recipe, run).job.source
    sources = {"without noise": replace(source, sampling=Sampling()), f"noise in {probability:.0%}": source}
    model = DualEncoder(Encoder.load(EncoderConfig(name=str(run / "model"))), LossConfig()).train()
    drawn: dict[str, list[float]] = {name: [] for name in sources}
    whole: dict[str, list[float]] = {name: [] for name in sources}
    for step in range(STEPS):
        for name, each in sources.items():
            start = time.process_time()
            batch = each.batch(step)
            drawn[name].append(time.process_time() - start)
            batch_loss(model, batch, torch.device("cpu")).mean().backward()
            whole[name].append(time.process_time() - start)
    for name in sources:
        batch_ms, step_ms = (1000 * statistics.median(times[name]) for times in (drawn, whole))
        print(
            f"{name}: {step_ms:.1f} ms a step of {source.batch_size} pairs, of which {batch_ms:.1f} ms draw the batch"
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), float(sys.argv[2]) if len(sys.argv) > 2 else 0.5)
