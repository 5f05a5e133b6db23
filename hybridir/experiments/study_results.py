"""The `results.json` of a study from the folders of its runs: arms with intervals, and claims with verdicts."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.evaluation.bias_summary import bias_numbers
from hybridir.evaluation.comparisons import drops
from hybridir.evaluation.intervals import macro_mean, seed_interval
from hybridir.evaluation.metrics import MEASURES
from hybridir.evaluation.scores import Column, Scores, read_scores, stack
from hybridir.evaluation.settings import SETTINGS
from hybridir.experiments.claims import Claim, Part, Verdict, corrected, described, judge, verdict
from hybridir.experiments.study import Composed
from hybridir.runtime.history import read_history


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An arm after its runs: folders of the finished runs and error messages of the failed ones, by seed."""

    name: str
    about: str
    x: float | None
    folders: dict[int, Path]
    errors: dict[int, str]

    def scores(self, conditions: Sequence[str] = ()) -> Scores:
        """The scores of the finished runs, in ascending order of seeds, plain and under the conditions."""
        files = [self.folders[seed] / "per_query.parquet" for seed in sorted(self.folders)]
        return stack([read_scores(file).under("", *conditions) for file in files])


Numbers = Callable[[Mapping[str, Scores]], dict[str, Any]]
"""From scores by name to further entries of `results.json`."""


def study_results(
    arms: Sequence[Finished],
    claims: Sequence[Claim],
    facts: dict[str, Any],
    composed: Sequence[Composed] = (),
    numbers: Numbers = lambda scores: {},
) -> dict[str, Any]:
    """The content of `results.json`: the `facts`, the arms, the claims, and what `numbers` makes of all scores.

    `facts` must have `trained_languages`, `zero_shot_languages`, and, for claims, `margin`. Arms are compared over the
    seeds that both have finished. `facts["conditions"]`, if given, names the conditions that arms are measured under.
    `ValueError` if no run has finished.
    """
    finished = [arm for arm in arms if arm.folders]
    if not finished:
        raise ValueError("no run has finished: see the errors above, correct the cause, and continue with --resume")
    benchmark = _results(next(iter(finished[0].folders.values())))
    conditions = facts.get("conditions", ())
    scores = {arm.name: arm.scores(conditions) for arm in finished}
    groups = {
        "all": benchmark["languages"],
        "trained": facts["trained_languages"],
        "zero-shot": facts["zero_shot_languages"],
    }
    by_name = {arm.name: arm for arm in finished}
    for one in composed:
        if found := _put_together(one, by_name, scores):
            by_name[one.name], scores[one.name] = found
    more = numbers(scores)
    judged = [_claim(claim, by_name, scores, groups, facts["margin"]) for claim in claims]
    judged = corrected(judged, facts.get("family", "")) + more.pop("claims", [])
    return facts | {
        "benchmark": benchmark["benchmark"],
        "languages": benchmark["languages"],
        "arms": {arm.name: _arm(arm, scores.get(arm.name), groups, conditions) for arm in arms},
        **({"composed": {one.name: one.about for one in composed if one.name in scores}} if composed else {}),
        "claims": judged,
        **more,
    }


def _put_together(
    one: Composed, arms: Mapping[str, Finished], scores: Mapping[str, Scores]
) -> tuple[Finished, Scores] | None:
    """A composed system over the seeds that all its members have finished; None if there is none."""
    if not set(one.members) <= set(arms):
        return None
    members = [arms[name] for name in one.members]
    seeds = sorted(set.intersection(*(set(arm.folders) for arm in members)))
    if not seeds:
        return None
    found = [
        one.compose([scores[arm.name].seeds([sorted(arm.folders).index(seed)]) for arm in members]) for seed in seeds
    ]
    folders = {seed: members[0].folders[seed] for seed in seeds}
    return Finished(name=one.name, about=one.about, x=None, folders=folders, errors={}), stack(found)


def _arm(
    arm: Finished, scores: Scores | None, groups: dict[str, list[str]], conditions: Sequence[str]
) -> dict[str, Any]:
    about: dict[str, Any] = {"about": arm.about} | ({"x": arm.x} if arm.x is not None else {})
    about |= {"seeds": sorted(arm.folders), "errors": {str(seed): words for seed, words in arm.errors.items()}}
    if scores is None:
        return about
    seeds = sorted(arm.folders)
    compared = [name for name, one in MEASURES.items() if one.compared]
    results = {seed: _results(arm.folders[seed]) for seed in seeds}

    def table(
        languages: Sequence[str], measures: Iterable[str], condition: str = ""
    ) -> dict[str, dict[str, list[float]]]:
        columns = {s: {m: scores.column(m, s, languages, condition=condition) for m in measures} for s in SETTINGS}
        return {
            s: {m: seed_interval(*column).as_dict()["interval"] for m, column in of.items() if column.enough}
            for s, of in columns.items()
        }

    def group(one: dict[str, Any], languages: Sequence[str]) -> dict[str, dict[str, float]]:
        chosen = [one["per_language"][x] for x in languages]
        return {
            s: {m: float(np.mean([x[s][m] for x in chosen])) for m in compared if m in chosen[0][s]}
            for s in SETTINGS
            if chosen and all(s in x for x in chosen)
        }

    def condition(name: str) -> dict[str, Any]:
        found = [one["conditions"][name] for one in results.values()]
        kept = ("changed", *SETTINGS, "per_language")
        means = _mean([{key: one[key] for key in kept} for one in found])
        return means | {"intervals": table(groups["all"], compared, name), "drop": drops(scores, name)}

    parts = {name: languages for name, languages in groups.items() if name != "all" and languages}
    return about | {
        "steps": float(np.mean([one["training"]["step"] for one in results.values()])),
        "tokens": float(np.mean([one["training"]["tokens"] for one in results.values()])),
        "seconds": float(np.mean([one["training"]["seconds"] for one in results.values()])),
        **{setting: _mean([one[setting] for one in results.values()]) for setting in SETTINGS},
        "intervals": table(groups["all"], [name for name, one in MEASURES.items() if one.main]),
        "per_seed": {
            str(seed): {s: {m: one[s][m] for m in compared if m in one[s]} for s in SETTINGS}
            for seed, one in results.items()
        },
        "groups": {
            name: _mean([group(one, languages) for one in results.values()]) for name, languages in parts.items()
        },
        "group_intervals": {name: table(languages, compared) for name, languages in parts.items()},
        "per_language": _mean([one["per_language"] for one in results.values()]),
        "language_intervals": {x: table([x], ("mAP",)) for x in groups["all"]},
        "bias": _bias([one["bias"] for one in results.values()]),
        **({"conditions": {name: condition(name) for name in conditions}} if conditions else {}),
        "curve": _curve({seed: arm.folders[seed] for seed in seeds}),
    }


def _claim(
    claim: Claim,
    arms: dict[str, Finished],
    scores: dict[str, Scores],
    groups: dict[str, list[str]],
    margins: dict[str, float],
) -> dict[str, Any]:
    parts = [_part(part, arms, scores, groups, margins) for part in claim.parts]
    tested = [part for part in parts if part]
    verdicts: list[Verdict] = [part["verdict"] if part else "not tested" for part in parts]
    return {
        "id": claim.id,
        "text": claim.text,
        "source": claim.source,
        "verdict": verdict(verdicts),
        "arms": list(dict.fromkeys(name for part in claim.parts for name in (part.arm, part.baseline))),
        "conditions": sorted({name for part in claim.parts for name in (*part.conditions, *part.of_baseline) if name}),
        "parts": tested,
    }


def _part(
    part: Part,
    arms: dict[str, Finished],
    scores: dict[str, Scores],
    groups: dict[str, list[str]],
    margins: dict[str, float],
) -> dict[str, Any] | None:
    """One difference with its verdict; None if an arm, a common seed, a condition or the scores are missing."""
    if part.arm not in arms or part.baseline not in arms:
        return None
    seeds = sorted(set(arms[part.arm].folders) & set(arms[part.baseline].folders))
    if not seeds:
        return None
    own, other = (
        scores[name].seeds([sorted(arms[name].folders).index(seed) for seed in seeds])
        for name in (part.arm, part.baseline)
    )
    if {*part.conditions, *part.of_baseline} - set(own.rows["condition"].tolist()):
        return None
    baseline = other.weighted(part.of_baseline)
    chosen = (part.measure, part.setting, groups[part.languages])
    column = own.weighted(part.conditions).minus(baseline).column(*chosen)
    if not groups[part.languages] or not column.enough:
        return None
    found = seed_interval(*column)
    baseline_value = _value(baseline.column(*chosen))
    # a difference of conditions may be 0: the share is of its minuend
    size = other.weighted({name: weight for name, weight in part.of_baseline.items() if weight > 0})
    margin = margins["share"] * abs(_value(size.column(*chosen))) or margins["most"]  # no share of nothing
    if not MEASURES[part.measure].lower_is_better:
        margin = min(margin, margins["most"])
    return {
        **{name: value for name, value in vars(part).items() if name not in ("conditions", "baseline_conditions")},
        "condition": described(part.conditions),
        "baseline_condition": described(part.of_baseline),
        **found.as_dict(),
        "margin": margin,
        "value": baseline_value + found.difference,
        "baseline_value": baseline_value,
        "verdict": judge(part, found, margin),
        "seeds": len(seeds),
    }


def _value(column: Column) -> float:
    """The macro-mean over languages of the mean over seeds."""
    return macro_mean(column.values_KN.mean(axis=0), column.strata)


def _results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def _mean(trees: Sequence[Any]) -> Any:
    """The mean of nested dicts of numbers, key by key; a key missing in some dicts is averaged over the others."""
    if not isinstance(trees[0], dict):
        return float(np.mean(trees))
    names = dict.fromkeys(name for tree in trees for name in tree)
    return {name: _mean([tree[name] for tree in trees if name in tree]) for name in names}


def _bias(found: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The numbers of bias (see `bias_numbers`): mean, least and greatest value over the seeds."""
    numbers = [bias_numbers(one) for one in found]
    values = {
        key: [one[key] for one in numbers if key in one] for key in dict.fromkeys(k for one in numbers for k in one)
    }
    return {
        key: {"mean": float(np.mean(of_key)), "least": float(min(of_key)), "greatest": float(max(of_key))}
        for key, of_key in values.items()
    }


def _curve(folders: dict[int, Path]) -> dict[str, Any]:
    """Validation losses by seed, at the steps that all seeds have."""
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
