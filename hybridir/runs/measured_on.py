"""What an evaluation measures on: its benchmark, without anything that a compared model was trained on.

A model was trained on what the configuration of its run says; a model without a run folder says nothing about that.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hybridir.data import sources
from hybridir.data.config import BenchmarkConfig, Source
from hybridir.data.formats import heldout
from hybridir.data.records import Benchmark
from hybridir.retrieval.systems import System
from hybridir.runs.fill_in import trains_on, whole_exists
from hybridir.runtime.plain_yaml import read_yaml


@dataclass(frozen=True)
class Measured:
    """A benchmark, the configuration that it was read by, and in words which part of the benchmark it is."""

    benchmark: Benchmark
    config: BenchmarkConfig
    part: str


def choose(config: BenchmarkConfig, systems: Sequence[System]) -> tuple[BenchmarkConfig, list[str]]:
    """The benchmark that `systems` are measured on, not yet read, and the systems that were trained on a part of it.

    If `config` names none, it is the benchmark that the first system's run was measured on; the sample if that is no
    run. XQuAD-R, MLQA-R and the sample are measured as a whole, unless a system was trained on a part of them: then
    only on the part that no system was trained on. `heldout` and `validation` are parts of the data of the run at
    `config.path`; if that is empty, of the first system that is a run.

    Raises:
        ValueError: the benchmark cannot be told; or `config.split` asks for the whole, although a system was trained on
            a part of it.
    """
    runs = [run for system in systems for member in system.members if (run := run_of(member.name))]
    config = _named(config, runs)
    if config.name in heldout.PARTS:
        if not config.path and not runs:
            raise ValueError(
                f"benchmark.name is {config.name}, a part of the data of a run, but no compared system is a run: name "
                "the folder of the run as benchmark.path"
            )
        return replace(config, path=config.path or str(runs[0])), []
    if not whole_exists(config):
        return config, []
    seen = [s.label for s in systems if any(_trained_on(member.name, config) for member in s.members)]
    if seen and config.split == "all":
        raise ValueError(
            f"benchmark.split is all, but {', '.join(seen)} trained on a part of {config.name}: leave benchmark.split "
            "out to measure on the rest"
        )
    return replace(config, split=config.split or ("test" if seen else "all")), seen


def read_measured(config: BenchmarkConfig, systems: Sequence[System]) -> Measured:
    """Reads the benchmark that `choose` gives; `ValueError` if it cannot be read."""
    config, seen = choose(config, systems)
    if config.name in heldout.PARTS:
        run = Path(config.path)
        corpus = corpus_of(run) if (run / "config.yaml").exists() else run
        return Measured(sources.read_benchmark(replace(config, path=str(corpus))), config, f" ({run})")
    benchmark = sources.read_benchmark(config)
    if not whole_exists(config):
        return Measured(benchmark, config, "")
    if config.split != "test" or not seen:
        return Measured(benchmark, config, ", the whole benchmark" if config.split == "all" else f", {config.split}")
    note = f"{', '.join(seen)} trained on a part of {config.name}: all systems are measured on what that left out"
    return Measured(replace(benchmark, notes=(note, *benchmark.notes)), config, ", of what all systems left out")


def run_of(name: str) -> Path | None:
    """The folder of the run that trained a model, if `name` is that folder or its model."""
    for folder in (Path(name), Path(name).parent):
        if (folder / "config.yaml").is_file() and (folder / "model").is_dir():
            return folder
    return None


def corpus_of(run: Path) -> Path:
    """The corpus of a run, in its cache; `ValueError` if it is not there any more."""
    cache = Path(_config(run).get("cache") or run.parent / "cache")
    fingerprint = json.loads((run / "data_card.json").read_text(encoding="utf-8"))["fingerprint"]
    for file in sorted(cache.glob("corpus-*/corpus.json")):
        if json.loads(file.read_text(encoding="utf-8"))["fingerprint"] == fingerprint:
            return file.parent
    raise ValueError(
        f"the data of the run {run} are not in its cache {cache} any more: read them again by python jobs/train.py "
        f"--config {run / 'config.yaml'} --dry_run"
    )


def _named(config: BenchmarkConfig, runs: Sequence[Path]) -> BenchmarkConfig:
    if config.name:
        return config
    if config.path:
        return replace(config, name=sources.benchmark_at(config.path))
    of_run = _config(runs[0]).get("benchmark", {}) if runs and config == BenchmarkConfig() else {}
    if of_run.get("name") in heldout.PARTS:
        return replace(config, name=of_run["name"], path=of_run.get("path") or str(runs[0]))
    if of_run.get("name") and of_run.get("path"):
        languages = of_run.get("languages")
        return replace(
            config,
            name=of_run["name"],
            path=of_run["path"],
            language=of_run.get("language"),
            languages=tuple(languages) if languages else None,
        )
    return replace(config, name="sample")


def _trained_on(name: str, config: BenchmarkConfig) -> bool:
    return any(trains_on(source, config) for source in _trained_sources(name))


def _trained_sources(name: str) -> Iterator[Source]:
    """The sources of the run that trained a model, and of the runs of the models that it started from."""
    visited: set[Path] = set()
    while (run := run_of(name)) and run.resolve() not in visited:
        visited.add(run.resolve())
        config = _config(run)
        data = config.get("data", {})
        for one in [*(data.get("sources") or [data]), *filter(None, [data.get("validation")])]:
            yield Source(format=one.get("format") or "", path=one.get("path") or "")
        name = config.get("encoder", {}).get("name") or ""
        if not name:
            return


def _config(run: Path) -> dict[str, Any]:
    return read_yaml(run / "config.yaml")
