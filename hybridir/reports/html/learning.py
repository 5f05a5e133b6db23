"""The learning curves of a run, from its history."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from hybridir.evaluation.validation_metrics import METRICS, known_values
from hybridir.reports.html.charts import DASHES, Series, axis, lines
from hybridir.reports.html.parts import Block, Section, Sheet, beside, figure, known, title_of
from hybridir.runtime.history import read_history

_MOST = 40
"""The most points of a curve: the loss of more steps is averaged."""


def learning_curves(file: Path) -> Section | None:
    """Losses by kind of batch and of validation, and its other metrics, over steps; `file` is the history."""
    history = list(read_history(file)) if file.exists() else []
    losses = loss_curves(history)
    if not losses:
        return None
    figures = [_drawn("loss", losses, history, "loss")]
    terms = term_curves(history)
    figures += [_drawn("terms of the loss, without weights", terms, history, "terms")] if terms else []
    for measure, series in quality_curves(history).items():
        figures.append(_drawn(f"{title_of(measure)} in validation", series, history, measure))
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
    if checked := _validated(history).get("loss"):
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


def quality_curves(history: Sequence[dict[str, Any]]) -> dict[str, list[Series]]:
    """By measure, a series for each validation metric that is a mean of this measure."""
    found: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, points in _validated(history).items():
        if METRICS[name].measure:
            found.setdefault(METRICS[name].measure, {})[METRICS[name].title] = points
    return {measure: _series(curves) for measure, curves in found.items()}


def _validated(history: Iterable[dict[str, Any]]) -> dict[str, list[tuple[float, float]]]:
    """Points (steps done, value) by validation metric."""
    found: dict[str, list[tuple[float, float]]] = {}
    for line in history:
        for name, value in known_values(line.get("validation", {})).items():
            if known(value):
                found.setdefault(name, []).append((float(line["step"] + 1), value))
    return found


def _series(curves: dict[str, list[tuple[float, float]]]) -> list[Series]:
    return [
        Series(name=name, n=n, points=points, dash=DASHES[n % len(DASHES)])
        for n, (name, points) in enumerate(curves.items())
    ]


def _drawn(title: str, series: Sequence[Series], history: Sequence[dict[str, Any]], name: str) -> Block:
    x = axis("steps", [0, history[-1]["step"] + 1])
    y = axis(title, [value for one in series for _, value in one.points])
    sheet = Sheet(f"learning_{name}", ("curve", "step", title), [(s.name, *at) for s in series for at in s.points])
    return figure(lines(f"{title} by step", series, x, y), sheet=sheet)
