"""A benchmark under noise: kinds x severities x draws of its queries, real noisy queries, and their measures.

Noise depends on kind, draw and query alone, so all systems are asked the same texts. Only queries whose text changed
are embedded and ranked again; the others keep their values, so no difference comes from anything but the noise.

Shapes: D draws, N rows of `Scores`.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hybridir.data.records import Benchmark, Query, place
from hybridir.data.texts import fault, is_blank
from hybridir.evaluation.conditions import Condition, under
from hybridir.evaluation.scores import Scores
from hybridir.evaluation.settings import measure
from hybridir.perturbations import PERTURBATIONS, Perturbing
from hybridir.perturbations.perturbation import Severity, check_severity
from hybridir.retrieval.search import Ranking
from hybridir.runtime.durable import replaced

KEPT = ("RR@10", "mAP")
"""The measures under noise; claims are about the first."""


@dataclass(frozen=True, kw_only=True)
class NoiseGrid:
    """Noise on the queries of the benchmark: every kind at every severity, in several draws that are averaged.

    Args:
        kinds: kinds of noise. A kind is measured on the languages that it applies to, and these are named.
        severities: shares of the sites of a text that are edited, 0 to 1; or `one`: one edit in every query.
        draws: number of draws of each kind at each severity.
        export: file for the queries with noise, to be embedded elsewhere: JSON lines with `id`, `language`, `text`. A
            folder of embeddings is measured under noise if its queries have these ids too. `--dry_run` writes it too.
        queries: JSON-lines file of real noisy queries, such as transcripts, with `query_id`, `text` and, if there are
            several kinds, their name `noise`.
    """

    kinds: tuple[Perturbing, ...] = ()
    severities: tuple[Severity, ...] = (0.05, 0.1, 0.2)
    draws: int = 3
    export: str = ""
    queries: str = ""

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.kinds if kind not in PERTURBATIONS]:
            raise ValueError(f"noise.kinds has {unknown[0]!r}: name some of {', '.join(PERTURBATIONS)}")
        for severity in self.severities:
            check_severity(severity, "one of noise.severities")
        for name in ("kinds", "severities"):
            if len(set(getattr(self, name))) < len(getattr(self, name)):
                raise ValueError(f"noise.{name} is {getattr(self, name)}: each may be named only once")
        if self.kinds and not self.severities:
            raise ValueError("noise.severities is empty: name a severity, such as 0.1 or one")
        if self.draws < 1:
            raise ValueError(f"noise.draws is {self.draws}: it must be at least 1")

    def cells(self, benchmark: Benchmark) -> "list[Cell]":
        """The cells of the grid, and those of `queries`; `ValueError` if a kind applies to no language, or by line."""
        found = []
        for kind in self.kinds:
            applies = tuple(x for x in benchmark.languages if PERTURBATIONS[kind].applies(x))
            if not any(query.language in applies for query in benchmark.queries):
                raise ValueError(
                    f"noise.kinds has {kind}, which applies to none of the languages of the queries "
                    f"({', '.join(benchmark.languages)}): leave it out"
                )
            for severity in self.severities:
                noise = [Condition(perturbation=kind, severity=severity, seed=n) for n in range(self.draws)]
                draws = [_changed(benchmark, under(benchmark, one).queries) for one in noise]
                name = Condition(perturbation=kind, severity=severity).name
                found.append(Cell(name, kind, severity, applies, draws))
        return [*found, *(_read_real(Path(self.queries), benchmark) if self.queries else [])]


def _changed(benchmark: Benchmark, queries: Sequence[Query]) -> dict[int, str]:
    pairs = zip(benchmark.queries, queries, strict=True)
    return {n: new.text for n, (old, new) in enumerate(pairs) if old.text != new.text}


class Cell(NamedTuple):
    """One kind of noise at one severity.

    `draws` have the new texts of the queries that are changed, by their place in the benchmark. `kind` is "" for real
    queries, which have no severity. `languages` are those that the noise applies to.
    """

    name: str
    kind: str
    severity: Severity | None
    languages: tuple[str, ...]
    draws: Sequence[Mapping[int, str]]

    def id_of(self, draw: int, query: Query) -> str:
        """The id of a query with noise, of exported files and of embeddings."""
        return f"{query.query_id}#{self.name}#{draw}"

    def part(self, benchmark: Benchmark) -> Benchmark:
        """The benchmark of the changed queries of all draws."""
        chosen = [(draw, n) for draw, texts in enumerate(self.draws) for n in texts]

        def of(values: Sequence[Any]) -> tuple[Any, ...]:
            return tuple(values[n] for _, n in chosen) if values else ()

        asked = benchmark.queries
        return replace(
            benchmark,
            queries=tuple(
                replace(asked[n], query_id=self.id_of(draw, asked[n]), text=self.draws[draw][n]) for draw, n in chosen
            ),
            relevant=of(benchmark.relevant),
            grades=of(benchmark.grades),
            own=of(benchmark.own),
        )


def _read_real(file: Path, benchmark: Benchmark) -> list[Cell]:
    """The cells of a file of real queries; a query that it lacks keeps its text."""
    of = {query.query_id: n for n, query in enumerate(benchmark.queries)}
    found: dict[str, dict[int, str]] = {}
    try:
        lines = file.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"noise.queries is {file}, which cannot be read ({error}): name a file of JSON lines"
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            name, key, text = row.get("noise", file.stem), row["query_id"], row["text"]
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{place(str(file), number)} has no query_id and text ({error!r}): {line[:80]}") from error
        known = isinstance(key, str) and key in of
        usable = isinstance(text, str) and not is_blank(text) and not fault(text)
        if not known or not usable or not isinstance(name, str):
            what = f"the text {text!a:.80}" if known else f"query_id {key!r}, which the benchmark does not have"
            raise ValueError(f"{place(str(file), number)} has {what}: correct it, or leave the line out")
        if of[key] in found.setdefault(name, {}):
            raise ValueError(f"{place(str(file), number)} has the query {key!r} a second time: keep one")
        found[name][of[key]] = text
    if not found:
        raise ValueError(f"noise.queries is {file}, which has no lines: give it a line for each query")
    cells = []
    for name, texts in found.items():
        there = {benchmark.queries[n].language for n in texts}
        changed = {n: texts[n] for n in sorted(texts) if texts[n] != benchmark.queries[n].text}
        cells.append(Cell(name, "", None, tuple(x for x in benchmark.languages if x in there), [changed]))
    return cells


def export(cells: Sequence[Cell], benchmark: Benchmark, file: Path) -> None:
    """Writes the changed queries of all cells as JSON lines with `id`, `language` and `text`."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with replaced(file) as written, written.open("w", encoding="utf-8") as lines:
        for cell in cells:
            for one in cell.part(benchmark).queries:
                row = {"id": one.query_id, "language": one.language, "text": one.text}
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")


Values = dict[str, np.ndarray]
"""By measure of `KEPT`: float64 [D, N]."""


def measure_cell(cell: Cell, benchmark: Benchmark, plain: Scores, rank: Callable[[Benchmark], Ranking]) -> Values:
    """The measures of one model under a cell, in the rows of its `plain` scores."""
    values = {name: np.repeat(plain.values[name], len(cell.draws), axis=0) for name in KEPT}
    part = cell.part(benchmark)
    if not part.queries:
        return values
    found = measure(rank(part), part)
    draw_M = np.array([int(name.rpartition("#")[2]) for name in found.rows["query_id"].tolist()])
    for draw, texts in enumerate(cell.draws):
        ids = [benchmark.queries[n].query_id for n in texts]
        rows_N = np.isin(plain.rows["query_id"], ids)  # in the same order: both are by query, then by language
        for name in KEPT:
            values[name][draw, rows_N] = found.values[name][0, draw_M == draw]
    return values
