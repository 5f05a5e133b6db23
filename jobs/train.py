"""Trains a retriever on hybrid batches and measures it: python jobs/train.py [--config FILE] [--section.key VALUE]."""

import contextlib
import sys
from functools import partial
from pathlib import Path

from hybridir.runtime.job import job

SAMPLE = Path(__file__).parent / "configs" / "sample.yaml"


def main() -> None:
    with job(sys.argv[1:]):  # slow imports wait until the output folder is locked
        from hybridir.runs.backend import Backend, here
        from hybridir.runs.recipe import MOST_USED, Recipe
        from hybridir.runs.training_run import preview, run_training
        from hybridir.runtime.command_line import parse
        from hybridir.tracking.follow import follow
        from hybridir.tracking.target import named_uris

        recipe = parse(Recipe, "python jobs/train.py", __doc__, sys.argv[1:], SAMPLE, MOST_USED)
        if recipe.dry_run:
            preview(recipe, here())
            return
        compute: contextlib.AbstractContextManager[Backend] = contextlib.nullcontext(here(recipe.scaling.use_gpu))
        if recipe.scaling.num_workers:
            from hybridir.on_ray.train import ray_backend

            compute = ray_backend(recipe.scaling, recipe.train.batch_size)
        print(run_training(recipe, compute, partial(follow, named=named_uris(sys.argv[1:]))))


if __name__ == "__main__":
    main()
