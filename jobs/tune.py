"""Tunes the mix of batches, or any other field: python jobs/tune.py [--config FILE] [--space.NAME VALUES]."""

import sys
from functools import partial
from pathlib import Path

from hybridir.runtime.job import job

SAMPLE = Path(__file__).parent / "configs" / "tune_sample.yaml"


def main() -> None:
    with job(sys.argv[1:]) as stack:  # slow imports wait until the output folder is locked
        from hybridir.experiments.one_run import Runner, arms_here
        from hybridir.experiments.tuning import TuneRecipe, points_here
        from hybridir.experiments.tuning_job import preview_tune, run_tune
        from hybridir.runs.backend import here
        from hybridir.runs.recipe import MOST_USED
        from hybridir.runtime.command_line import parse
        from hybridir.tracking.follow import follow
        from hybridir.tracking.nested import record
        from hybridir.tracking.target import named_uris

        recipe = parse(TuneRecipe, "python jobs/tune.py", __doc__, sys.argv[1:], SAMPLE, MOST_USED)
        if recipe.dry_run:
            preview_tune(recipe)
            return
        named = named_uris(sys.argv[1:])
        track, record_run = partial(follow, named=named), partial(record, named=named)
        backend = here(recipe.scaling.use_gpu)
        runner = Runner(arms_here(backend), 1, track, record_run)
        try_points, encode = points_here(backend), backend.encode
        if recipe.scaling.num_workers:
            from hybridir.on_ray.tuning import ray_tune

            ray = stack.enter_context(ray_tune(recipe.scaling))
            runner = Runner(ray.start, ray.at_once, track, record_run)
            try_points, encode = ray.try_points, ray.encode
        page, failed = run_tune(recipe, try_points, runner, encode)
        print(page)
        if failed:
            sys.exit(f"error: {failed} points failed, see the page: correct the cause, and continue with --resume")


if __name__ == "__main__":
    main()
