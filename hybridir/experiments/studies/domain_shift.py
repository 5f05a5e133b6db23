"""Does the hybrid mix make retrieval across languages more robust to a shift of domain?

Every arm trains on all domains but one, and every arm on equally many groups. In domain, a question is asked to the
models that have seen its domain; out of domain, to the one that has not (`evaluation/shift.py`). The tokenizer is
trained on the texts of all domains, so that all arms have the same vocabulary.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.data import sources
from hybridir.data.corpus import Corpus
from hybridir.data.records import Benchmark
from hybridir.evaluation.intervals import macro_mean, seed_interval
from hybridir.evaluation.retention import FLOOR, Relative, relative_drop
from hybridir.evaluation.scores import Column, Scores, weighted_sum
from hybridir.evaluation.settings import SETTINGS
from hybridir.evaluation.shift import OUT, beyond_the_line, domains_of, in_and_out
from hybridir.experiments.claims import Claim, Part, Relation
from hybridir.experiments.study import Arm, Composed, Study, StudyRecipe
from hybridir.reports.html import shift, study_claims, study_plots, study_tables
from hybridir.reports.html.sections import provenance
from hybridir.runs.corpus import cache_folder, read_corpus
from hybridir.runs.fill_in import own_part
from hybridir.training.config import LENGTHS

MONO, CROSS, HYBRID, AVERAGE = "X-X-mono", "X-Y", "hybrid", "average"
METHODS = (MONO, CROSS, HYBRID, AVERAGE)
WEIGHTS = {MONO: (1.0, 0.0), CROSS: (0.0, 1.0), HYBRID: (0.5, 0.5)}
SHARES = (25, 50, 75)
"""Further baselines train for these percentages of the steps, for the line of effective robustness."""
LINE, BEYOND = "the line of the baselines", "hybrid beyond the line"
MEASURES = ("mAP", "RR@10")
DROP = {OUT: 1.0, "": -1.0}
"""Out of domain minus in domain: higher is better, as less is lost."""


@dataclass(frozen=True, kw_only=True)
class DomainShiftRecipe(StudyRecipe):
    """A study of domain shift.

    Args:
        domains: domains that are left out in turn. Omitted: all that the training data and the benchmark have.
        short_baselines: whether baselines are also trained for a quarter, half and three quarters of the steps, which
            effective robustness needs. They double the cost of the study.
    """

    domains: tuple[str, ...] | None = None
    short_baselines: bool = True


def arms(recipe: StudyRecipe) -> list[Arm]:
    """Each method without each domain, on equally many groups."""
    assert isinstance(recipe, DomainShiftRecipe)
    if recipe.sampling.without_domains:
        raise ValueError(
            "sampling.without_domains is set, but every arm of this study leaves out a domain of its own: remove it, "
            "or name the domains with --domains"
        )
    corpus = read_corpus(recipe.data, cache_folder(recipe, Path(recipe.output)))
    domains, groups = folds(recipe, corpus)
    if recipe.sampling.groups is not None:
        groups = min(groups, recipe.sampling.groups)

    def trained(method: str, domain: str, share: int = 100) -> Arm:
        mono, cross = WEIGHTS[method]
        weights = {"mono": mono, "mixed": 0.0, "cross": cross, "both": 0.0}
        fold = {"groups": groups, "without_domains": (domain,)}
        changes: dict[str, Mapping[str, Any]] = {"sampling": weights | fold}
        if share < 100:
            train = recipe.train
            lengths = {name: value for name in LENGTHS if (value := getattr(train, name))}
            changes["train"] = {
                name: max(1, round(value * share / 100))
                for name, value in (lengths | {"warmup_steps": train.warmup_steps}).items()
            }
        return Arm(
            name=_name(method, domain, share),
            about=f"{method} on {groups:,} questions of all domains but {domain}"
            + f", {share} % of the steps" * (share < 100),
            changes=changes,
        )

    found = [trained(method, domain) for method in WEIGHTS for domain in domains]
    found += [
        Arm(
            name=_name(AVERAGE, domain),
            about=f"the mean of the weights of {MONO} and {CROSS} without {domain}",
            made_of=(_name(MONO, domain), _name(CROSS, domain)),
        )
        for domain in domains
    ]
    shares = SHARES if recipe.short_baselines and not recipe.quick else ()
    return found + [trained(method, domain, n) for n in shares for method in (MONO, CROSS) for domain in domains]


def folds(recipe: DomainShiftRecipe, corpus: Corpus) -> tuple[list[str], int]:
    """The domains that are left out in turn, and the number of groups that every fold trains on.

    That number is the size of the smallest fold, over all domains that could be left out, not only those named, so that
    naming more changes no fold. `ValueError` if there are fewer than two domains with training pairs and questions.
    """
    benchmark = sources.read_benchmark(own_part(recipe.benchmark, corpus))
    asked = {query.domain for query in benchmark.queries} - {""}
    train = corpus.groups("train")
    sizes = {
        name: int(np.sum(train & ~corpus.in_domains([name])))
        for name in corpus.domain_names
        if name in asked and (train & corpus.in_domains([name])).any()
    }
    if unknown := [name for name in recipe.domains or () if name not in sizes]:
        raise ValueError(
            f"domains has {', '.join(unknown)}, but the domains with training pairs and questions are "
            f"{', '.join(sizes) or 'none'}"
        )
    domains = list(recipe.domains or sizes)
    if len(domains) < 2:
        trained, there = (", ".join(filter(None, sorted(one))) or "none" for one in (corpus.domain_names, asked))
        raise ValueError(
            f"this study needs 2 domains or more that have training pairs and questions. The training data has the "
            f"domains {trained}; the questions of {benchmark.name} are of the domains {there}. Give pairs the field "
            "`domain`, and measure on benchmark.name heldout"
        )
    return domains, min(sizes.values())


def composed(arms: Sequence[Arm], benchmark: Benchmark) -> list[Composed]:
    """Each method in and out of domain, and hybrid beyond the line of the baselines."""
    domains = list(dict.fromkeys(arm.changes["sampling"]["without_domains"][0] for arm in arms if not arm.made_of))
    there = {arm.name for arm in arms}

    def of(method: str, share: int = 100) -> list[str]:
        return [_name(method, domain, share) for domain in domains]

    def shifted(found: Sequence[Scores]) -> Scores:
        return in_and_out(dict(zip(domains, found, strict=True)), benchmark)

    systems = [
        Composed(name=method, about=_about(method), members=tuple(of(method)), compose=shifted) for method in METHODS
    ]
    baselines = [(method, share) for share in (*SHARES, 100) for method in (MONO, CROSS)]
    members = [name for method, share in baselines for name in of(method, share)] + of(HYBRID)
    compose: Callable[[Sequence[Scores]], Scores]
    for name, about, compose in (
        (
            BEYOND,
            "the value of hybrid out of domain, less what its value in domain predicts",
            partial(_beyond, shifted),
        ),
        (
            LINE,
            "what the line predicts: a difference of 0",
            lambda found: weighted_sum([_beyond(shifted, found)], [0]),
        ),
    ):
        systems.append(Composed(name=name, about=about, members=tuple(members), compose=compose))
    return [one for one in systems if set(one.members) <= there]


def _beyond(shifted: Callable[[Sequence[Scores]], Scores], found: Sequence[Scores]) -> Scores:
    n = len(found) // (2 * (len(SHARES) + 1) + 1)
    *baselines, own = [shifted(found[first : first + n]) for first in range(0, len(found), n)]
    return beyond_the_line(baselines, own, "mAP")


def numbers(scores: Mapping[str, Scores], facts: Mapping[str, Any], benchmark: Benchmark) -> dict[str, Any]:
    """`shift` in `results.json`: what each method loses out of domain.

    `methods` has, by method, setting and measure: the values `in` and `out` of domain, the paired `drop` (in - out),
    and `relative`, the share that is lost. `by_domain` has the same by domain. `matrix` has RR@10 by left-out domain
    and domain of the questions. `line` has R^2 and the effective robustness of hybrid by setting.
    """
    methods = [name for name in METHODS if name in scores]
    if not methods:
        return {}
    domain_N = domains_of(scores[methods[0]], benchmark)
    domains = [name for name in dict.fromkeys(domain_N.tolist()) if name]
    found: dict[str, Any] = {
        "domains": domains,
        "methods": {name: _lost(scores[name]) for name in methods},
        "by_domain": {name: {one: _lost(scores[name].chosen(domain_N == one)) for one in domains} for name in methods},
        "matrix": {
            name: {
                left_out: _by_domain(scores[_name(name, left_out)], benchmark, domains)
                for left_out in domains
                if _name(name, left_out) in scores
            }
            for name in methods
        },
    }
    if BEYOND in scores:
        found["line"] = {setting: _line(scores, setting) for setting in SETTINGS}
    return {"shift": found}


def _lost(of: Scores) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for setting in SETTINGS:
        for measure in MEASURES:
            inside, outside = (of.column(measure, setting, condition=condition) for condition in ("", OUT))
            if not inside.enough:
                continue
            means = [one.values_KN.mean(axis=0) for one in (inside, outside)]
            found.setdefault(setting, {})[measure] = {
                "in": macro_mean(means[0], inside.strata),
                "out": macro_mean(means[1], inside.strata),
                "drop": seed_interval(inside.values_KN - outside.values_KN, *inside[1:]).as_dict(),
                "relative": _share(means, inside).as_dict(),
            }
    return found


def _share(means: Sequence[np.ndarray], of: Column) -> Relative:
    """The share that is lost; none if the value in domain is below `FLOOR`."""
    if macro_mean(means[0], of.strata) < FLOOR:
        return Relative(None, None)
    return relative_drop(means[0], means[1], of.strata, of.clusters)


def _by_domain(of: Scores, benchmark: Benchmark, domains: Sequence[str]) -> dict[str, dict[str, float]]:
    """RR@10 by domain of the questions, then setting."""
    domain_N = domains_of(of, benchmark)
    return {
        domain: {
            setting: macro_mean(column.values_KN.mean(axis=0), column.strata)
            for setting in SETTINGS
            if len((column := of.chosen(domain_N == domain).column("RR@10", setting)).strata)
        }
        for domain in domains
    }


def _line(scores: Mapping[str, Scores], setting: str) -> dict[str, Any]:
    """The effective robustness of hybrid in a setting, and R^2; R^2 alone where no robustness is given."""
    beyond = scores[BEYOND]
    r2 = beyond.column("R2", setting).values_KN
    column = beyond.column("mAP", setting)
    found: dict[str, Any] = {"R2": r2.mean(axis=1).tolist() if r2.size else []}
    return found | (seed_interval(*column).as_dict() if column.enough else {})


def _name(method: str, domain: str, share: int = 100) -> str:
    return f"{method} without {domain}" if share == 100 else f"{method} {share} % without {domain}"


def _about(method: str) -> str:
    return f"{method}; each question is asked to the models that have seen its domain, and to the one that has not"


def _than(arm: str, baseline: str, relation: Relation, *settings: str, drop: bool = False) -> tuple[Part, ...]:
    conditions = DROP if drop else {OUT: 1.0}
    return tuple(
        Part(arm=arm, baseline=baseline, setting=setting, relation=relation, conditions=conditions)
        for setting in settings
    )


CLAIMS = (
    Claim(
        id="out",
        text="Out of domain, hybrid is not worse than X-Y across languages and in multilingual retrieval, and not "
        "worse than X-X-mono within a language.",
        source="question",
        parts=_than(HYBRID, CROSS, "not worse", "crosslingual", "multilingual")
        + _than(HYBRID, MONO, "not worse", "monolingual"),
    ),
    *(
        Claim(
            id=f"drop {baseline}",
            text=f"Hybrid loses less out of domain than {baseline}, in all three settings.",
            source="question",
            parts=_than(HYBRID, baseline, "better", *SETTINGS, drop=True),
        )
        for baseline in (MONO, CROSS)
    ),
    Claim(
        id="robustness",
        text="Hybrid is better out of domain than its value in domain predicts (effective robustness above 0).",
        source="sceptic",
        parts=tuple(Part(arm=BEYOND, baseline=LINE, setting=setting, relation="better") for setting in SETTINGS),
    ),
    Claim(
        id="order",
        text="The order of methods changes out of domain: across languages hybrid is not worse than X-Y in domain, but "
        "X-Y is better than hybrid out of domain.",
        source="sceptic",
        parts=(
            Part(arm=HYBRID, baseline=CROSS, setting="crosslingual", relation="not worse"),
            *_than(CROSS, HYBRID, "better", "crosslingual"),
        ),
    ),
    Claim(
        id="average",
        text="The weight average of X-X-mono and X-Y does as well out of domain as hybrid.",
        source="sceptic",
        parts=_than(AVERAGE, HYBRID, "not worse", *SETTINGS),
    ),
)

DOMAIN_SHIFT = Study(
    name="domain-shift",
    title="What a shift of domain costs",
    about="Every model trains on all domains but one, on equally many questions. A question is in domain for the "
    "models that have seen its domain, and out of domain for the one that has not. The passages of all domains are "
    "searched. A tokenizer that is made for the study is trained on the texts of all domains, the left-out one too. "
    "In claims, plain is in domain.",
    reference=HYBRID,
    recipe=DomainShiftRecipe,
    sample="study_domain_shift.yaml",
    arms=arms,
    composed=composed,
    composed_conditions=(OUT,),
    by_scores=numbers,
    claims=CLAIMS,
    sources={"question": "Is hybrid more robust?", "sceptic": "What a sceptic would ask"},
    sections=(
        study_claims.ledger,
        shift.lost,
        shift.by_domain,
        shift.matrix,
        study_tables.plan,
        study_plots.curves,
        provenance,
    ),
)
