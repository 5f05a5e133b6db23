"""Speed and memory of training steps against sentence-transformers: the same pairs, model, weights and loss.

    python tests/scripts/step.py [--xquad_r DIR] [--batches 32 100] [--vocab 250000] [--chunk_tokens 8192]

Pairs are those of the sample, and of the published XQuAD-R files in DIR; the model is a BERT of 4 layers and width 256
without dropout. Each line of the table is a process of its own on one thread, with texts tokenised beforehand. It has
CPU seconds of forward + loss + backward, and of whole steps, with clipping and fused AdamW (as in the trainer of
sentence-transformers); the process's peak of resident memory; and how many times as fast, and with what share of the
memory, hybridir is. sentence-transformers: MultipleNegativesRankingLoss up to a batch of 300, and its cached form.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from hybridir.batches.stream import TokenBatch
from hybridir.data.build import build_corpus
from hybridir.data.config import DataConfig
from hybridir.data.intake import to_batches
from hybridir.data.sources import find_shards
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder, build_small_encoder
from hybridir.model.tokenizer import load_tokenizer, tokenize
from hybridir.model.tokenizer_training import train_tokenizer
from hybridir.runs.backend import quiet_libraries
from hybridir.training.agreement import exchange
from hybridir.training.config import TrainConfig
from hybridir.training.grad_cache import add_gradients
from hybridir.training.loop import _optimizer
from hybridir.training.objective import DualEncoder, LossConfig

CPU = torch.device("cpu")
LONGEST = 256
Step = Callable[[], float]
"""Adds gradients; returns the loss."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--xquad_r")
    parser.add_argument("--only_xquad_r", action="store_true")
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 100])
    parser.add_argument("--vocab", type=int, default=8000, help="rows of the embedding matrix")
    parser.add_argument("--chunk_tokens", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=3, help="of which the median counts")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(**json.loads(options.child))))
        return
    data = {} if options.only_xquad_r else {"sample": DataConfig()}
    if options.xquad_r:
        data["XQuAD-R"] = DataConfig(format="lareqa", path=options.xquad_r)
    print(
        f"{'data':8} {'batch':>6}  {'system':36}{'step, s':>10} {'times':>6}{'whole, s':>9} {'times':>6}{'MB':>6} share"
    )
    for name, config in data.items():
        with TemporaryDirectory() as work:
            save(config, options.vocab, Path(work))
            for batch in options.batches:
                compare(name, {"folder": work, "batch": batch, "steps": options.steps}, options.chunk_tokens)


def save(config: DataConfig, vocab: int, work: Path) -> None:
    """Writes the pairs, and a model with a tokenizer trained on them."""
    records = [record for shard in find_shards(config) for record in shard.read()]
    texts = [[record.query, record.passage.text] for record in records]  # type: ignore[union-attr]
    (work / "pairs.json").write_text(json.dumps(texts), encoding="utf-8")
    tokenizer = train_tokenizer(build_corpus(to_batches(iter(records)), work / "corpus", 0.0), 8000)
    about = EncoderConfig(layers=4, hidden_size=256, max_query_length=LONGEST, max_passage_length=LONGEST)
    encoder = build_small_encoder(about, load_tokenizer(str(tokenizer)), seed=0)
    torch.manual_seed(0)
    encoder.backbone.resize_token_embeddings(vocab, mean_resizing=False)  # type: ignore[operator]
    encoder.save(work / "model")


def tokenised(folder: str, vocab: int) -> dict[str, list[int]]:
    """The tokens of each text of XQuAD-R by side, with a tokenizer of so many tokens trained on it."""
    records = [r for shard in find_shards(DataConfig(format="lareqa", path=folder)) for r in shard.read()]
    with TemporaryDirectory() as work:
        corpus = build_corpus(to_batches(iter(records)), Path(work, "corpus"), 0.0)
        tokenizer = load_tokenizer(str(train_tokenizer(corpus, vocab)))
    columns = {"query": [r.query for r in records], "passage": [r.passage.text for r in records]}  # type: ignore[union-attr]
    return {side: [len(ids) for ids in tokenize(tokenizer, texts, "", LONGEST)] for side, texts in columns.items()}


def compare(name: str, settings: dict[str, Any], chunk_tokens: int) -> None:
    """Prints a line for each system; ratios of the others' to those of hybridir in one piece, or in chunks."""
    batch, found = settings["batch"], {}
    systems = {"hybridir": {}, f"hybridir, chunks of {chunk_tokens} tokens": {"chunk_tokens": chunk_tokens}}
    if batch <= 300:
        systems["sentence-transformers"] = {"theirs": "MultipleNegativesRankingLoss"}
    systems["sentence-transformers, cached"] = {"theirs": "CachedMultipleNegativesRankingLoss"}
    for system, more in systems.items():
        command = [sys.executable, __file__, "--child", json.dumps(settings | more)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        one = found[system] = json.loads(done.stdout.splitlines()[-1])
        ours = list(found.values())[1 if "cached" in system else 0]
        assert abs(one["loss"] - ours["loss"]) < 1e-3, (one, ours)  # the same pairs, weights and loss
        ratios = [one[key] / ours[key] for key in ("step", "whole")] + [ours["peak"] / one["peak"]]
        print(
            f"{name:8} {batch:6}  {system:36}{one['step']:10.2f} {ratios[0]:6.2f}{one['whole']:9.2f} {ratios[1]:6.2f}"
            f"{one['peak']:6.0f} {ratios[2]:5.2f}",
            flush=True,
        )


def measure(
    folder: str, batch: int, steps: int, theirs: str | None = None, chunk_tokens: int | None = None
) -> dict[str, float]:
    """Median CPU seconds of a step in this process, its peak of memory in MB, and the loss of the first step."""
    quiet_libraries()
    torch.set_num_threads(1)
    pairs = json.loads(Path(folder, "pairs.json").read_text(encoding="utf-8"))
    rng = np.random.default_rng(0)
    drawn = [
        [pairs[i] for i in rng.choice(len(pairs), size, replace=size > len(pairs))] for size in [8, *[batch] * steps]
    ]
    model, work = their_steps(folder, drawn, theirs) if theirs else our_steps(folder, drawn, chunk_tokens)
    optimizer = _optimizer(model, 0.01)
    for group in optimizer.param_groups:
        group["lr"] = 1e-5
    seconds: dict[str, list[float]] = {"step": [], "whole": []}
    losses = []
    for add, finish in work:
        start = time.process_time()
        losses.append(add())
        middle = time.process_time()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        finish(norm)
        optimizer.step()
        optimizer.zero_grad()
        seconds["step"].append(middle - start)
        seconds["whole"].append(time.process_time() - start)
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    return {name: statistics.median(values[1:]) for name, values in seconds.items()} | {"peak": peak, "loss": losses[1]}


Work = Iterator[tuple[Step, Callable[[Tensor], object]]]


def our_steps(folder: str, drawn: list[list[list[str]]], chunk_tokens: int | None) -> tuple[nn.Module, Work]:
    encoder = Encoder.load(EncoderConfig(name=f"{folder}/model", max_query_length=LONGEST, max_passage_length=LONGEST))
    model, config = DualEncoder(encoder, LossConfig(temperature=0.05)).train(), TrainConfig(chunk_tokens=chunk_tokens)

    def steps() -> Work:
        for pairs in drawn:
            ids = [tokenize(encoder.tokenizer, list(column), "", LONGEST) for column in zip(*pairs, strict=True)]
            texts = [*ids[0], *ids[1]]
            batch = TokenBatch(
                step=0,
                rank=0,
                kind="mixed",
                views={"query": 1, "positive": 1, "negative": 0},
                ids=np.fromiter(chain.from_iterable(texts), dtype=np.int32),
                lengths=np.array([len(text) for text in texts], dtype=np.int32),
                passage_group=np.arange(len(pairs)),
                language=np.zeros(len(texts), dtype=np.int16),
                example=np.zeros((len(pairs), 3), dtype=np.uint64),
            )
            terms: dict[str, Tensor] = {}

            def add(batch: TokenBatch = batch, terms: dict[str, Tensor] = terms) -> float:
                terms.update(add_gradients(model, batch, CPU, config))
                return float(terms["info_nce"].mean())

            yield add, lambda norm, b=batch, t=terms: exchange(t["info_nce"], t, norm, False, b)  # type: ignore[misc]

    return model, steps()


def their_steps(folder: str, drawn: list[list[list[str]]], name: str) -> tuple[nn.Module, Work]:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer import losses

    model = SentenceTransformer(f"{folder}/model", device="cpu").train()
    model.max_seq_length = LONGEST
    loss = getattr(losses, name)(model, scale=20.0)

    def steps() -> Work:
        for pairs in drawn:
            features = [model.preprocess(list(column)) for column in zip(*pairs, strict=True)]

            def add(features: list[Any] = features) -> float:
                value = loss(features, None)
                value.backward()
                return float(value)

            yield add, lambda norm: norm.item()

    return model, steps()


if __name__ == "__main__":
    main()
