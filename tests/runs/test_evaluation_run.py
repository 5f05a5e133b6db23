"""The evaluation job: what can be measured, what is written, what is refused, what a resume takes over."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from helpers import job
from tokenizers import Tokenizer

from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig
from hybridir.data.sources import read_benchmark
from hybridir.evaluation.conditions import Condition, under
from hybridir.evaluation.settings import evaluate_encoder, evaluate_scores, summarise
from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.retrieval import systems
from hybridir.retrieval.bm25 import bm25_scorer
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.embeddings import write_embeddings
from hybridir.retrieval.encode import encode_here
from hybridir.retrieval.encode_shards import Work, encode_shards_here
from hybridir.retrieval.sharded import Means
from hybridir.retrieval.shards import Index
from hybridir.retrieval.systems import Way, find_systems, fingerprint
from hybridir.retrieval.too_long import count_cut, describe_cut
from hybridir.runs import evaluation_run as evaluation
from hybridir.runs.backend import track_nothing
from hybridir.runs.evaluation_run import Evaluation, run_evaluation
from hybridir.runs.prepare import Prepared
from hybridir.runs.recipe import TrackingConfig

BENCHMARK = BenchmarkConfig(facts=80, languages=("de", "en", "es"), split="test")


def recipe(output: Path, name: str, *others: EncoderConfig | str, **fields: Any) -> Evaluation:
    return Evaluation(
        encoder=EncoderConfig(name=name), compare_to=others, benchmark=BENCHMARK, output=str(output), **fields
    )


def results_of(output: Path) -> dict[str, Any]:
    return json.loads((output / "results.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model(small_run: Prepared) -> str:
    return small_run.initial.name


@pytest.fixture(scope="module")
def evaluated(model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder with BM25 beside it."""
    output = tmp_path_factory.mktemp("evaluated") / "out"
    wanted = recipe(output, model, "BM25", run_depth=20, keep_embeddings=True)
    assert run_evaluation(wanted, encode_here, track_nothing) == output / "report.html"
    return output


def test_results_are_those_of_the_library(evaluated: Path, model: str) -> None:
    benchmark = read_benchmark(BENCHMARK)
    found, expected = (
        results_of(evaluated),
        summarise(evaluate_encoder(Encoder.load(EncoderConfig(name=model)), benchmark), benchmark),
    )
    for name in ("monolingual", "crosslingual", "multilingual", "per_language", "per_pair"):
        assert json.dumps(found[name]) == json.dumps(expected[name])
    assert found["systems"].keys() == {"BM25"}
    assert {one["baseline"] for one in found["comparisons"]} == {"BM25"}
    assert found["provenance"]["fingerprints"].keys() == {"benchmark", "initial", "BM25"}


def test_all_files_are_there(evaluated: Path) -> None:
    names = {path.name for path in evaluated.iterdir()}
    assert names >= {"config.yaml", "results.json", "report.html", "table.md", "per_query.parquet", "plots", "runs"}
    table = pq.read_table(evaluated / "per_query.parquet")
    assert set(table["system"].to_pylist()) == {results_of(evaluated)["encoder"], "BM25"}
    runs = {path.name for path in (evaluated / "runs").iterdir()}
    assert {
        "BM25.multilingual.trec",
        "multilingual.qrels",
        "BM25.crosslingual-de.trec",
        "crosslingual-de.qrels",
    } <= runs
    depths = [
        line.split()[3]
        for line in (evaluated / "runs" / "BM25.multilingual.trec").read_text(encoding="utf-8").splitlines()
    ]
    assert max(map(int, depths)) == 20


def test_kept_embeddings_can_be_measured_as_they_are(evaluated: Path, tmp_path: Path) -> None:
    [folder] = (evaluated / "embeddings").iterdir()
    run_evaluation(recipe(tmp_path / "out", str(folder)), refuse_to_encode, track_nothing)
    assert results_of(tmp_path / "out")["per_pair"] == results_of(evaluated)["per_pair"]
    assert not (tmp_path / "out" / "embeddings").exists()


def test_conditions_are_measured_beside_the_plain_benchmark(evaluated: Path, model: str, tmp_path: Path) -> None:
    """Asked for after the evaluation is finished: only the changed queries are encoded, and no plain number moves."""
    output, encoded = tmp_path / "out", []
    shutil.copytree(evaluated, output)
    config = output / "config.yaml"
    config.write_text(config.read_text(encoding="utf-8").replace(str(evaluated), str(output)), encoding="utf-8")

    def encode(config: EncoderConfig, queries: Sequence[str], passages: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        encoded.append((list(queries), list(passages)))
        return encode_here(config, queries, passages)

    fields: dict[str, Any] = {"run_depth": 20, "keep_embeddings": True, "resume": True}
    noise = Condition(perturbation="delete", severity=0.5)
    run_evaluation(recipe(output, model, "BM25", conditions=(noise,), **fields), encode, track_nothing)
    benchmark = read_benchmark(BENCHMARK)
    noisy = under(benchmark, noise)
    assert encoded == [([query.text for query in noisy.queries], [])]
    before, after = results_of(evaluated), results_of(output)
    found = after.pop("conditions"), after["systems"]["BM25"].pop("conditions")
    for name in ("provenance", "versions"):
        before.pop(name), after.pop(name)
    assert json.dumps(after) == json.dumps(before)
    scores = (
        evaluate_encoder(Encoder.load(EncoderConfig(name=model)), noisy),
        evaluate_scores(bm25_scorer(noisy), noisy),
    )
    for of_system, expected in zip(found, scores, strict=True):
        for name in ("monolingual", "multilingual", "per_pair"):
            assert json.dumps(of_system["delete 0.5"][name]) == json.dumps(summarise(expected, noisy)[name])
    assert "delete 0.5: multilingual" in (output / "table.md").read_text(encoding="utf-8")
    rows = pq.read_table(output / "per_query.parquet", columns=["system", "condition"]).to_pylist()
    assert {tuple(row.values()) for row in rows} == {
        (x, c) for x in (after["encoder"], "BM25") for c in ("", noise.name)
    }
    run_evaluation(recipe(output, model, "BM25", **fields), refuse_to_encode, track_nothing)  # it is finished
    [folder] = (evaluated / "embeddings").iterdir()
    with pytest.raises(ValueError, match="holds embeddings of the plain queries"):
        run_evaluation(recipe(tmp_path / "b", str(folder), conditions=(noise,)), refuse_to_encode, track_nothing)


def refuse_to_encode(*_: object) -> tuple[np.ndarray, np.ndarray]:
    raise AssertionError("nothing is to be encoded")


def test_a_resumed_evaluation_encodes_nothing_twice(
    evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    shutil.copytree(evaluated, output)
    for name in ("results.json", "report.html"):
        (output / name).unlink()
    before = evaluation.Evaluation(**vars(recipe(output, str(evaluated_model(evaluated)), "BM25")))
    again = replace(before, resume=True, run_depth=5)
    with pytest.raises(ValueError, match=r"was started with encoder\.name"):
        run_evaluation(
            replace(again, encoder=EncoderConfig(name="bm25"), compare_to=()), refuse_to_encode, track_nothing
        )
    run_evaluation(again, refuse_to_encode, track_nothing)
    assert results_of(output)["per_pair"] == results_of(evaluated)["per_pair"]
    assert "are taken from" in capsys.readouterr().out
    run_evaluation(again, refuse_to_encode, track_nothing)
    assert "is finished: nothing is changed" in capsys.readouterr().out
    (output / "results.json").unlink()
    with pytest.raises(ValueError, match="was started with compare_to"):
        run_evaluation(replace(again, compare_to=()), refuse_to_encode, track_nothing)


def evaluated_model(output: Path) -> str:
    import yaml

    return yaml.safe_load((output / "config.yaml").read_text(encoding="utf-8"))["encoder"]["name"]


def test_a_folder_with_results_is_refused(evaluated: Path, model: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds results already"):
        run_evaluation(recipe(evaluated, model), refuse_to_encode, track_nothing)
    with pytest.raises(ValueError, match="holds no evaluation to resume"):
        run_evaluation(recipe(tmp_path / "none", model, resume=True), refuse_to_encode, track_nothing)
    assert not (tmp_path / "none").exists()


def test_seeds_of_one_system(evaluated: Path, model: str, tmp_path: Path) -> None:
    """Two folders of embeddings under one name: their mean, compared seed by seed."""
    benchmark = read_benchmark(BENCHMARK)
    random = np.random.default_rng(0)
    for seed in range(2):
        shape = [(len(texts), 8) for texts in (benchmark.queries, benchmark.passages)]
        write_embeddings(
            str(tmp_path / f"vectors-{seed}"), benchmark, *(random.standard_normal(s).astype("float32") for s in shape)
        )
    output = tmp_path / "out"
    run_evaluation(recipe(output, str(tmp_path / "vectors-*"), "bm25"), refuse_to_encode, track_nothing)
    found = results_of(output)
    assert (found["encoder"], found["seeds"]) == ("vectors-*", 2)
    singles = []
    for seed in range(2):
        single = tmp_path / f"single-{seed}"
        run_evaluation(recipe(single, str(tmp_path / f"vectors-{seed}")), refuse_to_encode, track_nothing)
        singles.append(results_of(single)["crosslingual"]["mAP"])
    assert found["crosslingual"]["mAP"] == pytest.approx(np.mean(singles))
    assert {one["seeds"] for one in found["comparisons"]} == {2}
    assert len(list((output / "runs").glob("vectors*monolingual.trec"))) == 2


def test_embeddings_of_other_weights_are_not_taken(model: str, tmp_path: Path) -> None:
    """An evaluation that failed after its first system, whose weights change before it is resumed."""
    output, copy = tmp_path / "out", tmp_path / "copy"
    shutil.copytree(model, copy)
    wanted = recipe(output, str(copy), run_depth=0)

    def fail(*texts: Any) -> Any:
        raise RuntimeError("the machine went away")

    run_evaluation(wanted, encode_here, track_nothing)
    (output / "results.json").unlink()
    config = replace(wanted, resume=True, keep_embeddings=True)
    run_evaluation(config, encode_here, track_nothing)
    (output / "results.json").unlink()
    run_evaluation(config, refuse_to_encode, track_nothing)
    (output / "results.json").unlink()
    other = Encoder.load(EncoderConfig(name=model))
    with torch.no_grad():
        next(other.parameters()).normal_()
    other.save(copy)
    with pytest.raises(RuntimeError, match="went away"):
        run_evaluation(config, fail, track_nothing)


def test_systems_whose_names_make_the_same_file_name(tmp_path: Path) -> None:
    """m+1 and m_1 keep embeddings of their own."""
    benchmark = read_benchmark(BENCHMARK)
    random = np.random.default_rng(1)
    for name in ("m+1", "m_1"):
        shape = [(len(texts), 8) for texts in (benchmark.queries, benchmark.passages)]
        write_embeddings(str(tmp_path / name), benchmark, *(random.standard_normal(s).astype("float32") for s in shape))
    output = tmp_path / "out"
    run_evaluation(recipe(output, str(tmp_path / "m+1"), str(tmp_path / "m_1")), refuse_to_encode, track_nothing)
    found = results_of(output)
    assert found["monolingual"] != found["systems"]["m_1"]["monolingual"]
    runs = [path.read_text(encoding="utf-8") for path in (output / "runs").glob("*multilingual.trec")]
    assert len({text.replace("m+1", "m").replace("m_1", "m") for text in runs}) == 2


# Names


def test_labels_are_short_and_differ(tmp_path: Path) -> None:
    for name in ("a/run/model", "b/run/model", "c/model"):
        (tmp_path / name).mkdir(parents=True)
    first, second = str(tmp_path / "a/run/model"), str(tmp_path / "b/run/model")
    labels = [one.label for one in find_systems([first, second, str(tmp_path / "c/model"), "bm25", "org/name"])]
    assert labels == [first, second, "c", "BM25", "org/name"]


def test_a_run_stands_for_its_model(tmp_path: Path) -> None:
    (tmp_path / "run" / "model").mkdir(parents=True)
    (tmp_path / "run" / "config.yaml").touch()
    [system] = find_systems([str(tmp_path / "run")])
    assert system.label == "run"
    assert [one.name for one in system.members] == [str(tmp_path / "run" / "model")]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ([""], "encoder.name is empty: name a model folder"),
        (["bm25", "BM25"], "bm25 is named twice"),
        (["nowhere-*"], "no folder matches nowhere-"),
    ],
)
def test_bad_names_are_refused(wanted: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_systems(wanted)


def test_seeds_are_paired_by_what_tells_them_apart(tmp_path: Path) -> None:
    for name in ("a-1", "a-2", "a-10", "b-1", "b-2", "b-10", "c-1", "c-2", "c-3"):
        (tmp_path / name).mkdir()
    first, second, other = (str(tmp_path / f"{name}-*") for name in "abc")
    systems = find_systems([first, second])
    assert [one.seeds for one in systems] == [("1", "2", "10")] * 2
    assert [Path(one.name).name for one in systems[1].members] == ["b-1", "b-2", "b-10"]
    with pytest.raises(ValueError, match=r"has the seeds 1, 2, 10, c-\* has 1, 2, 3: compare the same seeds"):
        find_systems([first, other])


def test_a_system_that_is_no_encoder_is_refused_before_anything_is_done(model: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no encoder at"):
        run_evaluation(recipe(tmp_path / "out", model, str(tmp_path / "empty")), refuse_to_encode, track_nothing)
    assert not (tmp_path / "out").exists()


def test_a_fingerprint_changes_with_the_weights_and_not_with_the_card(model: str, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(model, copy)
    config = EncoderConfig(name=str(copy))
    before = fingerprint(config)
    (copy / "README.md").write_text("# A card", encoding="utf-8")
    assert fingerprint(config) == before == fingerprint(EncoderConfig(name=model))
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert fingerprint(config) != before


# The command


def test_the_command_measures_and_tracks(model: str, tmp_path: Path) -> None:
    output = tmp_path / "out"
    options = {
        "encoder.name": model,
        "compare_to": f"[bm25, {{name: {model}, query_prefix: 'Query: '}}]",
        "benchmark.facts": "80",
        "benchmark.languages": "[de, en, es]",
        "tracking.enabled": "true",
        "output": str(output),
    }
    done = job(*(f"--{name}={value}" for name, value in options.items()), name="evaluate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(output / "report.html")
    assert "mlflow ui" in done.stdout
    assert results_of(output)["provenance"]["command"].startswith("python")
    assert results_of(output)["systems"].keys() == {"BM25", f"{model}, query_prefix=Query: "}
    refused = job("--benchmark.name=xquad-r", f"--benchmark.path={tmp_path}", "--encoder.name=bm25", name="evaluate")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr


def test_the_depth_of_runs_is_checked() -> None:
    with pytest.raises(ValueError, match="run_depth is 101: it must be between 0 and 100"):
        Evaluation(run_depth=101)
    assert Evaluation().tracking == TrackingConfig(experiment="evaluate")


def test_what_is_wrong_is_said_before_the_benchmark_is_read(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that is not there, by a dry run too; and an output folder with other results."""

    def read_too_early(config: BenchmarkConfig) -> None:
        raise AssertionError("the benchmark is read first")

    monkeypatch.setattr(sources, "read_benchmark", read_too_early)
    gone = recipe(tmp_path / "out", model, str(tmp_path / "gone"))
    with pytest.raises(ValueError, match=r"no encoder at .*gone"):
        run_evaluation(gone, encode_here, track_nothing)
    with pytest.raises(ValueError, match=r"no encoder at .*gone"):
        evaluation.preview_evaluation(gone)
    (tmp_path / "out").mkdir(exist_ok=True)
    (tmp_path / "out" / "notes.txt").touch()
    with pytest.raises(ValueError, match="holds files that no job has written"):
        run_evaluation(recipe(tmp_path / "out", "bm25"), encode_here, track_nothing)


def test_names_in_tables(model: str, tmp_path: Path) -> None:
    """`label`, and the model and data of runs whose folders are named by their dates."""
    source = {"name": "", "path": "", "format": "sample", "sources": []}
    configs = {
        "train-20260102-030405": {"encoder": {"name": "org/base"}, "data": source | {"path": "my/faq.jsonl"}},
        "train-20260102-030406": {
            "encoder": {"name": ""},
            "data": source | {"sources": [source, source | {"name": "b"}]},
        },
        "own-name": {"encoder": {"name": "org/base"}, "data": source},
    }
    for name, config in configs.items():
        shutil.copytree(model, tmp_path / name / "model")
        (tmp_path / name / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    runs = [str(tmp_path / name) for name in configs]
    assert [one.label for one in find_systems(runs)] == [
        "org/base on faq",
        "a small new encoder on sample, b",
        "own-name",
    ]
    assert [one.label for one in find_systems(runs, ("ours",))] == ["ours", *[s.label for s in find_systems(runs[1:])]]
    assert [one.label for one in find_systems([*runs, "bm25"], ("a", "", "c"))][::2] == ["a", "c"]
    with pytest.raises(ValueError, match="label has 2 names for 1 systems"):
        find_systems(runs[:1], ("a", "b"))
    with pytest.raises(ValueError, match="label 'a' is the name of two systems"):
        find_systems(runs, ("a", "a"))
    output = tmp_path / "out"
    run_evaluation(recipe(output, model, "bm25", label=("ours",)), encode_here, track_nothing)
    assert results_of(output)["encoder"] == "ours"
    assert "| ours |" in (output / "table.md").read_text(encoding="utf-8")


def test_a_hub_that_cannot_be_reached_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, not after the half a minute a file that the hub's client tries for."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match=r"^no encoder at 'org/model': .*127\.0\.0\.1:9 cannot be reached") as error:
        systems.check_member(EncoderConfig(name="org/model"))
    assert "\n" not in str(error.value)


def test_texts_that_are_cut_are_counted_by_language(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Against lengths by the tokenizers library itself."""
    benchmark = read_benchmark(BENCHMARK)
    tokenizer = Tokenizer.from_file(f"{model}/tokenizer.json")
    lengths = [len(tokenizer.encode(f"Query: {one.text}").ids) for one in benchmark.queries]
    limit = int(np.median(lengths))
    encoder = EncoderConfig(name=model, max_query_length=limit, query_prefix="Query: ")
    long = [one.language for one, length in zip(benchmark.queries, lengths, strict=True) if length > limit]
    assert 0 < len(long) < len(benchmark.queries)
    expected = {code: long.count(code) for code in benchmark.languages if long.count(code)}
    assert not any(len(tokenizer.encode(one.text).ids) > 256 for one in benchmark.passages)
    wanted = replace(recipe(tmp_path / "cut", model, "BM25", run_depth=0), encoder=encoder)
    run_evaluation(wanted, encode_here, track_nothing)
    results = results_of(tmp_path / "cut")
    assert results["cut"] == {"initial": {"query": expected, "passage": {}}}
    languages = ", ".join(f"{code} {number}" for code, number in expected.items())
    sentence = f"initial: longer than the encoder takes, and cut: {len(long)} of 48 queries ({languages})"
    assert results["notes"][-1] == sentence
    assert sentence in " ".join(capsys.readouterr().out.split())
    assert sentence in (tmp_path / "cut" / "table.md").read_text(encoding="utf-8")
    assert describe_cut(count_cut(replace(encoder, max_query_length=200), benchmark), benchmark) == []


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_many_passages_are_kept_in_shards_with_the_same_results(float64: Path, tmp_path: Path, dtype: str) -> None:
    """In memory, and by shards, the work on which is interrupted: what was encoded is not encoded again."""
    encoded: list[int] = []

    def dying(index: Index, encoder: EncoderConfig) -> None:
        for done in encode_shards_here(Work(index, encoder), [shard.number for shard in index.waiting()]):
            encoded.append(done.number)
            if len(encoded) == 2:
                raise KeyboardInterrupt

    memory = recipe(tmp_path / "memory", str(float64), retrieval=RetrievalConfig(dtype=dtype))  # type: ignore[arg-type]
    run_evaluation(memory, encode_here, track_nothing)
    few = RetrievalConfig(dtype=dtype, in_memory=10, shard=16)  # type: ignore[arg-type]
    shards = recipe(tmp_path / "shards", str(float64), retrieval=few)
    with pytest.raises(KeyboardInterrupt):
        run_evaluation(shards, encode_here, track_nothing, Way(few, dying))
    files = (tmp_path / "shards" / "embeddings").rglob("vectors/*.npy")
    before = {file: file.stat().st_mtime_ns for file in files}
    assert len(before) == 2
    way = Way(few, means=Means(workers=3))  # three parts, one after another
    run_evaluation(replace(shards, resume=True, keep_embeddings=True), encode_here, track_nothing, way)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    ours, theirs = (results_of(tmp_path / name) for name in ("shards", "memory"))
    assert ours["provenance"]["config"]["retrieval"]["dtype"] == dtype
    for one in (ours, theirs):
        del one["provenance"]
    assert ours == theirs
