"""Checkpoints: whole or not there, damage of every part is found, nothing is lost on the way through a file."""

import errno
import gc
import multiprocessing as mp
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from helpers import read_lines, steady, train_here
from torch import nn

from hybridir.model.config import EncoderConfig
from hybridir.model.encoder import Encoder
from hybridir.runs.prepare import Prepared
from hybridir.training import checkpoint as ckpt
from hybridir.training.loop import Job, train

Trained = tuple[nn.Module, torch.optim.Optimizer]
PARTS = ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    """Flips one bit in the middle; the size stays."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def new(seed: int = 0) -> Trained:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    return model, torch.optim.AdamW(model.parameters(), lr=0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(torch.ones(2, 3)).pow(3).sum().backward()
    optimizer.step()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Checkpoints of the steps 1 and 2."""
    model, optimizer = new()
    for number in (1, 2):
        step(model, optimizer)
        ckpt.save_checkpoint(tmp_path, number, model, optimizer, {"best_step": 1})
    return tmp_path


def test_newest_is_found(root: Path) -> None:
    said: list[str] = []
    assert ckpt.newest_whole(root, said.append) == root / "step-00000002"
    assert said == []
    assert ckpt.read_state(root / "step-00000002") == {"step": 2, "best_step": 1}
    assert sorted(file.name for file in (root / "step-00000002").iterdir()) == sorted(PARTS)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", [truncate, flip, os.remove])
def test_damage_is_found_and_said(root: Path, part: str, damage: Callable[[Path], None]) -> None:
    damage(root / "step-00000002" / part)
    said: list[str] = []
    assert ckpt.newest_whole(root, said.append) == root / "step-00000001"
    assert len(said) == 1
    assert "step-00000002 is damaged" in said[0]
    assert "trying the one before" in said[0]


def test_a_changed_byte_of_the_manifest_is_found_wherever_it_stands(root: Path) -> None:
    manifest = root / "step-00000002" / "manifest.json"
    whole = manifest.read_bytes()
    for place in range(len(whole)):
        manifest.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert ckpt.find_damage(manifest.parent), f"byte {place}"
    manifest.write_bytes(whole)
    assert ckpt.find_damage(manifest.parent) == ""


def test_all_damaged_is_an_error(root: Path) -> None:
    for name in ("step-00000001", "step-00000002"):
        flip(root / name / "model.safetensors")
    with pytest.raises(ValueError, match=r"every checkpoint in .* is damaged"):
        ckpt.newest_whole(root, print)


def test_what_cannot_be_read_is_not_called_damaged(root: Path) -> None:
    """Storage that fails for a while must not send a run back."""
    weights = root / "step-00000002" / "model.safetensors"
    weights.unlink()
    weights.symlink_to(weights)
    with pytest.raises(OSError, match=r"step-00000002 cannot be read: .* symbolic links.* Fix that"):
        ckpt.newest_whole(root, print)


def test_a_checkpoint_that_was_loaded_can_be_removed(root: Path) -> None:
    """No tensor holds on to its file, which NFS would keep as a file of another name."""
    model, optimizer = new(1)
    ckpt.load_weights(root / "step-00000002", model)
    ckpt.load_optimizer(root / "step-00000002", model, optimizer)
    gc.collect()
    assert "step-00000002" not in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_none_is_none(tmp_path: Path) -> None:
    assert ckpt.newest_whole(tmp_path, print) is None
    assert ckpt.newest_whole(tmp_path / "missing", print) is None


@pytest.mark.parametrize("where", ["hybridir.training.checkpoint._sha256", "hybridir.runtime.durable.Path.rename"])
def test_a_checkpoint_that_is_not_finished_is_not_seen(root: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Its writing is broken off while files are hashed, or just before the folder gets its name."""

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(where, die)
        with pytest.raises(KeyboardInterrupt):
            ckpt.save_checkpoint(root, 3, *new(), {})
    (root / ".step-00000003.tmp").mkdir(exist_ok=True)  # as a kill leaves it
    said: list[str] = []
    assert ckpt.newest_whole(root, said.append) == root / "step-00000002"
    assert said == []
    assert ckpt.save_checkpoint(root, 3, *new(), {}) == ckpt.newest_whole(root, said.append)
    assert not (root / ".step-00000003.tmp").exists()


def test_a_step_can_be_saved_again(root: Path) -> None:
    flip(root / "step-00000002" / "state.json")
    ckpt.save_checkpoint(root, 2, *new(), {"again": True})
    assert ckpt.find_damage(root / "step-00000002") == ""
    assert ckpt.read_state(root / "step-00000002") == {"step": 2, "again": True}


def test_round_trip_is_exact(tmp_path: Path) -> None:
    """Weights, moments and step counts come back bit by bit, so the next step is the same too."""
    model, optimizer = new(seed=1)
    for _ in range(3):
        step(model, optimizer)
    saved = ckpt.save_checkpoint(tmp_path, 3, model, optimizer, {})
    other, its_optimizer = new(seed=2)
    ckpt.load_weights(saved, other)
    ckpt.load_optimizer(saved, other, its_optimizer)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)
        ours, theirs = optimizer.state[one], its_optimizer.state[two]
        assert ours.keys() == theirs.keys() == {"step", "exp_avg", "exp_avg_sq"}
        for key in ours:
            assert torch.equal(ours[key], theirs[key])
            assert ours[key].dtype == theirs[key].dtype
    for pair in ((model, optimizer), (other, its_optimizer)):
        step(*pair)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def save_steps(root: Path, *steps: int) -> None:
    for number in steps:
        ckpt.save_checkpoint(root, number, *new(), {})


def names(root: Path) -> list[str]:
    return sorted(folder.name for folder in root.glob("*"))


def test_prune_keeps_the_last_and_the_best(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, 3, 4)
    ckpt.prune(tmp_path, 4, keep_last=2, best_step=1)
    assert names(tmp_path) == ["step-00000001", "step-00000003", "step-00000004"]
    ckpt.prune(tmp_path, 4, keep_last=1, best_step=4)
    assert names(tmp_path) == ["step-00000004"]


def test_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    (tmp_path / ".step-00000003.tmp").mkdir()
    ckpt.remove_half_written(tmp_path)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_copy_beside_them_is_left_alone(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2)
    shutil.copytree(tmp_path / "step-00000001", tmp_path / "step-00000002-backup")
    assert ckpt.newest_whole(tmp_path, print) == tmp_path / "step-00000002"
    ckpt.prune(tmp_path, 2, keep_last=1, best_step=None)
    assert names(tmp_path) == ["step-00000002", "step-00000002-backup"]


def test_prune_without_a_best(tmp_path: Path) -> None:
    save_steps(tmp_path, 1, 2, 3)
    ckpt.prune(tmp_path, 3, keep_last=2, best_step=None)
    assert names(tmp_path) == ["step-00000002", "step-00000003"]


def test_prune_removes_what_lies_ahead(tmp_path: Path) -> None:
    """The checkpoint of step 20 was damaged and the run went on from 10: 20 must not push 15 out."""
    save_steps(tmp_path, 10, 15, 20)
    flip(tmp_path / "step-00000020" / "model.safetensors")
    ckpt.prune(tmp_path, 15, keep_last=1, best_step=10)
    assert names(tmp_path) == ["step-00000010", "step-00000015"]


# Kills while a checkpoint is written


def train_on(job: Job, initial: EncoderConfig) -> None:
    torch.set_num_threads(1)
    train(job, Encoder.load(initial), torch.device("cpu"))


def half_written(root: Path) -> list[str]:
    return [folder.name for folder in root.glob(".step-*.tmp")]


@pytest.mark.parametrize("kills", [2, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_while_a_run_writes_its_checkpoints(
    make_run: Callable[..., Prepared], tmp_path: Path, kills: int
) -> None:
    """SIGKILLs within the writing of a checkpoint: each attempt goes on from the newest that was whole.

    Only those count that leave a half-written one. 50 are slow; 2 show the same, at fewer moments.
    """
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    config = {"train": {"steps": 30 * kills, "checkpoint_every": 1, "schedule": "constant"}}
    run, whole = (make_run(tmp_path / name, **config) for name in ("run", "whole"))
    root, server = run.job.output / "checkpoints", mp.get_context("forkserver")
    inside = tries = 0
    while inside < kills:
        tries += 1
        before = sorted(folder.name for folder in root.glob("step-*"))
        process = server.Process(target=train_on, args=(run.job, run.initial))
        process.start()
        for _ in range(draw.randint(1, 3)):
            seen = half_written(root)
            while process.is_alive() and (not (now := half_written(root)) or now == seen):
                time.sleep(0.0005)
        time.sleep(draw.uniform(0, 0.01))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "the run came to its end before it was killed so often"
        inside += bool(half_written(root))
        newest = ckpt.newest_whole(root, pytest.fail)
        assert not before or (newest and newest.name >= before[-1]), "what was whole stays"
    print(f"{inside} of {tries} kills left a half-written checkpoint")
    for one in (run, whole):
        train_here(one)
    assert not half_written(root)
    histories = [steady(read_lines(one.job.output / "history.jsonl")) for one in (run, whole)]
    assert histories[0] == histories[1]
    for name in ("model.safetensors", "optimizer.safetensors"):
        ends = [one.job.output / "checkpoints" / f"step-{30 * kills:08d}" / name for one in (run, whole)]
        assert ends[0].read_bytes() == ends[1].read_bytes()


# Storage that does not take more


def large() -> Trained:
    """A model of about a megabyte."""
    model = nn.Linear(512, 512)
    return model, torch.optim.AdamW(model.parameters())


def out_of_room(root: Path, pipe: Connection) -> None:
    """Saves where no file may be larger than a few hundred kilobytes."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18))
    try:
        ckpt.save_checkpoint(root, 3, *large(), {})
    except OSError as error:
        pipe.send((error.errno, str(error)))


def test_a_file_that_does_not_fit_leaves_the_one_before(root: Path) -> None:
    pipe, theirs = mp.Pipe(duplex=False)
    process = mp.get_context("forkserver").Process(target=out_of_room, args=(root, theirs))
    process.start()
    theirs.close()  # so that the end of the process is the end of the pipe
    number, message = pipe.recv()
    process.join()
    assert number == errno.EFBIG
    assert_left_whole(root, message)


@pytest.fixture
def small_disk(root: Path) -> Iterator[Path]:
    """The checkpoints 1 and 2 on a disk of a megabyte."""
    disk = root / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting is not allowed here")
    for name in ("step-00000001", "step-00000002"):
        (root / name).rename(root / f"moved-{name}")
        subprocess.run(["cp", "-r", str(root / f"moved-{name}"), str(disk / name)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_disk_that_takes_no_more(small_disk: Path, how: str) -> None:
    if how == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(OSError, match="cannot be written") as raised:
        ckpt.save_checkpoint(small_disk, 3, *large(), {})
    assert raised.value.errno == (errno.ENOSPC if how == "full" else errno.EROFS)
    assert_left_whole(small_disk, str(raised.value))
    if how == "full":
        assert ckpt.save_checkpoint(small_disk, 3, *new(), {}) == ckpt.newest_whole(small_disk, print), "room again"


def assert_left_whole(root: Path, message: str) -> None:
    """The checkpoint before is whole, nothing is left of the new one, and the message says where and what to do."""
    assert ckpt.newest_whole(root, print) == root / "step-00000002"
    assert not list(root.glob(".step*"))
    for words in (str(root / "step-00000003"), "MB are free", "make room", "--resume"):
        assert words in message
