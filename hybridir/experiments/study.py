"""A study: arms, each trained with several seeds and measured on one benchmark, and what to make of the results.

`hybridir.experiments.studies` holds them; `hybridir.experiments.study_job` runs one.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from hybridir.experiments.claims import Claim
from hybridir.experiments.one_run import ArmRun
from hybridir.reports.html import STUDY, StudySection
from hybridir.runs.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train.

    Attributes:
        name: short.
        about: what it does, in words.
        changes: to the study's recipe: by section the fields that differ.
        average_of: names of the arms whose weights it is the mean of; it is not trained then.
        x: its place on the axis, in a study over a number.
    """

    name: str
    about: str
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    average_of: tuple[str, ...] = ()
    x: float | None = None


@dataclass(frozen=True, kw_only=True)
class StudyRecipe(Recipe):
    """A study: a training recipe that all arms share, and how they are compared.

    Args:
        seeds: training runs of each arm, with the seeds from `seed` on, the same for all arms. With fewer than 5,
            intervals hold for these very models alone.
        arms: names of those to train, with those that they are made of; all when omitted.
        margin: difference within which two arms count as equal, in mAP and the like; but at most as large as the next.
        margin_share: likewise, as a share of the baseline's value; the only one for rank distances.
        data: training and validation pairs.
        sampling: what batches are made of; arms set its weights.
        encoder: the encoder to start from.
        loss: the training objective.
        train: the optimisation.
        validation: the fixed validation plan.
        benchmark: what arms are measured on.
        scaling: what each arm computes on. With 1 worker, as many arms at a time as there is room for; with more, each
            arm is trained by DDP; with 0, one arm after the other in this process, without Ray.
        tracking: MLflow: a run for the study, and one below it for each arm and seed.
        seed: the first seed.
        output: folder of the results. Omitted: outputs/NAME-DATE-TIME.
        cache: folder of corpora, tokenizers and tokens that runs share. Omitted: `cache` beside the output.
        resume: go on with the study in `output`: what is finished is not done again, what failed is tried again.
        dry_run: print the plan and what the data holds, train nothing.
    """

    seeds: int = 5
    arms: tuple[str, ...] | None = None
    margin: float = 0.01
    margin_share: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds < 1:
            raise ValueError(f"seeds is {self.seeds}: it must be at least 1")
        for name in ("margin", "margin_share"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be above 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class Published:
    """Figures of others, which the page shows beside those of the study.

    Attributes:
        note: where they come from, and how they differ from what is measured here.
        rows: by benchmark, rows of `encoder`, `method` and numbers by setting (mAP) or measure.
    """

    note: str
    rows: Mapping[str, Sequence[Mapping[str, Any]]]


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is studied.

    Attributes:
        name: on the command line.
        title: of its page; `about` says below it what it is about, to someone who has not read the paper.
        reference: the arm that it is all about.
        x_name: what varies from arm to arm, in a study over a number.
        arms: from the recipe, all its arms.
        claims: what is to be tested.
        sources: whose claims they are: titles on the page by the `source` of a claim.
        published: figures of others.
        sections: of its page, in order; each is left out if its numbers are absent.
    """

    name: str
    title: str
    about: str
    reference: str
    arms: Callable[[StudyRecipe], list[Arm]]
    claims: tuple[Claim, ...]
    x_name: str = ""
    sources: Mapping[str, str] = field(default_factory=dict)
    published: Published | None = None
    sections: tuple[StudySection, ...] = STUDY


def chosen_arms(study: Study, recipe: StudyRecipe) -> list[Arm]:
    """The arms that the recipe asks for, with those that they are made of, in the study's order."""
    arms = {arm.name: arm for arm in study.arms(recipe)}
    if recipe.arms is None:
        return list(arms.values())
    if unknown := set(recipe.arms) - set(arms):
        raise ValueError(f"{study.name} has no arm {', '.join(sorted(unknown))}; there are {', '.join(arms)}")
    wanted = {*recipe.arms, *(name for one in recipe.arms for name in arms[one].average_of)}
    return [arm for arm in arms.values() if arm.name in wanted]


def arm_runs(recipe: Recipe, arm: Arm, seeds: Iterable[int]) -> list[ArmRun]:
    """Its runs, one for each seed; `ValueError` where the arm's changes do not go with the recipe."""
    plain = {one.name: getattr(recipe, one.name) for one in fields(Recipe)}
    changed = {section: replace(plain[section], **values) for section, values in arm.changes.items()}
    found = []
    for seed in seeds:
        own = {"seed": seed, "output": str(_folder(recipe, arm.name, seed)), "resume": False}
        members = tuple(str(_folder(recipe, name, seed)) for name in arm.average_of)
        try:
            found.append(ArmRun(arm=arm.name, recipe=Recipe(**plain | changed | own), average_of=members))
        except ValueError as error:
            raise ValueError(f"arm {arm.name}: {error}") from None
    return found


def seeds(recipe: StudyRecipe) -> range:
    """The seeds of every arm."""
    return range(recipe.seed, recipe.seed + recipe.seeds)


def _folder(recipe: Recipe, arm: str, seed: int) -> Path:
    return Path(recipe.output, "arms", arm.replace(" ", "-").replace("/", "_"), f"seed-{seed}")
