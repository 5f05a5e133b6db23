"""Ray: batches through Ray Data, workers under Ray Train. The job and the tests share a cluster."""

import contextlib
import dataclasses
import errno
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import yaml
from helpers import job, read_lines, steady, tiny_translation_model
from made import random_benchmark

from hybridir.batches.sampling import Noise, Sampling, Translations
from hybridir.batches.stream import BatchSource, local_stream
from hybridir.data import rows
from hybridir.data.config import BenchmarkConfig, DataConfig
from hybridir.data.intake import read_here
from hybridir.data.passages import Passages
from hybridir.data.records import Passage
from hybridir.model.config import EncoderConfig
from hybridir.on_ray.cluster import cluster, find_room
from hybridir.on_ray.encode_shards import encode_shards_on_ray
from hybridir.on_ray.gauges import training_shown
from hybridir.on_ray.train import train_on_ray
from hybridir.on_ray.translate import translate_on_ray
from hybridir.on_ray.units import MOST_STARTS, Do, do_units, each_on_ray
from hybridir.retrieval.encode import encode_here
from hybridir.retrieval.encode_shards import Work as Job
from hybridir.retrieval.encode_shards import encode_shards_here
from hybridir.retrieval.sharded import Means, Sharded, rank_sharded, top_k_sharded
from hybridir.retrieval.shards import lay_out
from hybridir.runs.backend import train_here
from hybridir.runs.corpus import read_corpus
from hybridir.runs.prepare import Prepared, prepare
from hybridir.runs.recipe import Recipe, ScalingConfig, TrackingConfig, public
from hybridir.runs.training_run import open_output
from hybridir.runtime.history import last_line
from hybridir.runtime.signals import saving
from hybridir.training.config import TrainConfig
from hybridir.training.loop import STOP
from hybridir.training.validation import ValidationConfig
from hybridir.translation.gates import GatesConfig
from hybridir.translation.translation_job import Translation, run_translation
from hybridir.translation.translator import ModelConfig
from hybridir.translation.units import Done, Unit, Work, translate_here

STEPS = 50


def recipe(output: Path, workers: int, timeout: int = 300, **train: Any) -> Recipe:
    languages = ("de", "en", "ru")
    return Recipe(
        data=DataConfig(facts=300, languages=languages),
        encoder=EncoderConfig(name=str(output.parent / "encoder"), dropout=0.0),
        sampling=Sampling(mono=0.4, mixed=0.2, cross=0.4),
        train=TrainConfig(
            **{"steps": STEPS, "batch_size": 16, "lr": 1e-3, "warmup_steps": 5, "schedule": "constant"} | train
        ),
        validation=ValidationConfig(every=25, batches=4, batch_size=8),
        benchmark=BenchmarkConfig(facts=100, languages=languages),
        scaling=ScalingConfig(num_workers=workers, timeout=timeout),
        tracking=TrackingConfig(enabled=False),
        cache=str(output.parent / "cache"),
        output=str(output),
    )


def run(output: Path, workers: int, resume: bool = False, **train: Any) -> list[dict[str, Any]]:
    """Trains and returns the history."""
    wanted = dataclasses.replace(recipe(output, workers, **train), resume=resume)
    prepared = prepare(wanted, open_output(wanted))
    (train_on_ray if workers else train_here)(prepared, wanted)
    return read_lines(output / "history.jsonl")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, float64: Path) -> Path:
    """It holds the encoder that all runs begin with."""
    folder = tmp_path_factory.mktemp("ray")
    shutil.copytree(float64, folder / "encoder")
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home folder, which Ray is started with."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module", autouse=True)
def ray_cluster(home: Path) -> Iterator[None]:
    """Of four CPUs, however many there are."""
    with contextlib.ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "sched_getaffinity", lambda _: {0})
            patch.setenv("HOME", str(home))
            stack.enter_context(cluster(4))
        yield


@pytest.fixture(scope="module")
def two(folder: Path, ray_cluster: None) -> Path:
    """The job as a user runs it, with a cache of its own."""
    wanted = dataclasses.replace(recipe(folder / "two", 2), cache=str(folder / "its-cache"))
    (folder / "two.yaml").write_text(yaml.safe_dump(public(wanted)), encoding="utf-8")
    done = job("--config", folder / "two.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == str(Path(wanted.output) / "report.html")
    return Path(wanted.output)


@pytest.fixture(scope="module")
def two_workers(two: Path) -> list[dict[str, Any]]:
    return read_lines(two / "history.jsonl")


@pytest.fixture(scope="module")
def one_process(folder: Path) -> list[dict[str, Any]]:
    return run(folder / "none", 0)


def test_other_users_find_neither_token_nor_session(home: Path, ray_cluster: None) -> None:
    """Whoever has the token can run commands as the owner; logs hold what is trained on."""
    assert not [file for file in home.rglob("*") if "token" in file.name]
    session = Path(ray._private.worker._global_node.get_session_dir_path())
    assert session.is_relative_to(tempfile.gettempdir())
    assert session.parents[1].stat().st_mode & 0o777 == 0o700
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) == 64


ANOTHER_USER = """
import encodings.idna, json, os, sys, urllib.error, urllib.request  # all, while they can be read

os.setgroups([])
os.setgid(65534)
os.setuid(65534)
processes, session, ports = json.loads(sys.stdin.read())
for file in [f"/proc/{number}/environ" for number in processes] + [f"{session}/logs"]:
    try:
        os.close(os.open(file, os.O_RDONLY))
        print("can read", file)
    except PermissionError:
        pass
for port in ports:
    url = f"http://127.0.0.1:{port}/api/job_agent/jobs/"
    try:
        request = urllib.request.Request(url, b'{"entrypoint": "true"}', {"Content-Type": "application/json"})
        print(urllib.request.urlopen(request, timeout=10).status)
    except urllib.error.HTTPError as error:
        print(error.code)
    except Exception as error:  # speaks no HTTP
        print(type(error).__name__)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_user_reads_nothing_and_starts_nothing(ray_cluster: None) -> None:
    """Neither the environment with the token nor the logs; a job posted to the agent's port is refused without it."""
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    open_ports = [one for process in processes for one in process.net_connections("tcp") if one.status == "LISTEN"]
    session = ray._private.worker._global_node.get_session_dir_path()
    given = json.dumps([[one.pid for one in processes], session, sorted({one.laddr.port for one in open_ports})])
    done = subprocess.run([sys.executable, "-c", ANOTHER_USER], input=given, capture_output=True, text=True, check=True)
    answers = done.stdout.splitlines()
    assert "401" in answers
    assert not [answer for answer in answers if answer.startswith("can read") or answer == "200"]


def assert_alike(ours: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [line["step"] for line in ours] == list(range(STEPS))
    assert [line["example_ids_sha256"] for line in ours] == [line["example_ids_sha256"] for line in wanted]
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in wanted], rel=1e-9)


def test_two_workers_train_as_one_process(two_workers: list[dict[str, Any]], one_process: list[dict[str, Any]]) -> None:
    assert [line["world_size"] for line in two_workers] == [2] * STEPS
    assert_alike(two_workers, one_process)
    assert {line["kind"] for line in one_process} == {"mono", "mixed", "cross"}
    assert one_process[-1]["loss"] < one_process[0]["loss"]


@pytest.mark.slow
def test_one_worker_and_four_train_as_one_process(folder: Path, one_process: list[dict[str, Any]]) -> None:
    """Slow: two starts of Ray Train. In short: two workers, above, and one, two and four ranks in test_loop."""
    for workers in (1, 4):
        assert_alike(run(folder / str(workers), workers), one_process)


@pytest.mark.slow
def test_four_workers_then_two_then_four_see_the_same_batches(folder: Path, two_workers: list[dict[str, Any]]) -> None:
    """Slow: three starts of Ray Train. In short: two ranks, one and two again in test_loop."""
    run(folder / "elastic", 4, steps=18, checkpoint_every=6)
    run(folder / "elastic", 2, resume=True, steps=36, checkpoint_every=6)
    lines = run(folder / "elastic", 4, resume=True, checkpoint_every=6)
    assert [line["world_size"] for line in lines] == [4] * 18 + [2] * 18 + [4] * 14
    assert [line["example_ids_sha256"] for line in lines] == [line["example_ids_sha256"] for line in two_workers]
    assert [line["loss"] for line in lines] == pytest.approx([line["loss"] for line in two_workers], rel=1e-9)


@pytest.mark.parametrize(
    ("workers", "least", "batch_size", "started"), [(4, None, 16, 4), (8, 2, 16, 4), (9, 1, 9, 3), (6, 3, 12, 4)]
)
def test_as_many_workers_as_there_is_room_for(
    workers: int, least: int | None, batch_size: int, started: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_room(ScalingConfig(num_workers=workers, min_workers=least), batch_size) == started
    said = capsys.readouterr().out
    assert said == (
        "" if started == workers else f"the cluster has room for 4 of {workers} workers: going on with {started}\n"
    )


@pytest.mark.parametrize(
    ("scaling", "message"),
    [
        (
            {"num_workers": 8},
            "1 nodes with room for 4 workers of 1 CPU each, and the run needs 8: no autoscaler",
        ),
        ({"num_workers": 8, "min_workers": 5}, "and the run needs 8: "),
        ({"num_workers": 2, "cpus_per_worker": 3}, "room for 1 workers of 3 CPUs each, .* or scaling.cpus_per_worker"),
        ({"num_workers": 2, "use_gpu": True}, "room for 0 workers of 1 CPU and 1 GPU each, and the run needs 2"),
    ],
)
def test_more_workers_than_there_can_be_are_refused(scaling: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_room(ScalingConfig(**scaling), 16)


@pytest.mark.slow
def test_an_error_of_the_run_is_raised_once_as_it_is(folder: Path) -> None:
    """Slow: a start of Ray Train. In short: what driver and controller make of such errors, in test_restarts."""
    with pytest.raises(FloatingPointError, match="no update was made"):
        run(folder / "infinite", 2, lr=1e30, clip_norm=0.0, warmup_steps=0)
    assert {line["attempt"] for line in read_lines(folder / "infinite" / "history.jsonl")} == {1}


def act_at(output: Path, *acts: tuple[int, Callable[[], object]]) -> threading.Thread:
    """A thread that does each thing once the history has so many lines."""

    def follow() -> None:
        for count, act in acts:
            while not (line := last_line(output / "history.jsonl")) or line["step"] + 1 < count:
                time.sleep(0.01)
            act()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread


def workers() -> list[psutil.Process]:
    """The training workers of this process's cluster, the oldest first."""
    return named("RayTrainWorker")


def named(title: str) -> list[psutil.Process]:
    """The processes of this process's cluster with that in their title, the oldest first."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ended meanwhile
            if title in " ".join(process.cmdline()):
                found.append(process)
    return sorted(found, key=lambda process: process.create_time())


@pytest.mark.slow
def test_interrupted_twice_is_the_undisturbed_run(folder: Path, two: Path, two_workers: list[dict[str, Any]]) -> None:
    """A worker is killed and replaced, then the driver is asked to stop and resumed: nothing is lost.

    Slow: three starts of Ray Train. In short: a node is lost in test_nodes, a driver asked to stop in test_signals.
    """
    output = folder / "interrupted"
    act_at(output, (12, lambda: workers()[0].kill()), (25, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    with saving(output / STOP) as asked:
        stopped = run(output, 2, checkpoint_every=10)
    assert asked.is_set()
    assert 25 <= len(stopped) < STEPS
    assert (output / "checkpoints" / f"step-{len(stopped):08d}").exists()
    (output / STOP).unlink()
    ended = run(output, 2, resume=True, checkpoint_every=10)
    assert steady(ended) == steady(two_workers)
    kept, last = [line["attempt"] for line in ended], len(stopped)
    assert kept == [1] * 10 + [2] * (last - 10) + [3] * (STEPS - last)
    weights = [path / "checkpoints" / f"step-{STEPS:08d}" / "model.safetensors" for path in (output, two)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    [event] = (output / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert re.search(r"rank [01] was lost after step 1\d, and is replaced", event)


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(folder: Path, two_workers: list[dict[str, Any]]) -> None:
    """Slow: two starts of Ray Train, and the wait for an answer. In short: a node is lost, in test_nodes."""
    output = folder / "hangs"
    act_at(output, (12, lambda: workers()[-1].suspend()))
    ended = run(output, 2, checkpoint_every=10, timeout=20)
    assert steady(ended) == steady(two_workers)
    assert [line["attempt"] for line in ended] == [1] * 10 + [2] * (STEPS - 10)
    [event] = (output / "events.jsonl").read_text(encoding="utf-8").splitlines()
    assert re.search(r"rank [01] gave no answer for 20 s after step 1\d, and is replaced", event)
    assert not workers(), "the one that hung was ended"


@pytest.fixture(scope="module")
def prepared(folder: Path) -> Prepared:
    wanted = recipe(folder / "streams", 2)
    return prepare(wanted, open_output(wanted))


def test_tokens_by_ray_data_are_the_same(two: Path, prepared: Prepared) -> None:
    ours = Path(prepared.job.source.tokens)
    theirs = two.parent / "its-cache" / ours.relative_to(prepared.corpus.directory.parent)
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
        (folder / "pairs" / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
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


def test_encoding_on_ray_is_the_same(folder: Path, prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order on two workers, of which one is lost.

    The encoder computes in float64: its embeddings, which are float32, may differ in their last bit.
    """
    from hybridir.on_ray import encode

    class Dying(encode._Worker):
        def encode(self, *texts: Any) -> np.ndarray:
            with contextlib.suppress(FileExistsError):
                (folder / "died").touch(exist_ok=False)
                os._exit(1)
            return super().encode(*texts)

    queries = [f"{n} " + "where " * (n % 9) for n in range(2100)]
    passages = [f"{n} " + "here " * (n % 13) for n in range(2500)]
    here = encode_here(prepared.initial, queries, passages)
    assert [part.shape for part in here] == [(2100, 32), (2500, 32)]
    with monkeypatch.context() as patch:
        patch.setattr(encode, "_Worker", Dying)
        there = encode.encode_on_ray(ScalingConfig(num_workers=2), prepared.initial, queries, passages)
    assert (folder / "died").exists()
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=np.finfo(np.float32).eps, atol=1e-12)


@pytest.mark.slow
def test_encoding_on_ray_of_one_side_and_of_a_model_that_is_not_there(
    prepared: Prepared, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Slow: two starts of a worker. An error arrives as it is."""
    from hybridir.on_ray import encode

    one, passages = ScalingConfig(num_workers=1), [f"{n} " + "here " * (n % 13) for n in range(2500)]
    none, some = encode.encode_on_ray(one, prepared.initial, [], passages)
    printed = capfd.readouterr()
    assert not printed.err
    assert all(line.startswith("encoded ") for line in printed.out.splitlines())
    assert none.shape == (0, 32)
    there = encode_here(prepared.initial, [], passages)[1]
    np.testing.assert_allclose(some, there, rtol=np.finfo(np.float32).eps, atol=1e-12)
    elsewhere = dataclasses.replace(prepared.initial, name="/only/on/the/driver")
    isdir = os.path.isdir
    monkeypatch.setattr(os.path, "isdir", lambda path: path == elsewhere.name or isdir(path))
    with pytest.raises(ValueError, match=r"^the folder '/only/on/the/driver' is not on .*storage that all nodes see"):
        encode.encode_on_ray(one, elsewhere, [], passages)


def test_shards_encoded_on_ray_are_those_of_one_process(folder: Path, tmp_path: Path) -> None:
    """Each once, by two workers that hold every CPU."""
    made_of, encoder = {"weights": "0", "dtype": "float32"}, EncoderConfig(name=str(folder / "encoder"))
    rows = [Passage(passage_id=str(n), language="en", text=f"{n} " + "here " * (n % 13)) for n in range(70)]
    here, there = (lay_out(tmp_path / name, made_of, Passages(rows), 10) for name in ("here", "there"))
    numbers = [shard.number for shard in here.shards]
    assert [done.number for done in encode_shards_here(Job(here, encoder, threads=1), numbers)] == numbers
    all_cpus = ScalingConfig(num_workers=2, cpus_per_worker=2)
    done = list(encode_shards_on_ray(all_cpus, Job(there, encoder, threads=1), numbers))
    assert sorted((one.number, one.rows, one.dimension) for one in done) == [(n, 10, 32) for n in numbers]
    assert there.waiting() == []
    for shard in here.shards:
        ours, theirs = (np.load(index.file("vectors", shard, "npy")) for index in (here, there))
        np.testing.assert_allclose(theirs, ours, rtol=np.finfo(np.float32).eps, atol=1e-12)


def test_a_search_on_ray_finds_what_one_process_finds(tmp_path: Path) -> None:
    """Bit for bit, and an error of the search is raised unchanged."""
    rng = np.random.default_rng(0)
    asked = random_benchmark(rng, n_queries=20, n_passages=300)
    index = lay_out(tmp_path, {"weights": "0", "dtype": "float32"}, asked.passages, 40)
    for shard in index.shards:
        index.write(shard, rng.integers(-2, 3, size=(shard.rows, 8)))  # with many ties
    numbers = {language: n for n, language in enumerate(asked.languages)}
    language_P = asked.language_P
    places = [
        np.flatnonzero(language_P == numbers[language])[n : n + 40]
        for language in index.languages
        for n in range(0, int((language_P == numbers[language]).sum()), 40)
    ]
    vectors, query_QD = Sharded(index, numbers, places), rng.integers(-2, 3, size=(20, 8)).astype(np.float32)
    means = Means(workers=3, each=partial(each_on_ray, ScalingConfig(num_workers=2)))
    here, there = (rank_sharded(query_QD, vectors, asked, 5, one) for one in (Means(), means))
    for name, value in vars(here).items():
        assert np.array_equal(value, getattr(there, name)), name
    pooled = Sharded(index, index.together())
    for ours, theirs in zip(top_k_sharded(query_QD, pooled, 9), top_k_sharded(query_QD, pooled, 9, means), strict=True):
        assert np.array_equal(ours, theirs)
    file = index.file("vectors", index.shards[1], "npy")
    file.write_bytes(file.read_bytes()[:-4] + b"abcd")
    with pytest.raises(ValueError, match=r"00001\.npy is damaged: remove it"):
        top_k_sharded(query_QD, pooled, 9, means)


@pytest.mark.slow
def test_a_controller_that_is_killed_leaves_no_places_taken(folder: Path, two_workers: list[dict[str, Any]]) -> None:
    """Slow: two starts of Ray Train. Its four workers need all of the cluster."""
    output = folder / "controlled"
    act_at(output, (12, lambda: [process.kill() for process in named("TrainController")]))
    ended = run(output, 4, checkpoint_every=10)
    assert [line["attempt"] for line in ended] == [1] * 10 + [2] * (STEPS - 10)
    assert [line["example_ids_sha256"] for line in ended] == [line["example_ids_sha256"] for line in two_workers]


def test_an_error_of_the_stream_arrives_as_it_is(prepared: Prepared) -> None:
    """It is not taken for the loss of a worker."""
    from hybridir.on_ray.data import stream

    lost = dataclasses.replace(prepared.job.source, tokens="/nowhere")
    with pytest.raises(FileNotFoundError) as raised:
        next(stream(lost, 0, 4, 0, 2))
    assert raised.value.errno == errno.ENOENT


def test_noise_and_translations_are_the_same_on_any_number_of_workers(prepared: Prepared) -> None:
    """On one, two and four workers, and after a resume at step 3."""
    from hybridir.on_ray.data import stream

    views = Sampling(mono=0.5, cross=0.5, noise=Noise(probability=0.5), translations=Translations(passage=1))
    source = dataclasses.replace(prepared.job.source, sampling=views)
    wanted = [batch.digests().tolist() for batch in local_stream(source, 0, 6, 0, 1)]
    clean = dataclasses.replace(source, sampling=dataclasses.replace(views, noise=Noise()))
    assert wanted != [batch.digests().tolist() for batch in local_stream(clean, 0, 6, 0, 1)]
    for start, workers in ((0, 1), (3, 2), (3, 4)):
        last = stream(source, start, 6, workers - 1, workers)
        assert [batch.digests().tolist() for batch in last] == [items[-16 // workers :] for items in wanted[start:]]


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


WORDS = ["where", "is", "the", "red", "river", "that", "flows", "by", "this", "old", "town", "of", "many", "bridges"]


def translation(folder: Path, name: str) -> Translation:
    return Translation(
        data=DataConfig(format="jsonl", path=str(folder / "pairs.jsonl")),
        languages=("de", "fr"),
        model=ModelConfig(name=str(folder / "model"), family="m2m-100"),
        gates=GatesConfig(apply=("empty",), length=0),
        unit=8,
        scaling=ScalingConfig(num_workers=2),
        output=str(folder / name),
        cache=str(folder / "cache"),
    )


@pytest.fixture(scope="module")
def pairs(folder: Path) -> Path:
    """The folder, with a translation model and pairs to translate."""
    tiny_translation_model(folder / "model", "m2m-100", WORDS, ("en", "de", "fr"))
    texts = [(f"{WORDS[n % 13]} {n}", f"{WORDS[n % 11]} the {n} .") for n in range(40)]
    rows = [{"group_id": str(n), "language": "en", "query": one, "passage": two} for n, (one, two) in enumerate(texts)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def translated_here(pairs: Path) -> Path:
    return run_translation(translation(pairs, "translated"), read_here, translate_here).parent


def test_units_translated_on_ray_are_those_of_one_process(pairs: Path, translated_here: Path) -> None:
    files = {file: file.read_bytes() for file in (translated_here / "units").glob("*.arrow")}
    made: list[Done] = []

    def run(work: Work, units: Sequence[Unit]) -> Iterator[Done]:
        if len(units) == 1:  # the probe
            yield from translate_here(work, units)
            return
        for done in translate_on_ray(ScalingConfig(num_workers=2), work, units):
            made.append(done)
            yield done

    for file in sorted(files)[::5]:
        file.unlink()
    (translated_here / "results.json").unlink()
    run_translation(dataclasses.replace(translation(pairs, "translated"), resume=True), read_here, run)
    assert len({done.unit for done in made}) == len(made) == 4
    assert {file: file.read_bytes() for file in (translated_here / "units").glob("*.arrow")} == files


@pytest.mark.slow
def test_a_translation_with_a_worker_killed_ends_as_in_one_process(pairs: Path, translated_here: Path) -> None:
    """Slow: Ray starts the worker again. In short: above, and units made again in test_translation."""
    seen: list[Done] = []
    killed: list[int] = []

    def run(work: Work, units: Sequence[Unit]) -> Iterator[Done]:
        for done in translate_on_ray(ScalingConfig(num_workers=2), work, units):
            seen.append(done)
            if len(seen) == 2:  # the probe, and the first unit
                for process in psutil.Process().children(recursive=True):
                    with contextlib.suppress(psutil.NoSuchProcess):
                        if not killed and "_Units" in " ".join(process.cmdline()):
                            killed.append(process.pid)
                            process.kill()
            yield done

    there = run_translation(translation(pairs, "translated-there"), read_here, run).parent
    assert len(killed) == 1
    for name in ("results.json", "train/en.jsonl", "train/de.jsonl", "train/fr.jsonl", "rejected/de.jsonl"):
        assert (there / name).read_bytes() == (translated_here / name).read_bytes(), name
    assert {done.unit for done in seen[1:]} == {Unit(n, x) for n in range(10) for x in ("de", "fr")}


@pytest.mark.slow
@pytest.mark.parametrize("where", ["while it loads", "in a unit"])
def test_a_unit_that_ends_every_worker_is_given_up(where: str, tmp_path: Path) -> None:
    """Slow: Ray starts a worker again each time."""

    def die(unit: int) -> None:
        if unit == 1:
            (tmp_path / uuid.uuid4().hex).touch()
            os.kill(os.getpid(), signal.SIGKILL)

    def make() -> Do:
        if where == "while it loads":
            die(1)
        return lambda n: die(n) or {"unit": n}

    with pytest.raises(ValueError, match=r"5 workers ended without an error .*scaling\.cpus_per_worker.*--resume"):
        list(do_units(ScalingConfig(num_workers=1), make, 3))
    assert len(list(tmp_path.iterdir())) >= MOST_STARTS


def test_an_error_of_a_translation_model_is_raised_as_it_is(pairs: Path, translated_here: Path) -> None:
    work = Work(
        str(pairs / "translated" / "units"), ModelConfig(name="/none", family="m2m-100"), "x", GatesConfig(), "en"
    )
    with pytest.raises(ValueError, match="no translation model at '/none'"):
        list(translate_on_ray(ScalingConfig(num_workers=1), work, [Unit(0, "de")]))


@pytest.mark.slow
def test_gauges_are_exported_for_prometheus(tmp_path: Path) -> None:
    """Slow: Ray exports every ten seconds."""
    line = {"step": 41, "loss": 2.5, "pairs_per_s": 128.0, "attempt": 1}
    (tmp_path / "history.jsonl").write_text(
        json.dumps(line | {"step": 40}) + "\n" + json.dumps(line) + "\n", encoding="utf-8"
    )
    port, wanted = ray.nodes()[0]["MetricsExportPort"], {"step": 42.0, "loss": 2.5, "pairs_per_second": 128.0}
    with training_shown(tmp_path):
        until = time.monotonic() + 60
        found: dict[str, float] = {}
        while found != wanted and time.monotonic() < until:
            time.sleep(1)
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
                lines = [one for one in page.read().decode().splitlines() if f'run="{tmp_path.name}"' in one]
            pattern = re.compile(r"ray_hybridir_(\w+)\{.*\} (\S+)")
            found = {match[1]: float(match[2]) for one in lines if (match := pattern.fullmatch(one))}
    assert found == wanted
