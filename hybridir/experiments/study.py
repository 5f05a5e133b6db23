"""A study: arms, each trained with several seeds and measured on one benchmark, and claims about their differences.

The studies are in `hybridir.experiments.studies`; `hybridir.experiments.study_job` runs one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.data.records import Benchmark
from hybridir.evaluation.conditions import Condition, check_conditions
from hybridir.evaluation.scores import Scores
from hybridir.experiments.claims import Claim
from hybridir.experiments.one_run import ArmRun
from hybridir.model.by_language import Change
from hybridir.model.encoder import Encoder
from hybridir.model.transforms import mean_of_weights
from hybridir.reports.html.pages import STUDY, StudySection
from hybridir.retrieval.systems import Encode
from hybridir.runs.recipe import Recipe
from hybridir.runtime.words import did_you_mean


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train, or to make a model of those of other arms.

    Attributes:
        name: short name, in tables and folders.
        about: what the arm does, in words.
        changes: fields that differ from the study's recipe, by section.
        made_of: names of other arms. If given, `make` makes the model of theirs, and the arm is not trained.
        make: makes an encoder of these encoders; see `hybridir.model.transforms`. Bind its arguments by `partial`.
        change: changes its embeddings language by language before it is measured: see `ArmRun.change`.
        x: value on the x axis, in a study over a number.
        entropy: whether contrastive entropy is measured too.
    """

    name: str
    about: str
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    made_of: tuple[str, ...] = ()
    make: Callable[..., Encoder] = mean_of_weights
    change: Callable[[np.ndarray], Change] | None = None
    x: float | None = None
    entropy: bool = False


@dataclass(frozen=True, kw_only=True)
class Composed:
    """A system that claims can name as they name arms, but whose scores are put together from those of finished arms.

    Attributes:
        name: a name that no arm has.
        about: what it is, in words.
        members: names of the arms.
        compose: from the scores of the members with one seed, in order, to its scores.
    """

    name: str
    about: str
    members: tuple[str, ...]
    compose: Callable[[Sequence[Scores]], Scores]


@dataclass(frozen=True, kw_only=True)
class StudyRecipe(Recipe):
    """A study: a training recipe that all arms share, and how they are compared. Other fields: see `Recipe`.

    Args:
        seeds: number of training runs of each arm, with the seeds `seed`, `seed` + 1 and so on. With fewer
            than 5, intervals hold only for these trained models, not for other seeds.
        arms: names of the arms to train; the arms that they are made of are added. Omitted: all arms.
        conditions: noise on the benchmark's queries; every arm is measured on them too, besides the plain benchmark,
            without training again. Omitted: those of the study.
        quick: try the whole study within minutes: 30 steps, at most 2 seeds, 4 conditions and 240 facts of the sample,
            and fewer arms where there are many. No claim is judged. Larger values in a file are lowered; on the command
            line they are an error.
        margin: difference in mAP (or recall, ...) within which two arms count as equal. The smaller one of `margin` and
            `margin_share` counts.
        margin_share: the margin as a share of the baseline's value. For rank distances, it is the only margin.
        sampling: how batches are drawn; each arm sets the weights of the batch kinds.
        validation: the validation batches and questions, the same for all arms.
        benchmark: the benchmark that arms are measured on.
        scaling: workers of each run. With 1, there are as many runs at a time as the cluster has room for; with 2 or
            more, each run is trained by DDP; with 0, runs follow one another in this process, without Ray.
        tracking: MLflow: a run for the study, with a child run for each arm and seed.
        seed: the first seed.
        output: folder of the results. Omitted: outputs/NAME-DATE-TIME.
        resume: continue the study in `output`: finished runs are kept, failed runs are tried again.
        dry_run: print the arms and what the data holds; train nothing.
    """

    seeds: int = 5
    arms: tuple[str, ...] | None = None
    conditions: tuple[Condition, ...] | None = None
    quick: bool = False
    margin: float = 0.01
    margin_share: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}: it must be at least 1")
        check_conditions(self.conditions or ())
        for name in ("margin", "margin_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Published:
    """Published results, which the page shows beside those of the study.

    Attributes:
        note: the publication, and how its set-up differs from the study's.
        rows: rows by benchmark; a row has `encoder`, `method`, mAP by setting, and other measures by name.
    """

    note: str
    rows: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Study:
    """The definition of a study.

    Attributes:
        name: name on the command line.
        title: title of the page.
        about: the question of the study, below the title, for readers who have not read the paper.
        reference: name of the arm in question; plots that have room for a few arms only show it first.
        arms: returns all arms for a recipe.
        claims: claims to test. Those under conditions that a recipe leaves out are not tested.
        conditions: conditions that all arms are measured under, besides the plain benchmark, unless the recipe names
            others.
        sample: the file in `jobs/configs` that is read when no data are named.
        family: a key of `sources`, whose claims are corrected for their number (see `claims.corrected`).
        recipe: the class of its recipe, with fields of its own, which may change when the study is continued.
        composed: systems that are put together from the arms; they depend on the benchmark.
        composed_conditions: conditions that only composed systems have.
        by_scores: (scores by name of arm or composed system, the facts in `results.json`, benchmark) -> further entries
            of `results.json`, and `claims`, if there are some that do not rest on differences.
        x_name: label of the x axis, in a study over a number.
        sources: titles on the page for the groups of claims, by `Claim.source`.
        published: published results to show.
        by_models: (recipe, benchmark, folder of a run of each finished arm, encode) -> further entries likewise.
        sections: sections of the page, in order; a section is left out if it has no numbers.
    """

    name: str
    title: str
    about: str
    reference: str
    arms: Callable[[StudyRecipe], list[Arm]]
    claims: tuple[Claim, ...]
    conditions: tuple[Condition, ...] = ()
    sample: str = "study_sample.yaml"
    family: str = ""
    recipe: type[StudyRecipe] = StudyRecipe
    composed: Callable[[Sequence[Arm], Benchmark], list[Composed]] = lambda arms, benchmark: []
    composed_conditions: tuple[str, ...] = ()
    by_scores: Callable[[Mapping[str, Scores], dict[str, Any], Benchmark], dict[str, Any]] = lambda *_: {}
    x_name: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    published: Published | None = None
    by_models: Callable[[StudyRecipe, Benchmark, Mapping[str, Path], Encode], dict[str, Any]] | None = None
    sections: tuple[StudySection, ...] = STUDY

    def __post_init__(self) -> None:
        check_conditions(self.conditions)
        named = {one.name for one in self.conditions} | {"", *self.composed_conditions}
        for part in (part for claim in self.claims for part in claim.parts):
            if unknown := {*part.conditions, *part.of_baseline} - named:
                raise ValueError(f"a claim of {self.name} is about {', '.join(unknown)}: add it to the conditions")

    @property
    def own_fields(self) -> frozenset[str]:
        """The fields of its recipe that other studies do not have."""
        return frozenset(one.name for one in fields(self.recipe)) - {one.name for one in fields(StudyRecipe)}


def chosen_arms(study: Study, recipe: StudyRecipe) -> list[Arm]:
    """The arms of the recipe and those they are made of, in the study's order.

    Raises:
        ValueError: the recipe or an arm names an arm that there is not, or an arm is made of itself by way of others.
    """
    arms = {arm.name: arm for arm in study.arms(recipe)}
    for arm in arms.values():
        if unknown := set(arm.made_of) - set(arms):
            raise ValueError(f"{study.name} has no arm {', '.join(sorted(unknown))}, which {arm.name} is made of")
    try:
        TopologicalSorter({arm.name: arm.made_of for arm in arms.values()}).prepare()
    except CycleError as error:
        raise ValueError(f"arms of {study.name} go round: {' is made of '.join(error.args[1][::-1])}") from None
    if recipe.arms is None:
        return list(arms.values())
    if unknown := set(recipe.arms) - set(arms):
        named = ", ".join(f"{name}{did_you_mean(name, arms)}" for name in sorted(unknown))
        raise ValueError(f"{study.name} has no arm {named}; there are {', '.join(arms)}")
    wanted, waiting = set[str](), list(recipe.arms)
    while waiting:
        if (name := waiting.pop()) not in wanted:
            wanted.add(name)
            waiting += arms[name].made_of
    return [arm for arm in arms.values() if arm.name in wanted]


def arm_runs(recipe: Recipe, arm: Arm, seeds: Iterable[int]) -> list[ArmRun]:
    """The runs of an arm, one for each seed; `ValueError` if the arm's changes do not fit the recipe."""
    plain = {one.name: getattr(recipe, one.name) for one in fields(Recipe)}
    changed = {section: replace(plain[section], **values) for section, values in arm.changes.items()}
    found = []
    for seed in seeds:
        own = {"seed": seed, "output": str(_folder(recipe, arm.name, seed)), "resume": False}
        members = tuple(str(_folder(recipe, name, seed)) for name in arm.made_of)
        try:
            trained = Recipe(**plain | changed | own)
            found.append(
                ArmRun(
                    arm=arm.name,
                    recipe=trained,
                    made_of=members,
                    make=arm.make,
                    change=arm.change,
                    entropy=arm.entropy,
                )
            )
        except ValueError as error:
            raise ValueError(f"arm {arm.name}: {error}") from None
    return found


def seeds(recipe: StudyRecipe) -> range:
    """The seeds that every arm is trained with."""
    return range(recipe.seed, recipe.seed + recipe.seeds)


def _folder(recipe: Recipe, arm: str, seed: int) -> Path:
    return Path(recipe.output, "arms", arm.replace(" ", "-").replace("/", "_"), f"seed-{seed}")
