"""Files and folders that are whole or not there, whatever happens to their writer."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers import ROOT
from safetensors.torch import save_file

from hybridir.runtime.durable import made_once, replace_text, replaced, replaced_folder
from hybridir.runtime.history import History, note
from hybridir.runtime.owner import OWNER, WRITER, own, owned, writing
from hybridir.runtime.plain_yaml import read_yaml
from hybridir.runtime.secrets import errors_masked
from hybridir.tracking.machine import Sampler
from hybridir.tracking.state import only_writer


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    for text in ("old", "new"):
        with replaced(file) as written:
            written.write_text(text, encoding="utf-8")
        assert file.read_text(encoding="utf-8") == text
    with pytest.raises(OSError, match="disk"), replaced(file) as written:  # noqa: PT012
        written.write_text("half", encoding="utf-8")
        raise OSError("disk full")
    assert file.read_text(encoding="utf-8") == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_is_made_once_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "tokens"
    with pytest.raises(ValueError, match="bad"), made_once(folder) as work:  # noqa: PT012
        assert work is not None
        raise ValueError("bad")
    assert not folder.exists()
    (folder.parent / ".tokens.tmp").mkdir()  # left by a process that was killed
    with made_once(folder) as work:
        assert work is not None
        (work / "ids").write_text("1", encoding="utf-8")
    with made_once(folder) as work:
        assert work is None
    assert [path.name for path in folder.parent.iterdir() if path.suffix != ".lock"] == ["tokens"]


def test_an_error_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    for text in ("old", "new"):
        with replaced_folder(folder) as work:
            (work / text).touch()
        assert [file.name for file in folder.iterdir()] == [text]
    with pytest.raises(ValueError, match="bad"), replaced_folder(folder):
        raise ValueError("bad")
    rename = Path.rename

    def fails(path: Path, target: Path) -> Path:
        if path.name == ".model.tmp":
            raise OSError("disk full")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="disk"), replaced_folder(folder):
        pass
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 KB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)], capture_output=True)
    if made.returncode:
        pytest.skip("only an administrator can make a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


LONG = "x" * 100_000


def fill_text(file: Path) -> None:
    replace_text(file, LONG)


def fill_array(file: Path) -> None:
    with replaced(file) as written, open(written, "wb") as opened:
        np.save(opened, np.zeros(100_000))


def fill_arrow(file: Path) -> None:
    with replaced(file) as written, pa.OSFile(str(written), "wb") as opened:
        opened.write(LONG.encode())


def fill_parquet(file: Path) -> None:
    with replaced(file) as written:
        pq.write_table(pa.table({"n": np.random.default_rng(0).random(100_000)}), written)


def fill_folder(folder: Path) -> None:
    with made_once(folder) as work:
        assert work
        np.save(work / "a.npy", np.zeros(100_000))


def fill_weights(folder: Path) -> None:
    with replaced_folder(folder) as work:
        save_file({"a": torch.zeros(100_000)}, work / "model.safetensors")


def fill_history(file: Path) -> None:
    History(file.parent, 0).append({"step": 0, "text": LONG})


def fill_events(file: Path) -> None:
    note(file.parent, LONG)


@pytest.mark.parametrize(
    ("name", "fill"),
    [
        *(("a", fill) for fill in (fill_text, fill_array, fill_arrow, fill_parquet, fill_folder, fill_weights)),
        *(("history.jsonl", fill_history), ("events.jsonl", fill_events)),
    ],
)
def test_a_disk_that_fills_is_told_with_the_place_and_what_to_do(
    name: str, fill: Callable[[Path], None], small_disk: Path
) -> None:
    file = small_disk / name
    told = rf"error: \[Errno 28\] {file} cannot be written: No space left on device .* make room there .* --resume"
    with pytest.raises(SystemExit, match=f"^{told}[^\\n]*$"), errors_masked(OSError):
        fill(file)
    assert {path.name for path in small_disk.iterdir()} <= {"history.jsonl", "events.jsonl", "a.lock"}


def test_a_disk_that_fills_elsewhere_is_told() -> None:
    with pytest.raises(SystemExit, match=r"No space left.*\na disk is full: make room where --output"):  # noqa: SIM117
        with errors_masked(), open("/dev/full", "w", encoding="utf-8") as file:
            file.write("x")


# Folders that somebody else made


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file elsewhere that no attack may change."""
    file = tmp_path / "elsewhere" / "canary"
    file.parent.mkdir()
    file.write_text("precious\n", encoding="utf-8")
    yield file
    assert file.read_text(encoding="utf-8") == "precious\n"
    assert list(file.parent.iterdir()) == [file]


APPENDING: dict[str, Callable[[Path], object]] = {
    OWNER: lambda output: own(output).__enter__(),
    WRITER: lambda output: writing(output).__enter__(),
    "history.discarded.jsonl": lambda output: History(output, 0),
    "events.jsonl": lambda output: note(output, "planted"),
    "system.jsonl": lambda output: Sampler(output / "system.jsonl", 1.0),
    "tracking.lock": lambda output: only_writer(output).acquire(),
}
"""What is changed in place or locked, and what does so."""


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
@pytest.mark.parametrize("name", APPENDING)
def test_what_is_changed_in_place_is_no_link(name: str, link: Callable[..., None], canary: Path) -> None:
    output = canary.parents[1] / "run"
    output.mkdir()
    if name == "history.discarded.jsonl":
        (output / "history.jsonl").write_text('{"step": 0, "attempt": 1}\n', encoding="utf-8")
    link(output / name, canary)
    with pytest.raises((ValueError, OSError), match=r"is a link or no ordinary file.*remove it"):
        APPENDING[name](output)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    for name in (OWNER, "events.jsonl"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} is (a link or no ordinary file|a pipe)"):
            APPENDING[name](tmp_path)
        (tmp_path / name).unlink()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "run" / "seed-0").mkdir(parents=True)
    (tmp_path / "run" / "gone").symlink_to("nowhere")  # is replaced like a file
    with own(tmp_path / "run"):
        pass
    (tmp_path / "run" / "seed-0" / "results.json").symlink_to(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"results\.json is a pipe, socket or device: remove it"):
        own(tmp_path / "run").__enter__()
    with pytest.raises(ValueError, match="pipe is no ordinary file: remove it"):
        read_yaml(tmp_path / "pipe")


@pytest.mark.parametrize("name", [*APPENDING, "page.html"])
def test_a_folder_in_the_place_of_a_file_is_named(name: str, tmp_path: Path) -> None:
    """It stays as it is, and nothing is left beside it."""
    if name == "history.discarded.jsonl":
        (tmp_path / "history.jsonl").write_text('{"step": 0, "attempt": 1}\n', encoding="utf-8")
    (tmp_path / name / "inner").mkdir(parents=True)
    before = {*tmp_path.iterdir()}
    with pytest.raises(
        (ValueError, OSError), match=f"{name} is a folder, but a file is to be written there: remove it"
    ):
        APPENDING.get(name, lambda output: replace_text(output / name, "new"))(tmp_path)
    assert {*tmp_path.iterdir()} == before


def test_an_owner_that_is_asked_for_changes_nothing(canary: Path) -> None:
    output = canary.parents[1] / "run"
    output.mkdir()
    (output / OWNER).symlink_to(canary)
    with pytest.raises(ValueError, match="remove it"):
        owned(output)


@pytest.mark.parametrize("name", ["plots", "checkpoints", "seed-0/model"])
def test_a_folder_that_leads_out_of_the_output_is_refused(name: str, canary: Path) -> None:
    output = canary.parents[1] / "run"
    (output / name).parent.mkdir(parents=True)
    (output / name).symlink_to(canary.parent)
    with pytest.raises(ValueError, match=f"{name} is a symbolic link to another folder: remove it"):
        own(output).__enter__()


MAKE = """
import sys, time
from pathlib import Path
from hybridir.runtime.durable import made_once

with made_once(Path(sys.argv[1])) as work:
    print("made" if work else "there")
    if work:
        (work / "file").write_text("x")
        time.sleep(0.5)
"""


def test_of_several_processes_one_makes_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", MAKE, str(tmp_path / "folder")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)]
    assert sorted(process.communicate()[0].strip() for process in running) == ["made", "there", "there", "there"]
