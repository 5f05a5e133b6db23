"""Speed of a training step against sentence-transformers, on the same pairs and the same model, in one run.

    python tests/scripts/throughput.py RUN

RUN is the output folder of a run on the sample in one process. One thread; steps alternate between the two, and CPU
seconds are counted, so that the load of the machine matters little; medians of pairs per CPU second and their ratio are
printed. sentence-transformers is MultipleNegativesRankingLoss over the columns query and passage, once with texts
tokenised beforehand, once as its trainer does it, at every step.
"""

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
import yaml
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from hybridir.batches.sampling import Sampling
from hybridir.batches.stream import BatchSource
from hybridir.data.config import DataConfig
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.runs.backend import quiet_libraries
from hybridir.runs.prepare import prepare
from hybridir.runs.recipe import Recipe
from hybridir.training.objective import DualEncoder, LossConfig, batch_loss

STEPS, BATCH = 60, 64


def main(run: Path) -> None:
    quiet_libraries()
    torch.set_num_threads(1)
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    data = DataConfig(facts=config["data"]["facts"], languages=tuple(config["data"]["languages"]))
    encoder_config = EncoderConfig(**config["encoder"])
    recipe = Recipe(data=data, sampling=Sampling(), encoder=encoder_config, cache=str(run.parent / "cache"))
    source: BatchSource = prepare(recipe, run).job.source
    plan = source.plan()
    ours = DualEncoder(Encoder.load(EncoderConfig(name=str(run / "model"))), LossConfig(temperature=0.05)).train()
    theirs = SentenceTransformer(str(run / "model"), device="cpu").train()
    loss = MultipleNegativesRankingLoss(theirs, scale=20.0)
    prompts = theirs.prompts

    def texts(step: int) -> list[list[str]]:
        batch = plan.batch(step)
        queries = [prompts["query"] + plan.corpus.pair(int(row))["query"] for row in batch.query_row]
        passages = [prompts["passage"] + plan.corpus.pair(int(row))["passage"]["text"] for row in batch.passage_row]
        return [queries, passages]

    seconds: dict[str, list[float]] = {"hybridir": [], "tokenised beforehand": [], "tokenised at each step": []}
    values: list[float] = []

    def timed(name: str, step: Callable[[], torch.Tensor]) -> None:
        start = time.process_time()
        value = step()
        value.backward()
        seconds[name].append(time.process_time() - start)
        values.append(value.item())

    for step in range(STEPS):
        columns = texts(step)
        features = [theirs.preprocess(column) for column in columns]
        timed("hybridir", lambda s=step: batch_loss(ours, source.batch(s), torch.device("cpu")).mean())  # type: ignore[misc]
        timed("tokenised beforehand", lambda f=features: loss(f, None))  # type: ignore[misc]
        timed("tokenised at each step", lambda c=columns: loss([theirs.preprocess(x) for x in c], None))  # type: ignore[misc]
        assert max(values[-3:]) - min(values[-3:]) < 1e-3, values[-3:]  # the same pairs and the same loss
    own = statistics.median(seconds["hybridir"])
    print(f"hybridir: {BATCH / own:.0f} pairs per CPU second")
    for name in ("tokenised beforehand", "tokenised at each step"):
        other = statistics.median(seconds[name])
        times = other / own
        print(f"sentence-transformers, {name}: {BATCH / other:.0f} pairs per CPU second; hybridir: {times:.2f} times")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
