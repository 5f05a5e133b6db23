"""Files and folders that are whole or not there, whatever happens to their writer."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers import ROOT

from hybridir.runtime.durable import made_once, replaced


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "page.html"
    for text in ("old", "new"):
        with replaced(file) as written:
            written.write_text(text)
        assert file.read_text() == text
    with pytest.raises(OSError, match="disk"), replaced(file) as written:  # noqa: PT012
        written.write_text("half")
        raise OSError("disk full")
    assert file.read_text() == "new"
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_is_made_once_and_whole(tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "tokens"
    with pytest.raises(ValueError, match="bad"), made_once(folder) as work:  # noqa: PT012
        assert work is not None
        raise ValueError("bad")
    assert not folder.exists()
    (folder.parent / "tokens-0123.tmp").mkdir()  # left by a process that was killed
    with made_once(folder) as work:
        assert work is not None
        (work / "ids").write_text("1")
    with made_once(folder) as work:
        assert work is None
    assert [path.name for path in folder.parent.iterdir() if path.suffix != ".lock"] == ["tokens"]


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
