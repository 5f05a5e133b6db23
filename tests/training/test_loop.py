"""The training loop: repeatable, resumable, the same on any number of ranks, and loud where it cannot go on."""

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from helpers import pairs_of, read_lines, small_recipe, steady, train_here
from safetensors.torch import load_file
from torch import Tensor

from hybridir.batches.sampling import Noise, Translations
from hybridir.batches.stream import BatchSource, TokenBatch, local_stream
from hybridir.data.config import DataConfig, Source
from hybridir.data.records import Shard, place
from hybridir.data.sources import READERS
from hybridir.model.config import EncoderConfig
from hybridir.model.distributed import barrier, rank
from hybridir.model.encoder import Encoder
from hybridir.model.tokenizer import load_tokenizer
from hybridir.runs.prepare import Prepared, prepare
from hybridir.runs.recipe import TRAINING_MAY_CHANGE, Recipe, ScalingConfig, fixed_part, public
from hybridir.runtime.history import EVENTS, History, Tail, last_line, read_history
from hybridir.training import checkpoint as ckpt
from hybridir.training import loop as train_module
from hybridir.training.config import TrainConfig
from hybridir.training.grad_cache import add_gradients
from hybridir.training.loop import STOP, Job, train
from hybridir.training.losses.info_nce import InfoNCE
from hybridir.training.losses.multilingual import Multilingual
from hybridir.training.objective import DualEncoder, LossConfig, batch_loss, embed, to_torch
from hybridir.training.validation import Validation

MakeRun = Callable[..., Prepared]
CPU = torch.device("cpu")


def history(run: Prepared) -> list[dict[str, Any]]:
    return steady(read_lines(run.job.output / "history.jsonl"))


def checkpoints(run: Prepared) -> list[str]:
    return sorted(folder.name for folder in (run.job.output / "checkpoints").glob("*"))


def checkpoint_tensors(run: Prepared, step: int) -> dict[str, Tensor]:
    """Weights and optimiser of a checkpoint."""
    folder = run.job.output / "checkpoints" / f"step-{step:08d}"
    return load_file(folder / "model.safetensors") | load_file(folder / "optimizer.safetensors")


def assert_equal(ours: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Bitwise."""
    assert ours.keys() == wanted.keys()
    for name in wanted:
        assert torch.equal(ours[name], wanted[name]), name


def at_step(step: int, act: Callable[[], None]) -> dict[str, Any]:
    """A stream that calls `act` before it gives the training batch of `step`."""

    def stream(source: BatchSource, start: int, end: int, own: int, ranks: int) -> Iterator[TokenBatch]:
        for batch in local_stream(source, start, end, own, ranks):
            if batch.step == step and start < end and end - start != 1:
                act()
            yield batch

    return {"stream": stream}


def die() -> None:
    raise KeyboardInterrupt


# The same again


def test_the_same_run_twice_is_the_same(make_run: MakeRun, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, encoder={"dropout": 0.1}) for name in ("one", "two")]
    ends = [train_here(run) for run in runs]
    assert ends[0][0] == ends[1][0]
    assert history(runs[0]) == history(runs[1])
    assert [line["step"] for line in history(runs[0])] == list(range(8))
    assert_equal(ends[0][1].state_dict(), ends[1][1].state_dict())
    assert_equal(checkpoint_tensors(runs[0], 8), checkpoint_tensors(runs[1], 8))


def test_another_seed_is_another_run(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    other = replace(run, job=replace(run.job, seed=1, output=tmp_path / "other"))
    other.job.output.mkdir()
    with_dropout = replace(run.initial, dropout=0.1)
    for each in (run, other):
        train_here(replace(each, initial=with_dropout))
    ours, others = history(run), history(other)
    assert ours[0]["example_ids_sha256"] == others[0]["example_ids_sha256"], "the plan has a seed of its own"
    assert ours[0]["loss"] != others[0]["loss"], "dropout follows the run's seed"


def test_training_lowers_the_loss(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", train={"steps": 20, "checkpoint_every": 20})
    state, _ = train_here(run)
    losses = [line["loss"] for line in history(run)]
    assert sum(losses[-5:]) / 5 < sum(losses[:5]) / 5 - 0.2
    first = next(line["validation"] for line in history(run) if "validation" in line)
    assert state["best_value"] < first["loss"]
    assert first["loss"] == pytest.approx((first["mono"] + first["cross"]) / 2)


# Going on


@pytest.fixture(scope="module")
def whole(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> dict[float, tuple[Prepared, Encoder]]:
    """Uninterrupted runs of 8 steps, by dropout."""
    made = {}
    for dropout in (0.0, 0.2):
        run = make_run(tmp_path_factory.mktemp("whole") / "run", encoder={"dropout": dropout}, train=CONSTANT)
        made[dropout] = (run, train_here(run)[1])
    return made


CONSTANT = {"schedule": "constant"}


@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("how", ["STOP", "fewer steps", "killed"])
def test_an_interrupted_run_ends_as_an_uninterrupted_one(
    make_run: MakeRun,
    tmp_path: Path,
    whole: dict[float, tuple[Prepared, Encoder]],
    how: str,
    dropout: float,
) -> None:
    run = make_run(tmp_path / "run", encoder={"dropout": dropout}, train=CONSTANT)
    stop = run.job.output / STOP
    if how == "STOP":
        state, _ = train_here(run, **at_step(4, stop.touch))
        assert (state["stopped"], state["step"]) == ("signal", 5)
        stop.unlink()
    elif how == "fewer steps":
        state, _ = train_here(replace(run, job=replace(run.job, train=replace(run.job.train, steps=5))))
        assert (state["stopped"], state["step"]) == ("end", 5)
    else:
        with pytest.raises(KeyboardInterrupt):
            train_here(run, **at_step(5, die))
    assert len(history(run)) == 5

    state, encoder = train_here(run)
    expected, its_encoder = whole[dropout]
    assert (state["stopped"], state["step"]) == ("end", 8)
    assert_equal(checkpoint_tensors(run, 8), checkpoint_tensors(expected, 8))
    ours = history(run)
    if how == "fewer steps":  # its last step was validated, and could be the best
        assert ours[4].pop("validation")
    else:
        assert_equal(encoder.state_dict(), its_encoder.state_dict())
    assert ours == history(expected)


def test_lines_of_steps_that_are_done_again_are_kept_aside(make_run: MakeRun, tmp_path: Path) -> None:
    """Killed in step 6, after the checkpoint of 4 (checkpoints at 3, 4, 6; the last one is damaged)."""
    run = make_run(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        train_here(run, **at_step(7, die))
    assert [line["step"] for line in history(run)] == [0, 1, 2, 3, 4, 5, 6]
    (run.job.output / "checkpoints" / "step-00000006" / "state.json").unlink()
    with open(run.job.output / "history.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 7, "lo')
    before = history_lines(run)[:7]
    train_here(run)
    discarded = read_lines(run.job.output / "history.discarded.jsonl")
    assert discarded == before[4:]
    assert [line["step"] for line in history(run)] == list(range(8))
    assert [line["attempt"] for line in history_lines(run)] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert steady(history_lines(run)[4:7]) == steady(discarded)


def history_lines(run: Prepared) -> list[dict[str, Any]]:
    return list(read_history(run.job.output / "history.jsonl"))


def test_history_that_was_cut_off_in_its_first_line(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"step": 0, "lo', encoding="utf-8")
    log = History(tmp_path, 0)
    log.append({"step": 0})
    log.close()
    assert read_lines(tmp_path / "history.jsonl") == [{"step": 0, "attempt": 1}]


def events(run: Prepared) -> str:
    """What was noted of a run."""
    path = run.job.output / EVENTS
    return path.read_text(encoding="utf-8") if path.exists() else ""


def test_a_damaged_checkpoint_is_said_and_the_one_before_used(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    train_here(run, **at_step(4, (run.job.output / STOP).touch))
    (run.job.output / STOP).unlink()
    (run.job.output / "checkpoints" / "step-00000005" / "manifest.json").write_text("", encoding="utf-8")
    assert train_here(run)[0]["step"] == 8
    assert "step-00000005 is damaged" in events(run)
    assert [line["attempt"] for line in history_lines(run)] == [1, 1, 1, 1, 2, 2, 2, 2]


def test_a_damaged_best_checkpoint_is_said_and_another_one_chosen(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best of all is that of step 2; after its loss it is the best of those to come, step 8."""
    run = make_run(tmp_path / "run", train={"keep_last": 1}, validation={"every": 2})
    losses = iter([1.0, 4.0, 3.0, 2.0])
    monkeypatch.setattr(Validation, "run", lambda self, model: {"loss": next(losses)})
    train_here(run, **at_step(4, (run.job.output / STOP).touch))
    (run.job.output / STOP).unlink()
    assert checkpoints(run) == ["step-00000002", "step-00000005"]
    (run.job.output / "checkpoints" / "step-00000002" / "state.json").unlink()
    state, _ = train_here(run)
    assert (state["best_step"], state["best_value"]) == (8, 2.0)
    assert "best checkpoint" in events(run)
    assert "step-00000002 is damaged" in events(run)
    assert checkpoints(run) == ["step-00000008"]


def test_lines_that_a_crash_broke_are_done_again_or_said(make_run: MakeRun, tmp_path: Path) -> None:
    """One before the checkpoint of step 5, zeros after it."""
    run = make_run(tmp_path / "run")
    train_here(run, **at_step(4, (run.job.output / STOP).touch))
    (run.job.output / STOP).unlink()
    file = run.job.output / "history.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:2], b'{"step": 2, "lo\xff\n', *lines[3:], b"\0" * 50, b"\n"]))
    assert last_line(file) == json.loads(lines[4])
    assert [line["step"] for line in Tail(file).read()] == [0, 1, 3, 4]
    train_here(run)
    assert "history.jsonl lacks 1 of the 5 steps" in events(run)
    assert [line["step"] for line in read_lines(file)] == [0, 1, 3, 4, 5, 6, 7]


def test_a_start_from_zero_after_steps_is_said_and_leaves_nothing_half_written(
    make_run: MakeRun, tmp_path: Path
) -> None:
    """The checkpoints are gone, but for one that a kill left half written."""
    run = make_run(tmp_path / "run")
    train_here(run, **at_step(4, (run.job.output / STOP).touch))
    (run.job.output / STOP).unlink()
    shutil.rmtree(run.job.output / "checkpoints")
    half = run.job.output / "checkpoints" / ".step-00000099.tmp"
    half.mkdir(parents=True)
    train_here(run, **at_step(0, lambda: half.exists() and pytest.fail("it is still there")))
    assert "has no checkpoint: the 5 steps done so far are repeated" in events(run)
    assert [line["step"] for line in history(run)] == list(range(8))


def test_a_history_that_lacks_lines_is_said(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    train_here(run, **at_step(4, (run.job.output / STOP).touch))
    (run.job.output / STOP).unlink()
    file = run.job.output / "history.jsonl"
    file.write_text("".join(file.read_text(encoding="utf-8").splitlines(keepends=True)[2:]), encoding="utf-8")
    train_here(run)
    assert "history.jsonl lacks 2 of the 5 steps" in events(run)


def test_the_lines_of_a_checkpoint_are_on_the_disk_before_it_is(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watched(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    run = make_run(tmp_path / "run", train={"steps": 2, "checkpoint_every": 1})
    monkeypatch.setattr(os, "fsync", watched)
    train_here(run)
    order = [name for name in synced if name in ("history.jsonl", "manifest.json", "checkpoints")]
    assert order == ["history.jsonl", "manifest.json", "checkpoints"] * 2


@pytest.mark.parametrize("every", [14, pytest.param(1, marks=pytest.mark.slow)])
def test_resume_from_any_step_goes_on_bit_by_bit(make_run: MakeRun, tmp_path: Path, every: int) -> None:
    """From the checkpoint of each step of 30, with dropout: losses, weights and moments of the undisturbed run."""
    sections = {
        "train": {"steps": 30, "checkpoint_every": 1, "keep_last": 30, "schedule": "constant"},
        "validation": {"every": 12},
        "encoder": {"dropout": 0.1},
    }
    whole = make_run(tmp_path / "whole", **sections)
    _, its_encoder = train_here(whole)
    lines = (whole.job.output / "history.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(checkpoints(whole)) == 30
    for step in range(1, 30, every):
        output = tmp_path / f"from-{step}"
        saved = json.loads(
            (whole.job.output / "checkpoints" / f"step-{step:08d}" / "state.json").read_text(encoding="utf-8")
        )
        for kept in {step, saved["best_step"] or step}:
            name = f"checkpoints/step-{kept:08d}"
            shutil.copytree(whole.job.output / name, output / name)
        (output / "history.jsonl").write_text("".join(lines[:step]), encoding="utf-8")
        run = replace(whole, job=replace(whole.job, output=output, train=replace(whole.job.train, keep_last=1)))
        _, encoder = train_here(run)
        assert history(run) == history(whole), step
        assert_equal(encoder.state_dict(), its_encoder.state_dict())
        assert_equal(checkpoint_tensors(run, 30), checkpoint_tensors(whole, 30))


def test_a_finished_run_is_left_as_it_is(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    state, encoder = train_here(run)
    before = (run.job.output / "history.jsonl").read_bytes()
    again, its_encoder = train_here(run)
    assert again == state
    assert (run.job.output / "history.jsonl").read_bytes() == before
    assert_equal(its_encoder.state_dict(), encoder.state_dict())


@pytest.fixture(scope="module")
def finished(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """A run of 4 steps that ended."""
    run = make_run(tmp_path_factory.mktemp("finished") / "run", train={"steps": 4})
    train_here(run)
    return run


@pytest.mark.parametrize(
    ("section", "changed", "named"),
    [
        ("train", {"batch_size": 4}, r"train\.batch_size = 8, now it is 4"),
        ("train", {"lr": 1.0}, r"train\.lr = 0\.005, now it is 1\.0"),
        ("sampling", {"mono": 0.25, "cross": 0.75}, r"sampling\.cross = 0\.5, now it is 0\.75"),
        ("encoder", {"max_query_length": 16}, r"encoder\.max_query_length = None, now it is 16"),
        ("loss", {"learn_temperature": True}, r"loss\.learn_temperature = False, now it is True"),
        ("validation", {"batches": 4}, r"validation\.batches = 2, now it is 4"),
        ("data", {"facts": 90}, "corpus = '[0-9a-f]+', now it is '[0-9a-f]+'"),
    ],
)
def test_another_recipe_is_refused(
    make_run: MakeRun, finished: Prepared, tmp_path: Path, section: str, changed: dict[str, Any], named: str
) -> None:
    other = make_run(
        tmp_path / "other",
        **{"train": {"steps": 6}, section: {"steps": 6} | changed}
        if section == "train"
        else {"train": {"steps": 6}, section: changed},
    )
    moved = replace(other, job=replace(other.job, output=finished.job.output))
    before = (finished.job.output / "history.jsonl").read_bytes()
    with pytest.raises(ValueError, match=named):
        train_here(moved)
    assert (finished.job.output / "history.jsonl").read_bytes() == before


def test_data_that_changed_under_the_same_recipe_is_refused(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(source: Source) -> list[Shard]:
        pairs = [replace(pair, query=pair.query + mark) for pair in pairs_of(replace(source, format="sample"))]
        return [Shard(lambda: pairs, "marked", f"marked {mark}")]

    monkeypatch.setitem(READERS, "marked", find)
    mark = ""
    train_here(make_run(tmp_path / "run", data={"format": "marked"}, train={"steps": 2}))
    mark = " really?"
    with pytest.raises(ValueError, match=r"written with corpus = "):
        train_here(make_run(tmp_path / "run", data={"format": "marked"}, train={"steps": 4}))


def test_another_tokenizer_in_the_folder_is_refused(make_run: MakeRun, small_run: Prepared, tmp_path: Path) -> None:
    named = {"encoder": {"name": str(tmp_path / "encoder")}}
    shutil.copytree(small_run.initial.name, tmp_path / "encoder")
    train_here(make_run(tmp_path / "run", **named, train={"steps": 2}))
    file = tmp_path / "encoder" / "tokenizer.json"
    description = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(description | {"normalizer": {"type": "Lowercase"}}), encoding="utf-8")
    load_tokenizer.cache_clear()
    with pytest.raises(ValueError, match=r"was written with tokenizer = '[0-9a-f]+', now it is '[0-9a-f]+'"):
        train_here(make_run(tmp_path / "run", **named, train={"steps": 4}))


def test_what_may_change(make_run: MakeRun, tmp_path: Path, cache: Path) -> None:
    train_here(make_run(tmp_path / "run", train={"steps": 3}))
    scaling = {"num_workers": 2, "cpus_per_worker": 3}
    state, _ = train_here(make_run(tmp_path / "run", train={"steps": 5, "log_every": 1}, scaling=scaling))
    assert (state["stopped"], state["step"]) == ("end", 5)
    recipe = small_recipe(tmp_path, cache)
    assert fixed(recipe) == fixed(replace(recipe, output="x", cache="y", resume=True, dry_run=True))
    assert fixed(recipe) == fixed(replace(recipe, scaling=ScalingConfig(num_workers=4)))
    assert fixed(recipe) != fixed(replace(recipe, seed=1))
    for known in ({}, {"sources": (Source(license="MIT"),), "validation": Source(license="MIT")}):
        unknown = {name: (Source(),) if name == "sources" else Source() for name in known}
        licensed, plain = (replace(recipe, data=DataConfig(**data)) for data in ({"license": "MIT", **known}, unknown))
        assert fixed(licensed) == fixed(plain)


def fixed(recipe: Recipe) -> dict[str, Any]:
    return fixed_part(public(recipe), TRAINING_MAY_CHANGE)


@pytest.mark.parametrize("steps", [4, 5])
def test_steps_that_lie_behind_are_refused(make_run: MakeRun, tmp_path: Path, steps: int) -> None:
    run = make_run(tmp_path / "run", validation={"every": 100})
    train_here(run, **at_step(4, (run.job.output / STOP).touch))
    with pytest.raises(ValueError, match=f"train.steps is {steps}, and the newest checkpoint is at step 5"):
        train_here(replace(run, job=replace(run.job, train=replace(run.job.train, steps=steps))))


# Stops


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_examples_and_writes_nothing(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    """In step 2 the losses of the examples 3 and 6 are not finite."""
    run = make_run(tmp_path / "run", train={"checkpoint_every": 1})
    poison = torch.tensor([1, 1, 1, bad, 1, 1, bad, 1])
    calls = []

    def poisoned(*arguments: Any) -> dict[str, Tensor]:
        calls.append(1)
        return {k: v * (poison if len(calls) == 3 else 1) for k, v in add_gradients(*arguments).items()}

    monkeypatch.setattr(train_module, "add_gradients", poisoned)
    with pytest.raises(FloatingPointError, match=r"step 2: .* loss of 2 of 8 examples is not finite") as raised:
        train_here(run)
    assert_named(run, 2, [3, 6], str(raised.value))
    assert [line["step"] for line in history(run)] == [0, 1]
    assert checkpoints(run) == ["step-00000001", "step-00000002"]


def assert_named(run: Prepared, step: int, items: list[int], message: str) -> None:
    """The message names these examples of a step, with file, line and texts, and no other."""
    plan = run.job.source.plan()
    batch = plan.batch(step)
    for item in range(len(batch.groups)):
        query, passage = (plan.corpus.pair(int(rows[item])) for rows in (batch.query_row, batch.passage_row))
        for text in (
            f"{place(query['file'], query['line'])}: query",
            f"query {query['query'][:200]!r}, passage {passage['passage']['text'][:200]!r}",
        ):
            assert (text in message) == (item in items), (item, text)


def test_a_gradient_that_is_not_finite_is_found_where_the_loss_is_finite(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")

    def poisoned(model: DualEncoder, *arguments: Any) -> dict[str, Tensor]:
        weight = next(model.parameters())
        weight.register_hook(lambda gradient: gradient * float("nan"))
        return add_gradients(model, *arguments)

    monkeypatch.setattr(train_module, "add_gradients", poisoned)
    with pytest.raises(FloatingPointError, match=r"step 0: .*the losses are finite and the gradient is not"):
        train_here(run)
    assert history(run) == []
    assert checkpoints(run) == []


def test_out_of_memory_names_the_batch_and_what_helps(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "run")
    monkeypatch.setattr(train_module, "add_gradients", lambda *_: torch.empty(1 << 50))
    with pytest.raises(MemoryError) as raised:
        train_here(run)
    longest = run.job.source.batch(0).lengths.max()
    for words in ("step 0", "8 pairs", f"{longest} tokens", "train.batch_size", "encoder.max_passage_length"):
        assert words in str(raised.value)
    monkeypatch.setattr(train_module, "add_gradients", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="size"):
        train_here(run)


def test_out_of_memory_while_validating_names_that_batch(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Validation, "_loss", lambda *_: torch.empty(1 << 50))
    words = r"in step 0 of validation, with 4 pairs .* Lower validation\.batch_size or encoder\.max_passage_length \("
    with pytest.raises(MemoryError, match=words):
        train_here(make_run(tmp_path / "run"))


def test_a_checkpoint_that_cannot_be_removed_does_not_end_the_run(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove = shutil.rmtree

    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if path.name == "step-00000001" and not ignore_errors:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")
        remove(path, ignore_errors=ignore_errors)

    run = make_run(tmp_path / "run", train={"checkpoint_every": 1, "keep_last": 1})
    monkeypatch.setattr(ckpt.shutil, "rmtree", refuse)
    assert train_here(run)[0]["stopped"] == "end"
    assert "could not be removed: [Errno 39] Directory not empty" in (run.job.output / EVENTS).read_text(
        encoding="utf-8"
    )
    assert checkpoints(run)[0] == "step-00000001"
    assert not {"step-00000002", "step-00000003"} & set(checkpoints(run)), "the others go all the same"


def test_a_cache_that_goes_away_while_a_run_goes_on(
    make_run: MakeRun, whole: dict[float, tuple[Prepared, Encoder]], tmp_path: Path
) -> None:
    """Nor is anything written there, so that it may become read-only; the next start reads the data again."""
    cache, output = tmp_path / "cache", tmp_path / "run"
    recipe = small_recipe(output, cache, train=CONSTANT)
    output.mkdir()
    run = prepare(recipe, output)
    train_here(run, **at_step(2, lambda: shutil.rmtree(cache)))
    assert not cache.exists()
    assert history(run) == history(whole[0.0][0])
    assert prepare(recipe, output).corpus.fingerprint == run.corpus.fingerprint


def test_patience_and_the_best_weights(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Validation losses 3, 2, 2.5, 2 at steps 2, 4, 6, 8: the best is 4, an equal one is no better, 8 is the end."""
    run = make_run(
        tmp_path / "run",
        train={"steps": 20, "checkpoint_every": 100, "keep_last": 1},
        validation={"every": 2, "patience": 2},
    )
    losses = iter([3.0, 2.0, 2.5, 2.0])
    monkeypatch.setattr(Validation, "run", lambda self, model: {"loss": next(losses)})
    state, encoder = train_here(run)
    assert state == {"step": 8, "best_step": 4, "best_value": 2.0, "waited": 2, "stopped": "patience"}
    assert checkpoints(run) == ["step-00000004", "step-00000008"]
    best, last = checkpoint_tensors(run, 4), checkpoint_tensors(run, 8)
    name = "encoder.backbone.embeddings.word_embeddings.weight"
    assert not torch.equal(best[name], last[name])
    for key, weight in encoder.state_dict().items():
        assert torch.equal(weight, best[f"encoder.{key}"])
    assert train_here(run)[0] == state, "a run that ran out of patience does not go on"


def test_patience_counts_on_after_a_stop(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(tmp_path / "run", train={"steps": 20}, validation={"every": 2, "patience": 2})
    losses = iter([1.0, 2.0, 3.0])
    monkeypatch.setattr(Validation, "run", lambda self, model: {"loss": next(losses)})
    train_here(run, **at_step(3, (run.job.output / STOP).touch))
    (run.job.output / STOP).unlink()
    assert train_here(run)[0] == {"step": 6, "best_step": 2, "best_value": 1.0, "waited": 2, "stopped": "patience"}


# The objective and the optimiser


def test_learned_temperature(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", loss={"learn_temperature": True})
    train_here(run)
    shown = [line["temperature"] for line in history(run)]
    assert len(set(shown)) == 8
    assert shown[0] == pytest.approx(0.05, rel=0.01)
    tensors = checkpoint_tensors(run, 8)
    assert float(tensors["log_temperature"].exp()) == pytest.approx(shown[-1], rel=1e-6)
    assert "log_temperature|exp_avg" in tensors


def test_fixed_temperature(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", loss={"temperature": 0.1}, train={"steps": 2})
    train_here(run)
    assert [line["temperature"] for line in history(run)] == pytest.approx([0.1, 0.1])


def test_weight_decay_is_for_matrices(small_run: Prepared) -> None:
    model = DualEncoder(Encoder.load(small_run.initial), LossConfig(learn_temperature=True))
    optimizer = train_module._optimizer(model, 0.3)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay.pop(id(model.log_temperature)) == 0
    for name, parameter in model.encoder.named_parameters():
        plain = "LayerNorm" in name or name.endswith("bias")
        assert decay.pop(id(parameter)) == (0 if plain else 0.3), name
    assert decay == {}


def test_learning_rates() -> None:
    linear = TrainConfig(warmup_steps=4, lr=1.0)
    rates = [0.25, 0.5, 0.75, 1.0, 1.0, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert [linear.lr_at(step, range(11)) for step in range(10)] == pytest.approx(rates)
    constant = TrainConfig(warmup_steps=2, lr=0.1, schedule="constant")
    assert [constant.lr_at(step, range(5)) for step in range(4)] == pytest.approx([0.05, 0.1, 0.1, 0.1])
    assert TrainConfig(warmup_steps=0, lr=1.0).lr_at(0, range(3)) == 1.0
    short = TrainConfig(warmup_steps=10, lr=1.0)
    assert [short.lr_at(step, range(3)) for step in range(2)] == pytest.approx([0.1, 0.2])


def test_learning_rates_fall_with_tokens() -> None:
    """Steps of 10, 30, 20, 40 and 10 tokens, the first of them warm-up: 100 are left after it, then 70, 50, 10."""
    tokens = TrainConfig(warmup_steps=1, lr=2.0)
    rates = [tokens.lr_at(step, [0, 10, 40, 60, 100, 110]) for step in range(5)]
    assert rates == [2.0, 2.0, 1.4, 1.0, 0.2]


def test_learning_rates_rise_with_tokens() -> None:
    """With `warmup_ratio` they rise to the first half of 100 tokens, whether a step has 10 tokens or 20."""
    half = TrainConfig(warmup_ratio=0.5, lr=2.0)
    assert [half.lr_at(step, [0, 10, 40, 60, 100]) for step in range(4)] == pytest.approx([0.4, 1.6, 2.0, 1.6])
    short, long = range(0, 101, 10), range(0, 101, 20)
    rising = [half.lr_at(step, short) for step in range(5)]
    assert [half.lr_at(step, long) for step in range(2)] == pytest.approx([rising[1], rising[3]])
    falling = [half.lr_at(step, long) for step in (3, 4)]
    assert falling == pytest.approx([half.lr_at(step, short) for step in (6, 8)])
    by_steps, same = TrainConfig(warmup_steps=2, lr=1.0), TrainConfig(warmup_ratio=0.25, lr=1.0)
    assert [same.lr_at(n, range(9)) for n in range(8)] == [by_steps.lr_at(n, range(9)) for n in range(8)]
    with pytest.raises(ValueError, match=r"train\.warmup_ratio is 1\.0: it must be at least 0 and below 1"):
        TrainConfig(warmup_ratio=1.0)


def test_a_run_that_ends_within_its_warm_up_says_so(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", train={"steps": 1, "warmup_steps": 4})
    train_here(run)
    events = (run.job.output / "events.jsonl").read_text(encoding="utf-8")
    assert "The run has 1 step, fewer than train.warmup_steps (4)" in events
    assert "only rises, to 25% of train.lr. Set train.warmup_ratio, such as 0.1, or train longer" in events
    assert not TrainConfig(warmup_steps=4).too_short(4)
    assert not TrainConfig(warmup_ratio=0.5).too_short(1)


def test_learning_rates_are_those_used(make_run: MakeRun, tmp_path: Path) -> None:
    """The first step of Adam moves every weight that has a gradient by the learning rate."""
    run = make_run(tmp_path / "run", train={"steps": 4, "weight_decay": 0.0, "checkpoint_every": 1, "keep_last": 9})
    train_here(run)
    assert [line["lr"] for line in history(run)] == pytest.approx([2.5e-3, 5e-3, 5e-3, 2.5e-3])
    name = "encoder.backbone.encoder.layer.0.output.dense.weight"
    moved = checkpoint_tensors(run, 1)[name] - Encoder.load(run.initial).state_dict()[name.removeprefix("encoder.")]
    assert float(moved.abs().median()) == pytest.approx(2.5e-3, rel=1e-3)


def with_negatives(source: Source) -> list[Shard]:
    """The sample, each pair with the passages of the next two facts as hard negatives."""
    pairs = pairs_of(replace(source, format="sample"))
    count = len(source.languages or ())
    others = [[pairs[(place + count * k) % len(pairs)].passage for k in (1, 2)] for place in range(len(pairs))]
    found = [replace(pair, negatives=tuple(two)) for pair, two in zip(pairs, others, strict=True)]
    return [Shard(lambda: found, "negatives", "negatives")]


def test_a_number_of_tokens_with_negatives_and_translations(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops with the step that reaches it; resumed, bit for bit the same; the learning rate falls with the tokens."""
    monkeypatch.setitem(READERS, "negatives", with_negatives)
    sections: dict[str, dict[str, Any]] = {
        "data": {"format": "negatives"},
        "sampling": {"negatives": 2, "translations": Translations(passage=2)},
        "loss": {"multilingual": Multilingual(weight=1.0)},
        "train": {"steps": None, "tokens": 30_000},
    }
    whole, killed = (make_run(tmp_path / name, **sections) for name in ("whole", "killed"))
    (state, encoder), lines = train_here(whole), history(whole)
    tokens = [line["tokens"] for line in lines]
    assert len(tokens) == state["step"] > 5
    assert sum(tokens[:-1]) < 30_000 <= sum(tokens)
    assert [line["terms"].keys() for line in lines] == [{"info_nce", "multilingual"}] * len(lines)
    assert [line["lr"] for line in lines[:2]] == [2.5e-3, 5e-3]  # two steps of warm-up
    assert lines[-1]["lr"] == pytest.approx(5e-3 * tokens[-1] / sum(tokens[2:]))
    with pytest.raises(KeyboardInterrupt):
        train_here(killed, **at_step(4, die))
    again, resumed = train_here(killed)
    assert again == state
    assert history(killed) == lines
    assert_equal(resumed.state_dict(), encoder.state_dict())


def test_arms_of_equal_tokens(make_run: MakeRun, tmp_path: Path) -> None:
    """A batch with translations has more tokens, so fewer steps; the arms stop within one step of each other."""
    ends = {}
    for name, sampling in {
        "X-X-mono": {"mono": 1, "cross": 0},
        "sum": {"mono": 0, "cross": 0, "both": 1},
        "translations": {"mono": 1, "cross": 0, "translations": Translations(passage=1)},
    }.items():
        run = make_run(tmp_path / name, sampling=sampling, train={"steps": None, "tokens": 6000})
        ends[name] = (run.job.steps, run.job.tokens[-1], max(np.diff(run.job.tokens)))
    assert ends["translations"][0] < ends["X-X-mono"][0]
    most = max(step for _, _, step in ends.values())
    assert all(6000 <= total < 6000 + most for _, total, _ in ends.values())


def test_a_run_has_one_length() -> None:
    with pytest.raises(ValueError, match=r"train\.steps is 5 and train\.tokens is 7: give only one of them"):
        TrainConfig(steps=5, tokens=7)
    with pytest.raises(ValueError, match=r"train\.tokens is 0: it must be at least 1"):
        TrainConfig(tokens=0)


def test_hard_negatives(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(READERS, "negatives", with_negatives)
    run = make_run(tmp_path / "run", data={"format": "negatives"}, sampling={"negatives": 2}, train={"steps": 4})
    batch = run.job.source.batch(0)
    assert len(batch.lengths) == 8 * 4
    assert len(batch.passage_group) == 8 * 3
    model = DualEncoder(Encoder.load(run.initial).double(), LossConfig()).eval()
    loss = batch_loss(model, batch, CPU)
    embeddings, temperature = model(torch.from_numpy(batch.ids.copy()), torch.from_numpy(batch.lengths.copy()))
    for n, query in enumerate(embeddings[:8]):
        group = batch.passage_group
        kept = [p for p in range(24) if p == n or group[p] != group[n]]
        scores = embeddings[8:][kept] @ query / temperature
        torch.testing.assert_close(loss[n], scores.logsumexp(0) - scores[kept.index(n)], rtol=1e-9, atol=1e-12)
    state, _ = train_here(run)
    assert (state["stopped"], state["step"]) == ("end", 4)


@pytest.mark.filterwarnings("error:.*checkpointing_enable.*:FutureWarning")
def test_gradient_checkpointing_changes_no_loss(make_run: MakeRun, tmp_path: Path, float64: Path) -> None:
    encoder = {"name": str(float64), "dropout": 0.1}
    runs = [
        make_run(tmp_path / str(on), train={"steps": 3, "gradient_checkpointing": on}, encoder=encoder)
        for on in (False, True)
    ]
    for run in runs:
        train_here(run)
    plain, saving = ([line["loss"] for line in history(run)] for run in runs)
    assert saving == pytest.approx(plain, rel=1e-9)


@pytest.mark.parametrize("there", [True, False])
def test_bfloat16_is_near(make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Embeddings are near those of float32; the loss is computed from them in float32."""
    monkeypatch.setattr(train_module, "multiplies_bfloat16", lambda: there)
    runs = [make_run(tmp_path / str(on), train={"steps": 2, "bf16": on}) for on in (False, True)]
    for run in runs:
        train_here(run)
    batch, model = runs[0].job.source.batch(0), DualEncoder(Encoder.load(runs[0].initial), LossConfig()).train()
    embeddings = [embed(model, *to_torch(batch, CPU), bf16=on)[0].detach().double() for on in (False, True)]
    assert (embeddings[0] * embeddings[1]).sum(dim=1).min() > 0.99
    for run, (query_BD, passage_BD) in zip(runs, (of.split(8) for of in embeddings), strict=True):
        expected = torch.nn.functional.cross_entropy(
            query_BD @ passage_BD.T / model.read_temperature(), torch.arange(8)
        )
        assert history(run)[0]["loss"] == pytest.approx(float(expected), rel=1e-5)
    weights, others = (checkpoint_tensors(run, 2) for run in runs)
    assert not all(torch.equal(weights[name], others[name]) for name in weights)
    assert ["this CPU has no bfloat16" in events(run) for run in runs] == [False, not there]


# Ranks


def train_on_ranks(runs: list[tuple[Job, bool]], initial: EncoderConfig) -> None:
    """Trains each job; where so marked, stopped by a file at step 5 and resumed."""
    for job, interrupted in runs:
        if interrupted:
            stop = job.output / STOP
            options = at_step(5, lambda stop=stop: stop.touch() if rank() == 0 else None)
            assert train(job, Encoder.load(initial), CPU, **options)["stopped"] == "signal"
            barrier()
            if rank() == 0:
                stop.unlink()
            barrier()
        assert train(job, Encoder.load(initial), CPU)["stopped"] == ("patience" if job.validation.patience else "end")
        assert dist.is_initialized()


TWELVE = {"steps": 12, "checkpoint_every": 100, "lr": 1e-3}


@pytest.fixture(scope="module")
def by_ranks(
    make_run: MakeRun, on_ranks: Callable[..., None], tmp_path_factory: pytest.TempPathFactory, float64: Path
) -> dict[str, Prepared]:
    """The same 12 steps in this process and on 2 and 4 ranks; on 2 ranks also interrupted, and without progress.

    On 4 ranks also with all views.
    """
    folder = tmp_path_factory.mktemp("ranks")
    names = ("1", "2", "2 interrupted", "4")
    same = {"encoder": {"name": str(float64)}, "loss": {"learn_temperature": True}}
    runs = {name: make_run(folder / name, train=TWELVE, **same) for name in names}
    stuck = {"train": TWELVE | {"lr": 0.0}, "validation": {"every": 2, "patience": 2}}
    runs["2 impatient"] = make_run(folder / "2 impatient", **stuck, **same)
    initial = runs["1"].initial
    train_here(runs["1"])
    on_two = [(runs["2"].job, False), (runs["2 interrupted"].job, True), (runs["2 impatient"].job, False)]
    on_ranks(2, train_on_ranks, on_two, initial)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(READERS, "negatives", with_negatives)
        runs["4 everything"] = make_run(folder / "4 everything", encoder=same["encoder"], **EVERYTHING)
    on_ranks(4, train_on_ranks, [(runs["4"].job, False), (runs["4 everything"].job, False)], initial)
    return runs


@pytest.mark.parametrize("ranks", ["2", "4"])
def test_any_number_of_ranks_trains_alike(by_ranks: dict[str, Prepared], ranks: str) -> None:
    ours, wanted = history(by_ranks[ranks]), history(by_ranks["1"])
    assert [line["world_size"] for line in ours] == [int(ranks)] * 12
    assert [line["step"] for line in ours] == list(range(12))
    for key in ("example_ids_sha256", "kind", "lr"):
        assert [line[key] for line in ours] == [line[key] for line in wanted]
    assert len({line["example_ids_sha256"] for line in wanted}) == 12
    for key in ("loss", "grad_norm", "temperature"):
        assert [line[key] for line in ours] == pytest.approx([line[key] for line in wanted], rel=1e-9), key
    for one, two in zip(ours, wanted, strict=True):
        assert one.get("validation") == (pytest.approx(two["validation"], rel=1e-9) if "validation" in two else None)


def test_an_interrupted_run_on_two_ranks_ends_as_an_uninterrupted_one(by_ranks: dict[str, Prepared]) -> None:
    assert history(by_ranks["2 interrupted"]) == history(by_ranks["2"])
    assert_equal(checkpoint_tensors(by_ranks["2 interrupted"], 12), checkpoint_tensors(by_ranks["2"], 12))


def test_two_ranks_lose_patience_together(by_ranks: dict[str, Prepared]) -> None:
    """Validated after 2, 4 and 6 steps; that the group came to its end says that the second rank stopped, too."""
    run = by_ranks["2 impatient"]
    assert len(history(run)) == 6
    assert checkpoints(run) == ["step-00000002", "step-00000004", "step-00000006"]


def stop_on_rank_1(job: Job, initial: EncoderConfig, poison: bool, folder: str) -> None:
    """In step 2 rank 1 alone has a loss that is not finite, or is asked to stop; each rank writes how it ended."""
    steps: list[int] = []

    def poisoned(*arguments: Any) -> dict[str, Tensor]:
        bad = torch.tensor([1.0, 1, float("nan"), 1]) if (rank(), len(steps)) == (1, 3) else 1.0
        return {name: value * bad for name, value in add_gradients(*arguments).items()}

    def stream(*arguments: Any) -> Iterator[TokenBatch]:
        for batch in local_stream(*arguments):
            if batch.rank == rank() and len(batch.example) == 4 and arguments[4] == 2:
                steps.append(batch.step)
            yield batch

    if poison:
        train_module.add_gradients = poisoned
    try:
        ended = str(train(job, Encoder.load(initial), CPU, stream, lambda: (rank(), steps) == (1, [0, 1, 2])))
    except FloatingPointError as error:
        ended = str(error)
    (Path(folder) / f"{rank()}.txt").write_text(ended, encoding="utf-8")


@pytest.mark.parametrize("poison", [True, False])
def test_what_one_rank_meets_ends_all_at_the_same_step(
    make_run: MakeRun, on_ranks: Callable[..., None], tmp_path: Path, poison: bool
) -> None:
    run = make_run(tmp_path / "run", train={"checkpoint_every": 1})
    on_ranks(2, stop_on_rank_1, run.job, run.initial, poison, str(tmp_path))
    first, second = ((tmp_path / f"{number}.txt").read_text(encoding="utf-8") for number in (0, 1))
    assert first == second
    if poison:
        assert_named(run, 2, [6], first)
        assert checkpoints(run) == ["step-00000001", "step-00000002"]
        assert len(history(run)) == 2
    else:
        assert "'step': 3" in first
        assert "'stopped': 'signal'" in first
        assert checkpoints(run) == ["step-00000002", "step-00000003"]


EVERYTHING: dict[str, dict[str, Any]] = {
    "data": {"format": "negatives"},
    "train": TWELVE | {"steps": None, "tokens": 24_000},
    "sampling": {
        "negatives": 2,
        "mono": 0.2,
        "cross": 0.2,
        "both": 0.6,
        "translations": Translations(passage=2, query=1),
        "noise": Noise(probability=0.5),
    },
    "loss": {"multilingual": Multilingual(weight=1), "learn_temperature": True},
}


def test_all_views_on_any_number_of_ranks_and_after_a_resume(
    make_run: MakeRun,
    on_ranks: Callable[..., None],
    by_ranks: dict[str, Prepared],
    tmp_path: Path,
    float64: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With hard negatives: the same batches and terms on 1, 2 and 4 ranks, to the same number of tokens; resumed, bit
    for bit the same.
    """
    monkeypatch.setitem(READERS, "negatives", with_negatives)
    runs = {
        name: make_run(tmp_path / name, encoder={"name": str(float64)}, **EVERYTHING)
        for name in ("1", "2", "2 interrupted")
    }
    train_here(runs["1"])
    on_ranks(2, train_on_ranks, [(runs["2"].job, False), (runs["2 interrupted"].job, True)], runs["1"].initial)
    wanted = history(runs["1"])
    assert {line["kind"] for line in wanted} == {"mono", "cross", "both"}
    assert sum(line["tokens"] for line in wanted[:-1]) < 24_000 <= sum(line["tokens"] for line in wanted)
    for run in (runs["2"], by_ranks["4 everything"]):
        for one, two in zip(history(run), wanted, strict=True):
            assert [one[key] for key in ("example_ids_sha256", "tokens", "lr")] == [
                two[key] for key in ("example_ids_sha256", "tokens", "lr")
            ]
            assert one["terms"] == pytest.approx(two["terms"], rel=1e-9)
            assert two["loss"] == pytest.approx(two["terms"]["info_nce"] + two["terms"]["multilingual"], rel=1e-12)
    assert history(runs["2 interrupted"]) == history(runs["2"])
    last = [checkpoint_tensors(runs[name], len(wanted)) for name in ("2 interrupted", "2")]
    assert_equal(*last)
    plain = make_run(tmp_path / "plain", train=TWELVE, encoder={"name": str(float64)})
    train_here(plain)
    assert all("terms" not in line for line in history(plain))


def test_a_term_that_is_not_info_nce_alone_is_written_down(make_run: MakeRun, tmp_path: Path) -> None:
    loss = {"info_nce": InfoNCE(weight=0.0), "multilingual": Multilingual(weight=2.0)}
    run = make_run(tmp_path, train={"steps": 2}, loss=loss, sampling={"translations": Translations(passage=1)})
    train_here(run)
    for line in history(run):
        assert line["loss"] == pytest.approx(2 * line["terms"]["multilingual"], rel=1e-6)
        assert list(line["terms"]) == ["multilingual"]


def train_some(job: Job, initial: EncoderConfig, until: int) -> None:
    """Trains to `until`, where it is asked to stop, or to the end."""
    train(job, Encoder.load(initial), CPU, **at_step(until - 1, lambda: rank() or (job.output / STOP).touch()))


@pytest.mark.parametrize("ranks", [(2, 1, 2), pytest.param((4, 2, 4), marks=pytest.mark.slow)])
def test_other_numbers_of_ranks_go_on_with_the_same_batches(
    make_run: MakeRun,
    on_ranks: Callable[..., None],
    tmp_path: Path,
    by_ranks: dict[str, Prepared],
    float64: Path,
    ranks: tuple[int, ...],
) -> None:
    same = {"encoder": {"name": str(float64)}, "loss": {"learn_temperature": True}}
    run = make_run(tmp_path / "run", train=TWELVE, **same)
    for number, until in zip(ranks, (4, 8, 99), strict=True):
        start = on_ranks if number > 1 else lambda _, function, *arguments: function(*arguments)
        start(number, train_some, run.job, run.initial, until)
        (run.job.output / STOP).unlink(missing_ok=True)
    ours, wanted = history(run), history(by_ranks[str(ranks[0])])
    assert [line["world_size"] for line in ours] == [number for number in ranks for _ in range(4)]
    assert [line["example_ids_sha256"] for line in ours] == [line["example_ids_sha256"] for line in wanted]
    assert [line["loss"] for line in ours] == pytest.approx([line["loss"] for line in wanted], rel=1e-9)


def test_the_state_beside_the_weights(finished: Prepared) -> None:
    folder = finished.job.output / "checkpoints" / "step-00000004"
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    assert state.pop("identity") == finished.job.identity
    assert state.keys() == {"step", "best_step", "best_value", "waited", "stopped"}
