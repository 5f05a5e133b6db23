"""Ray: batches through Ray Data, workers under Ray Train. The tests share one cluster."""

import contextlib
import dataclasses
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from hybridir.collate import BatchSource, local_stream
from hybridir.encode import encode_here
from hybridir.encoder import EncoderConfig
from hybridir.formats import rows
from hybridir.on_ray.cluster import cluster
from hybridir.on_ray.train import train_on_ray
from hybridir.plan import Sampling
from hybridir.prepare import Prepared, prepare, read_corpus
from hybridir.recipe import Recipe, ScalingConfig
from hybridir.records import DataConfig
from hybridir.run import open_output, train_here
from hybridir.train import TrainConfig
from hybridir.validation import ValidationConfig

STEPS = 50


@pytest.fixture(scope="module", autouse=True)
def ray_cluster() -> Iterator[None]:
    with cluster(4):
        yield


def recipe(output: Path, workers: int, **train: Any) -> Recipe:
    return Recipe(
        data=DataConfig(facts=300, languages=("de", "en", "ru")),
        encoder=EncoderConfig(hidden_size=32, layers=1, vocab_size=800, dropout=0.0),
        sampling=Sampling(mono=0.4, mixed=0.2, cross=0.4),
        train=TrainConfig(**{"steps": STEPS, "batch_size": 16, "warmup_steps": 5, "schedule": "constant"} | train),
        validation=ValidationConfig(every=25, batches=4, batch_size=8),
        scaling=ScalingConfig(num_workers=workers),
        cache=str(output.parent / "cache"),
        output=str(output),
    )


def run(output: Path, workers: int, resume: bool = False, **train: Any) -> list[dict[str, Any]]:
    """Trains and returns the history."""
    wanted = dataclasses.replace(recipe(output, workers, **train), resume=resume)
    prepared = prepare(wanted, open_output(wanted))
    (train_on_ray if workers else train_here)(prepared, wanted)
    return [json.loads(line) for line in (output / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ray")


@pytest.fixture(scope="module")
def two_workers(folder: Path) -> list[dict[str, Any]]:
    return run(folder / "two", 2)


def test_any_number_of_workers_sees_the_same_batches(folder: Path, two_workers: list[dict[str, Any]]) -> None:
    here = run(folder / "none", 0)
    for other in (run(folder / "one", 1), two_workers, run(folder / "four", 4)):
        assert [line["step"] for line in other] == list(range(STEPS))
        assert [line["example_ids_sha256"] for line in other] == [line["example_ids_sha256"] for line in here]
        assert [line["loss"] for line in other] == pytest.approx([line["loss"] for line in here], rel=1e-5)
    assert {line["kind"] for line in here} == {"mono", "mixed", "cross"}
    assert here[-1]["loss"] < here[0]["loss"]


def test_stopped_and_resumed_is_the_undisturbed_run(folder: Path, two_workers: list[dict[str, Any]]) -> None:
    run(folder / "stopped", 2, steps=20, checkpoint_every=20)
    resumed = run(folder / "stopped", 2, resume=True, checkpoint_every=20)
    assert [line["loss"] for line in resumed] == [line["loss"] for line in two_workers]
    assert [line["world_size"] for line in resumed] == [2] * STEPS


def test_an_error_of_the_run_is_raised_once_as_it_is(folder: Path) -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        run(folder / "infinite", 2, lr=1e30, clip_norm=0.0, warmup_steps=0)
    lines = (folder / "infinite" / "history.jsonl").read_text().splitlines()
    assert {json.loads(line)["attempt"] for line in lines} == {1}


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Prepared:
    wanted = recipe(folder / "streams", 2)
    return prepare(wanted, open_output(wanted))


def test_tokens_by_ray_data_are_the_same(folder: Path, prepared: Prepared) -> None:
    from hybridir.on_ray.data import tokenize_chunks

    elsewhere = dataclasses.replace(recipe(folder / "tokens", 2), cache=str(folder / "other-cache"))
    again = prepare(elsewhere, open_output(elsewhere), tokenize=tokenize_chunks)
    theirs, ours = Path(again.job.source.tokens), Path(prepared.job.source.tokens)
    assert theirs != ours
    for file in sorted(ours.iterdir()):
        assert (theirs / file.name).read_bytes() == file.read_bytes()


def test_shards_by_ray_data_are_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many shards of two files, in order, with the rejected lines where they stand."""
    from hybridir.on_ray.data import read_shards

    monkeypatch.setattr(rows, "SHARD_BYTES", 3000)
    (folder / "pairs").mkdir()
    for name in ("a", "b"):
        row = {"language": "en", "passage": "x" * 50}
        lines = [
            json.dumps(row | {"group_id": f"{name}{n}", "query": "" if n % 7 == 0 else f"q {n}"}) for n in range(200)
        ]
        (folder / "pairs" / f"{name}.jsonl").write_text("\n".join(lines))
    data = DataConfig(format="jsonl", path=str(folder / "pairs"))
    here = read_corpus(data, folder / "here")
    there = read_corpus(data, folder / "there", read_shards)
    assert here.rejected == {"empty query": 58}
    for file in sorted(here.directory.iterdir()):
        assert (there.directory / file.name).read_bytes() == file.read_bytes(), file.name
    cut = gzip.compress(b"{}\n" * 1000)[:-20]
    (folder / "pairs" / "c.jsonl.gz").write_bytes(cut)
    with pytest.raises(ValueError, match=r"c\.jsonl\.gz cannot be read: ") as raised:
        read_corpus(data, folder / "broken", read_shards)
    assert "Traceback" not in str(raised.value)


def test_encoding_by_ray_data_is_the_same(
    folder: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """In order, on one worker and two; an error of the encoder arrives as it is."""
    from hybridir.on_ray.encode import encode_on_ray

    queries = [f"{n} " + "where " * (n % 9) for n in range(2100)]
    passages = [f"{n} " + "here " * (n % 13) for n in range(2500)]
    here = encode_here(prepared.initial, queries, passages)
    assert [part.shape for part in here] == [(2100, 32), (2500, 32)]
    capfd.readouterr()
    for scaling in (ScalingConfig(num_workers=1), ScalingConfig(num_workers=2)):
        there = encode_on_ray(scaling, prepared.initial, queries, passages)
        for ours, theirs in zip(here, there, strict=True):
            np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-6)
    printed = capfd.readouterr()
    assert printed.err == ""
    assert all(line.startswith("encoded ") for line in printed.out.splitlines())
    assert encode_on_ray(scaling, prepared.initial, [], passages[:3])[1].shape == (3, 32)
    shutil.copytree(prepared.initial.name, folder / "broken")
    (folder / "broken" / "tokenizer.json").unlink()
    broken = dataclasses.replace(prepared.initial, name=str(folder / "broken"))
    with pytest.raises(ValueError, match=r"^no tokenizer at"):
        encode_on_ray(scaling, broken, queries, passages)
    elsewhere = dataclasses.replace(broken, name="/only/on/the/driver")
    isdir = os.path.isdir
    with monkeypatch.context() as patch:
        patch.setattr(os.path, "isdir", lambda path: path == elsewhere.name or isdir(path))
        with pytest.raises(
            ValueError, match=r"^the folder '/only/on/the/driver' is not on .*storage that all nodes see"
        ):
            encode_on_ray(scaling, elsewhere, queries, passages)


def test_a_block_of_a_lost_worker_is_encoded_again(
    folder: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hybridir.on_ray import encode

    class Dying(encode._Worker):
        def __call__(self, block: pa.Table) -> dict[str, np.ndarray]:
            with contextlib.suppress(FileExistsError):
                (folder / "died").touch(exist_ok=False)
                os._exit(1)
            return super().__call__(block)

    texts = [f"{n} " + "where " * (n % 9) for n in range(5000)]
    monkeypatch.setattr(encode, "_Worker", Dying)
    there = encode.encode_on_ray(ScalingConfig(num_workers=2), prepared.initial, texts, [])[0]
    assert (folder / "died").exists()
    np.testing.assert_allclose(there, encode_here(prepared.initial, texts, [])[0], rtol=0, atol=1e-6)


def test_a_changed_row_of_the_cache_arrives(prepared: Prepared) -> None:
    from hybridir.on_ray.data import stream

    def digests(source: BatchSource, rank: int) -> list[bytes]:
        return [batch.digests().tobytes() for batch in stream(source, 3, 40, rank, 2)]

    source = prepared.job.source
    before = [digests(source, rank) for rank in (0, 1)]
    for rank in (0, 1):
        assert before[rank] == [batch.digests().tobytes() for batch in local_stream(source, 3, 40, rank, 2)]
    row = int(source.plan().batch(10).part(1, 2).query_row[0])
    tokens = Path(source.tokens)
    start = int(np.load(tokens / "query.npy")[row])
    with open(tokens / "query.bin", "r+b") as file:
        file.seek(4 * (start + 1))
        old = file.read(4)
        file.seek(4 * (start + 1))
        file.write((int.from_bytes(old, "little") ^ 1).to_bytes(4, "little"))
    after = digests(source, 1)
    with_row = {s for s in range(3, 40) if row in source.plan().batch(s).part(1, 2).query_row}
    assert {s for s in range(3, 40) if after[s - 3] != before[1][s - 3]} == with_row
    assert 10 in with_row
