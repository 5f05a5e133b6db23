"""Progress: within a block too, with the time that is left."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hybridir.runtime import progress
from hybridir.runtime.history import History
from hybridir.runtime.progress import Follow, watch_encoding


def test_progress_moves_within_a_block(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One block of 100 texts, of which 25 are embedded when the lines are printed."""
    monkeypatch.setattr(progress, "LOOK", 0.01)
    monkeypatch.setattr(progress, "SECONDS", 0.02)
    within = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal within
        within = 25
        until = time.monotonic() + 20
        while "25 texts" not in (found := capsys.readouterr().out) and time.monotonic() < until:
            time.sleep(0.01)
        assert re.search(r"encoded 25 texts \(25%\), [\d,]+ texts/s, [\d,]+ s left", found)
        within = 0
        yield np.zeros((100, 2))

    assert [len(block) for block in watch_encoding(blocks(), 100, lambda: within)] == [100]
    assert "encoded 100 texts in" in capsys.readouterr().out


def test_slow_steps_are_told_every_ten_seconds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Steps of 4 seconds: one in three is told, though only every twentieth was asked for, and the last."""
    said = {"loss": 1.0, "kind": "mono", "lr": 1e-3, "pairs_per_s": 1.0, "data_wait": 0.0}
    with Follow(tmp_path / "history.jsonl", steps=8, every=20):
        history = History(tmp_path, 0)
        for step in range(8):
            history.append({"step": step, "time": 100.0 + 4 * step} | said)
        history.close()
    found = re.findall(r"step (\d+)/8 .* (\d+) s left", capsys.readouterr().out)
    assert found == [("4", "16"), ("7", "4"), ("8", "0")]
