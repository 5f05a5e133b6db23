"""Memory and time of reading many passages, and of their fingerprint: python tests/scripts/passages.py DIR N [NAME].

Makes N passages of about 200 characters in BEIR's and in MIRACL's layout (in two languages, gzipped) below DIR, or in
one of them (NAME: beir, miracl), and reads each in a process of its own. Memory is anonymous resident memory (RssAnon)
beyond that after the imports: the pages of mapped files are not in it, as the system can drop them at any time.
"""

import gzip
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WORDS = ("the", "capital", "river", "language", "currency", "mountain", "people", "city", "name", "answer", "region")
LANGUAGES = ("sw", "te")


def text(n: int) -> str:
    """About 200 characters."""
    return " ".join([str(n), *(WORDS[n * k % 1009 % len(WORDS)] for k in range(1, 30))])


def make_beir(folder: Path, size: int) -> None:
    (folder / "qrels").mkdir(parents=True)
    with (folder / "corpus.jsonl").open("w") as file:
        for n in range(size):
            file.write(json.dumps({"_id": f"doc{n}", "title": f"Title {n}", "text": text(n)}) + "\n")
    with (folder / "queries.jsonl").open("w") as queries, (folder / "qrels" / "test.tsv").open("w") as qrels:
        for n in range(100):
            queries.write(json.dumps({"_id": f"q{n}", "text": f"which {n}"}) + "\n")
            qrels.write(f"q{n}\tdoc{n * (size // 100)}\t1\n")


def make_miracl(folder: Path, size: int) -> None:
    of_language, shard = size // len(LANGUAGES), 100_000
    for language in LANGUAGES:
        name = f"miracl-v1.0-{language}"
        for part in ("topics", "qrels"):
            (folder / name / part).mkdir(parents=True)
        topics = "".join(f"q{n}\twhich {n}\n" for n in range(100))
        (folder / name / "topics" / f"topics.{name}-dev.tsv").write_text(topics, encoding="utf-8")
        judged = "".join(f"q{n}\tQ0\t{n}#0\t1\n" for n in range(100))
        (folder / name / "qrels" / f"qrels.{name}-dev.tsv").write_text(judged, encoding="utf-8")
        (corpus := folder / f"miracl-corpus-v1.0-{language}").mkdir()
        for number, start in enumerate(range(0, of_language, shard)):
            with gzip.open(corpus / f"docs-{number}.jsonl.gz", "wt", compresslevel=1) as file:
                for n in range(start, min(start + shard, of_language)):
                    file.write(json.dumps({"docid": f"{n}#0", "title": f"Title {n}", "text": text(n)}) + "\n")


def anonymous() -> float:
    """RssAnon of this process in MB."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("RssAnon")).split()[1]) / 1024


def watched(name: str, work: Callable[[], Any], before: float) -> Any:
    """Does the work, and prints its seconds and the peak of anonymous memory beyond `before`, looked at every 10 ms."""
    peak, done = anonymous(), threading.Event()

    def look() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous())

    watcher = threading.Thread(target=look)
    watcher.start()
    began, cpu = time.monotonic(), time.process_time()
    result = work()
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    done.set()
    watcher.join()
    now = anonymous()
    memory = f"peak {max(peak, now) - before:.0f} MB, then {now - before:.0f} MB"
    print(f"{name}: {memory}, {seconds:.0f} s, {cpu:.0f} s of CPU", flush=True)
    return result


def read(name: str, path: str) -> None:
    from hybridir.data.config import BenchmarkConfig
    from hybridir.data.records import benchmark_fingerprint
    from hybridir.data.sources import read_benchmark

    read_benchmark(BenchmarkConfig(facts=100))  # loads what is imported later
    before = anonymous()
    config = BenchmarkConfig(name=name, path=path, language="en" if name == "beir" else None)
    benchmark = watched(f"{name}, reading", lambda: read_benchmark(config), before)
    found = watched(f"{name}, fingerprint", lambda: benchmark_fingerprint(benchmark), before)
    print(f"{name}: {len(benchmark.passages):,} passages, fingerprint {found}", flush=True)


def main(folder: Path, size: int, *names: str) -> None:
    layouts = {"beir": make_beir, "miracl": make_miracl}
    for name, make in layouts.items():
        if names and name not in names:
            continue
        path = folder / f"{name}-{size}"
        if not path.exists():
            make(path, size)
        subprocess.run([sys.executable, __file__, "read", name, str(path)], check=True)


if __name__ == "__main__":
    if sys.argv[1] == "read":
        read(*sys.argv[2:])
    else:
        main(Path(sys.argv[1]).absolute(), int(sys.argv[2]), *sys.argv[3:])
