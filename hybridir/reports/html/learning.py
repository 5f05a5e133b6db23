"""The learning curves of a run, from its history."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from hybridir.reports.html.charts import DASHES, Series, axis, lines
from hybridir.reports.html.parts import SETTING_NAMES, Block, Section, Sheet, beside, figure, known
from hybridir.runtime.history import read_history

_MOST = 40
"""The most points of a curve: the loss of more steps is averaged."""


def learning_curves(file: Path) -> Section | None:
    """Training loss by kind of batch and validation loss, and mAP in validation, over steps; `file` is the history."""
    history = list(read_history(file)) if file.exists() else []
    losses, qualities = loss_curves(history), _quality(history)
    if not losses:
        return None
    figures = [_drawn("loss", losses, history)]
    terms = term_curves(history)
    figures += [_drawn("terms of the loss, without weights", terms, history)] if terms else []
    figures += [_drawn("mAP in validation", qualities, history)] if qualities else []
    total = sum(line.get("seconds", 0) for line in history)
    return Section(
        "curves",
        "Learning curves",
        f"Loss of the training batches by their kind, as means over neighbouring steps, and of the fixed validation "
        f"batches. Losses of different kinds do not compare: some batches are harder. {total:,.0f} seconds of steps.",
        [beside(*figures, style="panels wide charts")],
    )


def loss_curves(history: Sequence[dict[str, Any]]) -> list[Series]:
    """A series for each kind of batch, and one for validation, over the number of steps done."""
    kinds = ((line, {f"train, {line['kind']}" if "kind" in line else "train": line["loss"]}) for line in history)
    curves = _binned(kinds, len(history))
    if checked := _validated(history, lambda found: found["loss"]):
        curves["validation"] = checked
    return _series(curves)


def term_curves(history: Sequence[dict[str, Any]]) -> list[Series]:
    """A series for each term of the training loss, without its weight; empty for InfoNCE alone."""
    return _series(_binned(((line, line.get("terms", {})) for line in history), len(history)))


def _binned(
    values: Iterable[tuple[dict[str, Any], dict[str, float]]], steps: int
) -> dict[str, list[tuple[float, float]]]:
    """Points (steps done, mean over neighbouring steps) by name, from lines of a history with their named values."""
    size = -(-steps // _MOST)
    found: dict[str, dict[int, list[float]]] = {}
    for line, named in values:
        for name, value in named.items():
            if known(value):
                found.setdefault(name, {}).setdefault(line["step"] // size, []).append(value)
    return {
        name: [((n + 0.5) * size, fmean(values)) for n, values in sorted(bins.items())] for name, bins in found.items()
    }


def _quality(history: Sequence[dict[str, Any]]) -> list[Series]:
    curves = {
        title: _validated(history, lambda found, name=name: found.get("mAP", {}).get(name))
        for name, title in SETTING_NAMES.items()
    }
    return _series({title: points for title, points in curves.items() if points})


def _validated(history: Iterable[dict[str, Any]], value: Any) -> list[tuple[float, float]]:
    found = ((line["step"] + 1, value(line["validation"])) for line in history if "validation" in line)
    return [(float(step), one) for step, one in found if known(one)]


def _series(curves: dict[str, list[tuple[float, float]]]) -> list[Series]:
    return [
        Series(name=name, n=n, points=points, dash=DASHES[n % len(DASHES)])
        for n, (name, points) in enumerate(curves.items())
    ]


def _drawn(title: str, series: Sequence[Series], history: Sequence[dict[str, Any]]) -> Block:
    x = axis("steps", [0, history[-1]["step"] + 1])
    y = axis(title, [value for one in series for _, value in one.points])
    sheet = Sheet(
        f"learning_{title.split()[0]}", ("curve", "step", title), [(s.name, *at) for s in series for at in s.points]
    )
    return figure(lines(f"{title} by step", series, x, y), sheet=sheet)
