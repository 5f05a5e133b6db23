"""A quick trial of a study (`--quick`): how much shorter it is, and that nobody asks for another length beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from operator import attrgetter

from hybridir.experiments.study import StudyRecipe
from hybridir.runtime.plain_yaml import load_yaml

QUICK_STEPS, QUICK_SEEDS, QUICK_CONDITIONS, QUICK_FACTS = 30, 2, 4, 240
"""Steps, and the most seeds, conditions and facts of the sample, of a quick trial of a study."""
_CHANGED = (
    *(f"train.{name}" for name in ("steps", "epochs", "tokens", "warmup_steps", "warmup_ratio")),
    *("validation.every", "seeds", "conditions", "benchmark.facts"),
)


def shortened(recipe: StudyRecipe) -> StudyRecipe:
    """The recipe of a trial of the study, if it is `quick`."""
    if not recipe.quick:
        return recipe
    length = {"steps": QUICK_STEPS, "epochs": None, "tokens": None}
    train = replace(recipe.train, **length, warmup_steps=QUICK_STEPS // 10, warmup_ratio=None)  # type: ignore[arg-type]
    return replace(
        recipe,
        seeds=min(recipe.seeds, QUICK_SEEDS),
        train=train,
        validation=replace(recipe.validation, every=QUICK_STEPS),
        conditions=recipe.conditions and recipe.conditions[:QUICK_CONDITIONS],
        benchmark=replace(recipe.benchmark, facts=min(recipe.benchmark.facts, QUICK_FACTS)),
    )


def check_quick(recipe: StudyRecipe, arguments: Sequence[str]) -> None:
    """Raises `ValueError` if the command line asks for what a quick trial makes shorter; files may."""
    short, options = shortened(recipe), set(_options(arguments))
    for name in _CHANGED:
        value = attrgetter(name)
        if f"--{name}" in options and value(short) != value(recipe):
            raise ValueError(
                f"--quick and --{name} do not go together: a quick trial has {QUICK_STEPS} steps, and at most "
                f"{QUICK_SEEDS} seeds, {QUICK_CONDITIONS} conditions and {QUICK_FACTS} facts. Leave out one of them"
            )


def _options(arguments: Sequence[str]) -> Iterator[str]:
    """The options on a command line; of one that sets a whole section (`--train '{steps: 5}'`) its fields."""
    for argument, after in pairwise([*arguments, ""]):
        option, equals, value = argument.partition("=")
        yield option
        if option in {f"--{name.partition('.')[0]}" for name in _CHANGED if "." in name}:
            content = load_yaml(value if equals else after)
            yield from (f"{option}.{name}" for name in content) if isinstance(content, dict) else ()
