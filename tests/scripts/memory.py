"""Resident memory with corpora of 10^5 and 10^6 pairs: python tests/scripts/memory.py DIR.

For each size, in processes of their own: the corpus is made, tokenised, and 100 batches are drawn through Ray Data. The
peak of the process that reads the stream, and of the one that draws them, is the high-water mark of its resident memory
(VmHWM), file pages included.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LANGUAGES = ("ar", "de", "en", "es", "hi", "ru", "th", "tr", "zh", "el")

MAKE = """
import sys
from memory import make
make(sys.argv[1], int(sys.argv[2]))
"""
READ = """
import sys
from memory import read
read(sys.argv[1], int(sys.argv[2]))
"""


def high_water() -> float:
    """Peak resident memory of this process in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def pairs(size: int) -> Iterator:
    from hybridir.data.records import Pair, Passage

    for group in range(size // len(LANGUAGES)):
        for language in LANGUAGES:
            text = f"{language} {group * 7919 % 1000003} " + "of the answer that is given here " * 3
            yield Pair(
                group_id=str(group),
                language=language,
                query=f"{language} question number {group}",
                passage=Passage(passage_id=str(group), language=language, text=text),
            )


def make(folder: str, size: int) -> None:
    from hybridir.batches.token_cache import TokenJob, build_cache
    from hybridir.data.build import build_corpus
    from hybridir.data.intake import to_batches
    from hybridir.model.tokenizer_training import train_tokenizer

    small = build_corpus(to_batches(pairs(1000)), Path(folder, f"small-{size}"))
    corpus = build_corpus(to_batches(pairs(size)), Path(folder, f"corpus-{size}"))
    before = high_water()
    tokens = build_cache(TokenJob(corpus=str(corpus.directory), tokenizer=str(train_tokenizer(small, 500))))
    where = {"corpus": str(corpus.directory), "tokens": str(tokens)}
    Path(folder, f"{size}.json").write_text(json.dumps(where), encoding="utf-8")
    print(f"{size} pairs: building the corpus {before:.0f} MB, tokenising {high_water():.0f} MB", flush=True)


def read(folder: str, size: int) -> None:
    from hybridir.batches.sampling import Sampling
    from hybridir.batches.stream import BatchSource
    from hybridir.on_ray.cluster import cluster

    where = json.loads(Path(folder, f"{size}.json").read_text(encoding="utf-8"))
    source = BatchSource(**where, sampling=Sampling(), batch_size=64, seed=0)
    with cluster(2):
        import ray

        from hybridir.on_ray.data import stream

        steps = sum(1 for _ in stream(source, 0, 100, 0, 1))
        reader = high_water()

        @ray.remote
        def draw() -> float:
            for step in range(100):
                source.batch(step)
            return high_water()

        drawer = ray.get(draw.remote())
        print(f"{size} pairs, {steps} batches: reader {reader:.0f} MB, drawer {drawer:.0f} MB", flush=True)


def main(folder: Path) -> None:
    for size in (100_000, 1_000_000):
        for code in (MAKE, READ):
            command = [sys.executable, "-c", code, str(folder), str(size)]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent)})


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
