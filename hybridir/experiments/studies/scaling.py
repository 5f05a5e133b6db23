"""What does more data in one language do to retrieval in languages that were never seen?

A line is a way to train at several sizes of the data: numbers of questions, chosen by hash so that smaller data is a
part of larger data. At equal steps, small data is seen more often; at equal epochs, it has fewer updates: both are
trained. A further line replaces questions in one language by questions in all languages (`sampling.translated`), to
measure what one of these is worth. The tokenizer is trained on all data at every size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from hybridir.batches.subset import Subset
from hybridir.data.records import Benchmark
from hybridir.evaluation.scaling_fit import slope_weights
from hybridir.evaluation.scores import weighted_sum
from hybridir.experiments.claims import Claim, Part, Relation
from hybridir.experiments.studies.scaling_numbers import (
    ALL,
    ALL_EPOCHS,
    EN,
    EN_EPOCHS,
    HYBRID,
    SINGLE,
    TRANSLATED,
    lines_of,
    numbers,
)
from hybridir.experiments.study import Arm, Composed, Study, StudyRecipe
from hybridir.reports.html import scaling, study_claims, study_plots, study_tables
from hybridir.reports.html.sections import provenance
from hybridir.runs.corpus import cache_folder, read_corpus

GAIN, NOTHING = "gain of", "no gain"
N_SIZES, QUICK_SIZES, RANGE = 6, 4, 16
"""The default number of sizes (usual and quick), from 1/RANGE of the training groups to all of them."""


@dataclass(frozen=True, kw_only=True)
class ScalingRecipe(StudyRecipe):
    """A study of the size of the data.

    Args:
        sizes: numbers of training groups. Omitted: six, evenly on a logarithmic scale, from a sixteenth of the groups
            to all. To fit a law takes 4 sizes, to judge the claim about it 6 over a 16-fold range.
        translated: an arm for each of these shares of groups in all languages; the other groups are in one each.
    """

    sizes: tuple[int, ...] | None = None
    translated: tuple[float, ...] = (0.125, 0.25, 0.5, 1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sizes is not None and (len(self.sizes) < 2 or list(self.sizes) != sorted(set(self.sizes))):
            raise ValueError(f"sizes is {list(self.sizes)}: name 2 sizes or more, ascending")
        if not all(0 < share <= 1 for share in self.translated):
            raise ValueError(f"translated is {list(self.translated)}: shares must be above 0 and at most 1")


def arms(recipe: StudyRecipe) -> list[Arm]:
    """Every line at every size, and the shares of translated groups."""
    assert isinstance(recipe, ScalingRecipe)
    if recipe.sampling.groups is not None or recipe.sampling.translated < 1:
        raise ValueError(
            "sampling.groups or sampling.translated is set, but the arms of this study set them: remove them, and name "
            "--sizes and --translated"
        )
    if recipe.train.steps is None:
        raise ValueError("train.tokens is set, but the arms of this study are compared at equal steps: set train.steps")
    corpus = read_corpus(recipe.data, cache_folder(recipe, Path(recipe.output)))
    total = len(Subset(corpus, recipe.sampling, "train").groups)
    n_sizes = QUICK_SIZES if recipe.quick else N_SIZES
    sizes = recipe.sizes or tuple(int(x) for x in np.round(np.geomspace(total / RANGE, total, n_sizes)))
    english = "en" in (recipe.sampling.languages or corpus.languages)

    def line(name: str, about: str, epochs: bool = False, **sampling: Any) -> list[Arm]:
        weights = {"mono": 0.0, "mixed": 0.0, "cross": 0.0, "both": 0.0}
        found = []
        for size in sizes:
            share = size / total if epochs else 1.0  # of the steps of an arm on all groups
            train = {field: max(1, round(getattr(recipe.train, field) * share)) for field in ("steps", "warmup_steps")}
            found.append(
                Arm(
                    name=f"{name} {size}",
                    about=f"{about}, {size:,} questions",
                    changes={"sampling": weights | sampling | {"groups": size}} | ({"train": train} if epochs else {}),
                    x=float(size),
                    entropy=True,
                )
            )
        return found

    only: dict[str, Any] = {"mono": 1.0, "languages": ("en",)}
    found = []
    if english:
        found += line(EN, "batches in English alone", **only)
    found += line(ALL, "every batch in one language", mono=1.0)
    found += line(HYBRID, "a batch in one language with probability 0.5, else cross-lingual", mono=0.5, cross=0.5)
    if english and not recipe.quick:
        found += line(EN_EPOCHS, "batches in English alone, as many epochs at each size", epochs=True, **only)
    if not recipe.quick:
        found += line(ALL_EPOCHS, "every batch in one language, as many epochs at each size", epochs=True, mono=1.0)
    found += line(SINGLE, "each question in one language only, several in a batch", mixed=1.0, translated=0.0)
    half = {"mono": 0.0, "mixed": 0.5, "cross": 0.5, "both": 0.0}
    found += [
        Arm(
            name=f"{TRANSLATED} {share:g} of {total}",
            about=f"{total:,} questions, {share:.1%} of them in all languages, the others in one each; half of the "
            "batches cross-lingual",
            changes={"sampling": half | {"groups": total, "translated": share}},
            entropy=True,
        )
        for share in recipe.translated
    ]
    return found


def composed(arms: Sequence[Arm], benchmark: Benchmark) -> list[Composed]:
    """The gain per ten times the data of each line, the least-squares slope over log10 of the size; and a gain of 0."""
    found = []
    for line, of in lines_of({arm.name: arm for arm in arms}).items():
        sizes, names = zip(*of, strict=True)
        if len(sizes) > 1:
            compose = partial(weighted_sum, weights=slope_weights(sizes))
            about = f"gain per ten times the data, {line}"
            found.append(Composed(name=f"{GAIN} {line}", about=about, members=names, compose=compose))
    if found:
        members = found[0].members[:1]
        found.append(
            Composed(name=NOTHING, about="no gain", members=members, compose=partial(weighted_sum, weights=[0]))
        )
    return found


def _gains(line: str, relation: Relation, *settings: str, baseline: str = NOTHING) -> tuple[Part, ...]:
    return tuple(
        Part(
            arm=f"{GAIN} {line}",
            baseline=baseline,
            setting=setting,
            relation=relation,
            measure="RR@10",
            languages="zero-shot",
        )
        for setting in settings
    )


CLAIMS = (
    *(
        Claim(
            id=f"{line} helps",
            text=f"More monolingual data helps zero-shot languages, within and across languages ({words}; RR@10 per "
            "tenfold, at equal steps).",
            source="question",
            parts=_gains(line, "better", "monolingual", "crosslingual"),
        )
        for line, words in ((EN, "English alone"), (ALL, "all languages, each batch in one"))
    ),
    Claim(
        id="hybrid gains",
        text="Across languages, hybrid gains at least as much from more data as batches in one language do.",
        source="question",
        parts=_gains(HYBRID, "not worse", "crosslingual", baseline=f"{GAIN} {ALL}"),
    ),
    Claim(
        id="flat",
        text="More monolingual data leaves retrieval across languages flat for zero-shot languages.",
        source="sceptic",
        parts=_gains(ALL, "equal", "crosslingual") + _gains(EN, "equal", "crosslingual"),
    ),
    Claim(
        id="steps",
        text="A part of the gain at equal epochs comes from steps, not data: it is larger than that at equal steps.",
        source="sceptic",
        parts=_gains(ALL_EPOCHS, "better", "monolingual", "crosslingual", baseline=f"{GAIN} {ALL}"),
    ),
)

SCALING = Study(
    name="scaling",
    title="What the size of the data does",
    about="Each line of arms trains on more and more questions, at equal steps or at equal epochs. Curves are fitted "
    "to contrastive entropy, a smooth loss of retrieval over fixed negatives. The tokenizer is trained on all data.",
    reference=f"{GAIN} {ALL}",
    recipe=ScalingRecipe,
    arms=arms,
    composed=composed,
    by_scores=numbers,
    claims=CLAIMS,
    x_name="questions",
    sources={"question": "Does more data help?", "sceptic": "What a sceptic would ask"},
    sections=(
        study_claims.ledger,
        scaling.curves,
        scaling.laws,
        scaling.exchange,
        study_tables.plan,
        study_plots.curves,
        provenance,
    ),
    sample="study_scaling.yaml",
)
