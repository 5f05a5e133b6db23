"""Reading 2 GB of JSON lines: speed, and the peak of resident memory: python tests/scripts/reading.py DIR.

Generates `DIR/pairs.jsonl` (2.8 million pairs in ten languages, with a hard negative each), reads it by Ray Data on
this machine's CPUs, and again from the cache. Memory is the high-water mark (VmHWM) of the driver, the largest process,
the object store's pages included.
"""

import json
import random
import sys
import time
from pathlib import Path

from memory import LANGUAGES, high_water

from hybridir.data.config import DataConfig
from hybridir.on_ray.train import ray_backend
from hybridir.runs.corpus import read_corpus
from hybridir.runs.recipe import Recipe, ScalingConfig

SIZE = 2_000_000_000


def generate(path: Path) -> None:
    """Writes pairs until the file has `SIZE` bytes."""
    draw = random.Random(1)
    words = (
        "the",
        "capital",
        "river",
        "language",
        "currency",
        "mountain",
        "people",
        "city",
        "name",
        "answer",
        "region",
    )
    texts = [" ".join(draw.choices(words, k=12)) for _ in range(5000)]
    with path.open("w", encoding="utf-8") as file:
        number = 0
        while file.tell() < SIZE:
            group, n = divmod(number, len(LANGUAGES))
            row = {
                "group_id": f"g{group}",
                "language": LANGUAGES[n],
                "query": f"{LANGUAGES[n]} {group}: {texts[group % 5000]} {n}",
                "passage": " ".join([str(group), LANGUAGES[n], *(texts[group * k % 5000] for k in (7, 13, 3, 17, 19))]),
                "passage_id": f"p{group}",
                "negatives": [f"{texts[group * 23 % 5000]} {group + 1} no"],
            }
            file.write(json.dumps(row) + "\n")
            number += 1


def main(folder: Path) -> None:
    path = folder / "pairs.jsonl"
    if not path.exists():
        generate(path)
    with ray_backend(Recipe(scaling=ScalingConfig(num_workers=2))) as backend:
        print(f"before reading: {high_water():.0f} MB", flush=True)
        for _ in range(2):
            began = time.monotonic()
            corpus = read_corpus(DataConfig(format="jsonl", path=str(path)), folder / "cache", backend.read)
            seconds = time.monotonic() - began
            print(f"{corpus.n_pairs:,} pairs in {seconds:.0f} s, peak {high_water():.0f} MB", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
