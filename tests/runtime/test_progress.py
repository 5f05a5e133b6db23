"""Progress: within a block too, with the time that is left."""

import re
import time
from collections.abc import Iterator

import numpy as np
import pytest

from hybridir.runtime import progress
from hybridir.runtime.progress import watch_encoding


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
