"""What noise costs each system, and how two systems differ in it: `noise` of `results.json`.

Shapes: D draws, K training seeds, N rows of `Scores`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.intervals import macro_mean, seed_interval
from hybridir.evaluation.noise_grid import KEPT, Cell, Values
from hybridir.evaluation.retention import area, can_lose, log_retention, relative_drop
from hybridir.evaluation.scores import Column, Scores
from hybridir.evaluation.settings import SETTINGS


def noise_results(
    plain: Mapping[str, Scores],
    noisy: Mapping[str, Mapping[str, Sequence[Values]]],
    cells: Sequence[Cell],
    of: Benchmark,
) -> dict[str, Any]:
    """`noise` of `results.json`. `noisy` has, by system and cell, the values of each training seed.

    `cells`: what each cell is: `kind`, `severity`, `draws`, `languages`, `not_in` (languages that it does not apply
    to), `changed` (share of the queries in `languages` with another text). `systems`: by name, a row for each cell,
    setting and language ("" for the macro-mean over `languages`); see `_row`. `areas` the same by kind; `against`: the
    first system minus each other one.
    """
    shown = [
        {
            "name": cell.name,
            "kind": cell.kind,
            "severity": cell.severity,
            "draws": len(cell.draws),
            "languages": list(cell.languages),
            "not_in": [x for x in of.languages if x not in cell.languages],
            "changed": sum(map(len, cell.draws))
            / sum(q.language in cell.languages for q in of.queries)
            / len(cell.draws),
        }
        for cell in cells
    ]
    under_noise = {
        system: {cell: _mean_of_draws(plain[system], found) for cell, found in by_cell.items()}
        for system, by_cell in noisy.items()
    }
    first, *others = plain
    return {
        "measure": KEPT[0],
        "cells": shown,
        "systems": {
            system: [
                row for cell in cells for row in _rows(cell, plain[system], under_noise[system], noisy[system], of)
            ]
            for system in plain
        },
        "areas": {system: _areas(cells, plain[system], under_noise[system]) for system in plain},
        "against": [
            row
            for other in others
            for cell in cells
            for row in _against(cell, (first, other), plain, {x: under_noise[x][cell.name] for x in (first, other)})
        ],
    }


def _mean_of_draws(plain: Scores, seeds: Sequence[Values]) -> Scores:
    """The mean over draws, as scores of all training seeds."""
    return Scores(plain.rows, {name: np.stack([one[name].mean(axis=0) for one in seeds]) for name in KEPT})


def _rows(
    cell: Cell, plain: Scores, noisy: Mapping[str, Scores], seeds: Mapping[str, Sequence[Values]], of: Benchmark
) -> Iterator[dict[str, Any]]:
    worst = {name: np.stack([one[name].min(axis=0) for one in seeds[cell.name]]) for name in KEPT}
    sizes = dict(zip(of.languages, np.bincount(of.language_P, minlength=len(of.languages)).tolist(), strict=True))
    for setting in SETTINGS:
        for language in ("", *cell.languages):
            chosen = (KEPT[0], setting, [language] if language else list(cell.languages))
            before = plain.column(*chosen)
            if not before.enough:
                continue
            pool = [sizes[x] for x in ([language] if language else cell.languages)]
            n_passages = len(of.passages) if setting == "multilingual" else min(pool)
            row = _row(before, noisy[cell.name].column(*chosen), n_passages)
            least = Scores(plain.rows, worst).column(*chosen)
            if not language:
                row["drop"] = seed_interval(
                    before.values_KN - noisy[cell.name].column(*chosen).values_KN, *before[1:]
                ).as_dict()
                row["worst"] = _macro(least)
            yield {"cell": cell.name, "setting": setting, "language": language} | row


def _row(before: Column, after: Column, n_passages: int) -> dict[str, Any]:
    """`plain` and `noisy` RR@10, and `relative`: the share lost with its interval; None if there is nothing to lose."""
    plain_N, noisy_N = before.values_KN.mean(axis=0), after.values_KN.mean(axis=0)
    loses = can_lose(plain_N, *before[1:], n_passages)
    relative = relative_drop(plain_N, noisy_N, *before[1:]).as_dict() if loses else None
    return {"plain": _macro(before), "noisy": _macro(after), "relative": relative}


def _macro(column: Column) -> float:
    return macro_mean(column.values_KN.mean(axis=0), column.strata)


def _areas(cells: Sequence[Cell], plain: Scores, noisy: Mapping[str, Scores]) -> list[dict[str, Any]]:
    """By kind with two severities or more: `area`, the mean RR@10 over the curve from 0, and its `drop`."""
    found = []
    for kind in dict.fromkeys(cell.kind for cell in cells if cell.kind):
        of_kind = [cell for cell in cells if cell.kind == kind and isinstance(cell.severity, float)]
        for setting in SETTINGS if len(of_kind) > 1 else ():
            chosen = (KEPT[0], setting, list(of_kind[0].languages))
            before = plain.column(*chosen)
            curve = {float(cell.severity or 0): noisy[cell.name].column(*chosen).values_KN for cell in of_kind}
            under_KN = area({0.0: before.values_KN} | curve)
            if before.enough:
                drop = seed_interval(before.values_KN - under_KN, *before[1:]).as_dict()
                row = {"kind": kind, "setting": setting, "area": _macro(Column(under_KN, *before[1:])), "drop": drop}
                found.append(row)
    return found


def _against(
    cell: Cell, names: tuple[str, str], plain: Mapping[str, Scores], noisy: Mapping[str, Scores]
) -> Iterator[dict[str, Any]]:
    """The first system minus the other, paired: noisy RR@10, the loss by noise, and the logarithm of the share kept.

    The first is more robust, and not only better, where it loses less and keeps more.
    """
    for setting in SETTINGS:
        chosen = (KEPT[0], setting, list(cell.languages))
        (a0, b0), (a, b) = ([of[name].column(*chosen) for name in names] for of in (plain, noisy))
        if not a0.enough:
            continue
        labels = a0[1:]
        means = [one.values_KN.mean(axis=0) for one in (a0, a, b0, b)]
        kept = log_retention(means[0], means[1], means[2], means[3], a0.strata)
        yield {
            "cell": cell.name,
            "setting": setting,
            "system": names[0],
            "baseline": names[1],
            "noisy": seed_interval(a.values_KN - b.values_KN, *labels).as_dict(),
            "loss": seed_interval((a0.values_KN - a.values_KN) - (b0.values_KN - b.values_KN), *labels).as_dict(),
            "log_retention": seed_interval(kept[None], *labels).as_dict() if np.isfinite(kept).all() else None,
        }
