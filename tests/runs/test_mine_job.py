"""Mining from its recipe to a training run on what was mined: by the rules, interrupted, refused, as elsewhere."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from helpers import corpus_of, job, pairs_of, read_lines
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import mine_hard_negatives

from hybridir.data.config import BenchmarkConfig, DataConfig, Source
from hybridir.data.records import Pair
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.encode_shards import encode_shards_here
from hybridir.retrieval.mining import MiningRules
from hybridir.runs import mine_job
from hybridir.runs.backend import here
from hybridir.runs.fill_in import trains_on
from hybridir.runs.folder import begin_folder
from hybridir.runs.index_job import Encoding, run_encoding
from hybridir.runs.mine_job import MINING, Mining, run_mining

LANGUAGES = ("de", "en")
LONGEST = 256
"""Tokens of a text, of both sides: sentence-transformers has one limit."""


def encoder_config(folder: Path) -> EncoderConfig:
    return EncoderConfig(name=str(folder), max_query_length=LONGEST, max_passage_length=LONGEST)


@pytest.fixture(scope="module")
def pairs() -> list[Pair]:
    """60 facts in two languages; every third answers another question too."""
    found = [one for one in pairs_of(Source(facts=60, languages=LANGUAGES)) if isinstance(one, Pair)]
    again = [
        Pair(group_id=f"{one.group_id} again", language=one.language, query=f"Again: {one.query}", passage=one.passage)
        for one in found[::3]
    ]
    return found + again


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, float64: Path, pairs: list[Pair]) -> Path:
    """The pairs, and an index of their passages."""
    folder = tmp_path_factory.mktemp("mining")
    rows = [
        {"group_id": one.group_id, "language": one.language, "query": one.query, "passage": one.passage.text}
        | {"passage_id": one.passage.passage_id, "negatives": ["replaced"], "source": f"s{len(one.query) % 2}"}
        for one in pairs
    ]
    passages = {(one.language, one.passage.passage_id): one.passage.text for one in pairs}
    documents = [{"id": name, "language": x, "text": text} for (x, name), text in passages.items()]
    for name, content in (("pairs", rows), ("passages", documents)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content))
    encoding = Encoding(
        path=str(folder / "passages.jsonl"),
        output=str(folder / "index"),
        encoder=encoder_config(float64),
        retrieval=RetrievalConfig(shard=50),
    )
    run_encoding(encoding, encode_shards_here)
    return folder


def recipe(folder: Path, output: Path, **options: Any) -> Mining:
    data = DataConfig(path=str(folder / "pairs.jsonl"), format="jsonl")
    return Mining(**{"data": data, "index": str(folder / "index"), "output": str(output)} | options)


def mined(folder: Path, output: Path, **options: Any) -> list[dict[str, Any]]:
    run_mining(recipe(folder, output, **options), here())
    return [row for file in sorted((output / "train").iterdir()) for row in read_lines(file)]


def test_negatives_are_the_best_outside_the_group(
    folder: Path, tmp_path: Path, float64: Path, pairs: list[Pair]
) -> None:
    """All pairs, each with exactly the passages that plain arithmetic finds; the scores are those of the encoder."""
    rules = MiningRules(count=3, count_of={"s1": 1}, ranks=(2, 20), relative_margin=None, languages="any")
    rows = mined(folder, tmp_path / "mined", rules=rules)
    assert [(row["group_id"], row["language"], row["query"]) for row in rows] == [
        (one.group_id, one.language, one.query) for one in pairs
    ]
    documents = read_lines(folder / "passages.jsonl")
    encoder = Encoder.load(encoder_config(float64))
    score_QP = encoder.encode([row["query"] for row in rows], "query").astype(np.float64)
    score_QP = score_QP @ encoder.encode([one["text"] for one in documents], "passage").T
    for row, score_P in zip(rows, score_QP, strict=True):
        fact = row["passage_id"]  # translations share it
        best = [n for n in np.argsort(-score_P, kind="stable") if documents[n]["id"] != fact]
        wanted = best[1 : 1 + (1 if row["source"] == "s1" else 3)]
        negatives = [(one.get("language", row["language"]), one["passage_id"], one["text"]) for one in row["negatives"]]
        assert negatives == [tuple(documents[n][name] for name in ("language", "id", "text")) for n in wanted]
        assert row["negative_scores"] == pytest.approx(score_P[wanted].tolist(), abs=1e-6)
    results = json.loads((tmp_path / "mined" / "results.json").read_text())
    assert results["languages"]["de"]["negatives"] == sum(len(r["negatives"]) for r in rows if r["language"] == "de")
    assert results["languages"]["en"]["pairs"] == sum(r["language"] == "en" for r in rows)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"ranks": (4, 23), "relative_margin": None}, {"range_min": 3, "range_max": 23}),
        ({"ranks": (1, 60), "relative_margin": 0.1}, {"range_max": 60, "relative_margin": 0.1}),
        (
            {"ranks": (1, 60), "relative_margin": None, "absolute_margin": 0.02},
            {"range_max": 60, "absolute_margin": 0.02},
        ),
    ],
)
def test_the_same_negatives_as_sentence_transformers(
    folder: Path, tmp_path: Path, float64: Path, pairs: list[Pair], ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    """Where the rules are the same: one language, and each question with one answer."""
    english = [one for one in pairs if one.language == "en" and "again" not in one.group_id]
    texts = [one.passage.text for one in english]
    assert len(set(texts)) == len(texts) > 40
    model = SentenceTransformer(str(float64), device="cpu")
    model.max_seq_length = LONGEST
    found = mine_hard_negatives(
        Dataset.from_dict({"query": [one.query for one in english], "passage": texts}),
        model,
        num_negatives=4,
        output_format="triplet",
        output_scores=True,
        verbose=False,
        **theirs,
    )
    expected: dict[str, list[str]] = {}
    scores: dict[str, list[float]] = {}
    for row in found:
        expected.setdefault(row["query"], []).append(row["negative"])
        scores.setdefault(row["query"], []).append(row["scores"][1])
    assert all(min(-np.diff(of), default=1) > 1e-6 for of in scores.values()), "no ties, which may fall either way"
    rows = mined(folder, tmp_path / "mined", rules=MiningRules(count=4, **ours))
    asked = {one.query for one in english}
    assert {
        row["query"]: [one["text"] for one in row["negatives"]]
        for row in rows
        if row["query"] in asked and "negatives" in row
    } == expected


def test_killed_and_resumed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is mined stays, and nothing differs from an undisturbed job; other pairs are refused."""
    for module in ("intake", "build"):
        monkeypatch.setattr(f"hybridir.data.{module}.ROWS", 50)
    data = DataConfig(path=str(shutil.copy(folder / "pairs.jsonl", tmp_path)), format="jsonl")
    options: dict[str, Any] = {"data": data, "unit": 60, "form": "parquet", "cache": str(tmp_path / "cache")}
    run_mining(recipe(folder, tmp_path / "whole", **options), here())
    done: list[int] = []
    mine_unit = mine_job._mine_unit

    def dying(work: Any, number: int, chunks: range) -> int:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(number)
        return mine_unit(work, number, chunks)

    monkeypatch.setattr(mine_job, "_mine_unit", dying)
    with pytest.raises(KeyboardInterrupt):
        run_mining(recipe(folder, tmp_path / "mined", **options), here())
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "mined" / "train").iterdir()}
    assert len(before) == 2
    monkeypatch.setattr(mine_job, "_mine_unit", mine_unit)
    run_mining(recipe(folder, tmp_path / "mined", resume=True, **options), here())
    assert {file: file.stat().st_mtime_ns for file in before} == before
    names = [sorted(file.name for file in (tmp_path / one / "train").iterdir()) for one in ("whole", "mined")]
    assert names[0] == names[1]
    assert len(names[0]) >= 3
    for name in names[0]:
        assert pq.read_table(tmp_path / "whole" / "train" / name) == pq.read_table(tmp_path / "mined" / "train" / name)
    (tmp_path / "mined" / "results.json").unlink()
    with open(tmp_path / "pairs.jsonl", "a", encoding="utf-8") as file:
        file.write(json.dumps({"language": "en", "query": "new", "passage": "a new one"}) + "\n")
    with pytest.raises(ValueError, match=r"00000.json is of other pairs or of another index"):
        run_mining(recipe(folder, tmp_path / "mined", resume=True, **options), here())


def test_what_is_wrong_is_said(folder: Path, tmp_path: Path) -> None:
    wrong: Sequence[tuple[dict[str, Any], str]] = (
        ({"index": ""}, "index is empty"),
        ({"index": str(tmp_path)}, "holds no index"),
        ({"rules": MiningRules(count_of={"else": 2})}, "rules.count_of has 'else', but the sources are s0, s1"),
        ({"data": DataConfig(facts=20, languages=("de", "es"))}, "has no passages in 'es', only in de, en"),
        ({"retrieval": RetrievalConfig(memory=1)}, "retrieval.memory is 1 MB: this search takes"),
    )
    for n, (options, message) in enumerate(wrong):
        with pytest.raises(ValueError, match=message):
            run_mining(recipe(folder, tmp_path / str(n), **options), here())
    with pytest.raises(ValueError, match="holds another kind of results: index"):
        run_mining(recipe(folder, folder / "index"), here())


def test_trained_on(folder: Path, tmp_path: Path, small_run: Any) -> None:
    """By the commands as they are typed, the second as the first one's page says."""
    output = tmp_path / "mined"
    arguments = ("--data.path", folder / "pairs.jsonl", "--index", folder / "index", "--output", output)
    done = job(
        *arguments, "--rules.languages", "any", "--rules.count", 2, "--rules.relative_margin", "null", name="mine"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(output / "README.md")
    page = (output / "README.md").read_text()
    (command,) = (line for line in page.splitlines() if "jobs/train.py" in line)
    small = "--train.steps 2 --train.batch_size 8 --validation.batch_size 4 --data.validation_share 0.3"
    more = ("--encoder.name", small_run.initial.name, "--scaling.num_workers", 0, "--output", tmp_path / "run")
    done = job(*command.split()[2:], *small.split(), *more)
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "run" / "data_card.json").read_text())
    assert card["rejected"] == {}


def test_what_was_mined_from_is_not_measured_on(tmp_path: Path) -> None:
    """The pairs that were mined are those of the sample: a benchmark of the whole sample holds what is trained on."""
    for n, data in enumerate((DataConfig(format="sample"), DataConfig(path="pairs.jsonl", format="jsonl"))):
        begin_folder(Mining(data=data, output=str(tmp_path / str(n))), MINING)
        source = Source(path=str(tmp_path / str(n) / "train"), format="jsonl")
        assert trains_on(source, BenchmarkConfig(name="sample")) == (n == 0)


def test_a_negative_has_its_own_language(tmp_path: Path) -> None:
    """It is known for the passage of another pair by the text in that language, and stands in the batch with it."""
    rows = [
        {
            "group_id": "1",
            "language": "en",
            "query": "q",
            "passage": "red",
            "negatives": [{"text": "blau", "language": "de"}],
        },
        {
            "group_id": "2",
            "language": "de",
            "query": "f",
            "passage": "blau",
            "negatives": ["red", {"text": "rouge", "language": "fr"}],
        },
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    records = pairs_of(Source(path=str(tmp_path / "pairs.jsonl")))
    corpus = corpus_of(records, tmp_path)
    group = dict(zip(corpus.languages, corpus.passage_group[corpus.row_of.argmax(axis=0)], strict=True))
    by_row = {row: slice(*corpus.negative_start[row : row + 2]) for row in range(2)}
    assert corpus.negative_group[by_row[0]].tolist() == [group["de"]]
    assert corpus.negative_language[by_row[0]].tolist() == [0]
    assert (corpus.negative_group[by_row[1]] >= 2).all(), "a German text is not the English passage"
    assert corpus.negative_language[by_row[1]].tolist() == [-1, 2]
    rows[0]["negatives"][0]["language"] = "xx"
    (tmp_path / "pairs.jsonl").write_text(json.dumps(rows[0]) + "\n")
    with pytest.raises(ValueError, match="unknown language code"):
        corpus_of(pairs_of(Source(path=str(tmp_path / "pairs.jsonl"))), tmp_path)


@pytest.mark.slow
def test_in_rounds(folder: Path, tmp_path: Path, small_run: Any) -> None:
    """The second round mines from the same passages by the model of the first; what is finished is not done again."""
    training = {
        "encoder": {"name": small_run.initial.name},
        "data": {"validation_share": 0.3},
        "train": {"steps": 2, "batch_size": 8},
        "validation": {"batch_size": 4, "batches": 2},
        "benchmark": {"name": "validation"},
        "tracking": {"enabled": False},
    }
    (tmp_path / "training.yaml").write_text(json.dumps(training))
    output = tmp_path / "mined"
    arguments = ("--data.path", folder / "pairs.jsonl", "--index", folder / "index", "--output", output, "--rounds", 2)
    arguments += ("--training", tmp_path / "training.yaml", "--rules.relative_margin", "null")
    done = job(*arguments, name="mine")
    assert done.returncode == 0, done.stderr
    rounds = json.loads((output / "results.json").read_text())["rounds"]
    assert [one["round"] for one in rounds] == [1, 2]
    made = [json.loads((output / f"round-{n}" / "negatives" / "results.json").read_text()) for n in (1, 2)]
    trained = Encoder.load(encoder_config(output / "round-1" / "run" / "model"))
    assert made[1]["model"] == str(output / "round-1" / "run" / "model")
    row = read_lines(output / "round-2" / "negatives" / "train" / "00000.jsonl")[0]
    negatives = [one["text"] for one in row["negatives"]]
    scores = trained.encode([row["query"]], "query") @ trained.encode(negatives, "passage").T
    assert row["negative_scores"] == pytest.approx(scores[0].tolist(), abs=1e-5)
    before = {
        file: file.stat().st_mtime_ns for file in output.glob("round-*/*/results.json") if "index" not in str(file)
    }
    done = job(*arguments, "--resume", name="mine")
    assert done.returncode == 0, done.stderr
    assert {file: file.stat().st_mtime_ns for file in before} == before
