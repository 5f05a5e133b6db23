"""Kills translations at random moments, and checks that they end as if nothing had happened; and measures their rate.

python tests/scripts/translation.py DIR [--kind worker|driver|rate|gates] [--kills 10] [--pairs 5000] [--seed 0]
    [--family m2m-100|madlad-400]

The model is a tiny M2M-100 or T5 with random weights, on two Ray workers. A worker: either of the two is killed. The
driver: it is killed and started again with --resume; while it runs, another driver on the same output is refused.
Between two kills lies a random part of the third of the time that an undisturbed run takes. Then every (pair, language)
has to stand there exactly once, and all files have to be those of the undisturbed run, to the bit. The rate is that of
sentences of mixed lengths in batches bounded by tokens, beside a plain loop of `generate` over batches of 32 in file
order; in both an output is at most twice its longest input and 10 tokens, as a random model never ends. The gates are
measured on the professional translations of ../shared/xquad-r: the share of good ones that they lose, and of swapped
ones that they find.
"""

import argparse
import contextlib
import hashlib
import json
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import torch

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from helpers import XQUAD_R, tiny_translation_model  # noqa: E402

from hybridir.translation.gates import GATES, Between, judge  # noqa: E402
from hybridir.translation.translator import ModelConfig, Translator  # noqa: E402

LANGUAGES = ("de", "fr", "sw")
KINDS = ("worker", "driver", "rate", "gates")
WORDS = [f"w{n}" for n in range(300)]
PATIENCE = 1800.0
"""Seconds in which a run has to end once it is not killed any more."""


def texts(count: int, seed: int) -> list[str]:
    """Sentences of mixed lengths: 3 to 80 words, half of them with less than 12."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(np.exp(rng.normal(np.log(12), 0.8, count)), 3, 80).astype(int)
    return [" ".join(rng.choice(WORDS, length)) for length in lengths]


class Run:
    """The job, in a folder of its own."""

    def __init__(self, output: Path, folder: Path, family: str) -> None:
        self.output, self.log = output, output.with_suffix(".log")
        self.command = [
            *(sys.executable, "jobs/translate.py", "--output", str(output), "--cache", str(folder / "cache")),
            *("--data.format", "jsonl", "--data.path", str(folder / "pairs.jsonl"), "--languages", "[de, fr, sw]"),
            *("--model.name", str(folder / "model"), "--model.family", family, "--unit", "256"),
            *("--gates.apply", "[empty]", "--gates.length", "0", "--scaling.num_workers", "2"),
        ]
        self.start()

    def start(self) -> None:
        more = ["--resume"] if (self.output / "folder.json").exists() else []
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = subprocess.Popen([*self.command, *more], cwd=ROOT, stdout=log, stderr=log)

    def files(self) -> dict[str, str]:
        """SHA-256 of all that must not depend on kills."""
        names = ["results.json", *(f"{part}/{x}.jsonl" for part in ("train", "rejected") for x in LANGUAGES)]
        found = {name: self.output / name for name in names}
        found |= {file.name: file for file in (self.output / "units").glob("*.arrow")}
        return {name: hashlib.sha256(file.read_bytes()).hexdigest() for name, file in sorted(found.items())}

    def missing(self, count: int) -> list[str]:
        """The languages in which not every pair stands exactly once, written or rejected."""
        wrong = []
        for language in LANGUAGES:
            lines = [
                json.loads(line)["group_id"]
                for part in ("train", "rejected")
                for line in (self.output / part / f"{language}.jsonl").read_text(encoding="utf-8").splitlines()
            ]
            if Counter(lines) != dict.fromkeys(map(str, range(count)), 1):
                wrong.append(language)
        return wrong

    def workers(self) -> list[psutil.Process]:
        found = []
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "_Units" in " ".join(one.cmdline()):
                        found.append(one)
        return sorted(found, key=lambda process: process.pid)

    def owns(self) -> bool:
        """Whether the driver has locked its output by now; the name of one that was killed stays there."""
        try:
            return json.loads((self.output / "owner.json").read_text(encoding="utf-8"))["pid"] == self.process.pid
        except (OSError, ValueError):
            return False

    def refuses(self) -> bool:
        """Whether a second driver on this output ends at once, with the reason."""
        second = subprocess.run([*self.command, "--resume"], cwd=ROOT, capture_output=True, text=True, check=False)
        return second.returncode == 1 and "belongs to a run that is going on" in second.stderr


def undisturbed(folder: Path, options: argparse.Namespace) -> tuple[float, dict[str, str]]:
    """The seconds that a run takes that nobody kills, and the hashes of its files."""
    began, run = time.monotonic(), Run(folder / "undisturbed", folder, options.family)
    assert run.process.wait(PATIENCE) == 0, f"see {run.log}"
    span, files = time.monotonic() - began, run.files()
    assert not run.missing(options.pairs)
    print(f"undisturbed in {span:.0f} s, {len(files)} files", flush=True)
    return span, files


def series(kind: str, folder: Path, span: float, expected: dict[str, str], options: argparse.Namespace) -> bool:
    """All kills of a kind; whether all ended well."""
    rng = random.Random(f"{options.seed} {kind}")
    left, well = options.kills, True
    while left:
        run, killed, refused = Run(folder / f"{kind}-{left}", folder, options.family), 0, 0
        while killed < left:
            with contextlib.suppress(subprocess.TimeoutExpired):
                run.process.wait(rng.uniform(0, span / 3))
                break
            if kind == "driver":
                if run.owns():
                    turned_away = run.refuses()
                    refused += turned_away
                    well &= turned_away or (run.output / "results.json").exists()
                run.process.kill()
                run.process.wait()
                run.start()
            elif workers := run.workers():
                with contextlib.suppress(psutil.NoSuchProcess):
                    rng.choice(workers).kill()
            else:
                continue
            killed += 1
        ended = run.process.wait(PATIENCE) == 0
        same = ended and run.files() == expected and not run.missing(options.pairs)
        left, well = left - killed, well and same
        words = "as undisturbed" if same else f"NOT as undisturbed, see {run.log}"
        print(f"{kind}: killed {killed} times, {words}; a second driver refused {refused} times", flush=True)
    return well


def rate(folder: Path, options: argparse.Namespace) -> float:
    """How many times faster batches bounded by tokens are than a plain loop."""
    torch.set_num_threads(1)
    config = ModelConfig(name=str(folder / "model"), family=options.family)
    translator, some = Translator(config, torch.device("cpu")), texts(512, options.seed)

    def plain() -> list[str]:
        ids = translator._ids(some, "en", "de")
        return [text for n in range(0, len(ids), 32) for text in translator._generate(ids[n : n + 32], "de")]

    seconds = {}
    for name, function in {"plain": plain, "ours": lambda: translator.translate(some, "en", "de")}.items():
        began = time.monotonic()
        assert len(function()) == len(some)
        seconds[name] = time.monotonic() - began
    for name, taken in seconds.items():
        print(f"rate, {name}: {len(some) / taken:.0f} texts a second")
    return seconds["plain"] / seconds["ours"]


def gates() -> None:
    """Prints, for each language of XQuAD, the share of questions and passages that the gates reject."""

    def sides(language: str) -> list[list[str]]:
        data = json.loads((XQUAD_R / f"{language}.json").read_text(encoding="utf-8"))["data"]
        paragraphs = [paragraph for article in data for paragraph in article["paragraphs"]]
        questions = sorted((one["id"], one["question"]) for paragraph in paragraphs for one in paragraph["qas"])
        return [[text for _, text in questions], [paragraph["context"] for paragraph in paragraphs]]

    def rejected(ours: list[str], theirs: list[str], language: str) -> str:
        found = [judge(*pair, Between("en", language), tuple(GATES)) for pair in zip(ours, theirs, strict=True)]
        return f"{sum(reason is not None for reason in found) / len(found):.1%}"

    for language in sorted(file.stem for file in XQUAD_R.glob("??.json") if file.stem != "en"):
        for name, ours, theirs in zip(("questions", "passages"), sides("en"), sides(language), strict=True):
            swapped = rejected(ours, [*theirs[1:], theirs[0]], language)
            print(f"gates: {language} {name}: {rejected(ours, theirs, language)} lost, {swapped} of swapped ones found")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=lambda name: Path(name).absolute())
    parser.add_argument("--kind", choices=KINDS, action="append", help="all of them when omitted")
    parser.add_argument("--kills", type=int, default=10, help="of each kind")
    parser.add_argument("--pairs", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--family", choices=("m2m-100", "madlad-400"), default="m2m-100")
    options = parser.parse_args()
    folder = options.directory / f"{time.time_ns()}"
    folder.mkdir(parents=True)
    tiny_translation_model(folder / "model", options.family, WORDS, ("en", *LANGUAGES))
    both = texts(2 * options.pairs, options.seed)
    with open(folder / "pairs.jsonl", "w", encoding="utf-8") as file:
        for n in range(options.pairs):
            row = {"group_id": str(n), "language": "en", "query": both[n], "passage": both[options.pairs + n]}
            file.write(json.dumps(row) + "\n")
    kinds, well = options.kind or KINDS, True
    if {"worker", "driver"} & set(kinds):
        whole = undisturbed(folder, options)
    for kind in kinds:
        if kind == "gates":
            gates()
        elif kind == "rate":
            faster = rate(folder, options)
            print(f"rate: {faster:.1f} times the plain loop")
            well &= faster >= 2
        else:
            well &= series(kind, folder, *whole, options)
    sys.exit(None if well else "not all ended well")


if __name__ == "__main__":
    main()
