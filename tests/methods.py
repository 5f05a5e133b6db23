"""X-X-mono, X-Y and hybrid on the sample at equal steps: python tests/methods.py DIR [SEEDS].

Trains each method with each seed, one after the other in one process without Ray (finished runs in DIR are kept), and
prints the means over seeds for the languages trained on and for those only tested.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np

METHODS = {"X-X-mono": (1, 0), "X-Y": (0, 1), "hybrid": (0.5, 0.5)}
ZERO_SHOT = {"el", "vi"}
ROOT = Path(__file__).parents[1]


def results(folder: Path, method: str, seed: int) -> dict:
    output = folder / f"{method}-{seed}"
    if not (output / "results.json").exists():
        mono, cross = METHODS[method]
        options = ["--sampling.mono", mono, "--sampling.cross", cross, "--seed", seed, "--output", output]
        resume = ["--resume"] if (output / "config.yaml").exists() else []
        command = [sys.executable, ROOT / "jobs" / "train.py", "--scaling.num_workers", 0, *options, *resume]
        subprocess.run([str(part) for part in command], check=True, stdout=subprocess.DEVNULL)
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


def part(result: dict, zero_shot: bool) -> dict[str, float]:
    """Means over the queries of some languages: cross-lingual pairs count by the language of the query."""
    chosen = [v for language, v in result["per_language"].items() if (language in ZERO_SHOT) == zero_shot]
    means = {s: float(np.mean([v[s]["mAP"] for v in chosen])) for s in chosen[0]}
    return means | {"rank distance": float(np.mean([v["multilingual"]["rank_distance"] for v in chosen]))}


def main(folder: Path, seeds: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    print("| method | languages | mono | cross | multi | rank distance |\n| --- | --- | --- | --- | --- | --- |")
    for method in METHODS:
        found = [results(folder, method, seed) for seed in range(seeds)]
        for name, zero_shot in (("trained", False), ("zero-shot", True)):
            values = [part(result, zero_shot) for result in found]
            cells = []
            for key, digits in (("monolingual", 3), ("crosslingual", 3), ("multilingual", 3), ("rank distance", 0)):
                column = [value[key] for value in values]
                cells.append(f"{np.mean(column):.{digits}f} ({min(column):.{digits}f} to {max(column):.{digits}f})")
            print(f"| {method} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 3)
