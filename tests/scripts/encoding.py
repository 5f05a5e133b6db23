"""Speed of encoding against sentence-transformers: the same 5,000 passages and the same model, in one run.

    python tests/scripts/encoding.py [MODEL_FOLDER] [--xquad-r DIR]

The model is the small BERT that the sample starts from, with its tokenizer; with MODEL_FOLDER, that one too.
The passages are those of the sample, or of the published XQuAD-R files in DIR. One thread; the two take turns, and CPU
seconds are counted, tokenisation too, so that the load of the machine matters little; medians of passages per CPU
second are printed, and their ratio at several batch sizes of sentence-transformers (32 is its default).
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from hybridir.data.build import build_corpus
from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.data.intake import to_batches
from hybridir.data.sources import find_shards, read_benchmark
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder, build_small_encoder
from hybridir.model.tokenizer import load_tokenizer
from hybridir.model.tokenizer_training import train_tokenizer
from hybridir.runs.backend import quiet_libraries

PASSAGES, ROUNDS = 5000, 3
BATCH_SIZES = (32, 8, 128)


def main(folder: str | None, xquad_r: str | None) -> None:
    quiet_libraries()
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    path = {"name": "xquad-r", "path": xquad_r} if xquad_r else {"name": "sample"}
    texts = read_benchmark(BenchmarkConfig(**path, split="all")).passages.texts
    chosen = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))[:PASSAGES]]
    print(
        f"{len(chosen)} passages of {path['name']}, {np.mean([len(text) for text in chosen]):.0f} characters on average"
    )
    with TemporaryDirectory() as work:
        compare("a small BERT", save_small(Path(work)), chosen)
    if folder:
        compare(folder, folder, chosen)


def save_small(work: Path) -> str:
    """The folder of the encoder that the sample starts from."""
    records = (record for shard in find_shards(DataConfig()) for record in shard.read())
    tokenizer = train_tokenizer(build_corpus(to_batches(records), work / "corpus", 0.0), EncoderConfig().vocab_size)
    build_small_encoder(EncoderConfig(), load_tokenizer(str(tokenizer)), seed=0).save(work / "model")
    return str(work / "model")


def compare(title: str, folder: str, texts: list[str]) -> None:
    ours, theirs = Encoder.load(EncoderConfig(name=folder)), SentenceTransformer(folder, device="cpu")
    theirs.max_seq_length = ours.config.max_passage_length
    prompt = ours.config.passage_prefix
    runs: dict[str, Callable[[], np.ndarray]] = {"hybridir": lambda: ours.encode(texts, "passage")}
    for size in BATCH_SIZES:
        runs[f"sentence-transformers, batch size {size}"] = lambda size=size: theirs.encode(  # type: ignore[misc]
            texts, prompt=prompt, batch_size=size, normalize_embeddings=ours.head.normalize, show_progress_bar=False
        )
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        embeddings = []
        for name, run in runs.items():
            start = time.process_time()
            embeddings.append(run())
            seconds[name].append(time.process_time() - start)
            assert np.abs(embeddings[-1] - embeddings[0]).max() < 1e-3, name  # the same texts in the same order
    own = statistics.median(seconds.pop("hybridir"))
    print(f"{title}\n  hybridir: {len(texts) / own:.0f} passages per CPU second")
    for name, values in seconds.items():
        other = statistics.median(values)
        print(f"  {name}: {len(texts) / other:.0f}; hybridir: {other / own:.2f} times")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--xquad-r")
    arguments = parser.parse_args()
    main(arguments.folder, arguments.xquad_r)
