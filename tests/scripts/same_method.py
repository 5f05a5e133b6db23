"""How often two arms of the same method are told apart: python tests/scripts/same_method.py DIR [SEEDS [PAIRS]].

Trains hybrid on the sample with many seeds (finished runs in DIR are kept), makes pairs of arms of five seeds each,
without a seed in common, and counts how often 0 is outside the interval of their difference: how often one of the two
would count as better.
Pairs share seeds with other pairs: SEEDS / 10 of them are independent, so the rates are rough.
"""

import sys
from pathlib import Path

import numpy as np

from hybridir.evaluation.intervals import MANY_SEEDS, seed_interval
from hybridir.evaluation.settings import SETTINGS
from hybridir.experiments.one_run import Runner
from hybridir.experiments.studies import STUDIES
from hybridir.experiments.study import StudyRecipe
from hybridir.experiments.study_job import run_study
from hybridir.experiments.study_results import Finished
from hybridir.on_ray.many import ray_arms
from hybridir.runs.backend import track_nothing
from hybridir.runtime.command_line import parse

ROOT = Path(__file__).parents[2]
SMALL = ("--train.steps", "60", "--encoder.hidden_size", "64", "--encoder.layers", "1", "--benchmark.facts", "400")


def trained(folder: Path, seeds: int) -> Finished:
    """One arm with many seeds."""
    resume = ["--resume"] if (folder / "config.yaml").exists() else []
    asked = ["--output", str(folder), "--seeds", str(seeds), "--arms", "[hybrid]", "--tracking.enabled", "false"]
    config = ROOT / "jobs" / "configs" / "study_sample.yaml"
    recipe = parse(StudyRecipe, "same_method", "", [*SMALL, *asked, *resume], config)
    with ray_arms(recipe.scaling) as arms:
        run_study(STUDIES["sampling"], recipe, Runner(arms.start, arms.at_once, track_nothing, lambda *_: None))
    folders = {seed: folder / "arms" / "hybrid" / f"seed-{seed}" for seed in range(seeds)}
    return Finished(name="hybrid", about="", x=None, folders=folders, errors={})


def main(folder: Path, seeds: int, pairs: int) -> None:
    arm, random = trained(folder, seeds), np.random.default_rng(0)
    scores = arm.scores()
    print("| setting | measure | pairs | told apart |\n| --- | --- | --- | --- |")
    for setting, measure in [*((s, "mAP") for s in SETTINGS), ("multilingual", "rank_distance")]:
        found = []
        for _ in range(pairs):
            chosen = random.permutation(seeds)[: 2 * MANY_SEEDS]
            one, other = (scores.seeds(half) for half in (chosen[:MANY_SEEDS], chosen[MANY_SEEDS:]))
            found.append(seed_interval(*one.minus(other).column(measure, setting)))
        apart = np.mean([not one.low <= 0 <= one.high for one in found])
        print(f"| {setting} | {measure} | {len(found)} | {apart:.3f} |", flush=True)


if __name__ == "__main__":
    numbers = [int(number) for number in sys.argv[2:]]
    main(Path(sys.argv[1]).absolute(), *(numbers + [20, 1000][len(numbers) :]))
