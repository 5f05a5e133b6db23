"""Mining of hard negatives: beside sentence-transformers on XQuAD-R, and its memory as the passages grow.

    python tests/scripts/mining.py xquad_r XQUAD_R MODEL [LANGUAGE]
    python tests/scripts/mining.py sizes DIR

`xquad_r` mines 5 negatives a question of the training articles in one language (en) from their sentences, ranks 4 to
33, without a margin, by `jobs/encode.py` and `jobs/mine.py` and by `mine_hard_negatives`, each in a process of its own.
Printed: seconds and the peak of resident memory of each (imports and the model are in both), and how many questions
have the same negatives in the same order. It fails if a negative is in the passage group of the question's answer.

`sizes` mines for 1,000 questions from 10,000, 100,000 and 1,000,000 generated passages (256 dimensions, float32), in
DIR, and prints seconds and the peak of anonymous memory.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scale import DIMENSION, Peak, anonymous, unit

from hybridir.data.build import build_corpus
from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.formats import lareqa
from hybridir.data.intake import to_batches
from hybridir.data.passages import Passages
from hybridir.data.records import Pair, Passage
from hybridir.data.texts import as_read
from hybridir.retrieval.mining import Asked, MiningRules, find_members, mine
from hybridir.retrieval.sharded import Means
from hybridir.retrieval.shards import lay_out

COUNT, FIRST, LAST = 5, 4, 33


def pairs_of(folder: str, language: str) -> list[Pair]:
    """The training questions, each text once, so that both see the same."""
    source = Source(format="lareqa", path=folder, languages=(language,))
    found = [one for shard in lareqa.find_shards(source) for one in shard.read() if isinstance(one, Pair)]
    return list({one.query: one for one in found if one.split == "train"}.values())


def ours(folder: str, model: str, language: str, work: Path) -> dict[str, list[str]]:
    from hybridir.model.config import EncoderConfig
    from hybridir.retrieval.encode_shards import encode_shards_here
    from hybridir.runs.backend import here
    from hybridir.runs.index_job import Encoding, run_encoding
    from hybridir.runs.mine_job import Mining, run_mining

    rows = [
        {"group_id": one.group_id, "language": language, "query": one.query, "passage": one.passage.text}
        for one in pairs_of(folder, language)
    ]
    (work / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    benchmark = BenchmarkConfig(name="xquad-r", path=folder, split="train", languages=(language,))
    encoder, index = EncoderConfig(name=model), str(work / "index")
    run_encoding(Encoding(benchmark=benchmark, encoder=encoder, output=index), encode_shards_here)
    rules = MiningRules(count=COUNT, ranks=(FIRST, LAST), relative_margin=None)
    data = DataConfig(format="jsonl", path=str(work / "pairs.jsonl"), max_rejected=0.0)
    page = run_mining(Mining(data=data, index=index, rules=rules, output=str(work / "mined")), here())
    files = sorted((page.parent / "train").iterdir())
    mined = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").split("\n")[:-1]]
    groups: dict[str, set[str]] = {}
    for row in mined:
        groups.setdefault(row["passage_group_id"], set()).add(as_read(row["passage"]))
    for row in mined:
        if wrong := groups[row["passage_group_id"]] & {as_read(one["text"]) for one in row.get("negatives", ())}:
            raise SystemExit(f"{row['query']!r} has a negative of its own passage group: {wrong}")
    return {row["query"]: [one["text"] for one in row.get("negatives", ())] for row in mined}


def theirs(folder: str, model: str, language: str, work: Path) -> dict[str, list[str]]:
    from datasets import Dataset
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.util import mine_hard_negatives

    from hybridir.data.sources import read_benchmark

    config = BenchmarkConfig(name="xquad-r", path=folder, split="train", languages=(language,))
    texts = list(dict.fromkeys(read_benchmark(config).passages.texts))
    pairs = pairs_of(folder, language)
    found = mine_hard_negatives(
        Dataset.from_dict({"query": [one.query for one in pairs], "passage": [one.passage.text for one in pairs]}),
        SentenceTransformer(model, device="cpu"),
        corpus=texts,
        num_negatives=COUNT,
        range_min=FIRST - 1,
        range_max=LAST,
        verbose=False,
    )
    negatives: dict[str, list[str]] = {}
    for row in found:
        negatives.setdefault(row["query"], []).append(row["negative"])
    return negatives


def beside(folder: str, model: str, language: str = "en") -> None:
    found: list[dict[str, list[str]]] = []
    with tempfile.TemporaryDirectory() as work:
        for name in ("ours", "theirs"):
            command = [sys.executable, __file__, name, folder, model, language, work]
            began = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, used = os.wait4(process.pid, 0)
            if status:
                raise SystemExit(f"{name} failed: {' '.join(command)}")
            cpu = used.ru_utime + used.ru_stime
            print(
                f"{name}: {time.monotonic() - began:.1f} s, {cpu:.1f} of CPU, {used.ru_maxrss / 1e3:,.0f} MB",
                flush=True,
            )
            found.append(json.loads(Path(work, f"{name}.json").read_text(encoding="utf-8")))
    same = sum(found[0][query] == found[1].get(query) for query in found[0])
    print(f"{same:,} of {len(found[0]):,} questions have the same negatives in the same order")


def sizes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    pairs = [
        Pair(
            group_id=str(n),
            language="en",
            query=f"question {n}",
            passage=Passage(passage_id=str(n), language="en", text=f"passage {n}"),
        )
        for n in range(1000)
    ]
    corpus = build_corpus(to_batches(pairs), folder / "corpus")
    query_QD = unit(rng, len(pairs))
    for size in (10_000, 100_000, 1_000_000):
        passages = Passages(Passage(passage_id=str(n), language="en", text=f"passage {n}") for n in range(size))
        index = lay_out(folder / str(size), {"dtype": "float32"}, passages, 65_536)
        for shard in index.waiting():
            index.write(shard, unit(rng, shard.rows))
        began, before = time.monotonic(), anonymous()
        with Peak() as peak:
            distinct, members = find_members(index, corpus)
            asked = Asked(
                query_QD, None, ["en"] * len(pairs), corpus.passage_group[corpus.group_of_row()], np.full(len(pairs), 8)
            )
            rules = MiningRules(relative_margin=None)
            count = sum(len(places) for _, _, places in mine(rules, asked, distinct, members, Means(workers=1)))
        print(
            f"{size:,} passages x {DIMENSION}: {count:,} negatives in {time.monotonic() - began:.1f} s, peak "
            f"{peak.most / 1e6:,.0f} MB, {before / 1e6:,.0f} of them before",
            flush=True,
        )


def main(arguments: Sequence[str]) -> None:
    kind, *rest = arguments
    parts: dict[str, Any] = {"ours": ours, "theirs": theirs}
    if kind in parts:
        *given, work = rest
        negatives = parts[kind](*given, Path(work))
        Path(work, f"{kind}.json").write_text(json.dumps(negatives), encoding="utf-8")
    elif kind == "xquad_r":
        beside(*rest)
    else:
        sizes(Path(*rest))


if __name__ == "__main__":
    main(sys.argv[1:])
