"""From the folders of finished runs to the `results.json` of a study: arms with intervals, and claims with verdicts.

Shapes: K seeds, N rows of `per_query.parquet`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet

from hybridir.evaluation.intervals import SeedInterval, macro_mean, seed_interval
from hybridir.evaluation.settings import SETTINGS
from hybridir.experiments.claims import LOWER_IS_BETTER, Claim, Part, Verdict, judge, verdict
from hybridir.runtime.history import read_history

MEASURES = ("mAP", "R@1", "R@10", "success@1", "nDCG@10", "rank_distance")
"""Those with intervals."""
PUBLISHED = {
    "xquad-r": (
        ("XLM-R", "X-X-mono", 0.792, 0.674, 0.547, 410),
        ("XLM-R", "X-Y", 0.755, 0.700, 0.593, 295),
        ("XLM-R", "hybrid", 0.798, 0.705, 0.593, 287),
        ("LaBSE", "X-X-mono", 0.808, 0.752, 0.652, 262),
        ("LaBSE", "X-Y", 0.801, 0.762, 0.679, 225),
        ("LaBSE", "hybrid", 0.817, 0.767, 0.682, 221),
    ),
    "mlqa-r": (
        ("XLM-R", "X-X-mono", 0.648, 0.584, 0.473, 288),
        ("XLM-R", "X-Y", 0.626, 0.620, 0.508, 227),
        ("XLM-R", "hybrid", 0.648, 0.623, 0.512, 227),
        ("LaBSE", "X-X-mono", 0.681, 0.656, 0.550, 225),
        ("LaBSE", "X-Y", 0.671, 0.677, 0.576, 198),
        ("LaBSE", "hybrid", 0.686, 0.681, 0.579, 195),
    ),
}
"""By benchmark: encoder, method, mAP in the three settings and rank distance, as arXiv 2408.10536 has them."""


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An arm after its runs: by seed the folders of those that are finished, and what went wrong with others."""

    name: str
    about: str
    x: float | None
    folders: dict[int, Path]
    errors: dict[int, str]

    def scores(self, seeds: Sequence[int], measure: str) -> np.ndarray:
        """[K, N], one measure of every query; not-a-number where it is not defined."""
        files = (self.folders[seed] / "per_query.parquet" for seed in seeds)
        return np.stack([pyarrow.parquet.read_table(file, columns=[measure])[measure].to_numpy() for file in files])


class Rows:
    """What the rows of `per_query.parquet` are about: the same in all runs, as the benchmark is."""

    def __init__(self, folder: Path) -> None:
        names = ("setting", "query_language", "passage_language", "cluster")
        table = pyarrow.parquet.read_table(folder / "per_query.parquet", columns=list(names))
        self.setting, self.language, passage, cluster = (np.array(table[name].to_pylist()) for name in names)
        self.strata = np.unique(np.char.add(np.char.add(self.language, "-"), passage), return_inverse=True)[1]
        self.clusters = np.unique(cluster, return_inverse=True)[1]

    def mean(self, values_KN: np.ndarray, setting: str, languages: Sequence[str]) -> float:
        """The macro-mean over the questions in these languages."""
        chosen = self._chosen(values_KN, setting, languages)
        return macro_mean(values_KN[:, chosen].mean(axis=0), self.strata[chosen])

    def interval(self, values_KN: np.ndarray, setting: str, languages: Sequence[str]) -> SeedInterval | None:
        """Of that mean; None where fewer than two clusters are left."""
        chosen = self._chosen(values_KN, setting, languages)
        clusters = self.clusters[chosen]
        if len(np.unique(clusters)) < 2:
            return None
        return seed_interval(values_KN[:, chosen], self.strata[chosen], clusters)

    def _chosen(self, values_KN: np.ndarray, setting: str, languages: Sequence[str]) -> np.ndarray:
        return (self.setting == setting) & np.isin(self.language, languages) & np.isfinite(values_KN).all(axis=0)


def study_results(arms: Sequence[Finished], claims: Sequence[Claim], facts: dict[str, Any]) -> dict[str, Any]:
    """What `results.json` holds; `facts` are put into it, and name the languages by group, and the margins.

    Arms are compared by the seeds that both have finished.
    """
    finished = [arm for arm in arms if arm.folders]
    if not finished:
        raise ValueError("no run has finished: see what went wrong above, mend it, and go on with --resume")
    first = next(iter(finished[0].folders.values()))
    rows, benchmark = Rows(first), _results(first)
    groups = {
        "all": benchmark["languages"],
        "trained": facts["trained_languages"],
        "zero-shot": facts["zero_shot_languages"],
    }
    by_name = {arm.name: arm for arm in finished}
    return facts | {
        "benchmark": benchmark["benchmark"],
        "languages": benchmark["languages"],
        "arms": {arm.name: _arm(arm, rows, groups) for arm in arms},
        "claims": [_claim(claim, by_name, rows, groups, facts["margin"]) for claim in claims],
        "published": [
            dict(zip(("encoder", "method", *SETTINGS, "rank_distance"), line, strict=True))
            for line in PUBLISHED.get(benchmark["benchmark"], ())
        ],
        "published_note": "arXiv 2408.10536: other training data, and all of the benchmark",
    }


def _arm(arm: Finished, rows: Rows, groups: dict[str, list[str]]) -> dict[str, Any]:
    about: dict[str, Any] = {"about": arm.about} | ({"x": arm.x} if arm.x is not None else {})
    about |= {"seeds": sorted(arm.folders), "errors": {str(seed): words for seed, words in arm.errors.items()}}
    if not arm.folders:
        return about
    seeds = sorted(arm.folders)
    results = {seed: _results(arm.folders[seed]) for seed in seeds}
    scores = {measure: arm.scores(seeds, measure) for measure in MEASURES}

    def ends(measure: str, setting: str, languages: Sequence[str]) -> list[float] | None:
        found = rows.interval(scores[measure], setting, languages)
        return [found.low, found.high] if found else None

    def table(languages: Sequence[str], measures: Sequence[str]) -> dict[str, dict[str, list[float]]]:
        return {setting: {m: found for m in measures if (found := ends(m, setting, languages))} for setting in SETTINGS}

    def group(one: dict[str, Any], languages: Sequence[str]) -> dict[str, dict[str, float]]:
        chosen = [one["per_language"][x] for x in languages]
        return {
            s: {m: float(np.mean([x[s][m] for x in chosen])) for m in ("mAP", "rank_distance") if m in chosen[0][s]}
            for s in SETTINGS
            if chosen and all(s in x for x in chosen)
        }

    parts = {name: languages for name, languages in groups.items() if name != "all" and languages}
    return about | {
        "steps": float(np.mean([one["training"]["step"] for one in results.values()])),
        "tokens": float(np.mean([one["training"]["tokens"] for one in results.values()])),
        "seconds": float(np.mean([one["training"]["seconds"] for one in results.values()])),
        **{setting: _mean([one[setting] for one in results.values()]) for setting in SETTINGS},
        "intervals": table(groups["all"], MEASURES),
        "per_seed": {
            str(seed): {s: {m: one[s][m] for m in ("mAP", "rank_distance") if m in one[s]} for s in SETTINGS}
            for seed, one in results.items()
        },
        "groups": {
            name: _mean([group(one, languages) for one in results.values()]) for name, languages in parts.items()
        },
        "group_intervals": {name: table(languages, ("mAP", "rank_distance")) for name, languages in parts.items()},
        "per_language": _mean([one["per_language"] for one in results.values()]),
        "language_intervals": {x: table([x], ("mAP",)) for x in groups["all"]},
        "bias": _bias([one["bias"] for one in results.values()]),
        "curve": _curve({seed: arm.folders[seed] for seed in seeds}),
    }


def _claim(
    claim: Claim, arms: dict[str, Finished], rows: Rows, groups: dict[str, list[str]], margins: dict[str, float]
) -> dict[str, Any]:
    parts = [_part(part, arms, rows, groups, margins) for part in claim.parts]
    tested = [part for part in parts if part]
    verdicts: list[Verdict] = [part["verdict"] if part else "not tested" for part in parts]
    return {
        "id": claim.id,
        "text": claim.text,
        "source": claim.source,
        "verdict": verdict(verdicts),
        "parts": tested,
    }


def _part(
    part: Part, arms: dict[str, Finished], rows: Rows, groups: dict[str, list[str]], margins: dict[str, float]
) -> dict[str, Any] | None:
    """One difference, judged; None where it cannot be."""
    if part.arm not in arms or part.baseline not in arms:
        return None
    arm, baseline = arms[part.arm], arms[part.baseline]
    seeds = sorted(set(arm.folders) & set(baseline.folders))
    if not seeds:
        return None
    languages = groups[part.languages]
    value_KN, baseline_KN = (one.scores(seeds, part.measure) for one in (arm, baseline))
    found = rows.interval(value_KN - baseline_KN, part.setting, languages)
    if not found:
        return None
    of_baseline = rows.mean(baseline_KN, part.setting, languages)
    margin = margins["share"] * of_baseline
    if part.measure not in LOWER_IS_BETTER:
        margin = min(margin, margins["most"])
    return {
        **vars(part),
        "difference": found.difference,
        "interval": [found.low, found.high],
        "p": found.p,
        "detectable": found.detectable,
        "margin": margin,
        "value": of_baseline + found.difference,
        "baseline_value": of_baseline,
        "verdict": judge(part, found, margin),
        "seeds": len(seeds),
        "over": found.over,
    }


def _results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def _mean(trees: Sequence[Any]) -> Any:
    """The mean of numbers in dicts of the same shape; of what some of them lack, over the others."""
    if not isinstance(trees[0], dict):
        return float(np.mean(trees))
    names = dict.fromkeys(name for tree in trees for name in tree)
    return {name: _mean([tree[name] for tree in trees if name in tree]) for name in names}


def _bias(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean, least and greatest over seeds of the measures that are a single number."""
    values = {
        name: [one[name]["mean"] for one in found if name in one]
        for name in ("preference_rate", "score_margin", "rank_correlation")
    }
    values["top_k_languages"] = [one["top_k_languages"]["kl"] for one in found if "top_k_languages" in one]
    values["friedman"] = [np.mean([of["w"] for of in one["friedman"].values()]) for one in found if "friedman" in one]
    values["min_max"] = [one["min_max"]["multilingual"]["ratio"] for one in found if "min_max" in one]
    return {
        name: {"mean": float(np.mean(v)), "least": float(min(v)), "greatest": float(max(v))}
        for name, v in values.items()
        if v
    }


def _curve(folders: dict[int, Path]) -> dict[str, Any]:
    """Validation losses by seed, after the steps that all of them have."""
    found = {
        seed: {
            line["step"] + 1: line["validation"]["loss"]
            for line in read_history(folder / "history.jsonl")
            if "validation" in line
        }
        for seed, folder in folders.items()
    }
    steps = sorted(set.intersection(*(set(one) for one in found.values())))
    return {"steps": steps, "validation": {str(seed): [one[step] for step in steps] for seed, one in found.items()}}
