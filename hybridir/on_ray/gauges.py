"""Gauges for Prometheus: what training, encoding and translating are doing now.

Ray exports them on the metrics port of each node, with its own, as `ray_hybridir_NAME{run="..."}`.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from hybridir.runtime.history import Tail

GAUGES = {
    "step": "steps that are trained",
    "loss": "training loss of the last step",
    "pairs_per_second": "pairs that training takes in a second",
    "texts_encoded": "texts that are encoded",
    "characters_translated": "characters of the texts that are translated",
    "translations_rejected": "translations that a gate has rejected",
}
"""Gauges and their descriptions."""
_EVERY = 5.0
"""Seconds between two reads of a history."""


def show(run: str, **values: float) -> None:
    """Sets gauges, named as in `GAUGES`, of a run."""
    for name, value in values.items():
        _gauge(name).set(value, {"run": run})


@contextmanager
def training_shown(output: Path) -> Iterator[None]:
    """While entered, shows the last line of the history in `output`, in the process that trains as rank 0."""
    tail, ended = Tail(output / "history.jsonl"), threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY):
            lines: list[dict[str, Any]] = []
            while some := tail.read():
                lines = some
            if lines:
                line = lines[-1]
                show(output.name, step=line["step"] + 1, loss=line["loss"], pairs_per_second=line["pairs_per_s"])

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@cache
def _gauge(name: str) -> Any:
    from ray.util.metrics import Gauge

    return Gauge(f"hybridir_{name}", GAUGES[name], ("run",))
