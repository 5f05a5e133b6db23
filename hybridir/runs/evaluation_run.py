"""An evaluation, from recipe to report: read the benchmark, encode, rank, compare, write."""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.data.config import BenchmarkConfig
from hybridir.data.records import Benchmark
from hybridir.evaluation.conditions import Condition, check_conditions, under
from hybridir.evaluation.noise_grid import Cell, NoiseGrid, export
from hybridir.model.check import as_published
from hybridir.model.config import EncoderConfig
from hybridir.reports.in_short import measured
from hybridir.retrieval.config import RetrievalConfig
from hybridir.retrieval.embeddings import holds_embeddings
from hybridir.retrieval.search import DEPTH, Ranking
from hybridir.retrieval.systems import (
    Encode,
    System,
    Way,
    check_member,
    file_name,
    find_systems,
    fingerprint,
    is_encoder,
    rank_system,
    ranker,
)
from hybridir.retrieval.too_long import Cut, count_cut, describe_cut
from hybridir.retrieval.trec import write_qrels, write_runs
from hybridir.runs.attack_run import AttackConfig, attack_results
from hybridir.runs.backend import Track, quiet_libraries
from hybridir.runs.folder import Kind, begin_folder, opened
from hybridir.runs.measured_on import choose, read_measured
from hybridir.runs.noise_run import kept_in, under_noise
from hybridir.runs.provenance import provenance
from hybridir.runs.recipe import MAY_CHANGE, ScalingConfig, TrackingConfig, public
from hybridir.runs.results import write_results
from hybridir.runtime.progress import say
from hybridir.runtime.tables import Grid, show
from hybridir.runtime.words import listed

Ranked = tuple[list[Ranking], list[str]]
EVALUATION = Kind(
    name="evaluation",
    job="jobs/evaluate.py",
    may_change=MAY_CHANGE
    | {"run_depth", "keep_embeddings", "conditions", "noise", "attack"}
    | {"retrieval.memory", "retrieval.in_memory"},
)

MOST_USED = (
    *("encoder.name", "compare_to", "label", "benchmark.name", "benchmark.path", "benchmark.split"),
    *("benchmark.languages", "conditions", "noise.kinds", "noise.severities", "noise.queries", "attack.queries"),
    *("run_depth", "keep_embeddings", "scaling.num_workers", "scaling.use_gpu", "output", "resume", "dry_run"),
)
"""The fields that `--help` shows."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The recipe of an evaluation: systems and a benchmark.

    Args:
        encoder: the system to measure. Its name is a model folder, a run's folder, a hub id, a folder of embeddings, or
            `bm25`; a pattern with `*` names several folders, the training seeds of one system. Of the other fields
            only `revision`, `pooling`, prefixes and lengths are used.
        compare_to: the systems to compare it with: names, or encoders with the same fields.
        label: name of the encoder in tables and files, or a list of names: the encoder's, then those of `compare_to` in
            their order. Omitted or empty: the name of the folder; the model and data of a run in a folder named by its
            date.
        benchmark: the benchmark that all systems are measured on.
        conditions: noise on the benchmark's queries; all systems are measured on them too, besides the plain benchmark.
        noise: noise on the benchmark's queries in many kinds and severities, with what each costs the systems.
        attack: queries edited until they fail.
        run_depth: passages of each query in `runs/*.trec`, at most 100; 0 writes no such files.
        keep_embeddings: whether to keep `embeddings/`: Parquet with id, language, text and embedding of all texts.
        retrieval: how vectors are kept, and the memory that a search takes.
        scaling: workers and devices for encoding.
        tracking: MLflow.
        output: folder for the results. Omitted: outputs/evaluate-DATE-TIME.
        resume: continue the evaluation in `output`. Texts that were encoded before are not encoded again.
        dry_run: print what the benchmark holds and which systems are named; measure nothing.
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    compare_to: tuple[EncoderConfig | str, ...] = ()
    label: str | tuple[str, ...] = ""
    benchmark: BenchmarkConfig = field(default_factory=BenchmarkConfig)
    conditions: tuple[Condition, ...] = ()
    noise: NoiseGrid = field(default_factory=NoiseGrid)
    attack: AttackConfig = field(default_factory=AttackConfig)
    run_depth: int = DEPTH
    keep_embeddings: bool = False
    retrieval: RetrievalConfig = field(default_factory=RetrievalConfig)
    scaling: ScalingConfig = field(default_factory=lambda: ScalingConfig(num_workers=0))
    tracking: TrackingConfig = field(default_factory=lambda: TrackingConfig(experiment="evaluate"))
    output: str = ""
    resume: bool = False
    dry_run: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.run_depth <= DEPTH:
            raise ValueError(f"run_depth is {self.run_depth}: it must be between 0 and {DEPTH}")
        check_conditions(self.conditions)
        if self.retrieval.dtype != "float32" and (self.noise.kinds or self.noise.queries or self.attack.queries):
            raise ValueError(
                f"retrieval.dtype is {self.retrieval.dtype}: noise and attacks are measured in float32 only"
            )


def run_evaluation(recipe: Evaluation, encode: Encode, track: Track, way: Way | None = None) -> Path:
    """The whole evaluation; returns the path of `report.html`. Omitted, `way` is this process, on its CPU.

    A finished evaluation is left as it is, unless conditions are asked for that it does not have.
    """
    quiet_libraries()
    systems = _systems(recipe)
    with opened(recipe, EVALUATION, lambda one: replace(one, benchmark=choose(one.benchmark, systems)[0])) as recipe:
        output = Path(recipe.output)
        if _has_all(recipe, output / "results.json"):
            say(f"the evaluation in {output} is finished: nothing is changed. Name another --output for a new one")
            return output / "report.html"
        _check(recipe, systems)
        measured_on = read_measured(recipe.benchmark, systems)
        benchmark = measured_on.benchmark
        begin_folder(recipe, EVALUATION)
        with track(recipe.tracking, output):
            _tell(benchmark)
            changed = {one.name: under(benchmark, one) for one in recipe.conditions}
            cells = _cells(recipe, benchmark)
            rank = partial(rank_system, encode=encode, way=way or Way(recipe.retrieval))
            (rankings, *more), notes = _rank(systems, [benchmark, *changed.values()], rank, output / "embeddings")
            cut = _cut(systems, benchmark)
            if recipe.run_depth:
                _write_runs(systems, rankings, benchmark, output / "runs", recipe.run_depth)
            prints = {
                name: fingerprint(member)
                for system in systems
                for name, member in zip(_names(system), system.members, strict=True)
            }
            facts: dict[str, Any] = {
                "about": f"{listed([s.label for s in systems])}, {measured(benchmark, part=measured_on.part)}.",
                "notes": [*benchmark.notes, *notes, *_tell_cut(cut, benchmark)],
                "cut": cut,
                "provenance": provenance(benchmark, public(recipe), prints),
            }
            if cells:
                names = {system.label: _names(system) for system in systems}
                kept = kept_in(output / "embeddings", names, encode)
                facts["noise"] = under_noise(systems, rankings, cells, benchmark, kept)
            if recipe.attack.queries:
                keep = {system.label: output / "embeddings" / file_name(_names(system)[0]) for system in systems}
                rankers = {one.label: ranker(one.members[0], benchmark, encode, keep[one.label]) for one in systems}
                facts["attack"] = attack_results(rankers, benchmark, recipe.attack)
            conditions = {name: (changed[name], found) for name, found in zip(changed, more, strict=True)}
            write_results(benchmark, rankings, output, facts, conditions)
            if not recipe.keep_embeddings:
                shutil.rmtree(output / "embeddings", ignore_errors=True)
    return output / "report.html"


def _systems(recipe: Evaluation) -> list[System]:
    labels = (recipe.label,) if isinstance(recipe.label, str) else recipe.label
    return find_systems([recipe.encoder, *recipe.compare_to], labels)


def _cells(recipe: Evaluation, benchmark: Benchmark) -> list[Cell]:
    """The noise that is asked for; it is exported if that is asked for too."""
    cells = recipe.noise.cells(benchmark)
    if recipe.noise.export:
        if not cells:
            raise ValueError(f"noise.export is {recipe.noise.export}, but there is no noise: name noise.kinds")
        export(cells, benchmark, Path(recipe.noise.export))
        say(f"the queries with noise are in {recipe.noise.export}")
    return cells


def _has_all(recipe: Evaluation, results: Path) -> bool:
    """Whether there are results, with all conditions and the noise that is asked for."""
    if not results.exists():
        return False
    found = json.loads(results.read_text(encoding="utf-8"))
    cells = {(one["kind"], one["severity"], one["draws"]) for one in found.get("noise", {"cells": []})["cells"]}
    grid = recipe.noise
    wanted = {(kind, severity, grid.draws) for kind in grid.kinds for severity in grid.severities}
    attacked = not recipe.attack.queries or "attack" in found
    real = bool(grid.queries) == any(not kind for kind, _, _ in cells)
    return (
        real
        and attacked
        and wanted <= cells
        and all(one.name in found.get("conditions", {}) for one in recipe.conditions)
    )


def _check(recipe: Evaluation, systems: Sequence[System]) -> None:
    """Prints notes on the models; `ValueError` if one cannot be measured. Comes before the benchmark is read."""
    for member in (member for system in systems for member in system.members):
        if recipe.conditions and holds_embeddings(member.name):
            raise ValueError(
                f"{member.name} holds embeddings of the plain queries: it cannot be measured under conditions, which "
                "change them. Name the model, or leave out --conditions"
            )
        if recipe.attack.queries and holds_embeddings(member.name):
            raise ValueError(
                f"{member.name} holds embeddings of the plain queries, which an attack changes: name the model, "
                "or leave out --attack"
            )
        for note in check_member(member):
            say(f"note: {note}")


def _rank(
    systems: Sequence[System], benchmarks: Sequence[Benchmark], rank: Callable[..., Ranked], folder: Path
) -> tuple[list[dict[str, list[Ranking]]], list[str]]:
    """The rankings of each benchmark by system, one per seed, and notes on what was left out; see `rank_system`."""
    rankings: list[dict[str, list[Ranking]]] = [{system.label: [] for system in systems} for _ in benchmarks]
    notes: list[str] = []
    for system in systems:
        for member, name in zip(system.members, _names(system), strict=True):
            say(f"ranking with {member.name}")
            found, more = rank(member, benchmarks, keep=folder / file_name(name))
            for of_benchmark, ranking in zip(rankings, found, strict=True):
                of_benchmark[system.label].append(ranking)
            notes += [f"{name}: {note}" for note in more]
    return rankings, notes


def _cut(systems: Sequence[System], benchmark: Benchmark) -> dict[str, Cut]:
    """The texts that the first member of each system cuts, by the system's label; its members cut alike."""
    first = {system.label: system.members[0] for system in systems}
    return {label: count_cut(as_published(one), benchmark) for label, one in first.items() if is_encoder(one)}


def _tell_cut(cut: dict[str, Cut], benchmark: Benchmark) -> list[str]:
    notes = [f"{label}: {note}" for label, one in cut.items() for note in describe_cut(one, benchmark)]
    for note in notes:
        say(note)
    return notes


def _write_runs(
    systems: Sequence[System], rankings: dict[str, list[Ranking]], benchmark: Benchmark, folder: Path, depth: int
) -> None:
    say(f"writing the first {depth} passages of each query to {folder}")
    folder.mkdir(exist_ok=True)
    write_qrels(benchmark, folder)
    for system in systems:
        for ranking, name in zip(rankings[system.label], _names(system), strict=True):
            write_runs(ranking, benchmark, folder, file_name(name), depth)


def preview_evaluation(recipe: Evaluation) -> None:
    """Prints what the benchmark holds and which systems would be measured; `ValueError` if one cannot be."""
    quiet_libraries()
    systems = _systems(recipe)
    _check(recipe, systems)
    benchmark = read_measured(recipe.benchmark, systems).benchmark
    _tell(benchmark)
    _cells(recipe, benchmark)
    asked = Counter(query.language for query in benchmark.queries)
    candidates = np.bincount(benchmark.language_P, minlength=len(benchmark.languages)).tolist()
    rows = [(x, f"{asked[x]:,}", f"{n:,}") for x, n in zip(benchmark.languages, candidates, strict=True)]
    show(Grid(benchmark.name, ("language", "queries", "passages"), rows))
    for system in systems:
        say(f"would measure {system.label}: {', '.join(member.name for member in system.members)}")


def _tell(benchmark: Benchmark) -> None:
    say(f"{benchmark.name}: {len(benchmark.queries):,} queries, {len(benchmark.passages):,} passages")
    for note in benchmark.notes:
        say(note)


def _names(system: System) -> list[str]:
    """The names of the members of a system."""
    return [f"{system.label} seed {seed}" if len(system.seeds) > 1 else system.label for seed in system.seeds]
