"""Scores: every measure of every query, in columns. Intervals, comparisons, studies and Parquet files are made from it.

Shapes: K training seeds, N rows. A row is one query in one setting, with the language of the passages ranked for it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from hybridir.runtime.durable import replaced

KEYS = ("condition", "query_id", "query_language", "passage_language", "setting", "group_id", "cluster")
"""Columns that identify a row. `condition` says how the queries or the benchmark were changed; "" is unchanged."""


class Column(NamedTuple):
    """One measure of some rows: values float64 [K, N], and the stratum and the cluster of each row, str [N].

    Strata are the languages, or pairs of languages, that a macro-mean averages over.
    """

    values_KN: np.ndarray
    strata: np.ndarray
    clusters: np.ndarray

    @property
    def n_clusters(self) -> int:
        return len(np.unique(self.clusters))

    @property
    def enough(self) -> bool:
        """Whether an interval can be computed, which needs two clusters."""
        return self.n_clusters > 1


@dataclass(frozen=True)
class Scores:
    """The scores of one system: one model, or several that differ only in their training seed.

    All systems measured on one benchmark have the same rows in the same order, under every condition.

    Attributes:
        rows: str [N] by name (`KEYS`); `passage_language` is "" in the multilingual setting.
        values: float64 [K, N] by measure; NaN if the measure is not defined for a row.
    """

    rows: Mapping[str, np.ndarray]
    values: Mapping[str, np.ndarray]

    @property
    def n_seeds(self) -> int:
        return len(next(iter(self.values.values())))

    def column(
        self,
        measure: str,
        setting: str,
        query_languages: Sequence[str] = (),
        passage_language: str = "",
        condition: str = "",
    ) -> Column:
        """One measure in one setting, of the rows in which every seed has a value; for the given languages, or all."""
        values_KN = self.values.get(measure, np.full((self.n_seeds, len(self.rows["setting"])), np.nan))
        chosen_N = (self.rows["setting"] == setting) & (self.rows["condition"] == condition)
        chosen_N &= np.isfinite(values_KN).all(axis=0)
        if query_languages:
            chosen_N &= np.isin(self.rows["query_language"], query_languages)
        if passage_language:
            chosen_N &= self.rows["passage_language"] == passage_language
        strata = np.char.add(np.char.add(self.rows["query_language"], "-"), self.rows["passage_language"])
        return Column(values_KN[:, chosen_N], strata[chosen_N], self.rows["cluster"][chosen_N])

    def under(self, *conditions: str) -> "Scores":
        """The rows of these conditions, one condition after the other."""
        return self.chosen(np.concatenate([np.flatnonzero(self.rows["condition"] == one) for one in conditions]))

    def chosen(self, chosen_N: np.ndarray) -> "Scores":
        """Some of the rows."""
        rows = {name: values[chosen_N] for name, values in self.rows.items()}
        return Scores(rows, {name: values[:, chosen_N] for name, values in self.values.items()})

    def weighted(self, conditions: Mapping[str, float]) -> "Scores":
        """The sum over conditions with these weights, query by query, as scores of the plain benchmark."""
        parts = [(self.under(name).values, weight) for name, weight in conditions.items()]
        values = {name: np.sum([weight * one[name] for one, weight in parts], axis=0) for name in self.values}
        return Scores(self.under("").rows, values)

    def minus(self, baseline: "Scores") -> "Scores":
        """Differences, seed by seed. A system with one seed is compared with each seed of the other."""
        shared = [name for name in self.values if name in baseline.values]
        return Scores(self.rows, {name: self.values[name] - baseline.values[name] for name in shared})

    def mean(self) -> "Scores":
        """The mean over the seeds, as scores of one seed."""
        return Scores(self.rows, {name: values.mean(axis=0)[None] for name, values in self.values.items()})

    def seeds(self, chosen: Sequence[int]) -> "Scores":
        """The scores of the seeds at the given positions."""
        return Scores(self.rows, {name: values[list(chosen)] for name, values in self.values.items()})


def stack(seeds: Sequence[Scores]) -> Scores:
    """Joins the seeds of one system, all measured on the same benchmark."""
    names = [name for name in seeds[0].values if all(name in one.values for one in seeds)]
    return Scores(seeds[0].rows, {name: np.concatenate([one.values[name] for one in seeds]) for name in names})


def weighted_sum(systems: Sequence[Scores], weights: Sequence[float] | np.ndarray) -> Scores:
    """The sum of systems with these weights, query by query and seed by seed, of the measures that all of them have."""
    values = {
        name: np.sum([weight * one.values[name] for one, weight in zip(systems, weights, strict=True)], axis=0)
        for name in systems[0].values
        if all(name in one.values for one in systems)
    }
    return Scores(systems[0].rows, values)


def join(conditions: Sequence[Scores]) -> Scores:
    """Joins the rows of one system under several conditions.

    A measure that was added or removed between two measurements is not defined for the rows that lack it.
    """
    rows = {name: np.concatenate([one.rows[name] for one in conditions]) for name in KEYS}
    measures = dict.fromkeys(name for one in conditions for name in one.values)

    def values(one: Scores, name: str) -> np.ndarray:
        return one.values.get(name, np.full((one.n_seeds, len(one.rows["setting"])), np.nan))

    return Scores(rows, {name: np.concatenate([values(one, name) for one in conditions], axis=1) for name in measures})


def write_scores(systems: Mapping[str, Scores], path: Path) -> None:
    """Writes a Parquet file, for analyses of your own, with a row for each system, seed and row of its scores.

    Columns: `system`, `seed` (from 1), those of `KEYS`, and one of float64 for each measure; null if not defined.
    """
    parts = [
        pa.table(
            {"system": _coded(np.full(len(one.rows["setting"]), system))}
            | {name: _coded(one.rows[name]) for name in KEYS}
            | {"seed": pa.array(np.full(len(one.rows["setting"]), seed + 1), type=pa.int32())}
            | {name: pa.array(values[seed], from_pandas=True) for name, values in one.values.items()}
        )
        for system, one in systems.items()
        for seed in range(one.n_seeds)
    ]
    whole = pa.concat_tables(parts, promote_options="default").unify_dictionaries()
    with replaced(path) as written:
        pa.parquet.write_table(whole, written, compression="zstd")


def read_scores(path: Path) -> Scores:
    """Reads a file with one system and one seed. In files of earlier versions, without `condition`, it becomes ""."""
    table = pyarrow.parquet.read_table(path)
    rows = {name: np.array(table[name].to_pylist()) for name in KEYS if name in table.column_names}
    rows.setdefault("condition", np.full(len(table), ""))
    measures = [field.name for field in table.schema if pa.types.is_floating(field.type)]
    return Scores(rows, {name: table[name].to_numpy()[None] for name in measures})


def _coded(texts: np.ndarray) -> pa.Array:
    return pa.array(texts.tolist(), type=pa.string()).dictionary_encode()
